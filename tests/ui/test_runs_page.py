"""The Training Runs page: the table of all runs, what is done with them, and where it opens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Request, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from support.accessibility import THEMES, find_violations, use_theme
from support.lab import run_lab
from support.page import POLL_URL, LabPage, wait_for
from support.runs_page import RunsPage, add_runs

#: Count changes of the document within the page.
_COUNT_MUTATIONS = """() => {
  window.mutations = 0;
  const observer = new MutationObserver(changes => { window.mutations += changes.length; });
  const root = document.querySelector('.axon-Runs');
  observer.observe(root, { subtree: true, childList: true, attributes: true, characterData: true });
}"""
_TABLE = "/axon/runs/table"
#: URLs of requests for all runs; JupyterLab adds the time to each, against caching.
_ALL_RUNS = re.compile(r"/axon/runs/table\?no_track_activity=1(&\d+)?$")


@pytest.fixture
def notebook_id(lab: LabPage, path: str) -> str:
    return lab.server.create_record(path, "lr = 0.1")


@pytest.fixture
def runs(lab: LabPage, notebook_id: str) -> list[str]:
    """Three runs that differ in one value of their configuration."""
    return add_runs(
        lab,
        notebook_id,
        {"name": "slow", "config": {"lr": 0.001, "seed": 1}, "metrics": {"loss": 0.5}},
        {"name": "good", "config": {"lr": 0.01, "seed": 1}, "metrics": {"loss": 0.2}},
        {"name": "fast", "config": {"lr": 0.1, "seed": 1}, "metrics": {"loss": 0.9}},
    )


@pytest.fixture
def page(lab: LabPage, notebook_id: str, runs: list[str]) -> Iterator[RunsPage]:
    """The page with the runs of one notebook."""
    page = RunsPage(lab)
    lab.change_setting("preferredMetric", "loss")  # runs of other tests have others
    page.lab.execute("axon:open-runs", where=f'notebook_id == "{notebook_id}"')
    expect(page.rows).to_have_count(len(runs))
    yield page
    for name in ("columns", "widths", "sort", "group", "baseline", "selectionShare"):
        lab.change_setting(name, None, plugin="runs")
    lab.change_setting("preferredMetric", None)


def test_the_table_shows_metrics_and_the_configuration(page: RunsPage, runs: list[str]) -> None:
    good = page.row(runs[1])
    expect(good.locator('[data-column="metrics.loss.best"]')).to_have_text("0.2")
    expect(good.locator('[data-column="config.lr"]')).to_have_text("0.01")
    expect(good.locator('[data-column="status"]')).to_have_text("Running")
    expect(good.get_by_role("img", name="Best run of its notebook")).to_be_visible()
    expect(good.locator('[data-column="code"]')).to_have_text("best run")


def test_a_click_on_a_header_sorts_and_shift_sorts_by_another_column(page: RunsPage) -> None:
    header = page.header("loss")
    header.get_by_role("button").click()
    expect(page.cells("name")).to_have_text(["good", "slow", "fast"], use_inner_text=True)
    expect(header).to_have_attribute("aria-sort", "ascending")
    header.get_by_role("button").click()
    expect(page.cells("name")).to_have_text(["fast", "slow", "good"], use_inner_text=True)
    page.header("status").get_by_role("button").click(modifiers=["Shift"])
    expect(page.header("status")).to_have_attribute("aria-sort", "ascending")
    expect(header).to_have_attribute("aria-sort", "descending")


def test_values_and_their_order_follow_the_direction_of_the_metric(
    page: RunsPage, lab: LabPage, notebook_id: str, runs: list[str]
) -> None:
    later = {"run_id": runs[0], "epoch": 1, "step": 2, "metrics": {"loss": 0.1}}
    lab.server.add_checkpoints(notebook_id, [later])
    page.header("loss").get_by_role("button").click()
    loss = page.cells("metrics.loss.best")
    expect(loss).to_have_text(["0.1", "0.2", "0.9"])
    page.root.get_by_role("button", name="Lower loss is better; switch").click()
    expect(loss).to_have_text(["0.2", "0.5", "0.9"])
    expect(page.cells("name")).to_have_text(["good", "slow", "fast"], use_inner_text=True)


def test_shift_and_a_click_select_the_rows_between_in_the_order_of_now(
    page: RunsPage, runs: list[str]
) -> None:
    expect(page.cells("name")).to_have_text(["fast", "good", "slow"], use_inner_text=True)
    page.lab.change_setting("sort", ["-metrics.loss.best"], plugin="runs")
    expect(page.cells("name")).to_have_text(["fast", "slow", "good"], use_inner_text=True)
    status = '[data-column="status"]'
    page.row(runs[0]).locator(status).click()
    page.row(runs[2]).locator(status).click(modifiers=["Shift"])
    expect(page.row(runs[2])).to_have_attribute("aria-selected", "true")
    expect(page.row(runs[0])).to_have_attribute("aria-selected", "true")
    expect(page.row(runs[1])).to_have_attribute("aria-selected", "false")


def test_a_range_begins_where_the_arrow_keys_led(page: RunsPage, runs: list[str]) -> None:
    page.grid.focus()
    expect(page.row(runs[2])).to_have_class("axon-Grid-row axon-mod-active")
    for key in ("Space", "Escape", "ArrowDown", "Shift+ArrowDown"):
        page.lab.page.keyboard.press(key)
    expect(page.row(runs[0])).to_have_attribute("aria-selected", "true")
    expect(page.row(runs[1])).to_have_attribute("aria-selected", "true")
    expect(page.row(runs[2])).to_have_attribute("aria-selected", "false")


def test_an_error_of_the_filter_is_shown_at_its_place_and_can_be_corrected(
    page: RunsPage, notebook_id: str
) -> None:
    page.filter.fill(f'notebook_id == "{notebook_id}" and config.lrr > 0.05')
    error = page.root.locator(".axon-Where-error")
    expect(error).to_contain_text("no run has the configuration key 'config.lrr'")
    expect(page.root.locator(".axon-Where-mirror mark")).to_have_text("config.lrr")
    expect(page.filter).to_have_attribute("aria-invalid", "true")
    expect(page.rows).to_have_count(3)  # of the last valid filter
    error.get_by_role("button", name="config.lr", exact=True).click()
    expect(page.rows).to_have_count(1)
    expect(error).to_have_count(0)
    page.filter.fill("status ==")
    expect(error).to_contain_text("incomplete")


def test_the_filter_is_completed_with_the_keyboard(page: RunsPage) -> None:
    page.filter.fill("")
    page.filter.press_sequentially("stat")
    options = page.root.get_by_role("listbox", name="Completions").get_by_role("option")
    expect(options.first).to_have_text("statusfield")
    for key in ("ArrowDown", "Enter"):
        page.filter.press(key)
    expect(page.filter).to_have_value("status ")
    expect(options.first).to_have_text("==")
    page.filter.press_sequentially('== "fai')
    expect(options).to_have_text(['"failed"value'])
    for key in ("ArrowDown", "Tab"):
        page.filter.press(key)
    expect(page.filter).to_have_value('status == "failed" ')


def test_changes_of_old_runs_by_others_are_shown(
    page: RunsPage, lab: LabPage, notebook_id: str, runs: list[str]
) -> None:
    lab.server.finish_runs(notebook_id, *runs)
    [newest] = add_runs(lab, notebook_id, {"name": "newest", "metrics": {"loss": 0.1}})
    lab.server.finish_runs(notebook_id, newest)
    expect(page.cells("status")).to_have_text(["Completed"] * 4)
    with lab.page.expect_response(lambda response: _ALL_RUNS.search(response.url) is not None):
        lab.execute("axon:refresh-runs")
    lab.server.request("PUT", f"/runs/{runs[0]}", {"tags": ["from outside"]})
    expect(page.row(runs[0])).to_contain_text("from outside")
    page.filter.fill(f'notebook_id == "{notebook_id}" and "from outside" in tags')
    expect(page.rows).to_have_count(1)
    lab.server.request("PUT", f"/runs/{runs[1]}", {"tags": ["from outside"]})
    expect(page.rows).to_have_count(2)
    lab.server.request("DELETE", f"/runs/{runs[0]}")
    expect(page.rows).to_have_count(1)


def test_a_filter_that_could_not_be_applied_is_applied_later(
    page: RunsPage, lab: LabPage, notebook_id: str, runs: list[str]
) -> None:
    lab.server.finish_runs(notebook_id, *runs)
    expect(page.cells("status")).to_have_text(["Completed"] * 3)
    busy = re.compile("/runs/table.*only_ids")
    lab.page.route(busy, lambda route: route.fulfill(status=503, json={"message": "busy"}))
    page.filter.fill(f'notebook_id == "{notebook_id}" and config.lr < 0.05')
    expect(page.root.locator(".axon-Notice")).to_contain_text("busy")
    lab.page.unroute(busy)
    expect(page.rows).to_have_count(2)
    expect(page.root.locator(".axon-Notice")).to_have_count(0)


def test_runs_are_shown_while_their_reproducibility_is_loading(
    page: RunsPage, lab: LabPage, notebook_id: str
) -> None:
    slow = re.compile("/runs/reproducibility")
    lab.page.route(slow, lambda _route: None)  # never answered
    with lab.page.expect_request(slow):
        [first] = add_runs(lab, notebook_id, {"name": "first", "metrics": {"loss": 0.1}})
        expect(page.row(first)).to_be_visible()
    [second] = add_runs(lab, notebook_id, {"name": "second", "metrics": {"loss": 0.1}})
    expect(page.row(second)).to_be_visible()


def test_a_suggestion_of_a_key_with_a_space_is_a_filter(
    page: RunsPage, lab: LabPage, notebook_id: str
) -> None:
    config = {"lr schedule": "cosine"}
    [run] = add_runs(lab, notebook_id, {"name": "cosine", "config": config})
    page.filter.fill('config["lr schedul"] == "cosine"')
    page.root.get_by_role("button", name='config["lr schedule"]').click()
    expect(page.filter).to_have_value('config["lr schedule"] == "cosine"')
    expect(page.row(run)).to_be_visible()
    expect(page.count).to_contain_text("1 of ")


def test_a_filter_that_another_sets_is_shown_in_the_box(
    page: RunsPage, lab: LabPage, notebook_id: str
) -> None:
    where = f'notebook_id == "{notebook_id}" and config.seed == 1'
    lab.execute("axon:open-runs", where=where)
    expect(page.filter).to_have_value(where)


def test_runs_of_two_notebooks_with_the_same_id_are_told_apart(
    page: RunsPage, lab: LabPage, notebook_id: str, path: str
) -> None:
    other_id = lab.server.create_record(f"other_{path}", "lr = 0.1")
    for id, loss in ((notebook_id, 0.25), (other_id, 0.75)):
        add_runs(lab, id, {"id": path, "name": "baseline", "metrics": {"loss": loss}})
        lab.server.finish_runs(id, path)
    page.filter.fill(f'id == "{path}"')
    rows = page.rows.filter(has_text="baseline")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="0.25")).to_have_count(1)
    row = rows.filter(has_text="0.75")
    row.get_by_role("checkbox").check()
    page.press_button("Delete…")
    lab.dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("0.25")


def test_a_link_to_a_missing_run_says_so(page: RunsPage, lab: LabPage) -> None:
    lab.execute("axon:open-runs", run="missing")
    expect(lab.notification.filter(has_text="There is no run missing")).to_be_visible()


def test_groups_sum_up_their_runs(page: RunsPage, lab: LabPage, runs: list[str]) -> None:
    for run, group in zip(runs, ("a", "a", "b"), strict=True):
        lab.server.request("PUT", f"/runs/{run}", {"group": group})
    page.root.get_by_role("combobox", name="Group by").select_option("group")
    group = page.grid.locator(".axon-Runs-group", has_text="a 2")
    expect(page.rows).to_have_count(2)
    loss = group.locator('[data-column="metrics.loss.best"]')
    expect(loss).to_have_text("0.35 ± 0.212best 0.2")
    group.get_by_role("button").click()
    expect(group).to_have_attribute("aria-expanded", "true")
    expect(page.row(runs[0])).to_be_visible()
    expect(page.row(runs[2])).to_have_count(0)


def test_the_others_are_compared_with_a_baseline_at_the_top(
    page: RunsPage, lab: LabPage, notebook_id: str, runs: list[str]
) -> None:
    slow, good, fast = runs
    expect(page.cells("name")).to_have_text(["fast", "good", "slow"], use_inner_text=True)
    page.row(slow).click(button="right")
    lab.menu_item("Use as Baseline").click()
    expect(page.cells("name").first).to_have_text("slowbaseline")
    expect(page.row(slow).locator('[data-column="code"]')).to_have_text("baseline")
    expect(page.row(good).locator('[data-column="metrics.loss.best"]')).to_have_text("0.2 ▲")
    worse = page.row(fast).get_by_role("img", name="worse than the baseline, which has 0.5")
    expect(worse).to_be_visible()
    page.header("loss").get_by_role("button").click()
    expect(page.cells("name")).to_have_text(["slowbaseline", "good", "fast"])

    # It stays in place when the table is scrolled, and rows that keys lead to are not below it.
    add_runs(lab, notebook_id, *({"name": f"more {number}"} for number in range(60)))
    expect(page.count).to_have_text(re.compile("^63 "))
    page.grid.focus()
    page.lab.page.keyboard.press("End")
    page.row(slow).get_by_role("button", name="slow").click(trial=True)  # nothing covers it
    for _ in range(40):
        page.lab.page.keyboard.press("ArrowUp")
    active = page.grid.locator(".axon-mod-active")
    active.get_by_role("button").click(trial=True)

    page.root.get_by_role("combobox", name="Group by").select_option("config.lr")
    expect(page.rows.first).to_contain_text("slow")
    page.row(slow).click(button="right")
    lab.menu_item("Use No Baseline").click()
    expect(page.rows.first).not_to_contain_text("slow")


def test_a_baseline_that_is_not_in_the_table_is_named_or_none(
    page: RunsPage, lab: LabPage, runs: list[str]
) -> None:
    slow, good, _ = runs
    loss = page.row(good).locator('[data-column="metrics.loss.best"]')
    page.row(slow).click(button="right")
    lab.menu_item("Use as Baseline").click()
    expect(loss).to_have_text("0.2 ▲")
    page.select(*runs)
    page.row(good).click(button="right")  # what is for one run is for this row, not the selection
    lab.menu_item("Use as Baseline").click()
    expect(page.rows.first).to_contain_text("good")
    page.row(slow).click(button="right")
    lab.menu_item("Use as Baseline").click()
    page.root.get_by_role("button", name="Select none").click()
    where = page.filter.input_value()
    page.filter.fill(f'{where} and name != "slow"')
    expect(page.root).to_contain_text("Baseline: slow")
    expect(loss).to_have_text("0.2 ▲")
    page.root.get_by_role("button", name="Use No Baseline").click()
    expect(loss).to_have_text("0.2")
    expect(page.root).not_to_contain_text("Baseline: slow")
    page.filter.fill(where)
    page.row(slow).click(button="right")
    lab.menu_item("Use as Baseline").click()
    expect(loss).to_have_text("0.2 ▲")
    page.select(slow)
    page.root.get_by_role("button", name="Archive").press("Enter")
    expect(loss).to_have_text("0.2")
    expect(page.grid).to_be_focused()  # the button is gone


def test_an_error_of_the_curves_ends_with_its_cause(
    page: RunsPage, lab: LabPage, runs: list[str]
) -> None:
    page.select(runs[0])
    expect(page.root.locator(".axon-MetricChart").first).to_be_visible()
    lab.page.route("**/axon/runs/series?*", lambda route: route.abort())
    page.select(runs[1])
    alert = page.root.locator(".axon-Selection").get_by_role("alert")
    expect(alert).to_be_visible()
    lab.page.unroute("**/axon/runs/series?*")
    expect(alert).to_be_hidden()
    expect(page.root.get_by_role("table", name="Values of loss").get_by_role("row")).to_have_count(
        3
    )


def test_tags_of_several_runs_are_added_and_removed_without_being_merged(
    page: RunsPage, lab: LabPage, runs: list[str]
) -> None:
    lab.server.request("PUT", f"/runs/{runs[0]}", {"tags": ["old", "one"]})
    lab.server.request("PUT", f"/runs/{runs[1]}", {"tags": ["old"]})
    expect(page.row(runs[1])).to_contain_text("old")
    page.select(*runs[:2])
    page.press_button("Tag…")
    lab.dialog.get_by_role("textbox").fill("new")
    lab.dialog.get_by_label("old").uncheck()
    lab.dialog.get_by_role("button", name="Save").click()
    expect(page.row(runs[0]).locator(".axon-Tag")).to_have_text(["one", "new"])
    expect(page.row(runs[1]).locator(".axon-Tag")).to_have_text(["new"])
    assert lab.server.request("GET", f"/runs/{runs[0]}")["tags"] == ["one", "new"]


def test_deleting_names_what_goes_and_spares_pinned_and_hidden_runs(
    page: RunsPage, lab: LabPage, notebook_id: str, runs: list[str]
) -> None:
    lab.server.finish_runs(notebook_id, *runs)
    [checkpoint] = [
        each for each in lab.server.list_checkpoints(notebook_id) if each["run_id"] == runs[0]
    ]
    url = f"/notebooks/{notebook_id}/checkpoints/{checkpoint['id']}"
    lab.server.request("PUT", url, {"pinned": True})
    expect(page.row(runs[0]).locator('[data-column="status"]')).to_have_text("Completed")
    page.select(*runs)
    page.filter.fill(f'notebook_id == "{notebook_id}" and config.lr < 0.05')
    expect(page.rows).to_have_count(2)
    toolbar = page.root.get_by_role("toolbar", name="Selected runs")
    expect(toolbar).to_contain_text("2 selected (1 more hidden by the filter is not affected)")
    page.press_button("Delete…")
    items = lab.dialog.get_by_role("listitem")
    expect(items).to_contain_text(["good in"])
    expect(lab.dialog).to_contain_text("deletes 1 run with its curves, 1 checkpoint,")
    expect(lab.dialog).to_contain_text("otherwise 1 run stays")
    lab.dialog.get_by_label("Delete 1 pinned checkpoint, too").check()
    expect(items).to_have_count(2)  # not "fast", which is hidden
    expect(lab.dialog).to_contain_text("deletes 2 runs with their curves, 2 checkpoints,")
    lab.dialog.get_by_role("checkbox").uncheck()
    expect(items).to_have_count(1)
    lab.dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(page.rows).to_have_count(1)
    page.press_button("Delete…")
    expect(lab.dialog).to_contain_text("This deletes nothing")
    lab.dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(lab.notification.last).to_contain_text("Nothing was deleted")
    page.press_button("Delete…")
    lab.dialog.get_by_role("checkbox").check()
    lab.dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(page.root).to_contain_text("No run matches this filter.")
    page.filter.fill(f'notebook_id == "{notebook_id}"')
    expect(page.row(runs[2])).to_be_visible()


def test_archived_runs_are_hidden_unless_the_filter_names_archived(
    page: RunsPage, notebook_id: str, runs: list[str]
) -> None:
    page.select(runs[0])
    page.press_button("Archive")
    expect(page.rows).to_have_count(2)
    page.filter.fill(f'notebook_id == "{notebook_id}" and archived == True')
    expect(page.row(runs[0])).to_contain_text("archived")
    page.row(runs[0]).click(button="right")
    page.lab.menu_item("Unarchive Run").click()
    page.filter.fill(f'notebook_id == "{notebook_id}"')
    expect(page.rows).to_have_count(3)


def test_the_visible_columns_are_saved_as_csv(
    page: RunsPage, runs: list[str], tmp_path: Path
) -> None:
    page.lab.change_setting("columns", ["name", "code", "config.lr"], plugin="runs")
    page.lab.change_setting("sort", ["config.lr"], plugin="runs")
    expect(page.cells("name").first).to_have_text("slow")
    file = tmp_path / "runs.csv"

    def save() -> list[str]:
        with page.lab.page.expect_download() as download:
            page.root.get_by_role("button", name="Save as CSV").click()
        download.value.save_as(file)
        return file.read_text(encoding="utf-8-sig").splitlines()

    slow, good, fast = runs
    assert save() == [
        "name,lr (configuration),run id",
        f"slow,0.001,{slow}",
        f"good,0.01,{good}",
        f"fast,0.1,{fast}",
    ]
    page.filter.fill("config.lr > 1000")
    expect(page.root).to_contain_text("No run matches this filter.")
    assert save() == ["name,lr (configuration),run id"]


def test_chosen_columns_are_remembered(page: RunsPage, context: BrowserContext) -> None:
    page.root.get_by_role("button", name="Columns").click()
    chooser = page.root.get_by_role("dialog", name="Columns")
    chooser.get_by_label("Search columns").fill("seed")
    chooser.get_by_role("checkbox", name="seed (configuration)").check()
    chooser.get_by_label("Search columns").fill("status")
    chooser.get_by_role("checkbox", name="status").uncheck()
    expect(page.header("seed")).to_be_visible()
    expect(page.header("status")).to_have_count(0)
    other = RunsPage(LabPage(context.new_page(), page.lab.server))
    other.lab.load()
    other.lab.execute("axon:open-runs")
    expect(other.header("seed")).to_be_attached()
    expect(other.header("status")).to_have_count(0)


def test_the_border_of_the_selected_runs_is_dragged_and_remembered(
    page: RunsPage, context: BrowserContext, runs: list[str]
) -> None:
    def height(shown: RunsPage) -> float:
        box = shown.root.locator(".axon-Runs-selection").bounding_box()
        assert box is not None
        return round(box["height"], -1)

    page.select(runs[0])
    expect(page.root.locator(".axon-Selection")).to_be_visible()
    first = height(page)
    border = page.root.locator("[data-orientation=vertical] > .lm-SplitPanel-handle").first
    border.hover()
    box = border.bounding_box()
    assert box is not None
    mouse = page.lab.page.mouse
    mouse.down()
    mouse.move(box["x"] + box["width"] / 2, box["y"] + 100, steps=3)
    mouse.up()
    wait_for(lambda: first - height(page) > 50, True)
    other = RunsPage(LabPage(context.new_page(), page.lab.server))
    other.lab.load()
    other.lab.execute("axon:open-runs")
    other.select(runs[0])
    wait_for(lambda: abs(height(other) - height(page)) <= 10, True)
    other.root.get_by_role("separator", name="Border above the selected runs").focus()
    before = height(other)
    other.lab.page.keyboard.press("ArrowUp")
    wait_for(lambda: height(other) > before, True)


def test_a_late_response_undoes_no_later_choice_of_columns(page: RunsPage, lab: LabPage) -> None:
    page.root.get_by_role("button", name="Columns").click()
    chooser = page.root.get_by_role("dialog", name="Columns")
    release = lab.hold_responses(re.compile("/api/settings/jupyter-axon-notebooks"), "PUT")
    for title in ("status", "notebook"):
        chooser.get_by_role("checkbox", name=title, exact=True).uncheck()
        expect(page.header(title)).to_have_count(0)
    release()
    url = f"{lab.server.url}/lab/api/settings/jupyter-axon-notebooks:runs?token={lab.server.token}"

    def stored() -> set[str]:
        settings = lab.page.request.get(url).json()["settings"]
        return {"status", "notebook"} & set(settings.get("columns", ["status"]))

    wait_for(stored, set())
    for title in ("status", "notebook"):
        expect(page.header(title)).to_have_count(0)


def test_the_palette_offers_what_can_be_done(page: RunsPage, lab: LabPage, runs: list[str]) -> None:
    def offered(command: str) -> bool:
        script = "id => window.jupyterapp.commands.isVisible(id, { isPalette: true })"
        return bool(lab.page.evaluate(script, command))

    assert not offered("axon:delete-runs")
    page.select(runs[0])
    assert offered("axon:delete-runs")
    lab.page.evaluate("window.jupyterapp.shell.currentWidget.dispose()")
    for command in ("axon:delete-runs", "axon:save-runs-as-csv"):
        assert not offered(command)


def test_a_link_shows_the_details_of_a_run(
    page: RunsPage, context: BrowserContext, notebook_id: str, runs: list[str]
) -> None:
    page.row(runs[1]).click(button="right")
    page.lab.menu_item("Copy Link to Run").click()
    link = page.lab.clipboard()
    assert link.endswith(f"/lab?axon-run={notebook_id}%2F{runs[1]}")
    other = RunsPage(LabPage(context.new_page(), page.lab.server))
    other.lab.page.goto(link)
    expect(other.details.get_by_role("heading", name="good")).to_be_visible()
    for text in ("0.2", "seed", "Version that ran"):
        expect(other.details).to_contain_text(text)
    expect(other.lab.page).not_to_have_url(link)  # so that a reload does not open it again


def test_everything_works_with_the_keyboard(page: RunsPage, runs: list[str]) -> None:
    keyboard = page.lab.page.keyboard
    page.grid.focus()
    expect(page.row(runs[2])).to_have_class("axon-Grid-row axon-mod-active")
    keyboard.press("ArrowDown")
    keyboard.press("Space")
    expect(page.row(runs[1])).to_have_attribute("aria-selected", "true")
    keyboard.press("Shift+ArrowDown")
    expect(page.row(runs[0])).to_have_attribute("aria-selected", "true")
    keyboard.press("Enter")
    expect(page.details).to_be_focused()
    keyboard.press("Escape")
    expect(page.details).to_have_count(0)
    expect(page.grid).to_be_focused()
    keyboard.press("t")
    expect(page.lab.dialog).to_contain_text("Tags of 2 runs")
    expect(page.lab.dialog.get_by_role("textbox")).to_be_focused()
    keyboard.press("Escape")
    expect(page.lab.dialog).to_have_count(0)
    keyboard.press("Escape")
    expect(page.row(runs[1])).to_have_attribute("aria-selected", "false")


@pytest.mark.parametrize("theme", THEMES)
def test_the_page_has_no_serious_violations(theme: str, page: RunsPage, runs: list[str]) -> None:
    use_theme(page.lab, theme)
    page.select(runs[1])
    page.lab.execute("axon:show-run", ids=[runs[1]])
    expect(page.details).to_contain_text("Reproducibility")
    page.filter.fill("config.lrr < 1")
    expect(page.root.locator(".axon-Where-error")).to_be_visible()
    assert find_violations(page.lab, ".axon-Runs") == []
    page.filter.fill("")
    page.lab.execute("axon:toggle-baseline", ids=[runs[0]])
    expect(page.root.get_by_role("img", name="worse").first).to_be_visible()
    page.lab.change_setting("group", "config.seed", plugin="runs")
    expect(page.grid).to_contain_text("best 0.2")
    page.root.get_by_role("button", name="Columns").click()
    assert find_violations(page.lab, ".axon-Runs") == []
    page.lab.page.keyboard.press("Escape")
    page.press_button("Tag…")
    expect(page.lab.dialog).to_be_visible()
    assert find_violations(page.lab, ".jp-Dialog") == []
    page.lab.page.keyboard.press("Escape")
    use_theme(page.lab, THEMES[0])


def test_high_contrast_keeps_the_colours_of_selected_runs(page: RunsPage, runs: list[str]) -> None:
    """The system's high contrast replaces all colours; those of runs tell which curve is whose."""
    page.select(*runs)
    page.lab.page.emulate_media(forced_colors="active")
    try:
        colours = page.rows.evaluate_all(
            "rows => rows.map(row => getComputedStyle(row.firstElementChild).borderLeftColor)"
        )
        assert len(set(colours)) == len(runs)
        assert find_violations(page.lab, ".axon-Runs") == []
    finally:
        page.lab.page.emulate_media(forced_colors="none")


