"""A notebook with 10,000 checkpoints."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from support.lab import LabServer
from support.page import LabPage

COUNT = 10_000
RUNS = 4
RUN_LENGTH = COUNT // RUNS
PATH = "many.ipynb"


@pytest.fixture(scope="module")
def many(server: LabServer) -> str:
    """Four runs, each of 250 epochs of ten steps."""
    notebook_id = server.create_record(PATH, "lr = 0.1")
    checkpoints = (
        {
            "run_id": f"{notebook_id}-{i // RUN_LENGTH}",
            "epoch": i % RUN_LENGTH // 10,
            "step": i % RUN_LENGTH,
            "metrics": {
                "val_loss": 1 / (1 + i % RUN_LENGTH) + 0.01,
                "accuracy": i / COUNT,
            },
        }
        for i in range(COUNT)
    )
    server.add_checkpoints(notebook_id, checkpoints)
    return notebook_id


@pytest.fixture
def panel(lab: LabPage, many: str) -> LabPage:
    lab.show(PATH)
    expect(lab.panel).to_contain_text(f"{COUNT} checkpoints")
    return lab


def test_only_visible_rows_are_rendered(panel: LabPage) -> None:
    expect(panel.grid).to_have_attribute("aria-rowcount", str(COUNT + 1))
    assert panel.rows.count() < 100
    panel.grid.evaluate("grid => { grid.scrollTop = grid.scrollHeight }")
    last = panel.panel.locator(f'[aria-rowindex="{COUNT + 1}"]')
    expect(last.get_by_role("gridcell").nth(2)).to_have_text("0")
    assert panel.rows.count() < 100
    active = re.compile("axon-mod-active")
    panel.grid.focus()
    panel.page.keyboard.press("End")
    expect(last).to_have_class(active)
    expect(last).to_be_in_viewport()
    panel.page.keyboard.press("Home")
    expect(panel.panel.locator('[aria-rowindex="2"]')).to_have_class(active)


def test_rows_are_filtered(panel: LabPage) -> None:
    panel.filter("epoch:7 run:2")
    expect(panel.panel).to_contain_text(f"10 of {COUNT}")
    expect(panel.rows).to_have_count(10)
    panel.filter("val_loss>1")
    expect(panel.rows).to_have_count(RUNS)
    panel.filter("nonesuch")
    expect(panel.panel).to_contain_text("No checkpoint matches this filter")
