"""The charts and the comparison of the runs that are selected in the Training Runs page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Route, expect
from support.accessibility import THEMES, find_violations, use_theme
from support.page import LabPage, wait_for

#: The pixels of the curves of a chart.
_PIXELS = "node => node.querySelector('.axon-MetricChart-canvas').toDataURL()"
#: Whether a chart has a band: many pixels that are as translucent.
_HAS_BAND = """node => {
  const canvas = node.querySelector('.axon-MetricChart-canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, index) => index % 4 === 3 && Math.abs(value - 51) < 2).length > 1000;
}"""


class Selection:
    """The area of the selected runs, of the runs of one notebook."""

    def __init__(self, lab: LabPage, notebook_id: str, runs: list[str]) -> None:
        self.lab = lab
        self.notebook_id = notebook_id
        self.runs = runs
        self.area = lab.page.locator(".axon-Selection")

    def open_tab(self, name: str) -> Locator:
        self.area.get_by_role("tab", name=name).click()
        return self.area.get_by_role("tabpanel", name=name)

    def chart(self, metric: str) -> Locator:
        return self.area.get_by_role("region", name=metric, exact=True)

    def plot(self, metric: str) -> Locator:
        return self.chart(metric).get_by_role("img", name=re.compile(f"^Curves of {metric} "))

    def numbers(self, metric: str, run: str) -> Locator:
        """The cells of the table of a chart: points, first, last, min and max."""
        table = self.chart(metric).get_by_role("table", name=f"Values of {metric}")
        return table.get_by_role("row", name=run).get_by_role("cell")

    def readout(self, metric: str) -> Locator:
        return self.chart(metric).locator(".axon-MetricChart-readout")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.lab.page.keyboard.press(key)

    def add_checkpoints(self, run: int, *checkpoints: tuple[int, dict[str, Any]]) -> None:
        self.lab.server.add_checkpoints(
            self.notebook_id,
            [
                {"run_id": self.runs[run], "epoch": step, "step": step, "metrics": metrics}
                for step, metrics in checkpoints
            ],
        )


def select(lab: LabPage, notebook_id: str, *runs: dict[str, Any]) -> Selection:
    """Start runs, show those of the notebook in the page and select all."""
    return Selection(lab, notebook_id, lab.server.start_runs(notebook_id, *runs))


def show(selection: Selection) -> Selection:
    lab = selection.lab
    lab.start("axon:open-runs", where=f'notebook_id == "{selection.notebook_id}"')
    rows = lab.page.locator(".axon-Runs .axon-Grid-row")
    expect(rows).to_have_count(len(selection.runs))
    for index in range(len(selection.runs)):
        rows.nth(index).get_by_role("checkbox").check()
    expect(selection.area).to_contain_text(f"{len(selection.runs)} runs selected")
    return selection


@pytest.fixture
def selection(lab: LabPage, path: str) -> Selection:
    """Two runs of ten steps: `narrow` with a gap in its loss, and `wide`, which is better."""
    notebook_id = lab.server.create_record(path, "lr = 0.1")
    configs = [{"lr": 0.1, "seed": 1}, {"lr": 0.01, "seed": 1, "depth": 2}]
    names = ["narrow", "wide"]
    selection = select(
        lab,
        notebook_id,
        *({"name": name, "config": c} for name, c in zip(names, configs, strict=True)),
    )
    for run, scale in enumerate((1.0, 0.5)):
        losses = [scale / (step + 1) for step in range(10)]
        if run == 0:
            losses[5] = math.nan
        selection.add_checkpoints(
            run,
            *(
                (step * 10, {"loss": loss, "accuracy": step / 10})
                for step, loss in enumerate(losses)
            ),
        )
    show(selection)
    expect(selection.chart("loss").locator("canvas").first).to_be_visible()
    expect(selection.numbers("loss", "narrow")).to_have_count(5)
    return selection


def test_several_metrics_have_a_chart_each_with_a_table_of_numbers(selection: Selection) -> None:
    expect(selection.numbers("loss", "narrow")).to_have_text(["9", "1", "0.1", "0.1", "1"])
    expect(selection.numbers("loss", "wide")).to_have_text(["10", "0.5", "0.05", "0.05", "0.5"])
    expect(selection.numbers("accuracy", "wide")).to_have_text(["10", "0", "0.9", "0", "0.9"])
    expect(selection.chart("loss")).to_contain_text("1 point is not drawn")


def test_metrics_are_chosen(selection: Selection) -> None:
    selection.area.get_by_role("button", name="Metrics").click()
    selection.area.get_by_role("checkbox", name="accuracy").uncheck()
    expect(selection.chart("accuracy")).to_have_count(0)
    selection.press("Escape")
    expect(selection.area.get_by_role("dialog", name="Metrics")).to_be_hidden()
    expect(selection.chart("loss")).to_be_visible()


def test_values_at_the_cursor_are_shown_beside_all_plots(selection: Selection) -> None:
    over = selection.chart("loss").locator(".u-over")
    over.hover(position={"x": 1, "y": 100})
    expect(selection.readout("loss")).to_have_text(re.compile("^step 0.*narrow 1"))
    expect(selection.readout("accuracy")).to_have_text(re.compile("^step 0"))
    readout, plot = selection.readout("loss").bounding_box(), over.bounding_box()
    assert readout is not None
    assert plot is not None
    assert readout["y"] + readout["height"] <= plot["y"]


def test_keys_move_along_a_curve_and_to_the_other_one(selection: Selection) -> None:
    selection.plot("loss").focus()
    selection.press("ArrowRight", "ArrowRight")
    status = selection.chart("loss").get_by_role("status")
    expect(status).to_contain_text("step 10")
    first = status.locator(".axon-mod-focused").inner_text()
    selection.press("ArrowUp" if "wide" in first else "ArrowDown")
    expect(status.locator(".axon-mod-focused")).not_to_have_text(first)
    selection.press("End")
    expect(status).to_contain_text("step 90")


def test_all_charts_zoom_together(selection: Selection) -> None:
    selection.plot("loss").focus()
    selection.press("+")
    buttons = selection.area.get_by_role("button", name="Show all")
    expect(buttons).to_have_count(2)
    selection.press("Escape")
    expect(buttons).to_have_count(0)


def test_each_chart_shows_all_of_its_points_until_the_user_zooms(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    selection = select(lab, notebook_id, {"name": "long"}, {"name": "short"})
    selection.add_checkpoints(
        0,
        *((step, {"loss": 1 / (step + 1), "accuracy": step / 20}) for step in range(21)),
        *((step, {"loss": 1 / (step + 1)}) for step in range(100, 2001, 100)),
    )
    selection.add_checkpoints(1, (0, {"loss": 1.0}))
    show(selection)
    expect(selection.numbers("loss", "long").first).to_have_text("41")
    mouse = lab.page.mouse

    def hover_end(metric: str) -> None:
        box = selection.chart(metric).locator(".u-over").bounding_box()
        assert box is not None
        mouse.move(box["x"] + box["width"] - 2, box["y"] + 50)

    hover_end("loss")
    expect(selection.readout("loss")).to_contain_text("step 2000")
    hover_end("accuracy")
    expect(selection.readout("accuracy")).to_contain_text("step 20")

    selection.plot("loss").focus()
    selection.press("+")
    hover_end("accuracy")
    expect(selection.readout("accuracy")).to_have_text("")
    selection.press("0")
    hover_end("loss")
    hover_end("accuracy")
    expect(selection.readout("accuracy")).to_contain_text("step 20")
    # Zooming out of one chart shows all of the others too.
    selection.plot("accuracy").focus()
    selection.press("+", "-")
    expect(selection.area.get_by_role("button", name="Show all")).to_have_count(0)


def test_charts_use_the_height_there_is(selection: Selection) -> None:
    page = selection.lab.page
    size = page.viewport_size
    assert size is not None
    plot = selection.plot("accuracy")
    before = plot.evaluate("node => node.clientHeight")
    page.set_viewport_size({**size, "height": size["height"] + 600})
    wait_for(lambda: plot.evaluate("node => node.clientHeight") > before + 100, True)
    missing = "node => node.clientHeight - node.querySelector('.uplot').clientHeight"
    wait_for(lambda: plot.evaluate(missing), 0)
    page.set_viewport_size(size)
    wait_for(lambda: plot.evaluate("node => node.clientHeight"), before)


def test_a_range_that_is_dragged_remains_while_runs_train(selection: Selection) -> None:
    over = selection.chart("accuracy").locator(".u-over")
    box = over.bounding_box()
    assert box is not None
    mouse = selection.lab.page.mouse
    mouse.move(box["x"] + 40, box["y"] + 40)
    mouse.down()
    mouse.move(box["x"] + 120, box["y"] + 50, steps=4)
    mouse.up()
    buttons = selection.area.get_by_role("button", name="Show all")
    expect(buttons).to_have_count(2)
    selection.add_checkpoints(1, (100, {"loss": 0.04, "accuracy": 1.0}))
    expect(selection.numbers("loss", "wide").first).to_have_text("11")
    expect(buttons).to_have_count(2)
    over.dblclick(position={"x": 10, "y": 20})
    expect(buttons).to_have_count(0)


def test_a_curve_that_has_grown_looks_like_one_that_is_opened_then(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    selection = select(lab, notebook_id, {"name": "long"}, {"name": "short"})
    selection.add_checkpoints(0, (0, {"loss": 1.0}))
    selection.add_checkpoints(1, (0, {"loss": 0.9}))
    show(selection)
    expect(selection.numbers("loss", "long").first).to_have_text("1")
    selection.add_checkpoints(0, *((step, {"loss": 1 / (step + 1)}) for step in range(1, 400)))
    expect(selection.numbers("loss", "long").first).to_have_text("400")
    grown = selection.chart("loss").evaluate(_PIXELS)
    selection.open_tab("Scatter")
    selection.open_tab("Curves")
    expect(selection.numbers("loss", "long").first).to_have_text("400")
    wait_for(lambda: selection.chart("loss").evaluate(_PIXELS), grown)


def test_a_smoothed_value_is_shown_with_the_value_itself(selection: Selection) -> None:
    selection.area.get_by_role("slider", name="smoothing").fill("0.9")
    selection.plot("loss").focus()
    selection.press("End")
    expect(selection.readout("loss").locator(".axon-mod-focused")).to_have_text(
        re.compile(r"not smoothed: 0\.(1|05)\)")
    )


def test_runs_with_the_same_value_are_drawn_as_their_mean_with_a_band(
    lab: LabPage, path: str
) -> None:
    notebook_id = lab.server.create_record(path)
    configs = [{"lr": 0.1}, {"lr": 0.1}, {"lr": 0.5}]
    selection = select(lab, notebook_id, *({"config": config} for config in configs))
    selection.add_checkpoints(0, (0, {"loss": 1.0}), (20, {"loss": 0.2}))
    selection.add_checkpoints(1, *((step, {"loss": 0.5 - step / 100}) for step in (0, 10, 20)))
    selection.add_checkpoints(2, (0, {"loss": 0.9}), (20, {"loss": math.nan}))
    show(selection)
    expect(selection.plot("loss")).to_have_accessible_name(re.compile("by step, 3 runs"))
    assert not selection.chart("loss").evaluate(_HAS_BAND)

    mean_of = selection.area.get_by_role("combobox", name="mean of")
    mean_of.select_option(label="lr")
    legend = selection.area.get_by_role("list", name="Groups").get_by_role("listitem")
    expect(legend).to_have_text(["0.5 (1 run)", "0.1 (2 runs)"])
    expect(selection.plot("loss")).to_have_accessible_name(re.compile("by step, 2 groups"))
    first, last = "0.75 ± 0.354", "0.25 ± 0.0707"
    cells = selection.numbers("loss", "0.1 (2 runs)")
    expect(cells).to_have_text(["3", first, last, last, first])
    expect(selection.numbers("loss", "0.5 (1 run)")).to_have_text(["1", *["0.9"] * 4])
    wait_for(lambda: selection.chart("loss").evaluate(_HAS_BAND), True)
    selection.chart("loss").locator(".u-over").hover(position={"x": 1, "y": 100})
    expect(selection.readout("loss")).to_contain_text(f"0.1 {first}")
    selection.area.get_by_role("checkbox", name="log").check()
    wait_for(lambda: selection.chart("loss").evaluate(_HAS_BAND), True)
    mean_of.select_option(label="each run")
    wait_for(lambda: selection.chart("loss").evaluate(_HAS_BAND), False)


def test_curves_are_grouped_as_the_table_is(selection: Selection) -> None:
    mean_of = selection.area.get_by_role("combobox", name="mean of")
    expect(mean_of).to_have_value("")
    group_by = selection.lab.page.get_by_role("combobox", name="Group by")
    group_by.select_option(label="seed")
    expect(mean_of).to_have_value("config.seed")
    expect(selection.numbers("accuracy", "1 (2 runs)").last).to_have_text("0.9 ± 0")
    expect(selection.chart("loss")).to_contain_text("1 value of a run is not in a mean")
    group_by.select_option(label="nothing")
    expect(mean_of).to_have_value("")


def test_values_that_are_not_positive_are_reported_on_a_logarithmic_scale(
    selection: Selection,
) -> None:
    selection.area.get_by_role("checkbox", name="log").check()
    expect(selection.chart("accuracy")).to_contain_text("2 points are not drawn")


def test_the_axis_is_the_step_or_the_time(selection: Selection) -> None:
    expect(selection.plot("loss")).to_have_accessible_name(re.compile("by step, 2 runs"))
    selection.area.get_by_role("combobox", name="Over").select_option("time")
    expect(selection.plot("loss")).to_have_accessible_name(re.compile("by time, 2 runs"))


def test_a_range_of_an_axis_selects_runs(selection: Selection) -> None:
    panel = selection.open_tab("Parallel coordinates")
    panel.get_by_role("slider", name="lr: lower end of the range").fill("0.5")
    expect(panel.get_by_role("status")).to_have_text("1 run is in the ranges.")
    panel.get_by_role("button", name="Select 1 run", exact=True).click()
    expect(selection.area).to_contain_text("1 run selected")


def test_a_range_goes_with_its_axis(selection: Selection) -> None:
    panel = selection.open_tab("Parallel coordinates")
    panel.get_by_role("slider", name="lr: lower end of the range").fill("0.5")
    expect(panel.get_by_role("button", name="Clear ranges")).to_be_visible()
    panel.get_by_role("button", name="Axes").click()
    selection.area.get_by_role("checkbox", name="lr").uncheck()
    selection.press("Escape")
    expect(panel.get_by_role("button", name="Clear ranges")).to_have_count(0)


def test_a_pointer_that_is_taken_away_drags_no_range(selection: Selection) -> None:
    """A touch, for example, becomes the scrolling of the page."""
    panel = selection.open_tab("Parallel coordinates")
    panel.locator(".axon-RunsChart-target").first.evaluate(
        """node => {
            const { left, top } = node.getBoundingClientRect();
            node.setPointerCapture = () => {};
            for (const [type, offset] of [["down", 20], ["cancel", 20], ["move", 80]]) {
                node.dispatchEvent(new PointerEvent(`pointer${type}`, {
                    bubbles: true, pointerId: 7, clientX: left + 5, clientY: top + offset
                }));
            }
        }"""
    )
    expect(panel.get_by_role("status")).to_contain_text("Drag along an axis")


def test_a_key_and_a_metric_of_the_same_name_are_two_axes(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    configs = [{"lr": 0.1}, {"lr": 0.2}]
    selection = select(lab, notebook_id, *({"config": config} for config in configs))
    for run in range(2):
        selection.add_checkpoints(run, (0, {"lr": 0.5 + run, "loss": 1.0}))
    show(selection)
    panel = selection.open_tab("Parallel coordinates")
    headers = panel.get_by_role("table", name="Values of runs").get_by_role("columnheader")
    expect(headers.filter(has_text="config.lr")).to_have_count(1)
    panel.get_by_role("button", name="Axes").click()
    # Which axes are shown at first depends on the runs of other tests.
    metric = selection.area.get_by_role("checkbox", name="metrics.lr")
    metric.check()
    expect(headers.filter(has_text="metrics.lr")).to_have_count(1)
    metric.uncheck()
    expect(headers.filter(has_text="metrics.lr")).to_have_count(0)
    expect(headers.filter(has_text="config.lr")).to_have_count(1)


def test_runs_are_read_and_selected_by_keyboard_in_both_charts(selection: Selection) -> None:
    panel = selection.open_tab("Parallel coordinates")
    panel.get_by_role("group", name="Parallel coordinates of 2 runs").focus()
    selection.press("ArrowDown")
    status = panel.get_by_role("status")
    expect(status).to_contain_text("depth")
    top = status.inner_text()
    selection.press("ArrowDown")
    expect(status).not_to_have_text(top)

    panel = selection.open_tab("Scatter")
    panel.get_by_role("img", name=re.compile("^loss by lr")).focus()
    selection.press("ArrowRight")
    expect(panel.get_by_role("status")).to_have_text(re.compile(r"^wide\s*lr 0.01\s*loss 0.05"))
    selection.press("Enter")
    expect(selection.area).to_contain_text("1 run selected")


def test_charts_of_runs_have_a_table(selection: Selection) -> None:
    panel = selection.open_tab("Scatter")
    table = panel.get_by_role("table", name="loss by lr")
    expect(table.get_by_role("row", name="wide").get_by_role("cell")).to_have_text(["0.01", "0.05"])
    panel.get_by_role("combobox", name="y").select_option("accuracy")
    expect(panel.get_by_role("table", name="accuracy by lr")).to_be_attached()


def test_runs_are_compared_with_one_of_them(selection: Selection) -> None:
    panel = selection.open_tab("Compare")
    panel.get_by_role("combobox", name="Compare with").select_option("narrow")
    loss = panel.get_by_role("table", name="Metrics").get_by_role("row", name="loss")
    better = loss.get_by_role("cell", name=re.compile("^0.05"))
    expect(better.get_by_role("img", name="best")).to_be_visible()
    expect(better.get_by_role("img", name="better")).to_be_visible()
    expect(better).to_contain_text("−0.05")
    differing = panel.get_by_role("table", name="Configuration that differs")
    expect(differing.get_by_role("rowheader")).to_have_text(["lr", "depth"])
    panel.get_by_text("1 equal value").click()
    equal = panel.get_by_role("table", name="Equal configuration")
    expect(equal.get_by_role("row", name="seed")).to_contain_text("1")

    panel.get_by_role("combobox", name="Compare with").select_option("wide")
    worse = loss.get_by_role("cell", name=re.compile("^0.1"))
    expect(worse.get_by_role("img", name="worse")).to_be_visible()
    for title in ("Executed code", "Environment", "Reproducibility"):
        expect(panel.get_by_role("heading", name=title)).to_be_visible()


def test_an_answer_for_another_base_does_not_replace_a_comparison(selection: Selection) -> None:
    page = selection.lab.page
    url = re.compile("/axon/runs/compare")
    panel = selection.open_tab("Compare")
    base = panel.get_by_role("combobox", name="Compare with")
    code = panel.get_by_role("heading", name="Executed code")
    expect(code).to_be_visible()
    first = base.input_value()
    options = base.locator("option")
    values = [options.nth(index).get_attribute("value") for index in range(options.count())]
    (other,) = (value for value in values if value != first)
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route(url, hold_first)
    with page.expect_request(url):
        base.select_option(other)
    with page.expect_response(url):
        base.select_option(first)
    with page.expect_response(url) as answer:
        held[0].continue_()
    answer.value.finished()
    page.unroute(url)
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    expect(code).to_be_visible()


def test_tabs_are_changed_by_arrow_keys(selection: Selection) -> None:
    selection.area.get_by_role("tab", name="Curves").focus()
    for name in ("Parallel coordinates", "Scatter", "Compare", "Curves"):
        selection.press("ArrowRight")
        tab = selection.area.get_by_role("tab", name=name)
        expect(tab).to_be_focused()
        expect(tab).to_have_attribute("aria-selected", "true")


@pytest.fixture
def themed(selection: Selection) -> Iterator[Selection]:
    yield selection
    selection.lab.execute("apputils:change-theme", theme=THEMES[0])


@pytest.mark.parametrize("theme", THEMES)
def test_the_selected_runs_have_no_serious_violations(theme: str, themed: Selection) -> None:
    use_theme(themed.lab, theme)
    for name in ("Curves", "Parallel coordinates", "Scatter", "Compare"):
        panel = themed.open_tab(name)
        expect(panel.get_by_text("Loading")).to_have_count(0)
        assert find_violations(themed.lab, ".axon-Selection") == []
