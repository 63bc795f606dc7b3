"""The panel in Notebook 7."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect
from support.lab import LabServer, run_lab
from support.page import LabPage


@pytest.fixture(scope="module")
def notebook7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    with run_lab(tmp_path_factory.mktemp("notebook7"), app="notebook") as server:
        yield server


def test_the_panel_opens_beside_the_notebook_and_follows_its_saves(
    notebook7: LabServer, context: BrowserContext
) -> None:
    notebook_id = notebook7.create_record("train.ipynb", "lr = 0.1")
    checkpoint = notebook7.add_checkpoint(notebook_id, 3, 30, metrics={"val_loss": 0.25})
    lab = LabPage(context.new_page(), notebook7)
    lab.load("train.ipynb", app="notebook")
    expect(lab.page.locator(".axon-StatusButton")).to_have_attribute("data-status", "draft")
    panel = lab.open_panel()
    expect(lab.header.locator("h2")).to_have_text("train")
    expect(lab.row(checkpoint["id"])).to_contain_text("0.25")
    expect(panel.locator(".axon-Curves canvas")).to_be_visible()

    lab.execute("notebook:run-all-cells")
    expect(lab.page.locator(".jp-InputPrompt", has_text="[1]:")).to_be_visible()
    lab.save()
    expect(lab.header).to_contain_text("Completed")

    lab.section("Versions").click()
    panel.get_by_role("button", name="Open the version").first.click()
    expect(lab.page.locator(".axon-Version .jp-CodeCell")).to_be_in_viewport()
    lab.page.close()
