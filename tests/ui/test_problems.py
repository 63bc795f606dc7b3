"""Errors of the server: the panel reports them, the notebook remains usable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Route, expect
from support.lab import LabServer, run_lab
from support.page import LabPage

ALL_REQUESTS = "**/axon/**"


def test_an_unreachable_server_is_a_notice(lab: LabPage, notebook: str) -> None:
    lab.page.route(ALL_REQUESTS, lambda route: route.abort())
    expect(lab.panel).to_contain_text("cannot be reached")
    expect(lab.rows).to_have_count(1)
    expect(lab.page.locator(".jp-Dialog, .Toastify__toast")).to_have_count(0)
    lab.page.unroute(ALL_REQUESTS)
    expect(lab.panel).not_to_contain_text("cannot be reached", timeout=30_000)


def test_a_server_without_the_extension_is_reported(lab: LabPage, path: str) -> None:
    page = "<h1>404 : Not Found</h1>"
    lab.page.route(
        ALL_REQUESTS,
        lambda route: route.fulfill(status=404, content_type="text/html", body=page),
    )
    lab.server.create_record(path)
    panel = lab.show(path)
    expect(panel).to_contain_text("Restart the server")
    expect(panel).to_contain_text("jupyter server extension list")
    expect(lab.section("Checkpoints")).to_be_hidden()
    lab.page.unroute(ALL_REQUESTS)
    panel.get_by_role("button", name="Refresh").click()
    expect(panel).to_contain_text("No checkpoints yet")
    expect(panel).not_to_contain_text("Restart the server")


def test_a_refused_change_is_reported_and_the_field_keeps_its_value(
    lab: LabPage, notebook: str
) -> None:
    def refuse_updates(route: Route) -> None:
        if route.request.method == "PUT":
            route.fulfill(status=507, json={"message": "no space left"})
        else:
            route.continue_()

    lab.page.route("**/axon/notebooks/*", refuse_updates)
    lab.section("Record").click()
    field = lab.panel.get_by_label("Model", exact=True)
    field.fill("resnet-18")
    field.press("Enter")
    expect(lab.notification).to_contain_text("no space left")
    expect(field).to_have_value("")
    lab.notification.get_by_role("button", name="Hide").click()
    expect(lab.notification).to_have_count(0)


@pytest.fixture(scope="module")
def failing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    with run_lab(tmp_path_factory.mktemp("failing")) as server:
        yield server


def test_the_notebook_survives_a_damaged_store_and_the_end_of_the_server(
    failing_server: LabServer, context: BrowserContext
) -> None:
    server = failing_server
    server.add_checkpoint(server.create_record("train.ipynb", "x = 1"), 0, 1, metrics={"loss": 0.5})
    lab = LabPage(context.new_page(), server)
    lab.load("train.ipynb")
    lab.open_panel()
    expect(lab.rows).to_have_count(1)
    for file in (server.data / "axon_notebooks").glob("axon.db*"):
        with file.open("r+b") as store:
            store.write(b"\xff" * file.stat().st_size)
    expect(lab.panel).to_contain_text("could not answer")
    expect(lab.rows).to_have_count(1)
    lab.page.locator(".jp-Notebook .cm-content").fill("x = 2")
    lab.save()
    assert "x = 2" in (server.root / "train.ipynb").read_text()
    server.process.kill()
    server.process.wait()
    expect(lab.panel).to_contain_text("cannot be reached")
    expect(lab.page.locator(".jp-Notebook .cm-content")).to_have_text("x = 2")
