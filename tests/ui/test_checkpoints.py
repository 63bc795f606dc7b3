"""The table of checkpoints and its commands."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from playwright.sync_api import expect
from support.page import LabPage, wait_for

MODEL = {"model_state_base64": "bW9kZWw="}
BOTH_STATES = {**MODEL, "optimizer_state_base64": "b3B0aW1pemVy"}
STATE_ITEMS = [
    "Insert Restore Code",
    "Copy Restore Code",
    "Download the Model",
    "Download the Optimizer",
]


@pytest.fixture
def checkpoints(lab: LabPage, path: str) -> list[Any]:
    """Three checkpoints, the oldest first, of a notebook that is open beside the panel."""
    notebook_id = lab.server.create_record(path, "lr = 0.1", "train(lr)")
    checkpoints = []
    for epoch, loss in enumerate([0.9, 0.4, 0.6]):
        fields = {"run_id": f"{notebook_id}-r", "metrics": {"val_loss": loss}, **BOTH_STATES}
        checkpoints.append(lab.server.add_checkpoint(notebook_id, epoch, epoch * 10, **fields))
    lab.show(path, checkpoints=3)
    return checkpoints


def epochs(lab: LabPage) -> list[int]:
    """Return the epochs of the rows from top to bottom."""
    cells = lab.rows.locator("[role=gridcell]:nth-child(3)")
    return [int(text) for text in cells.all_inner_texts()]


def titles(lab: LabPage) -> list[str]:
    """Return the titles of the columns, from the left."""
    return lab.panel.locator(".axon-Grid-head [role=columnheader] button").all_inner_texts()


def test_rows_are_sorted_by_a_column(lab: LabPage, checkpoints: list[Any]) -> None:
    wait_for(lambda: epochs(lab), [2, 1, 0])
    header = lab.panel.get_by_role("columnheader", name="val_loss")
    for direction, expected in (("descending", [0, 2, 1]), ("ascending", [1, 2, 0])):
        header.click()
        expect(header).to_have_attribute("aria-sort", direction)
        wait_for(lambda: epochs(lab), expected)


def test_the_best_is_marked_for_a_metric_and_a_direction(
    lab: LabPage, checkpoints: list[Any]
) -> None:
    expect(lab.row(checkpoints[1]["id"]).get_by_role("img", name="Best")).to_be_visible()
    lab.header.get_by_role("button", name="Lower val_loss is better").click()
    expect(lab.row(checkpoints[0]["id"]).get_by_role("img", name="Best")).to_be_visible()
    expect(lab.grid.get_by_role("img", name="Best")).to_have_count(1)


def test_columns_fit_their_contents_and_repetitions_are_left_out(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    for epoch in range(3):
        metrics = {"val_loss": 1 / (1 + epoch), "accuracy": 1.0, "again": 1.0}
        lab.server.add_checkpoint(notebook_id, epoch, epoch, metrics=metrics)
    lab.show(path, checkpoints=3)
    # The step is the epoch, `again` is `accuracy`, and there are neither runs, tags nor sizes.
    shown = ["pin", "epoch", "val_loss", "accuracy", "created"]
    wait_for(lambda: titles(lab), [title for title in shown if title != "created"])
    assert lab.grid.evaluate("grid => grid.scrollWidth <= grid.clientWidth")
    lab.server.add_checkpoint(notebook_id, 3, 300, metrics={"val_loss": 0.1}, tags=["first"])
    wait_for(lambda: "step" in titles(lab), True)


def test_columns_are_chosen_for_all_notebooks(
    lab: LabPage, checkpoints: list[Any], path: str
) -> None:
    """The column of the ranking metric is always shown."""
    assert titles(lab)[:3] == ["pin", "epoch", "step"]
    lab.panel.get_by_role("button", name="Columns").click()
    for column, is_shown in (("step", False), ("created", True), ("size", True)):
        lab.page.get_by_role("checkbox", name=column, exact=True).set_checked(is_shown)
    wait_for(lambda: titles(lab), ["pin", "epoch", "val_loss", "size", "created"])
    lab.page.keyboard.press("Escape")
    other = f"other_{path}"
    lab.server.add_checkpoint(lab.server.create_record(other), 0, 0, metrics={"loss": 1.0})
    lab.open(other)
    expect(lab.rows).to_have_count(1)
    wait_for(lambda: titles(lab), ["pin", "epoch", "loss", "size", "created"])
    lab.panel.get_by_role("button", name="Columns").click()
    lab.page.get_by_role("button", name="As many as fit").click()
    lab.page.keyboard.press("Escape")
    wait_for(lambda: "size" in titles(lab), False)


def test_a_metric_with_the_name_of_a_column_is_chosen_for_itself(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    for epoch in range(2):
        metrics = {"loss": 1.0, "size": epoch + 0.5}
        lab.server.add_checkpoint(notebook_id, epoch, epoch, metrics=metrics)
    lab.show(path, checkpoints=2)
    lab.panel.get_by_role("button", name="Columns").click()
    for column in ("size", "metrics.size", "created"):
        lab.page.get_by_role("checkbox", name=column, exact=True).set_checked(column == "size")
    wait_for(lambda: titles(lab), ["pin", "epoch", "loss", "size"])
    lab.page.get_by_role("checkbox", name="metrics.size", exact=True).check()
    wait_for(lambda: titles(lab), ["pin", "epoch", "loss", "size", "size"])
    lab.page.get_by_role("button", name="As many as fit").click()
    lab.page.keyboard.press("Escape")


def test_a_filter_says_what_is_wrong_and_suggests_another(
    lab: LabPage, checkpoints: list[Any]
) -> None:
    """The last valid filter remains in effect."""
    lab.filter("val_loss<0.5")
    expect(lab.rows).to_have_count(1)
    lab.filter("val_los<0.7")
    expect(lab.panel).to_contain_text("No checkpoint has a metric or column “val_los”")
    expect(lab.panel.get_by_label("Filter of checkpoints")).to_have_attribute(
        "aria-invalid", "true"
    )
    expect(lab.rows).to_have_count(1)
    lab.panel.locator(".axon-Table-error").get_by_role("button", name="val_loss").click()
    expect(lab.panel.get_by_label("Filter of checkpoints")).to_have_value("val_loss<0.7")
    expect(lab.rows).to_have_count(2)
    lab.filter("val_loss<")
    expect(lab.panel).to_contain_text("Write a value after “val_loss<”")
    lab.filter("")
    expect(lab.rows).to_have_count(3)


def test_commands_apply_to_visible_checkpoints_only(lab: LabPage, checkpoints: list[Any]) -> None:
    lab.grid.focus()
    lab.page.keyboard.press("Control+a")
    toolbar = lab.panel.get_by_role("toolbar", name="Selected checkpoints")
    expect(toolbar).to_contain_text("3 selected")
    lab.filter("epoch>=1")
    expect(toolbar).to_contain_text("2 selected (1 more hidden)")
    lab.execute("axon:toggle-pin")
    expect(lab.grid.get_by_role("button", name="Unpin")).to_have_count(2)
    stored = lab.server.list_checkpoints(checkpoints[0]["notebook_id"])
    assert [one["pinned"] for one in stored] == [True, True, False]
    lab.filter("")
    expect(toolbar).to_contain_text("3 selected")
    toolbar.get_by_role("button", name="Select none").click()
    expect(toolbar).to_have_count(0)


def test_a_checkpoint_is_pinned_and_tagged(lab: LabPage, checkpoints: list[Any]) -> None:
    row = lab.row(checkpoints[1]["id"])
    row.hover()
    row.get_by_role("button", name="Pin").click()
    expect(row.get_by_role("button", name="Unpin")).to_be_visible()
    lab.choose(checkpoints[1]["id"], "Tag Checkpoint")
    lab.dialog.locator("input").fill("paper, best so far")
    lab.page.keyboard.press("Enter")
    expect(row.locator(".axon-Tag")).to_have_text(["paper", "best so far"])
    stored = lab.server.list_checkpoints(checkpoints[1]["notebook_id"])[1]
    assert (stored["pinned"], stored["tags"]) == (True, ["paper", "best so far"])


def test_a_checkpoint_is_deleted_after_confirmation(lab: LabPage, checkpoints: list[Any]) -> None:
    deleted = checkpoints[0]
    lab.choose(deleted["id"], "Delete Checkpoint")
    expect(lab.dialog).to_contain_text("run 1, epoch 0, step 0")
    lab.dialog.get_by_role("button", name="Cancel").click()
    expect(lab.rows).to_have_count(3)
    lab.choose(deleted["id"], "Delete Checkpoint")
    lab.dialog.get_by_role("button", name="Delete").click()
    expect(lab.rows).to_have_count(2)
    stored = lab.server.list_checkpoints(deleted["notebook_id"])
    assert deleted["id"] not in [checkpoint["id"] for checkpoint in stored]


def test_restore_code_is_inserted_and_copied(lab: LabPage, checkpoints: list[Any]) -> None:
    line = f'axon.get("{checkpoints[1]["id"]}").restore(model, optimizer)'
    lab.choose(checkpoints[1]["id"], "Copy Restore Code")
    wait_for(lab.clipboard, line)
    lab.choose(checkpoints[1]["id"], "Insert Restore Code")
    wait_for(lab.active_cell, f"import jupyter_axon_notebooks as axon\n\n{line}")


def test_a_state_file_is_downloaded(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    state = b"weights" * 1000
    encoded = base64.b64encode(state).decode()
    checkpoint = lab.server.add_checkpoint(notebook_id, 0, 1, model_state_base64=encoded)
    lab.show(path)
    expect(lab.header).to_contain_text("7.0 kB")
    expect(lab.row(checkpoint["id"])).to_contain_text("7.0 kB")
    with lab.page.expect_download() as download:
        lab.choose(checkpoint["id"], "Download the Model")
    assert download.value.path().read_bytes() == state


def enabled_state_items(lab: LabPage, checkpoint: Any) -> list[str]:
    """Return the enabled menu items of a checkpoint that need its state files."""
    lab.row(checkpoint["id"]).click(button="right")
    expect(lab.menu_item(STATE_ITEMS[0])).to_be_visible()
    enabled = [
        label
        for label in STATE_ITEMS
        if lab.menu_item(label).get_attribute("aria-disabled") != "true"
    ]
    lab.page.keyboard.press("Escape")
    expect(lab.page.locator(".lm-Menu")).to_have_count(0)
    return enabled


def test_only_stored_states_are_restored_and_downloaded(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    without, model, both = (
        lab.server.add_checkpoint(notebook_id, epoch, epoch, **states)
        for epoch, states in enumerate(({}, MODEL, BOTH_STATES))
    )
    lab.show(path, checkpoints=3)
    assert enabled_state_items(lab, without) == []
    assert enabled_state_items(lab, model) == STATE_ITEMS[:3]
    assert enabled_state_items(lab, both) == STATE_ITEMS
    lab.execute("axon:copy-restore", ids=[model["id"]])
    wait_for(lab.clipboard, f'axon.get("{model["id"]}").restore(model)')


def test_the_menu_of_a_selected_row_applies_to_all_selected_rows(
    lab: LabPage, checkpoints: list[Any]
) -> None:
    first, second, other = (checkpoint["id"] for checkpoint in checkpoints)
    lab.select(first, second)
    lab.row(other).click(button="right")
    expect(lab.menu_item("Compare")).to_have_attribute("aria-disabled", "true")
    lab.menu_item("Pin Checkpoint").click()
    expect(lab.row(other).get_by_role("button", name="Unpin")).to_have_count(1)
    expect(lab.panel.get_by_role("button", name="Unpin")).to_have_count(1)
    lab.row(first).click(button="right")
    expect(lab.menu_item("Compare")).not_to_have_attribute("aria-disabled", "true")
    lab.menu_item("Pin 2 Checkpoints").click()
    expect(lab.panel.get_by_role("button", name="Unpin")).to_have_count(3)


def test_two_checkpoints_are_compared(lab: LabPage, checkpoints: list[Any], path: str) -> None:
    lab.server.write_notebook(path, "lr = 0.01", "train(lr)")
    fields = {"run_id": checkpoints[0]["run_id"], "metrics": {"val_loss": 0.2}}
    later = lab.server.add_checkpoint(lab.server.sync(path), 3, 30, **fields)
    lab.select(checkpoints[1]["id"], later["id"])
    lab.panel.get_by_role("button", name="Compare", exact=True).first.click()
    tab = lab.page.get_by_role("tab", name="run 1, epoch 1, step 10 → run 1, epoch 3, step 30")
    expect(tab).to_have_attribute("title", re.compile(f"^{path.removesuffix('.ipynb')}: "))
    view = lab.page.locator(".axon-Diff")
    difference = view.get_by_role("row", name="val_loss").locator("[data-verdict=better]")
    expect(difference).to_contain_text("−0.2")
    expect(difference.get_by_role("img", name="better")).to_be_visible()
    expect(view.locator("[data-kind=removed], [data-kind=added]")).to_have_count(2)
    expect(view.locator("[data-kind=removed]")).to_contain_text("lr = 0.1")
    expect(view.locator("[data-kind=added]")).to_contain_text("lr = 0.01")