def test_notes_of_one_and_of_several_runs(page: RunsPage, lab: LabPage, runs: list[str]) -> None:
    page.row(runs[0]).locator('[data-column="status"]').click()
    lab.page.keyboard.press("n")
    box = lab.dialog.get_by_role("textbox", name="Notes")
    expect(box).to_be_focused()
    lab.page.keyboard.type("too slow,")
    lab.page.keyboard.press("Enter")
    lab.page.keyboard.type("stopped")
    lab.page.keyboard.press("Control+Enter")
    expect(page.row(runs[0]).locator('[data-column="notes"]')).to_contain_text("too slow")
    assert lab.server.request("GET", f"/runs/{runs[0]}")["notes"] == "too slow,\nstopped"
    page.select(runs[0], runs[1])
    page.press_button("Notes…")
    expect(lab.dialog).to_contain_text("replaces all of them")
    box = lab.dialog.get_by_role("textbox")
    expect(box).to_have_value("")
    box.fill("both")
    lab.dialog.get_by_role("button", name="Save").click()
    expect(page.cells("notes").filter(has_text="both")).to_have_count(2)
    page.press_button("Notes…")
    expect(box).to_have_value("both")
    box.fill("")
    lab.dialog.get_by_role("button", name="Save").click()
    expect(page.cells("notes").filter(has_text="both")).to_have_count(0)
    assert lab.server.request("GET", f"/runs/{runs[1]}").get("notes") is None


