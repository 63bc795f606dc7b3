"""The panel in Notebook 7."""

from __future__ import annotations

import re
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
    expect(panel.locator(".axon-Curves canvas").first).to_be_visible()

    lab.execute("notebook:run-all-cells")
    expect(lab.page.locator(".jp-InputPrompt", has_text="[1]:")).to_be_visible()
    lab.save()
    expect(lab.header).to_contain_text("Completed")

    lab.section("Versions").click()
    panel.get_by_role("button", name="Open the version").first.click()
    expect(lab.page.locator(".axon-Version .jp-CodeCell")).to_be_in_viewport()
    with lab.page.expect_popup() as popup:
        lab.page.get_by_role("button", name="Restore this version as a copy").click()
    expect(popup.value).to_have_url(re.compile("/notebooks/train-version-"))
    popup.value.close()
    lab.page.close()


def test_the_version_of_a_run_is_opened_in_a_tab_of_the_start_page(
    notebook7: LabServer, context: BrowserContext
) -> None:
    notebook_id = notebook7.create_record("run.ipynb", "lr = 0.1")
    (run,) = notebook7.start_runs(notebook_id, {"name": "wide"})
    notebook7.add_checkpoint(notebook_id, 3, 30, run_id=run)
    lab = LabPage(context.new_page(), notebook7)
    lab.load(app="notebook")
    lab.start("axon:open-run-version", notebook=notebook_id, run=run)
    view = lab.page.locator(".axon-Version")
    expect(view).to_contain_text("Code of wide, epoch 3, step 30.")
    expect(view.locator(".jp-CodeCell")).to_be_in_viewport()
    lab.page.close()
