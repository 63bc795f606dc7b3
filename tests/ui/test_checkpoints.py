"""The table of checkpoints."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from playwright.sync_api import expect
from support.page import Hands, eventually

LOSSES = [0.9, 0.4, 0.6]
STATES = {"model_state_base64": "bW9kZWw=", "optimizer_state_base64": "b3B0aW1pemVy"}


@pytest.fixture
def made(hands: Hands, path: str) -> list[Any]:
    """Three checkpoints of a notebook that is open beside the panel, the oldest first."""
    hands.lab.write(path, "lr = 0.1", "train(lr)")
    notebook = hands.lab.record(path)
    made = [
        hands.lab.checkpoint(
            notebook,
            epoch,
            epoch * 10,
            run_id=f"{notebook}-r",
            metrics={"val_loss": loss},
            **STATES,
        )
        for epoch, loss in enumerate(LOSSES)
    ]
    hands.open(path)
    hands.open_panel()
    expect(hands.rows).to_have_count(3)
    return made


def stored(hands: Hands, checkpoint: Any) -> Any:
    return hands.lab.rest(
        "GET", f"/notebooks/{checkpoint['notebook_id']}/checkpoints/{checkpoint['id']}"
    )


def order(hands: Hands) -> list[int]:
    """The epochs of the rows from top to bottom."""
    return [
        int(text) for text in hands.rows.locator("[role=gridcell]:nth-child(3)").all_inner_texts()
    ]


def choose(hands: Hands, checkpoint: Any, item: str) -> None:
    """An item of a checkpoint's menu."""
    hands.row(checkpoint["id"]).click(button="right")
    hands.page.locator(".lm-Menu-item", has_text=item).click()


def test_rows_sort_by_any_column_both_ways(hands: Hands, made: list[Any]) -> None:
    eventually(lambda: order(hands), [2, 1, 0])
    head = hands.panel.get_by_role("columnheader", name="val_loss")
    head.click()
    expect(head).to_have_attribute("aria-sort", "descending")
    eventually(lambda: order(hands), [0, 2, 1])
    head.click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    eventually(lambda: order(hands), [1, 2, 0])


def test_rows_are_filtered(hands: Hands, made: list[Any]) -> None:
    hands.filter("val_loss<0.7 epoch:2")
    expect(hands.rows).to_have_count(1)
    expect(hands.panel).to_contain_text("1 of 3")


def test_the_best_is_marked_for_a_metric_and_a_direction(hands: Hands, made: list[Any]) -> None:
    best = hands.panel.get_by_role("img", name="Best")
    expect(hands.row(made[1]["id"]).get_by_role("img", name="Best")).to_be_visible()
    hands.panel.get_by_role("button", name="Lower val_loss is better").first.click()
    expect(hands.row(made[0]["id"]).get_by_role("img", name="Best")).to_be_visible()
    expect(best).to_have_count(1)


def test_a_checkpoint_is_pinned_and_tagged(hands: Hands, made: list[Any]) -> None:
    row = hands.row(made[1]["id"])
    row.hover()
    row.get_by_role("button", name="Pin").click()
    expect(row.get_by_role("button", name="Unpin")).to_be_visible()
    choose(hands, made[1], "Tag Checkpoint")
    hands.page.locator(".jp-Dialog input").fill("paper, best so far")
    hands.page.keyboard.press("Enter")
    expect(row.locator(".axon-Tag")).to_have_text(["paper", "best so far"])
    now = stored(hands, made[1])
    assert now["pinned"]
    assert now["tags"] == ["paper", "best so far"]


def test_a_checkpoint_is_deleted_only_after_a_question(hands: Hands, made: list[Any]) -> None:
    choose(hands, made[0], "Delete Checkpoint")
    dialog = hands.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("permanently deleted")
    dialog.get_by_role("button", name="Cancel").click()
    expect(hands.rows).to_have_count(3)
    choose(hands, made[0], "Delete Checkpoint")
    dialog.get_by_role("button", name="Delete").click()
    expect(hands.rows).to_have_count(2)
    listed = hands.lab.rest("GET", f"/notebooks/{made[0]['notebook_id']}/checkpoints")
    assert made[0]["id"] not in [checkpoint["id"] for checkpoint in listed]