def test_nothing_changes_and_each_poll_is_one_request_while_nothing_happens(
    page: RunsPage, lab: LabPage, notebook_id: str, runs: list[str]
) -> None:
    lab.server.finish_runs(notebook_id, *runs)  # the duration of running ones grows
    expect(page.cells("status")).to_have_text(["Completed"] * 3)

    def wait_for_unchanged_polls(count: int) -> str:
        """Return the revision of the store that these polls found."""
        unchanged, revision = 0, ""
        while unchanged < count:
            with lab.page.expect_response(lambda response: "/axon/" in response.url) as response:
                pass
            found = response.value.headers.get("x-axon-revision", "")
            unchanged = unchanged + 1 if (response.value.status, found) == (304, revision) else 0
            revision = found
        return revision

    urls: list[str] = []

    def add(request: Request) -> None:
        if "/axon/" in request.url:
            urls.append(request.url)

    before, after = "before", "after"
    # JupyterLab may save a notebook of another test, and all runs are loaded again after a while.
    while before != after or len(urls) > 5:
        before = wait_for_unchanged_polls(8)  # until all is loaded again, and the reproducibility
        lab.page.evaluate(_COUNT_MUTATIONS)
        urls.clear()
        lab.page.on("request", add)
        after = wait_for_unchanged_polls(4)
        lab.page.remove_listener("request", add)
    assert [url for url in urls if _TABLE not in url or "no_track_activity=1" not in url] == []
    assert 3 <= len(urls) <= 5  # the first response may be to an earlier request
    assert lab.page.evaluate("window.mutations") == 0
    [run] = add_runs(lab, notebook_id, {"name": "new", "metrics": {"loss": 0.1}})
    expect(page.row(run)).to_contain_text("new")
    lab.server.delete_checkpoint(
        notebook_id,
        next(
            each["id"] for each in lab.server.list_checkpoints(notebook_id) if each["run_id"] == run
        ),
    )
    expect(page.row(run).locator('[data-column="checkpoints"]')).to_have_text("0")


