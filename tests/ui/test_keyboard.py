"""All the way without a mouse."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from support.page import Hands

#: Steps within which whatever is looked for has to come.
FAR = 60


def go(page: Page, key: str, selector: str) -> None:
    """Press a key until what has the focus is, or lies in, what a selector names."""
    for _ in range(FAR):
        page.keyboard.press(key)
        if page.evaluate(
            "selector => document.activeElement?.closest(selector) !== null", selector
        ):
            return
    raise AssertionError(f"{key} does not lead to {selector}")


def test_from_the_notebook_to_a_checkpoint_and_a_version(hands: Hands, path: str) -> None:
    hands.lab.write(path, "lr = 0.1")
    notebook = hands.lab.record(path)
    made = [
        hands.lab.checkpoint(notebook, epoch, epoch, metrics={"loss": 1 - epoch})
        for epoch in range(2)
    ]
    hands.open(path)
    page = hands.page
    page.locator(".jp-Notebook .jp-Cell").first.focus()
    go(page, "Shift+Tab", ".jp-NotebookPanel-toolbar")
    go(page, "ArrowRight", ".axon-StatusButton")
    page.keyboard.press("Enter")
    expect(hands.panel).to_be_visible()
    expect(hands.rows).to_have_count(2)

    go(page, "Tab", "[role=grid]")
    if not page.evaluate("document.activeElement.matches('[role=grid]')"):
        go(page, "Tab", ".axon-Grid:focus")
    expect(hands.row(made[1]["id"])).to_have_class("axon-Grid-row axon-mod-active")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("p")
    expect(hands.row(made[0]["id"]).get_by_role("button", name="Unpin")).to_be_visible()

    versions, opener = ".lm-AccordionPanel-title:last-of-type", '[aria-label^="Open the version"]'
    go(page, "Tab", versions)
    page.keyboard.press("Enter")
    expect(page.locator(opener)).to_be_visible()
    go(page, "Tab", opener)
    page.keyboard.press("Enter")
    expect(page.locator(".axon-Version .jp-CodeCell")).to_have_count(1)
