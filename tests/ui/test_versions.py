"""The versions of a notebook, and changes since a checkpoint."""

from __future__ import annotations

import json

from playwright.sync_api import Locator, Route, expect
from support.page import LabPage, wait_for


def versions(lab: LabPage) -> Locator:
    """Open the section of versions; returns its items."""
    lab.section("Versions").click()
    return versions_of(lab)


def versions_of(lab: LabPage) -> Locator:
    return lab.panel.locator(".axon-Versions li")


def reproducibility(lab: LabPage) -> Locator:
    return lab.panel.locator(".axon-Reproducibility")


def test_a_version_is_opened_read_only_and_compared(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path, "lr = 0.1", "print('before')")
    checkpoint = lab.server.add_checkpoint(notebook_id, 0, 0)
    lab.server.create_record(path, "lr = 0.2", "print('now')")
    lab.show(path)
    items = versions(lab)
    expect(items).to_have_count(2)
    expect(items.nth(0)).to_contain_text("now")
    expect(items.nth(1)).to_contain_text("1 checkpoint")

    items.nth(1).get_by_role("button", name="Open").click()
    view = lab.page.locator(".axon-Version")
    expect(view.locator(".jp-CodeCell")).to_have_count(2)
    expect(view).to_contain_text("print('before')")
    view.locator(".cm-content").first.click()
    lab.page.keyboard.type("edited")
    expect(view).not_to_contain_text("edited")

    lab.open(path)
    items.nth(1).get_by_role("button", name="Compare").click()
    diff = lab.page.locator(".axon-Diff:visible")
    expect(diff.locator("[data-kind=added]").first).to_contain_text("lr = 0.2")
    expect(diff.locator("[data-kind=added] .tok-number")).to_have_text("0.2")
    expect(diff.locator("[data-kind=removed]").last).to_contain_text("print('before')")

    lab.open(path)
    lab.choose(checkpoint["id"], "Open the Notebook Version")
    expect(lab.page.locator(".axon-Version:visible")).to_contain_text("lr = 0.1")


def test_the_banner_says_what_was_created_and_what_changed_since(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path, "a = 1", "b = 1", "c = 1")
    (run,) = lab.server.start_runs(notebook_id, {"name": "wide"})
    for epoch in range(3):
        lab.server.add_checkpoint(notebook_id, epoch, epoch, run_id=run)
    lab.server.create_record(path, "a = 2", "b = 1")
    lab.show(path, checkpoints=3)
    versions(lab).nth(1).get_by_role("button", name="Open").click()
    view = lab.page.locator(".axon-Version")
    banner = view.locator(".axon-Version-banner")
    expect(banner).to_contain_text("Code of wide, epochs 0–2.")
    expect(banner).to_contain_text("Since then: 1 cell changed, 1 cell removed.")
    expect(view.locator(".jp-Cell", has_text="Changed since")).to_contain_text("a = 1")
    expect(view.locator(".jp-Cell", has_text="Removed since")).to_contain_text("c = 1")
    expect(view.locator("[data-change]")).to_have_count(2)
    expect(view.locator(".jp-Notebook")).to_be_focused()
    banner.get_by_role("button", name="Show what changed").click()
    expect(lab.page.locator(".axon-Diff:visible [data-kind=added]")).to_contain_text("a = 2")


def test_a_version_is_restored_as_a_copy_that_replaces_nothing(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path, "lr = 0.1")
    lab.server.create_record(path, "lr = 0.2")
    lab.show(path)
    versions(lab)
    original = (lab.server.root / path).read_bytes()
    pattern = f"{path.removesuffix('.ipynb')}-version-*.ipynb"
    for count in (1, 2):
        lab.open(path)
        versions_of(lab).nth(1).get_by_role("button", name="Open").click()
        lab.page.get_by_role("button", name="Restore this version as a copy").click()
        wait_for(lambda: len(list(lab.server.root.glob(pattern))), count)
        expect(lab.page.locator(".jp-NotebookPanel:visible")).to_contain_text("lr = 0.1")
    assert (lab.server.root / path).read_bytes() == original
    assert lab.server.get_record(notebook_id)["cells"][0]["source"] == "lr = 0.2"


def test_the_notebook_of_a_run_is_opened_at_the_version_that_ran(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path, "lr = 0.1")
    first, second = lab.server.start_runs(notebook_id, {"name": "first"}, {"name": "second"})
    lab.server.add_checkpoint(notebook_id, 4, 40, run_id=first)
    lab.server.create_record(path, "lr = 0.2")
    lab.start("axon:open-run-version", notebook=notebook_id, run=first)
    view = lab.page.locator(".axon-Version:visible")
    expect(view).to_contain_text("lr = 0.1")
    expect(view).to_contain_text("Code of first, epoch 4, step 40.")
    lab.start("axon:open-run-version", notebook=notebook_id, run=second)
    expect(view).to_contain_text("Saved before second started. It has no checkpoint")
    lab.start("axon:open-run-version", notebook=notebook_id, run="no-such-run")
    # Notifications of earlier tests may still be shown.
    expect(lab.notification.filter(has_text="no-such-run")).to_be_visible()


def test_changed_code_is_reported_for_the_newest_checkpoint(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path, "lr = 0.1", "train(lr)")
    lab.server.add_checkpoint(notebook_id, 0, 0, metrics={"loss": 1.0})
    lab.show(path, checkpoints=1)
    expect(reproducibility(lab)).to_have_count(0)
    lab.page.evaluate(
        "window.jupyterapp.shell.currentWidget.content.widgets[1].model.sharedModel"
        ".setSource('train(lr / 2)')"
    )
    lab.save()
    expect(reproducibility(lab)).to_contain_text("May not be reproducible: 1 reason")
    lab.expand_reproducibility()
    expect(reproducibility(lab)).to_contain_text("has changed since")
    reproducibility(lab).get_by_role("button", name="Cell 2").click()
    wait_for(lab.active_cell, "train(lr / 2)")
    reproducibility(lab).get_by_role("button", name="Show what changed").click()
    added = lab.page.locator(".axon-Diff [data-kind=added]")
    expect(added).to_contain_text("train(lr / 2)")


def test_scripts_in_outputs_of_a_version_do_not_run(lab: LabPage, path: str) -> None:
    scripts = {
        "text/html": "<b>shown</b><img src=x onerror='window.hacked = 1'>"
        "<script>window.hacked = 2</script>",
        "application/javascript": "window.hacked = 3",
    }
    metadata = {"trusted": True, "jupyter": {"trusted": True}}
    outputs = [
        {"output_type": "display_data", "data": {mime: script}, "metadata": metadata}
        for mime, script in scripts.items()
    ]
    cells = [{"id": "a", "source": "x", "outputs": outputs, "metadata": metadata}]
    notebook_id = lab.server.create_record(path, "x")

    def add_outputs(route: Route) -> None:
        response = route.fetch()
        version = response.json()
        version["cells"] = [{**version["cells"][0], **cells[0]}]
        route.fulfill(response=response, json=version)

    lab.page.route("**/versions/*", add_outputs)
    lab.show(path)
    versions(lab).first.get_by_role("button", name="Open").click()
    view = lab.page.locator(".axon-Version")
    expect(view).to_contain_text("shown")
    lab.page.unroute("**/versions/*")
    assert lab.page.evaluate("window.hacked ?? null") is None
    assert view.locator("script").count() == 0

    fields = {"cells": cells, "metadata": {"extra": {"nbformat": {"metadata": metadata}}}}
    stored = lab.server.update_record(notebook_id, **fields)
    assert "trusted" not in json.dumps(stored)
