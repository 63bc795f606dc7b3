"""The Training Runs page with 10,000 runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import BrowserContext, expect
from support.lab import run_lab
from support.many_runs import fill_store
from support.page import LabPage
from support.runs_page import RunsPage

from jupyter_axon_notebooks.store import open_store

_RUNS = 10_000


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, context: BrowserContext) -> Iterator[RunsPage]:
    with run_lab(tmp_path_factory.mktemp("many")) as server:
        url = f"sqlite:///{server.data}/axon_notebooks/axon.db"
        with closing(open_store(url)) as store:
            fill_store(store, _RUNS)
        lab = LabPage(context.new_page(), server)
        lab.load()
        lab.execute("axon:open-runs")
        page = RunsPage(lab)
        expect(page.count).to_have_text("10,000 runs")
        yield page
        lab.page.close()


def test_only_the_visible_rows_are_rendered(page: RunsPage) -> None:
    assert page.rows.count() < 100
    page.grid.focus()
    page.lab.page.keyboard.press("End")
    last = page.grid.locator(f'[aria-rowindex="{_RUNS + 1}"]')
    expect(last).to_be_in_viewport()
    expect(last).to_have_class("axon-Grid-row axon-mod-active")
    assert page.rows.count() < 100


def test_all_runs_are_sorted_and_filtered(page: RunsPage) -> None:
    page.grid.focus()
    page.lab.page.keyboard.press("Home")
    page.header("val_loss").get_by_role("button").click()
    best = page.lab.server.request("GET", "/runs/table?sort=val_loss.min&limit=1")["runs"][0]
    expect(page.row(best["id"])).to_have_attribute("aria-rowindex", "2")
    page.filter.fill('status == "failed" and "paper" in tags')
    expect(page.count).to_contain_text("of 10,000 runs")
    ids = page.lab.server.request(
        "GET",
        "/runs/table?only_ids=true&where=status%20==%20%22failed%22%20and%20%22paper%22%20in%20tags",
    )["ids"]
    expect(page.grid).to_have_attribute("aria-rowcount", str(len(ids) + 1))


def test_all_runs_can_be_selected_and_deletion_says_how_many(page: RunsPage) -> None:
    page.filter.fill("")
    page.filter.press("Escape")  # closes the completion, which covers the table's header
    expect(page.count).to_have_text("10,000 runs")
    page.grid.get_by_role("checkbox", name="Select all runs").check()
    toolbar = page.root.get_by_role("toolbar", name="Selected runs")
    expect(toolbar).to_contain_text("10,000 selected")
    page.press_button("Delete…")
    # 400 runs have pinned checkpoints.
    expect(page.lab.dialog).to_contain_text("and 9588 more")
    expect(page.lab.dialog).to_contain_text(
        "deletes 9600 runs with their curves, 19600 checkpoints,"
    )
    expect(page.lab.dialog).to_contain_text("otherwise 400 runs stay")
    page.lab.dialog.get_by_role("button", name="Cancel").click()
    expect(page.rows.first).to_be_visible()
