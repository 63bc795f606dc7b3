"""The record of the notebook in front, as the panel shows it."""

from __future__ import annotations

import re

from playwright.sync_api import expect
from support.page import Hands, eventually


def test_the_toolbar_button_shows_the_status_and_opens_the_panel(hands: Hands, path: str) -> None:
    hands.lab.write(path, "1 + 1")
    notebook = hands.lab.record(path)
    hands.lab.rest("PUT", f"/notebooks/{notebook}", {"status": "stopped"})
    hands.open(path)
    expect(hands.page.locator(".axon-StatusButton")).to_have_attribute("data-status", "stopped")
    panel = hands.open_panel()
    expect(panel.locator(".axon-Header")).to_contain_text(path.removesuffix(".ipynb"))
    expect(panel.locator(".axon-Header")).to_contain_text("Stopped")
    expect(panel.locator(".axon-Header")).to_contain_text(re.compile("synced .* · 1 cell"))
    expect(panel.locator(".axon-Record")).to_contain_text("ada")


def test_the_palette_and_the_view_menu_open_the_panel(hands: Hands, path: str) -> None:
    hands.lab.write(path)
    hands.open(path)
    page = hands.page
    page.get_by_role("menuitem", name="View", exact=True).click()
    page.get_by_role("menuitem", name="Training Panel").click()
    expect(hands.panel).to_be_visible()
    page.keyboard.press("Control+Shift+C")
    page.keyboard.type("Training Panel")
    page.keyboard.press("Enter")
    expect(hands.panel).to_be_hidden()


def test_model_dataset_and_tags_can_be_edited(hands: Hands, path: str) -> None:
    hands.lab.write(path)
    notebook = hands.lab.record(path)
    hands.open(path)
    panel = hands.open_panel()
    panel.get_by_label("Model", exact=True).fill("resnet-18")
    panel.get_by_label("Model", exact=True).press("Enter")
    panel.get_by_label("Dataset", exact=True).fill("cifar-10")
    panel.get_by_label("Dataset", exact=True).press("Tab")
    panel.get_by_label("Tags", exact=True).fill("paper")
    panel.get_by_label("Tags", exact=True).press("Enter")
    expect(panel.locator(".axon-Record .axon-Tag")).to_have_text(["paper"])
    panel.get_by_label("Tags", exact=True).fill("draft")
    panel.get_by_label("Tags", exact=True).press("Enter")
    panel.get_by_role("button", name="Remove the tag paper").click()
    expect(panel.locator(".axon-Record .axon-Tag")).to_have_text(["draft"])
    stored = hands.lab.rest("GET", f"/notebooks/{notebook}")
    assert (stored["model_id"], stored["dataset_id"]) == ("resnet-18", "cifar-10")
    assert stored["metadata"]["tags"] == ["draft"]


def test_escape_brings_back_what_stood_in_a_field(hands: Hands, path: str) -> None:
    hands.lab.write(path)
    notebook = hands.lab.record(path)
    hands.lab.rest("PUT", f"/notebooks/{notebook}", {"model_id": "resnet-18"})
    hands.open(path)
    field = hands.open_panel().get_by_label("Model", exact=True)
    expect(field).to_have_value("resnet-18")
    field.fill("other")
    field.press("Escape")
    expect(field).to_have_value("resnet-18")


def test_cells_show_how_they_went_and_lead_to_the_notebook(hands: Hands, path: str) -> None:
    hands.lab.write(path, "x = 1", "1 / 0", "# never run")
    hands.open(path)
    panel = hands.open_panel()
    hands.command("notebook:run-all-cells")
    hands.page.locator(
        ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']"
    ).wait_for()
    hands.save()
    hands.section("Cells").click()
    statuses = panel.locator(".axon-Cells .axon-Status")
    expect(statuses.nth(0)).to_have_attribute("data-status", "completed")
    expect(statuses.nth(1)).to_have_attribute("data-status", "error")
    expect(statuses.nth(2)).to_have_attribute("data-status", "idle")
    expect(panel.locator(".axon-Header")).to_contain_text("Failed")
    panel.get_by_title("Go to cell 2").click()
    eventually(hands.active_cell, "1 / 0")


def test_what_changes_on_the_server_appears_without_a_reload(hands: Hands, path: str) -> None:
    hands.lab.write(path)
    notebook = hands.lab.record(path)
    hands.open(path)
    panel = hands.open_panel()
    expect(panel).to_contain_text("No checkpoints yet")
    hands.lab.checkpoint(notebook, 0, 7, metrics={"loss": 0.5})
    expect(hands.rows).to_have_count(1)
    hands.lab.rest("PUT", f"/notebooks/{notebook}", {"status": "completed"})
    expect(panel.locator(".axon-Header")).to_contain_text("Completed")


def test_a_notebook_that_is_renamed_while_open_keeps_its_record(hands: Hands, path: str) -> None:
    hands.lab.write(path)
    notebook = hands.lab.record(path)
    hands.lab.checkpoint(notebook, 0, 1, metrics={"loss": 0.5})
    hands.open(path)
    panel = hands.open_panel()
    expect(hands.rows).to_have_count(1)
    other = f"renamed_{path}"
    hands.page.evaluate(
        "([from, to]) => window.jupyterapp.serviceManager.contents.rename(from, to)", [path, other]
    )
    expect(panel.locator(".axon-Header h2")).to_have_text(other.removesuffix(".ipynb"))
    expect(hands.rows).to_have_count(1)
    hands.lab.checkpoint(notebook, 1, 2, metrics={"loss": 0.4})
    expect(hands.rows).to_have_count(2)


def test_the_panel_follows_the_notebook_in_front(hands: Hands, path: str) -> None:
    other = f"other_{path}"
    for name, metrics in ((path, [0.1, 0.2]), (other, [0.3])):
        hands.lab.write(name)
        notebook = hands.lab.record(name)
        for step, loss in enumerate(metrics):
            hands.lab.checkpoint(notebook, 0, step, metrics={"loss": loss})
    hands.open(path)
    panel = hands.open_panel()
    expect(hands.rows).to_have_count(2)
    hands.command("docmanager:open", path=other)
    expect(panel.locator(".axon-Header h2")).to_have_text(other.removesuffix(".ipynb"))
    expect(hands.rows).to_have_count(1)
