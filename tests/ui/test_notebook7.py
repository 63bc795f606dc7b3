"""The panel in Notebook 7: the same extension in another application."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect
from support.lab import Lab, running_lab
from support.page import Hands


@pytest.fixture(scope="module")
def notebook7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("notebook7"), app="notebook") as server:
        yield server


def test_the_panel_opens_beside_the_notebook_and_follows_its_saves(
    notebook7: Lab, context: BrowserContext
) -> None:
    notebook7.write("train.ipynb", "lr = 0.1")
    notebook = notebook7.record("train.ipynb")
    made = notebook7.checkpoint(notebook, 3, 30, metrics={"val_loss": 0.25})
    hands = Hands(context.new_page(), notebook7)
    hands.arrive("train.ipynb", app="notebook")
    expect(hands.page.locator(".axon-StatusButton")).to_have_attribute("data-status", "draft")
    panel = hands.open_panel()
    expect(panel.locator(".axon-Header h2")).to_have_text("train")
    expect(hands.row(made["id"])).to_contain_text("0.25")
    expect(panel.locator(".axon-Curves canvas")).to_be_visible()

    hands.command("notebook:run-all-cells")
    expect(hands.page.locator(".jp-InputPrompt", has_text="[1]:")).to_be_visible()
    hands.save()
    expect(panel.locator(".axon-Header")).to_contain_text("Completed")

    hands.section("Versions").click()
    panel.get_by_role("button", name="Open the version").first.click()
    expect(hands.page.locator(".axon-Version .jp-CodeCell")).to_be_in_viewport()
    hands.page.close()
