"""The commands: which are offered, what they say before they act, and where they lead the focus."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, expect
from support.page import LabPage, wait_for

STATE = {"model_state_base64": "bW9kZWw="}


@pytest.fixture
def checkpoints(lab: LabPage, path: str) -> list[Any]:
    """Checkpoints of two runs, the oldest first, of a notebook that is open beside the panel."""
    notebook_id = lab.server.create_record(path, "lr = 0.1")
    first, second = lab.server.start_runs(notebook_id, {"name": "wide"}, {"name": "deep"})
    checkpoints = [
        lab.server.add_checkpoint(
            notebook_id, epoch, epoch * 10, run_id=run, metrics={"loss": loss}, tags=tags, **STATE
        )
        for run, epoch, loss, tags in (
            (first, 0, 0.9, ["all", "mine"]),
            (first, 1, 0.4, ["all"]),
            (second, 0, 0.6, ["all", "old"]),
        )
    ]
    lab.show(path, checkpoints=3)
    return checkpoints


def palette(lab: LabPage, text: str) -> Locator:
    """Return the items of the palette that are found by a text."""
    lab.execute("apputils:activate-command-palette")
    lab.page.locator(".lm-CommandPalette-input").fill(text)
    return lab.page.locator(".lm-CommandPalette-item", has_text=text)


def close_palette(lab: LabPage) -> None:
    lab.page.keyboard.press("Escape")
    expect(lab.page.locator(".lm-CommandPalette-input")).not_to_be_visible()


def test_the_palette_offers_what_can_be_done_now(lab: LabPage, checkpoints: list[Any]) -> None:
    expect(palette(lab, "Refresh the Training Panel")).to_have_count(1)
    for label in ("Pin Checkpoint", "Delete Checkpoint", "Compare Two", "Start Recording"):
        lab.page.locator(".lm-CommandPalette-input").fill(label)
        expect(lab.page.locator(".lm-CommandPalette-item", has_text=label)).to_have_count(0)
    close_palette(lab)
    lab.select(checkpoints[0]["id"], checkpoints[1]["id"])
    for label in ("Pin 2 Checkpoints", "Delete 2 Checkpoints", "Compare Two Checkpoints"):
        expect(palette(lab, label)).to_have_count(1)
        close_palette(lab)
    expect(palette(lab, "Insert Restore Code")).to_have_count(0)
    close_palette(lab)


def test_the_menu_says_why_an_item_is_disabled(lab: LabPage, checkpoints: list[Any]) -> None:
    lab.row(checkpoints[0]["id"]).click(button="right")
    expect(lab.menu_item("Compare Two Checkpoints (select two checkpoints)")).to_be_visible()
    expect(lab.menu_item("Optimizer’s State (it was not saved)")).to_be_visible()
    expect(lab.menu_item("Insert Restore Code")).to_have_text("Insert Restore Code")


def test_the_dialog_names_what_is_deleted_and_keeps_pinned_ones(
    lab: LabPage, checkpoints: list[Any]
) -> None:
    pinned, best, other = (checkpoint["id"] for checkpoint in checkpoints)
    lab.choose(pinned, "Pin Checkpoint")
    expect(lab.row(pinned).get_by_role("button", name="Unpin")).to_be_visible()
    lab.select(pinned, best, other)
    lab.choose(best, "Delete 3 Checkpoints")
    for text in ("wide, epochs 0–1", "deep, epoch 0", "best by loss", "15 B"):
        expect(lab.dialog).to_contain_text(text)
    lab.dialog.get_by_role("button", name="Delete").click()
    expect(lab.rows).to_have_count(1)

    lab.choose(pinned, "Delete Checkpoint")
    lab.dialog.get_by_role("button", name="Delete").click()
    expect(lab.notification).to_contain_text("Nothing was deleted")
    lab.choose(pinned, "Delete Checkpoint")
    lab.dialog.get_by_text("Also delete the pinned checkpoint").click()
    lab.dialog.get_by_role("button", name="Delete").click()
    expect(lab.rows).to_have_count(0)


def test_tags_of_several_are_added_and_removed_and_not_merged(
    lab: LabPage, checkpoints: list[Any]
) -> None:
    notebook = checkpoints[0]["notebook_id"]
    lab.select(*(checkpoint["id"] for checkpoint in checkpoints))
    lab.choose(checkpoints[0]["id"], "Tag 3 Checkpoints")
    expect(lab.dialog.get_by_role("checkbox", name="all", exact=True)).to_be_checked()
    expect(lab.dialog).to_contain_text("on 1 of 3")
    lab.dialog.get_by_role("textbox").fill("new")
    lab.dialog.get_by_role("checkbox", name="all", exact=True).uncheck()
    lab.dialog.get_by_role("checkbox", name="old").check()
    lab.dialog.get_by_role("button", name="Save").click()

    def stored() -> list[list[str]]:
        return [one["tags"] for one in reversed(lab.server.list_checkpoints(notebook))]

    wait_for(stored, [["mine", "old", "new"], ["old", "new"], ["old", "new"]])


@pytest.mark.parametrize("key", ["t", "Delete"])
def test_a_closed_dialog_returns_the_focus_to_the_row(
    lab: LabPage, checkpoints: list[Any], key: str
) -> None:
    lab.grid.focus()
    lab.page.keyboard.press("ArrowDown")
    lab.page.keyboard.press(key)
    expect(lab.dialog.locator(":focus")).to_have_count(1)
    lab.page.keyboard.press("Escape")
    expect(lab.grid).to_be_focused()

    lab.page.keyboard.press("Enter")
    lab.menu_item("Tag Checkpoint" if key == "t" else "Delete Checkpoint").click()
    expect(lab.dialog.locator(":focus")).to_have_count(1)
    lab.page.keyboard.press("Escape")
    expect(lab.grid).to_be_focused()


def test_the_focus_goes_where_a_command_led(lab: LabPage, checkpoints: list[Any]) -> None:
    lab.execute("axon:toggle-panel")
    expect(lab.panel).not_to_be_visible()
    lab.execute("axon:toggle-panel")
    wait_for(
        lambda: lab.page.evaluate("document.activeElement.closest('#axon-panel') !== null"), True
    )
    lab.start("axon:go-to-cell", cell="cell-0")
    expect(lab.page.locator(".jp-NotebookPanel .jp-Cell.jp-mod-active")).to_be_focused()
    lab.choose(checkpoints[0]["id"], "Insert Restore Code")
    expect(lab.page.locator(".jp-NotebookPanel .jp-Cell.jp-mod-active")).to_be_focused()
