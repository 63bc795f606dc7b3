"""The sections of the panel: how they share the height, and their settings."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from support.page import LabPage, wait_for

#: The heights of the sections after JupyterLab has laid them out in the next frames.
_GET_HEIGHTS = """async () => {
  const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
  for (let height = -1, last = -2; height !== last; await frame(), await frame()) {
    last = height;
    height = document.querySelector('#axon-panel .lm-AccordionPanel').clientHeight;
  }
  const sections = [...document.querySelectorAll('#axon-panel .axon-Section')];
  return Object.fromEntries(sections.map(node => [node.dataset.section, node.clientHeight]));
}"""
#: The smallest useful height of each section in pixels.
MIN_HEIGHTS = {"curves": 150, "checkpoints": 200, "record": 50, "cells": 60, "versions": 60}


def heights(page: Page) -> dict[str, int]:
    """Return the height of each section; 0 for closed ones."""
    found: dict[str, int] = page.evaluate(_GET_HEIGHTS)
    return found


def show_notice(lab: LabPage, path: str) -> None:
    """Change the code of the notebook, which adds a notice to the header."""
    lab.server.create_record(path, "x = 2")
    expect(lab.panel.locator(".axon-Reproducibility")).to_be_visible()


@pytest.mark.parametrize("viewport", [(1280, 720), (1920, 1080)])
def test_six_checkpoints_are_visible_beside_the_notebook_with_a_notice(
    lab: LabPage, path: str, viewport: tuple[int, int]
) -> None:
    """With the file browser and the status bar, as JupyterLab opens at first."""
    notebook_id = lab.server.create_record(path, "x = 1")
    for epoch in range(12):
        metrics = {"val_loss": 1 / (1 + epoch), "accuracy": epoch / 12}
        lab.server.add_checkpoint(notebook_id, epoch, epoch, metrics=metrics)
    width, height = viewport
    lab.page.set_viewport_size({"width": width, "height": height})
    lab.show(path)
    show_notice(lab, path)
    sixth = lab.panel.locator('.axon-Grid-row[aria-rowindex="7"]')
    expect(sixth).to_be_in_viewport(ratio=1)
    assert lab.grid.evaluate("grid => grid.scrollTop") == 0
    expect(lab.panel.locator(".axon-MetricChart canvas").nth(1)).to_be_in_viewport(ratio=0.9)
    expect(lab.panel.get_by_role("table", name="Runs").get_by_role("row").first).to_be_in_viewport()


def test_all_sections_are_usable_in_a_small_window(lab: LabPage, notebook: str, path: str) -> None:
    lab.page.set_viewport_size({"width": 1024, "height": 600})
    show_notice(lab, path)
    for title in ("Record", "Cells", "Versions"):
        lab.section(title).click()
    found = heights(lab.page)
    assert {name: height for name, height in found.items() if height < MIN_HEIGHTS[name]} == {}
    lab.rows.first.get_by_role("checkbox").check()
    expect(lab.panel.locator(".axon-Table-selected")).to_contain_text("1 selected")
    lab.panel.locator(".axon-Versions li").first.hover()
    assert lab.panel.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_sections_are_opened_closed_and_hidden_by_a_setting(lab: LabPage, notebook: str) -> None:
    titles = lab.panel.locator(".lm-AccordionPanel-title")
    names = ["Curves", "Checkpoints", "Record", "Cells", "Versions"]
    expect(titles).to_have_text(names)
    lab.change_setting("sections", {"checkpoints": "hidden", "curves": "closed", "cells": "open"})
    expect(titles).to_have_text(["Curves", "Record", "Cells", "Versions"])
    expect(lab.panel.locator(".axon-Cells")).to_be_visible()
    expect(lab.panel.locator(".axon-Curves")).to_be_hidden()
    lab.change_setting("sections", {"record": "open"})
    expect(titles).to_have_text(names)
    expect(lab.panel.get_by_label("Model", exact=True)).to_be_visible()
    expect(lab.panel.locator(".axon-Curves canvas").first).to_be_visible()
    lab.change_setting("sections", {})


def test_the_preferred_metric_and_its_direction_are_settings(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    for epoch in range(2):
        metrics = {"accuracy": epoch / 2, "loss": 1 - epoch / 2}
        lab.server.add_checkpoint(notebook_id, epoch, epoch, metrics=metrics)
    lab.show(path, checkpoints=2)
    metric = lab.header.get_by_label("Metric")
    best = lab.header.locator(".axon-Header-best")
    expect(metric).to_have_value("loss")
    expect(best).to_contain_text("0.5")
    lab.change_setting("preferredMetric", "accuracy")
    expect(metric).to_have_value("accuracy")
    expect(best).to_contain_text("no run, epoch 1")
    lab.change_setting("preferredDirection", "lower")
    expect(best).to_contain_text("no run, epoch 0")
    lab.change_setting("preferredDirection", "by name")
    lab.change_setting("preferredMetric", "")
    expect(metric).to_have_value("loss")


def test_the_panel_opens_at_start_by_a_setting(lab: LabPage, notebook: str, path: str) -> None:
    lab.change_setting("openAtStart", True)
    other = LabPage(lab.page.context.new_page(), lab.server)
    try:
        other.load(path)
        expect(other.rows).to_have_count(1)
        in_notebook = "document.activeElement.closest('.jp-NotebookPanel') !== null"
        wait_for(lambda: other.page.evaluate(in_notebook), True)
    finally:
        other.page.close()
        lab.change_setting("openAtStart", False)
