"""The charts of metrics, and the table of runs that is their legend."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect
from support.page import LabPage

from jupyter_axon_notebooks.records import ConfigSource

#: Whether one of the elements is wider than the panel.
_IS_CUT = """panel => [...panel.querySelectorAll('.axon-Curves *, .axon-Header *')].some(
  node => node.getBoundingClientRect().right > panel.getBoundingClientRect().right + 1)"""


@pytest.fixture
def curves(lab: LabPage, path: str) -> Locator:
    """Two runs of ten epochs, of which the second is better, and one value that is not a number."""
    notebook_id = lab.server.create_record(path)
    checkpoints = [
        {
            "run_id": f"{notebook_id}-{run}",
            "epoch": epoch,
            "step": epoch * 100,
            "metrics": {"val_loss": scale / (epoch + 1), "accuracy": epoch / 10},
        }
        for run, scale in (("a", 1.0), ("b", 0.5))
        for epoch in range(10)
    ]
    lab.server.add_checkpoints(notebook_id, checkpoints)
    nan = {"metrics": {"val_loss": "NaN"}, "nonfinite": ["val_loss"]}
    lab.server.add_checkpoint(notebook_id, 10, 1000, run_id=f"{notebook_id}-a", **nan)
    curves = lab.show(path).locator(".axon-Curves")
    expect(chart(curves, "val_loss").locator("canvas").first).to_be_visible()
    return curves


def chart(curves: Locator, metric: str) -> Locator:
    return curves.get_by_role("region", name=metric, exact=True)


def runs(curves: Locator) -> Locator:
    """The rows of the legend."""
    return curves.get_by_role("table", name="Runs").locator("tbody tr")


def test_each_metric_has_a_chart_and_each_run_a_row(curves: Locator) -> None:
    expect(curves.locator(".axon-MetricChart h4")).to_have_text(["val_loss", "accuracy"])
    expect(runs(curves)).to_have_text([re.compile("run 2.*0.05$"), re.compile("run 1.*0.1$")])
    expect(runs(curves).first.get_by_role("img", name="Best")).to_be_visible()
    expect(chart(curves, "val_loss")).to_contain_text("1 point is not drawn")


def test_metrics_axis_smoothing_and_scale_are_chosen(lab: LabPage, curves: Locator) -> None:
    curves.get_by_role("button", name="Metrics").click()
    lab.page.get_by_role("checkbox", name="val_loss").uncheck()
    expect(curves.locator(".axon-MetricChart h4")).to_have_text(["accuracy"])
    lab.page.keyboard.press("Escape")
    for axis in ("time", "step", "epoch"):
        curves.get_by_label("Over").select_option(axis)
        plot = chart(curves, "accuracy").get_by_role("img", name=f"Curves of accuracy by {axis}")
        expect(plot).to_be_visible()
    curves.get_by_role("slider").fill("0.5")
    curves.get_by_label("log").check()
    expect(chart(curves, "accuracy")).to_contain_text("2 points are not drawn")


def test_the_choices_remain_when_another_notebook_was_in_front(
    lab: LabPage, curves: Locator, path: str
) -> None:
    curves.get_by_label("log").check()
    other = f"other_{path}"
    lab.server.create_record(other)
    lab.open(other)
    expect(lab.panel).to_contain_text("are plotted here")
    lab.open(path)
    expect(curves.get_by_label("log")).to_be_checked()


def test_values_at_the_cursor_are_shown_beside_the_curves(curves: Locator) -> None:
    first = chart(curves, "val_loss")
    first.locator(".u-over").hover(position={"x": 1, "y": 10})
    readout = first.locator(".axon-MetricChart-readout")
    expect(readout).to_contain_text("epoch 0")
    expect(readout).to_contain_text("run 1 1")
    over = first.locator(".u-over").bounding_box()
    shown = readout.bounding_box()
    assert over is not None
    assert shown is not None
    assert shown["y"] + shown["height"] <= over["y"]
    # The row of the nearest run is marked, and a run that is pointed at is marked in the charts.
    expect(curves.locator(".axon-mod-highlighted")).to_have_count(1)


def test_a_run_is_hidden_and_shown(curves: Locator) -> None:
    numbers = chart(curves, "val_loss").get_by_role("table", name="Values of val_loss")
    expect(numbers.locator("tbody tr")).to_have_count(2)
    runs(curves).first.get_by_role("checkbox").uncheck()
    expect(numbers.locator("tbody tr")).to_have_count(1)
    runs(curves).first.get_by_role("checkbox").check()
    expect(numbers.locator("tbody tr")).to_have_count(2)


def test_the_best_value_leads_to_its_checkpoint(lab: LabPage, curves: Locator) -> None:
    best = lab.header.locator(".axon-Header-best")
    expect(best).to_contain_text("0.05")
    lab.filter("run:1")
    best.get_by_role("button", name="run 2, epoch 9").click()
    expect(lab.grid).to_be_focused()
    active = lab.panel.locator(".axon-Grid-row.axon-mod-active")
    expect(active.get_by_role("img", name="Best")).to_be_in_viewport()
    expect(lab.panel.get_by_label("Filter of checkpoints")).to_have_value("")


def test_logged_values_are_plotted_too(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    [run_id] = lab.server.start_runs(notebook_id, {"config": {"lr": 0.1}})
    lab.server.log(
        notebook_id, run_id, [{"grad": 1 / (1 + step), "loss": 1.0 + step} for step in range(200)]
    )
    curves = lab.show(path).locator(".axon-Curves")
    expect(curves.locator(".axon-MetricChart h4")).to_have_text(["loss", "grad"])
    numbers = chart(curves, "grad").get_by_role("table").get_by_role("cell")
    expect(numbers).to_have_text(["200", "1", "0.005", "0.005", "1"])
    expect(lab.header.locator(".axon-Header-best")).to_contain_text("run 1, step 0")
    lab.server.log(notebook_id, run_id, [{"grad": 0.5}], first_step=200)
    expect(numbers.first).to_have_text("201")


def test_more_runs_are_drawn_than_a_request_may_name(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    for run_id in lab.server.start_runs(notebook_id, *[{} for _ in range(110)]):
        lab.server.log(notebook_id, run_id, [{"loss": 1.0}, {"loss": 0.5}])
    panel = lab.show(path)
    curves = panel.locator(".axon-Curves")
    more = curves.get_by_role("button", name="Show more")
    expect(more).to_be_visible()
    while more.count() > 0:
        more.click()
    expect(runs(curves)).to_have_count(110)
    numbers = chart(curves, "loss").get_by_role("row")
    expect(numbers).to_have_count(111)  # with the head
    expect(panel.locator(".axon-Notice")).to_have_count(0)


def test_runs_are_shown_with_the_configuration_that_differs(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    config = {"model": {"layers": [64, 64]}, "seed": 1, "text": "<img src=x>" * 1_000}
    lab.server.start_runs(
        notebook_id,
        {"config": {**config, "lr": 0.01}, "config_source": ConfigSource.DERIVED},
        {"config": {**config, "lr": 0.1}, "config_source": ConfigSource.GIVEN, "name": "wide"},
        {"config": {**config, "lr": 1}, "config_source": ConfigSource.PARAMETERS},
    )
    started = lab.server.request("GET", f"/notebooks/{notebook_id}/runs")
    for epoch, run in enumerate(started):  # in another order than they began
        fields = {"run_id": run["id"], "metrics": {"loss": 1.0 + epoch}}
        lab.server.add_checkpoint(notebook_id, epoch, epoch, **fields)
    curves = lab.show(path, checkpoints=3).locator(".axon-Curves")
    legend = curves.get_by_role("table", name="Runs")
    expect(legend.get_by_role("columnheader")).to_have_text(["run", "lr", "best"])
    expect(legend.get_by_role("rowheader")).to_have_text(["run 3", "wide", "run 1"])
    expect(runs(curves).locator("td:nth-child(2)")).to_have_text(["1", "0.1", "0.01"])
    titles = [re.compile(r"\(from parameters\)$"), re.compile("lr=0.1$"), re.compile("derived")]
    for row, title in enumerate(titles):
        cell = runs(curves).nth(row).locator("td").first
        expect(cell).to_have_attribute("title", title)
    lab.filter("run:wide")
    expect(lab.rows).to_have_count(1)
    expect(lab.rows).to_contain_text("wide")


def test_of_many_runs_the_newest_are_drawn(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    checkpoints = [
        {"run_id": f"r{run:02}", "epoch": epoch, "step": epoch, "metrics": {"loss": 1 + run}}
        for run in range(40)
        for epoch in range(2)
    ]
    lab.server.add_checkpoints(notebook_id, checkpoints)
    curves = lab.show(path).locator(".axon-Curves")
    expect(runs(curves)).to_have_count(31)  # and the best one
    expect(curves).to_contain_text("31 of 40 runs")
    curves.get_by_role("button", name="Show more").click()
    expect(runs(curves)).to_have_count(40)
    curves.get_by_role("button", name="Show fewer").click()
    expect(runs(curves)).to_have_count(31)
    assert not lab.panel.evaluate(_IS_CUT)
