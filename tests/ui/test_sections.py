"""The sections of the panel, and how they share its room."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect
from support.page import Hands, eventually

#: The heights of the sections, once JupyterLab has laid them out: it does so with the next frame.
_HEIGHTS = """async () => {
  const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
  for (let height = -1, last = -2; height !== last; await frame(), await frame()) {
    last = height;
    height = document.querySelector('#axon-panel .lm-AccordionPanel').clientHeight;
  }
  const sections = [...document.querySelectorAll('#axon-panel .axon-Section')];
  return Object.fromEntries(sections.map(node => [node.dataset.section, node.clientHeight]));
}"""
#: Whether JupyterLab's server has the parts of the sections as they are, in a workspace.
_IS_KEPT = """async name => {
  const { serviceManager, shell } = window.jupyterapp;
  const { data } = await serviceManager.workspaces.fetch(name);
  const kept = data['layout-restorer:data']?.right?.widgetStates?.['axon-panel']?.sizes;
  const { content } = [...shell.widgets('right')].find(({ id }) => id === 'axon-panel');
  return kept?.join() === content.relativeSizes().join();
}"""
#: At least so much of it has to be seen for a section to be of use.
_LEAST = {"record": 50, "curves": 150, "checkpoints": 150, "cells": 60, "versions": 60}


def heights(page: Page) -> dict[str, int]:
    """How high each section is; 0 where it is closed."""
    found: dict[str, int] = page.evaluate(_HEIGHTS)
    return found


def drag_border(page: Page, by: int) -> None:
    """Move the border between curves and checkpoints."""
    handle = page.locator("#axon-panel .lm-SplitPanel-handle:visible").nth(1)
    handle.hover()
    box = handle.bounding_box()
    assert box is not None
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + by, steps=4)
    page.mouse.up()


def approximately(expected: dict[str, int]) -> Any:
    return pytest.approx(expected, abs=3)


def test_the_whole_record_is_in_view_at_first(hands: Hands, recorded: str) -> None:
    section = hands.panel.locator("[data-section=record]")
    expect(section.get_by_label("Description")).to_be_visible()
    heights(hands.page)
    assert section.evaluate("node => node.scrollHeight <= node.clientHeight")


def test_sections_keep_the_sizes_they_were_dragged_to_when_others_open_and_close(
    hands: Hands, recorded: str
) -> None:
    before = heights(hands.page)
    drag_border(hands.page, -60)
    dragged = heights(hands.page)
    assert dragged["curves"] == pytest.approx(before["curves"] - 60, abs=5)
    hands.section("Cells").click()
    smaller = heights(hands.page)
    assert smaller["cells"] > 0
    assert smaller["checkpoints"] < dragged["checkpoints"]
    hands.section("Cells").click()
    assert heights(hands.page) == approximately(dragged)


def test_sections_keep_their_parts_when_the_room_shrinks_and_grows(
    hands: Hands, recorded: str
) -> None:
    before = heights(hands.page)
    for height in (600, 900, 300, 900):
        hands.page.set_viewport_size({"width": 1360, "height": height})
        for _ in range(2):
            hands.section("Cells").click()
            heights(hands.page)
    assert heights(hands.page) == approximately(before)


def test_sections_keep_their_parts_when_the_header_has_more_to_say(
    hands: Hands, recorded: str, path: str
) -> None:
    before = heights(hands.page)
    for turn in range(3):
        hands.lab.write(path, f"x = {turn + 2}")
        hands.lab.record(path)
        expect(hands.panel.locator(".axon-Drift")).to_be_visible()
        for _ in range(2):
            hands.section("Versions").click()
            heights(hands.page)
        assert heights(hands.page)["checkpoints"] < before["checkpoints"]
        hands.lab.write(path, "x = 1")
        hands.lab.record(path)
        expect(hands.panel.locator(".axon-Drift")).to_be_hidden()
        assert heights(hands.page) == approximately(before)


def test_every_section_is_of_use_where_there_is_little_room(
    hands: Hands, recorded: str, path: str
) -> None:
    hands.page.set_viewport_size({"width": 1024, "height": 600})
    hands.lab.write(path, "x = 2")
    hands.lab.record(path)
    expect(hands.panel.locator(".axon-Drift")).to_be_visible()
    for title in ("Cells", "Versions"):
        hands.section(title).click()
    shown = heights(hands.page)
    assert {name: height for name, height in shown.items() if height < _LEAST[name]} == {}
    hands.rows.first.get_by_role("checkbox").check()
    expect(hands.panel.locator(".axon-Table-selected")).to_contain_text("1 selected")
    hands.panel.locator(".axon-Versions li").first.hover()
    assert hands.panel.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_dragged_sizes_are_there_after_a_reload(hands: Hands, recorded: str, path: str) -> None:
    page = hands.page.context.new_page()
    workspace = f"{hands.lab.url}/lab/workspaces/kept"
    page.goto(f"{workspace}/tree/{path}?token={hands.lab.token}")
    page.locator(".axon-StatusButton").click()
    expect(page.locator("#axon-panel .axon-Grid-row")).to_have_count(1)
    drag_border(page, -60)
    dragged = heights(page)
    page.get_by_role("tab", name="File Browser").click()  # what makes JupyterLab keep its layout
    eventually(lambda: page.evaluate(_IS_KEPT, "kept"), True)
    page.goto(workspace)
    expect(page.locator("#axon-panel .axon-Grid-row")).to_have_count(1)
    assert heights(page) == approximately(dragged)
