"""What the panel says of where a checkpoint came from."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect
from support.page import Hands


@pytest.fixture
def made(hands: Hands, path: str) -> list[Any]:
    """Two checkpoints, the second after the first cell was changed; the notebook is open beside the panel."""
    made = []
    for epoch, rate in enumerate(["0.1", "0.2"]):
        hands.lab.write(path, f"lr = {rate}", "train(lr)")
        made.append(
            hands.lab.checkpoint(hands.lab.record(path), epoch, epoch, metrics={"loss": 1.0})
        )
    hands.open(path)
    hands.open_panel()
    expect(hands.rows).to_have_count(2)
    return made


def test_the_notebook_that_a_checkpoint_came_from_opens_to_be_read(
    hands: Hands, made: list[Any]
) -> None:
    hands.row(made[0]["id"]).click(button="right")
    hands.page.locator(".lm-Menu-item", has_text="Open the Notebook Version").click()
    view = hands.page.locator(".axon-Version")
    expect(view.locator(".jp-CodeCell")).to_have_count(2)
    expect(view).to_contain_text("lr = 0.1")


def test_what_has_changed_is_told_of_the_checkpoint_that_is_selected(
    hands: Hands, made: list[Any]
) -> None:
    drift = hands.panel.locator(".axon-Drift")
    expect(drift).to_have_count(0)
    hands.row(made[0]["id"]).get_by_role("checkbox").check()
    expect(drift).to_contain_text("The selected checkpoint (no run, epoch 0)")
    expect(drift.get_by_role("button", name="Cell 1")).to_be_visible()
    hands.panel.get_by_role("button", name="Select none").click()
    expect(drift).to_have_count(0)