def test_a_page_in_the_background_does_not_poll(page: RunsPage, lab: LabPage, path: str) -> None:
    lab.show(path)
    expect(page.grid).to_be_hidden()
    urls: list[str] = []

    def add(request: Request) -> None:
        if "/axon/" in request.url:
            urls.append(request.url)

    lab.page.on("request", add)
    for _ in range(3):
        with lab.page.expect_response(POLL_URL):
            pass  # of the panel
    lab.page.remove_listener("request", add)
    assert [url for url in urls if _TABLE in url] == []


@pytest.mark.usefixtures("page")
def test_a_hidden_tab_of_the_browser_does_not_poll(lab: LabPage) -> None:
    def set_hidden(is_hidden: bool) -> None:
        lab.page.evaluate(
            """isHidden => {
              const define = (name, value) =>
                Object.defineProperty(document, name, { configurable: true, value });
              define('visibilityState', isHidden ? 'hidden' : 'visible');
              define('hidden', isHidden);
              document.dispatchEvent(new Event('visibilitychange'));
            }""",
            is_hidden,
        )

    def is_polling() -> bool:
        try:
            with lab.page.expect_request(re.compile("/axon/"), timeout=4000):
                return True
        except PlaywrightTimeoutError:
            return False

    assert is_polling()
    set_hidden(True)
    try:
        wait_for(is_polling, False)
    finally:
        set_hidden(False)
    assert is_polling()


