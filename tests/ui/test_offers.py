"""What is offered is what can be done: with the states that are stored, with the rows that are meant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect
from support.page import Hands, eventually

JUPYTER = Path(sys.executable).with_name("jupyter")
MODEL = {"model_state_base64": "bW9kZWw="}
BOTH = {**MODEL, "optimizer_state_base64": "b3B0aW1pemVy"}
NEEDING_STATES = (
    "Insert Restore Code",
    "Copy Restore Code",
    "Download the Model",
    "Download the Optimizer",
)


@pytest.fixture
def notebook(hands: Hands, path: str) -> str:
    hands.lab.write(path)
    return hands.lab.record(path)


def show(hands: Hands, path: str, count: int) -> None:
    hands.open(path)
    hands.open_panel()
    expect(hands.rows).to_have_count(count)


def item(hands: Hands, label: str) -> Locator:
    return hands.page.locator(".lm-Menu-item", has_text=label)


def offered(hands: Hands, checkpoint: Any) -> list[str]:
    """What a checkpoint's menu offers of what needs its states."""
    hands.row(checkpoint["id"]).click(button="right")
    expect(item(hands, "Insert Restore Code")).to_be_visible()
    found = [
        label
        for label in NEEDING_STATES
        if item(hands, label).get_attribute("aria-disabled") != "true"
    ]
    hands.page.keyboard.press("Escape")
    expect(hands.page.locator(".lm-Menu")).to_have_count(0)
    return found


def test_states_are_restored_and_downloaded_as_far_as_they_are_stored(
    hands: Hands, notebook: str, path: str
) -> None:
    none, model, both = (
        hands.lab.checkpoint(notebook, epoch, epoch, **states)
        for epoch, states in enumerate(({}, MODEL, BOTH))
    )
    show(hands, path, 3)
    assert offered(hands, none) == []
    assert offered(hands, model) == [
        "Insert Restore Code",
        "Copy Restore Code",
        "Download the Model",
    ]
    assert offered(hands, both) == list(NEEDING_STATES)
    hands.command("axon:copy-restore", ids=[model["id"]])
    eventually(hands.clipboard, f'axon.get("{model["id"]}").restore(model)')


def test_nothing_is_offered_of_states_that_were_pruned(
    hands: Hands, notebook: str, path: str
) -> None:
    pruned, newest = (hands.lab.checkpoint(notebook, epoch, epoch, **BOTH) for epoch in range(2))
    subprocess.run(
        [JUPYTER, "axon", "prune", notebook, "--keep-newest", "1", "--yes"],
        env={**os.environ, "JUPYTER_DATA_DIR": str(hands.lab.data)},
        check=True,
    )
    show(hands, path, 2)
    expect(hands.row(pruned["id"])).to_contain_text("pruned")
    assert offered(hands, pruned) == []
    assert offered(hands, newest) == list(NEEDING_STATES)


def test_a_menu_on_a_selected_row_is_about_all_that_are_selected(
    hands: Hands, notebook: str, path: str
) -> None:
    first, second, other = (
        hands.lab.checkpoint(notebook, epoch, epoch, **MODEL) for epoch in range(3)
    )
    show(hands, path, 3)
    for checkpoint in (first, second):
        hands.row(checkpoint["id"]).get_by_role("checkbox").check()
    hands.row(other["id"]).click(button="right")
    expect(item(hands, "Compare")).to_have_attribute("aria-disabled", "true")
    item(hands, "Pin Checkpoint").click()
    expect(hands.row(other["id"]).get_by_role("button", name="Unpin")).to_have_count(1)
    expect(hands.panel.get_by_role("button", name="Unpin")).to_have_count(1)
    hands.row(first["id"]).click(button="right")
    expect(item(hands, "Compare")).not_to_have_attribute("aria-disabled", "true")
    item(hands, "Pin 2 Checkpoints").click()
    expect(hands.panel.get_by_role("button", name="Unpin")).to_have_count(3)


def test_keys_with_ctrl_alt_or_meta_are_left_to_others(
    hands: Hands, notebook: str, path: str
) -> None:
    """Whether the panel took a key shows in whether it kept it from going on."""
    made = hands.lab.checkpoint(notebook, 0, 0, metrics={"loss": 1})
    hands.lab.checkpoint(notebook, 1, 1, metrics={"loss": 0.5})
    show(hands, path, 2)
    taken = """([selector, key, init]) => {
      const event = new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true, ...init});
      const panel = document.querySelector(selector);
      panel.focus();
      return !panel.dispatchEvent(event);
    }"""
    grid, plot = "#axon-panel .axon-Grid", "#axon-panel .axon-Curves-plot"
    hands.panel.get_by_role("grid").focus()
    for selector, keys in (
        (grid, ("p", "t", "Backspace", "Enter", "Home")),
        (plot, ("+", "-", "0")),
    ):
        for modifier in ("ctrlKey", "metaKey", "altKey"):
            for key in keys:
                assert not hands.page.evaluate(taken, [selector, key, {modifier: True}]), (
                    key,
                    modifier,
                )
    assert not hands.page.evaluate(taken, [plot, "Escape", {}])
    assert hands.page.evaluate(taken, [plot, "+", {}])
    assert hands.page.evaluate(taken, [plot, "Escape", {}])
    assert hands.page.evaluate(taken, [grid, "a", {"ctrlKey": True}])
    expect(hands.panel.locator("[aria-selected=true]")).to_have_count(2)
    expect(hands.row(made["id"]).get_by_role("button", name="Unpin")).to_have_count(0)


def test_a_filter_stands_in_its_box_for_as_long_as_it_holds(
    hands: Hands, notebook: str, path: str
) -> None:
    made = hands.lab.checkpoint(notebook, 0, 0)
    show(hands, path, 1)
    hands.filter("epoch:7")
    expect(hands.panel).to_contain_text("0 of 1")
    hands.lab.rest("DELETE", f"/notebooks/{notebook}/checkpoints/{made['id']}")
    expect(hands.panel).to_contain_text("No checkpoints yet")
    hands.lab.checkpoint(notebook, 1, 1)
    expect(hands.panel).to_contain_text("0 of 1")
    expect(hands.panel.locator("jp-search input")).to_have_value("epoch:7")
