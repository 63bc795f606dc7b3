"""The record of the current notebook: header, status, fields and cells."""

from __future__ import annotations

import json
import re

from playwright.sync_api import expect
from support.page import LabPage, wait_for

#: Milliseconds for a kernel to start, import the package and train.
TRAINING_TIMEOUT = 30_000
TRAINING = """
import pathlib, time
import jupyter_axon_notebooks as axon
axon.checkpoint(None, epoch=0, step=0, metrics={"loss": 1.0})
while not pathlib.Path("continue").exists():
    time.sleep(0.05)
"""


def test_the_toolbar_button_shows_the_status_and_opens_the_panel(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path, "1 + 1")
    lab.server.update_record(notebook_id, status="stopped")
    lab.open(path)
    expect(lab.page.locator(".axon-StatusButton")).to_have_attribute("data-status", "stopped")
    panel = lab.open_panel()
    expect(lab.header).to_contain_text(path.removesuffix(".ipynb"))
    expect(lab.header).to_contain_text("Stopped")
    expect(lab.header).to_contain_text(re.compile("synced "))
    lab.section("Record").click()
    expect(panel.locator(".axon-Record")).to_contain_text("ada")


def test_the_toolbar_button_follows_a_training(lab: LabPage, path: str) -> None:
    lab.server.write_notebook(path, TRAINING)
    lab.open(path, has_own_kernel=True)
    button = lab.page.locator(".axon-StatusButton")
    lab.save()
    expect(button).to_have_attribute("data-status", "draft")
    lab.start("notebook:run-all-cells")
    expect(button).to_have_attribute("data-status", "running", timeout=TRAINING_TIMEOUT)
    (lab.server.root / "continue").touch()
    expect(button).to_have_attribute("data-status", "completed", timeout=TRAINING_TIMEOUT)


def test_the_view_menu_and_the_palette_toggle_the_panel(lab: LabPage, path: str) -> None:
    lab.server.write_notebook(path)
    lab.open(path)
    lab.page.get_by_role("menuitem", name="View", exact=True).click()
    lab.page.get_by_role("menuitem", name="Training Panel").click()
    expect(lab.panel).to_be_visible()
    lab.page.keyboard.press("Control+Shift+C")
    lab.page.keyboard.type("Training Panel")
    lab.page.keyboard.press("Enter")
    expect(lab.panel).to_be_hidden()