def test_the_launcher_and_the_view_menu_open_the_page(lab: LabPage) -> None:
    lab.execute("launcher:create")
    lab.page.locator(".jp-LauncherCard:visible", has_text="Training Runs").click()
    expect(RunsPage(lab).count).to_be_visible()
    lab.page.locator("#jp-MainMenu").get_by_text("View", exact=True).click()
    expect(lab.menu_item("Training Runs")).to_be_visible()


def test_the_page_is_a_tab_of_the_tree_of_notebook_7(
    tmp_path: Path, context: BrowserContext
) -> None:
    with run_lab(tmp_path, app="notebook") as server:
        notebook_id = server.create_record("train.ipynb", "lr = 0.1")
        lab = LabPage(context.new_page(), server)
        [run] = add_runs(lab, notebook_id, {"name": "first", "metrics": {"loss": 0.5}})
        lab.page.goto(f"{server.url}/tree?token={server.token}")
        lab.page.wait_for_function("window.jupyterapp?.restored.then(() => true)")
        lab.page.locator("#jp-MainMenu").get_by_text("View", exact=True).click()
        lab.menu_item("Training Runs").click()
        page = RunsPage(lab)
        expect(page.row(run)).to_contain_text("first")
        page.select(run)
        expect(page.root.locator(".axon-Selection")).to_contain_text("1 run selected")
        with context.expect_page() as opened:
            page.row(run).click(button="right")
            lab.menu_item("Open the Notebook and its Panel").click()
        notebook = LabPage(opened.value, server)
        notebook.page.wait_for_function("window.jupyterapp?.restored.then(() => true)")
        with context.expect_page() as tree:
            notebook.start("axon:open-runs", run=run)
        page = RunsPage(LabPage(tree.value, server))
        expect(page.details.get_by_role("heading", name="first")).to_be_visible()
        wait_for(lambda: "axon-run" in tree.value.url, False)
