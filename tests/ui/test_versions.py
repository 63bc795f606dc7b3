"""The history of a notebook, and what has changed since a checkpoint."""

from __future__ import annotations

import json

from playwright.sync_api import Request, Route, expect
from support.page import Hands, eventually


def test_a_version_opens_read_only_and_is_compared_with_now(hands: Hands, path: str) -> None:
    hands.lab.write(path, "lr = 0.1", "print('before')")
    notebook = hands.lab.record(path)
    hands.lab.checkpoint(notebook, 0, 0)
    hands.lab.write(path, "lr = 0.2", "print('now')")
    hands.lab.record(path)
    hands.open(path)
    panel = hands.open_panel()
    hands.section("Versions").click()
    versions = panel.locator(".axon-Versions li")
    expect(versions).to_have_count(2)
    expect(versions.nth(0)).to_contain_text("now")
    expect(versions.nth(1)).to_contain_text("1 checkpoint")

    versions.nth(1).get_by_role("button", name="Open").click()
    view = hands.page.locator(".axon-Version")
    expect(view.locator(".jp-CodeCell")).to_have_count(2)
    expect(view).to_contain_text("print('before')")
    view.locator(".cm-content").first.click()
    hands.page.keyboard.type("spoilt")
    expect(view).not_to_contain_text("spoilt")

    hands.command("docmanager:open", path=path)
    versions.nth(1).get_by_role("button", name="Compare").click()
    diff = hands.page.locator(".axon-Diff:visible")
    expect(diff.locator("[data-kind=added]").first).to_contain_text("lr = 0.2")
    expect(diff.locator("[data-kind=removed]").last).to_contain_text("print('before')")


def test_code_that_changed_since_the_newest_checkpoint_is_pointed_at(
    hands: Hands, path: str
) -> None:
    file = hands.lab.write(path, "lr = 0.1", "train(lr)")
    notebook = hands.lab.record(path)
    hands.lab.checkpoint(notebook, 0, 0, metrics={"loss": 1.0})
    hands.open(path)
    panel = hands.open_panel()
    expect(hands.rows).to_have_count(1)
    expect(panel.locator(".axon-Drift")).to_have_count(0)
    hands.page.evaluate(
        "window.jupyterapp.shell.currentWidget.content.widgets[1].model.sharedModel.setSource('train(lr / 2)')"
    )
    hands.save()
    drift = panel.locator(".axon-Drift")
    expect(drift).to_contain_text("has changed since")
    assert "train(lr / 2)" in file.read_text()
    drift.get_by_role("button", name="Cell 2").click()
    eventually(hands.active_cell, "train(lr / 2)")
    drift.get_by_role("button", name="Show what changed").click()
    expect(hands.page.locator(".axon-Diff [data-kind=added]")).to_contain_text("train(lr / 2)")


def test_versions_beyond_the_first_hundred_are_shown_when_asked(hands: Hands, path: str) -> None:
    for count in range(102):
        hands.lab.write(path, f"x = {count}")
        notebook = hands.lab.record(path)
    oldest = hands.lab.rest("GET", f"/notebooks/{notebook}/versions?limit=1&offset=101")[0]["id"]
    hands.open(path)
    panel = hands.open_panel()
    hands.section("Versions").click()
    versions = panel.locator(".axon-Versions li")
    expect(versions).to_have_count(100)
    hands.command("axon:compare-versions", **{"from": oldest, "to": oldest})
    expect(hands.page.locator(".axon-Diff:visible")).not_to_contain_text(oldest)
    panel.get_by_role("button", name="Show older versions").click()
    expect(versions).to_have_count(102)
    expect(panel.locator(f'[data-version="{oldest}"]')).to_be_visible()
    expect(panel.get_by_role("button", name="Show older versions")).to_have_count(0)


def test_a_script_in_an_output_of_a_version_never_runs(hands: Hands, path: str) -> None:
    scripts = {
        "text/html": "<b>shown</b><img src=x onerror='window.hacked = 1'><script>window.hacked = 2</script>",
        "application/javascript": "window.hacked = 3",
    }
    metadata = {"trusted": True, "jupyter": {"trusted": True}}
    outputs = [
        {"output_type": "display_data", "data": {mime: script}, "metadata": metadata}
        for mime, script in scripts.items()
    ]
    cells = [{"id": "a", "source": "x", "outputs": outputs, "metadata": metadata}]
    hands.lab.write(path, "x")
    notebook = hands.lab.record(path)
    hands.open(path)
    hands.open_panel()
    hands.section("Versions").click()

    def forged(route: Route) -> None:
        # As a server answers that runs an older version of the extension.
        reply = route.fetch()
        version = reply.json()
        route.fulfill(
            response=reply, json={**version, "cells": [{**version["cells"][0], **cells[0]}]}
        )

    hands.page.route("**/versions/*", forged)
    hands.page.locator(".axon-Versions li").first.get_by_role("button", name="Open").click()
    view = hands.page.locator(".axon-Version")
    expect(view).to_contain_text("shown")
    hands.page.unroute("**/versions/*")
    assert hands.page.evaluate("window.hacked ?? null") is None
    assert view.locator("script").count() == 0

    given = {"cells": cells, "metadata": {"extra": {"nbformat": {"metadata": metadata}}}}
    stored = hands.lab.rest("PUT", f"/notebooks/{notebook}", {**given, "name": "forged"})
    assert "trusted" not in json.dumps(stored)


def test_what_the_panel_asks_by_itself_is_no_activity_of_its_user(hands: Hands, path: str) -> None:
    hands.lab.write(path, "x = 1")
    notebook = hands.lab.record(path)
    hands.lab.checkpoint(notebook, 0, 0, metrics={"loss": 1.0})
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/axon/" in request.url:
            asked.append(request.url)

    hands.page.on("request", note)
    hands.open(path)
    hands.open_panel()
    expect(hands.rows).to_have_count(1)
    with hands.page.expect_response(
        lambda answer: f"{notebook}/checkpoints?limit=50" in answer.url
    ):
        pass  # a look that nobody asked for
    assert {"notebooks", "checkpoints", "metrics", "runs", "versions"} <= {
        url.partition("?")[0].rpartition("/")[2] for url in asked
    }
    assert [url for url in asked if "no_track_activity=1" not in url] == []

    hands.section("Versions").click()
    hands.page.locator(".axon-Versions li").first.get_by_role("button", name="Open").click()
    expect(hands.page.locator(".axon-Version")).to_contain_text("x = 1")
    hands.page.remove_listener("request", note)
    assert ["/versions/" in url for url in asked if "no_track_activity" not in url] == [True]