def test_fields_and_tags_are_edited(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    panel = lab.show(path)
    lab.section("Record").click()
    for label, value, key in (
        ("Model", "resnet-18", "Enter"),
        ("Dataset", "cifar-10", "Tab"),
        ("Tags", "paper", "Enter"),
        ("Tags", "draft", "Enter"),
    ):
        panel.get_by_label(label, exact=True).fill(value)
        panel.get_by_label(label, exact=True).press(key)
    tags = panel.locator(".axon-Record .axon-Tag")
    expect(tags).to_have_text(["paper", "draft"])
    panel.get_by_role("button", name="Remove the tag paper").click()
    expect(tags).to_have_text(["draft"])
    model = panel.get_by_label("Model", exact=True)
    model.fill("other")
    model.press("Escape")
    expect(model).to_have_value("resnet-18")
    stored = lab.server.get_record(notebook_id)
    assert (stored["model_id"], stored["dataset_id"]) == ("resnet-18", "cifar-10")
    assert stored["metadata"]["tags"] == ["draft"]


def test_cells_show_their_status_and_lead_to_the_notebook(lab: LabPage, path: str) -> None:
    lab.server.write_notebook(path, "x = 1", "1 / 0", "# not run")
    lab.open(path, has_own_kernel=True)
    panel = lab.open_panel()
    lab.execute("notebook:run-all-cells")
    error = ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']"
    lab.page.locator(error).wait_for()
    lab.save()
    lab.section("Cells").click()
    statuses = panel.locator(".axon-Cells .axon-Status")
    for index, status in enumerate(("completed", "error", "idle")):
        expect(statuses.nth(index)).to_have_attribute("data-status", status)
    expect(lab.header).to_contain_text("Failed")
    panel.get_by_title("Go to cell 2").click()
    wait_for(lab.active_cell, "1 / 0")


def test_a_renamed_notebook_keeps_its_record(lab: LabPage, notebook: str, path: str) -> None:
    renamed = f"renamed_{path}"
    rename = "([from, to]) => window.jupyterapp.serviceManager.contents.rename(from, to)"
    lab.page.evaluate(rename, [path, renamed])
    expect(lab.header.locator("h2")).to_have_text(renamed.removesuffix(".ipynb"))
    expect(lab.rows).to_have_count(1)
    lab.server.add_checkpoint(notebook, 1, 2, metrics={"loss": 0.4})
    expect(lab.rows).to_have_count(2)


def test_a_copy_says_of_which_notebook_it_is_one(lab: LabPage, notebook: str, path: str) -> None:
    copy = f"copy_of_{path}"
    lab.save()  # writes the id of the record into the file
    content = (lab.server.root / path).read_text()
    (lab.server.root / copy).write_text(content)
    lab.server.sync(copy)
    lab.open(copy)
    origin = lab.header.get_by_role("button", name=path.removesuffix(".ipynb"), exact=True)
    expect(lab.header).to_contain_text("Copied from")
    origin.click()
    expect(lab.header.locator("h2")).to_have_text(path.removesuffix(".ipynb"))
    expect(lab.header).not_to_contain_text("Copied from")


def test_a_copy_of_a_notebook_of_another_user_does_not_name_it(lab: LabPage, path: str) -> None:
    origin = lab.server.create_record_of("bob", "secret")
    file = lab.server.write_notebook(path, "1 + 1")
    content = json.loads(file.read_text())
    content["metadata"]["axon"] = {"notebook_id": origin}
    file.write_text(json.dumps(content))
    notebook_id = lab.server.sync(path)
    requests: list[str] = []
    lab.page.on("request", lambda request: requests.append(request.url))
    panel = lab.show(path)
    expect(lab.header).to_contain_text("Copied from")
    lab.server.add_checkpoint(notebook_id, 0, 0, metrics={"loss": 0.5})
    expect(lab.rows).to_have_count(1)
    expect(panel.locator(".axon-Notice")).to_have_count(0)
    expect(lab.header).not_to_contain_text("secret")
    assert len([url for url in requests if origin in url]) == 1


def test_the_panel_follows_the_current_notebook(lab: LabPage, notebook: str, path: str) -> None:
    other = f"other_{path}"
    other_id = lab.server.create_record(other)
    for step in range(2):
        lab.server.add_checkpoint(other_id, 0, step, metrics={"loss": 0.1})
    lab.open(other)
    expect(lab.header.locator("h2")).to_have_text(other.removesuffix(".ipynb"))
    expect(lab.rows).to_have_count(2)


def test_a_new_notebook_gets_its_record_with_the_first_save(lab: LabPage) -> None:
    lab.execute("notebook:create-new", kernelName="python3")
    panel = lab.open_panel()
    lab.page.keyboard.press("Control+s")
    lab.dialog.locator(".jp-mod-accept").click()  # the question for its name
    expect(lab.header).to_contain_text("Draft")
    expect(panel).to_contain_text("No checkpoints yet")


def test_a_notebook_without_a_record_gets_one_on_request(lab: LabPage, path: str) -> None:
    lab.server.write_notebook(path, "x = 1")
    panel = lab.show(path)
    expect(panel).to_contain_text("no record yet")
    expect(lab.section("Checkpoints")).to_be_hidden()
    panel.get_by_role("button", name="Save and start recording").click()
    expect(lab.header).to_contain_text("Draft")
    expect(panel).to_contain_text("No checkpoints yet")
