"""The panel without a mouse."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from support.page import LabPage

#: Number of key presses by which the focus must be where it is expected.
MAX_PRESSES = 60
ACTIVE = re.compile("axon-mod-active")


def press_until_focused(page: Page, key: str, selector: str) -> None:
    """Press a key until the focus is in an element."""
    for _ in range(MAX_PRESSES):
        page.keyboard.press(key)
        if page.evaluate("selector => !!document.activeElement?.closest(selector)", selector):
            return
    raise AssertionError(f"{key} does not lead to {selector}.")


def test_checkpoints_and_versions_are_reached_from_the_notebook(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path, "lr = 0.1")
    first, second = (
        lab.server.add_checkpoint(notebook_id, epoch, epoch, metrics={"loss": 1 - epoch})["id"]
        for epoch in range(2)
    )
    lab.open(path)
    page = lab.page
    page.locator(".jp-Notebook .jp-Cell").first.focus()
    press_until_focused(page, "Shift+Tab", ".jp-NotebookPanel-toolbar")
    press_until_focused(page, "ArrowRight", ".axon-StatusButton")
    page.keyboard.press("Enter")
    expect(lab.rows).to_have_count(2)

    press_until_focused(page, "Tab", "[role=grid]")
    if not page.evaluate("document.activeElement.matches('[role=grid]')"):
        press_until_focused(page, "Tab", ".axon-Grid:focus")
    expect(lab.row(second)).to_have_class(ACTIVE)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("p")
    expect(lab.row(first).get_by_role("button", name="Unpin")).to_be_visible()

    press_until_focused(page, "Tab", ".lm-AccordionPanel-title:last-of-type")
    page.keyboard.press("Enter")
    open_button = '[aria-label^="Open the version"]'
    expect(page.locator(open_button)).to_be_visible()
    press_until_focused(page, "Tab", open_button)
    page.keyboard.press("Enter")
    expect(page.locator(".axon-Version .jp-CodeCell")).to_have_count(1)
