"""The sections of the panel: how they share the height, and their settings."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from support.page import LabPage

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
MIN_HEIGHTS = {"record": 50, "curves": 150, "checkpoints": 150, "cells": 60, "versions": 60}


def heights(page: Page) -> dict[str, int]:
    """Return the height of each section; 0 for closed ones."""
    found: dict[str, int] = page.evaluate(_GET_HEIGHTS)
    return found


def show_notice(lab: LabPage, path: str) -> None:
    """Change the code of the notebook, which adds a notice to the header."""
    lab.server.create_record(path, "x = 2")
    expect(lab.panel.locator(".axon-Reproducibility")).to_be_visible()


def test_all_sections_are_usable_in_a_small_window(lab: LabPage, notebook: str, path: str) -> None:
    lab.page.set_viewport_size({"width": 1024, "height": 600})
    show_notice(lab, path)
    for title in ("Cells", "Versions"):
        lab.section(title).click()
    found = heights(lab.page)
    assert {name: height for name, height in found.items() if height < MIN_HEIGHTS[name]} == {}
    lab.rows.first.get_by_role("checkbox").check()
    expect(lab.panel.locator(".axon-Table-selected")).to_contain_text("1 selected")
    lab.panel.locator(".axon-Versions li").first.hover()
    assert lab.panel.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_sections_are_opened_closed_and_hidden_by_a_setting(lab: LabPage, notebook: str) -> None:
    titles = lab.panel.locator(".lm-AccordionPanel-title")
    names = ["Record", "Curves", "Checkpoints", "Cells", "Versions"]
    expect(titles).to_have_text(names)
    lab.change_setting("sections", {"record": "hidden", "curves": "closed", "cells": "open"})
    expect(titles).to_have_text(names[1:])
    expect(lab.panel.locator(".axon-Cells")).to_be_visible()
    expect(lab.panel.locator(".axon-Curves")).to_be_hidden()
    lab.change_setting("sections", {})
    expect(titles).to_have_text(names)
    expect(lab.panel.get_by_label("Model", exact=True)).to_be_visible()
    expect(lab.panel.locator(".axon-Curves canvas")).to_be_visible()


def test_the_preferred_metric_is_a_setting(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    lab.server.add_checkpoint(notebook_id, 0, 0, metrics={"accuracy": 0.5, "loss": 1.0})
    metric = lab.show(path).locator(".axon-Curves").get_by_label("Metric")
    expect(metric).to_have_value("loss")
    lab.change_setting("preferredMetric", "accuracy")
    expect(metric).to_have_value("accuracy")
    lab.change_setting("preferredMetric", "")
    expect(metric).to_have_value("loss")
