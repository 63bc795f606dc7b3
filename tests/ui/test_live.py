"""Many runs that train at once, seen in the panel and in the Training Runs page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Locator, expect
from support.lab import LabServer
from support.live_runs import LiveRuns
from support.page import POLL_URL, LabPage

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store


@pytest.fixture
def runs(server: LabServer, path: str) -> Iterator[LiveRuns]:
    """Twenty runs of a notebook."""
    notebook_id = server.create_record(path, "train()")
    with closing(open_store(f"sqlite:///{server.data}/axon_notebooks/axon.db")) as store:
        yield LiveRuns(NotebookRepository(store), notebook_id, 20)


def open_page(lab: LabPage, path: str) -> Locator:
    """Open the panel and the page; returns the page."""
    lab.show(path)
    lab.start("axon:open-runs", where=f'notebook == "{path.removesuffix(".ipynb")}"')
    return lab.page.locator(".axon-RunsPage")


def test_panel_and_page_follow_twenty_runs(lab: LabPage, path: str, runs: LiveRuns) -> None:
    runs.tick(checkpoints=True)
    page = open_page(lab, path)
    row = page.get_by_role("row", name="live 0")
    for _ in range(2):
        loss = runs.tick(checkpoints=True)
        expect(row).to_contain_text(str(loss))
        expect(lab.panel).to_contain_text(str(loss))
    runs.finish()
    expect(row).to_contain_text("Completed")
    expect(lab.header).to_contain_text("Completed")


def test_the_page_asks_for_nothing_while_it_is_hidden(
    lab: LabPage, path: str, runs: LiveRuns
) -> None:
    runs.tick()
    page = open_page(lab, path)
    row = page.get_by_role("row", name="live 0")
    expect(row).to_be_visible()
    lab.open(path)
    expect(page).not_to_be_visible()
    urls: list[str] = []
    lab.page.on("request", lambda request: urls.append(request.url))
    for _ in range(4):  # the polls of the panel, which is still visible
        loss = runs.tick()
        with lab.page.expect_response(POLL_URL):
            pass
    assert [url for url in urls if "/axon/runs" in url and "/table" in url] == []
    lab.start("axon:open-runs")
    expect(row).to_contain_text(str(loss))
