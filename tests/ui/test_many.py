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
#: The index of the best one, far from the newest.
BEST = 4_321
#: Milliseconds within which every page of older checkpoints is checked.
ALL_PAGES_TIMEOUT = 200_000


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
                "val_loss": 0.001 if i == BEST else 1 / (1 + i % RUN_LENGTH) + 0.01,
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
    expect(last.get_by_role("gridcell").nth(3)).to_have_text("0")
    assert panel.rows.count() < 100
    active = re.compile("axon-mod-active")
    panel.grid.focus()
    panel.page.keyboard.press("End")
    expect(last).to_have_class(active)
    expect(last).to_be_in_viewport()
    panel.page.keyboard.press("Home")
    expect(panel.panel.locator('[aria-rowindex="2"]')).to_have_class(active)


def test_the_best_is_first_when_sorted(panel: LabPage) -> None:
    header = panel.panel.get_by_role("columnheader", name="val_loss")
    header.click()
    header.click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    first = panel.panel.locator('[aria-rowindex="2"]')
    expect(first.get_by_role("img", name="Best")).to_be_visible()
    expect(first.get_by_role("gridcell").nth(3)).to_have_text(str(BEST % RUN_LENGTH))


def test_rows_are_filtered(panel: LabPage) -> None:
    panel.filter("epoch:7 run:2")
    expect(panel.panel).to_contain_text(f"10 of {COUNT}")
    expect(panel.rows).to_have_count(10)
    panel.filter("val_loss<0.005")
    expect(panel.rows).to_have_count(1)
    panel.filter("nonesuch")
    expect(panel.panel).to_contain_text("No checkpoint matches this filter")


def test_the_notebook_is_usable_while_checkpoints_load(lab: LabPage, many: str) -> None:
    lab.open(PATH)
    cell = lab.page.locator(".jp-Notebook .cm-content").first
    cell.click()
    lab.execute("axon:toggle-panel")
    cell.click()
    lab.page.keyboard.press("End")
    lab.page.keyboard.type("  # typed")
    expect(cell).to_have_text("lr = 0.1  # typed")
    expect(lab.panel).to_contain_text(f"{COUNT} checkpoints")


def test_tags_that_others_give_to_old_checkpoints_appear(panel: LabPage, many: str) -> None:
    [old] = panel.server.list_checkpoints(many, "?limit=1&offset=700")
    panel.server.update_checkpoint(many, old["id"], tags=["paper"])
    panel.filter("paper")
    expect(panel.row(old["id"])).to_be_visible(timeout=ALL_PAGES_TIMEOUT)