def test_the_code_that_restores_goes_into_a_new_cell(hands: Hands, made: list[Any]) -> None:
    choose(hands, made[1], "Insert Restore Code")
    line = f'axon.get("{made[1]["id"]}").restore(model, optimizer)'
    eventually(hands.active_cell, f"import jupyter_axon_notebooks as axon\n\n{line}")


def test_the_line_that_restores_is_copied(hands: Hands, made: list[Any]) -> None:
    choose(hands, made[1], "Copy Restore Code")
    eventually(hands.clipboard, f'axon.get("{made[1]["id"]}").restore(model, optimizer)')


def test_a_state_is_downloaded(hands: Hands, path: str) -> None:
    hands.lab.write(path)
    notebook = hands.lab.record(path)
    state = b"weights" * 1000
    made = hands.lab.checkpoint(notebook, 0, 1, model_state_base64=base64.b64encode(state).decode())
    hands.open(path)
    hands.open_panel()
    expect(hands.row(made["id"])).to_contain_text("7.0 kB")
    with hands.page.expect_download() as download:
        choose(hands, made, "Download the Model")
    assert download.value.path().read_bytes() == state


def test_two_checkpoints_are_compared(hands: Hands, made: list[Any], path: str) -> None:
    hands.lab.write(path, "lr = 0.01", "train(lr)")
    later = hands.lab.checkpoint(
        hands.lab.record(path), 3, 30, run_id=made[0]["run_id"], metrics={"val_loss": 0.2}
    )
    for checkpoint in (made[1], later):
        hands.row(checkpoint["id"]).get_by_role("checkbox").check()
    hands.panel.get_by_role("button", name="Compare", exact=True).first.click()
    tab = hands.page.get_by_role("tab", name="run 1, epoch 1, step 10 → run 1, epoch 3, step 30")
    expect(tab).to_have_attribute("title", re.compile(f"^{path.removesuffix('.ipynb')}: "))
    view = hands.page.locator(".axon-Diff")
    expect(view.get_by_role("row", name="val_loss")).to_contain_text("−0.2")
    expect(view.locator("[data-kind=removed], [data-kind=added]")).to_have_count(2)
    expect(view.locator("[data-kind=removed]")).to_contain_text("lr = 0.1")
    expect(view.locator("[data-kind=added]")).to_contain_text("lr = 0.01")


def test_the_keyboard_is_enough(hands: Hands, made: list[Any]) -> None:
    page = hands.page
    grid = hands.panel.get_by_role("grid")
    grid.focus()
    expect(hands.row(made[2]["id"])).to_have_class("axon-Grid-row axon-mod-active")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    for checkpoint in made[1:]:
        expect(hands.row(checkpoint["id"])).to_have_attribute("aria-selected", "true")
    page.keyboard.press("p")
    expect(hands.panel.get_by_role("button", name="Unpin")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(hands.panel.locator("[aria-selected=true]")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(page.locator(".lm-Menu-item", has_text="Insert Restore Code")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    eventually(lambda: "restore(model, optimizer)" in hands.active_cell(), True)
    grid.focus()
    page.keyboard.press("Delete")
    expect(page.locator(".jp-Dialog")).to_contain_text("permanently deleted")


def test_what_one_tab_changes_the_other_shows(hands: Hands, made: list[Any], path: str) -> None:
    other = Hands(hands.page.context.new_page(), hands.lab)
    other.arrive(path)
    other.open_panel()
    expect(other.rows).to_have_count(3)
    choose(other, made[0], "Delete Checkpoint")
    other.page.locator(".jp-Dialog").get_by_role("button", name="Delete").click()
    expect(other.rows).to_have_count(2)
    other.row(made[1]["id"]).hover()
    other.row(made[1]["id"]).get_by_role("button", name="Pin").click()
    hands.page.bring_to_front()
    expect(hands.rows).to_have_count(2)
    expect(hands.row(made[1]["id"]).get_by_role("button", name="Unpin")).to_be_visible()
