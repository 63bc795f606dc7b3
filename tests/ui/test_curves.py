"""The curves of metrics. The table below them contains the same values."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect
from support.page import LabPage

from jupyter_axon_notebooks.records import ConfigSource


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
    expect(curves.locator("canvas")).to_be_visible()
    expect(curves).to_contain_text("1 point is not drawn")
    return curves


def plot(curves: Locator) -> Locator:
    return curves.get_by_role("img", name=re.compile("^Curves of"))


def run(curves: Locator, number: int) -> Locator:
    return curves.get_by_role("row", name=f"run {number}")


def test_each_run_has_a_curve_and_a_row_of_numbers(curves: Locator) -> None:
    expect(run(curves, 1).get_by_role("cell")).to_have_text(["10", "NaN", "0.1"])
    expect(run(curves, 2).get_by_role("cell")).to_have_text(["10", "0.05", "0.05"])
    expect(run(curves, 2)).to_contain_text("best")


def test_metric_axis_and_scale_are_chosen(curves: Locator) -> None:
    curves.get_by_label("Metric").select_option("accuracy")
    expect(run(curves, 1).get_by_role("cell")).to_have_text(["10", "0.9", "0.9"])
    for axis in ("epoch", "step"):
        curves.get_by_label("Over").select_option(axis)
        name = re.compile(f"^Curves of accuracy by {axis}, 10 points")
        expect(plot(curves)).to_have_accessible_name(name)
    curves.get_by_label("log").check()
    expect(curves).to_contain_text("2 points are not drawn")
    expect(run(curves, 1).get_by_role("cell").first).to_have_text("9")


def test_the_cursor_shows_values(curves: Locator) -> None:
    curves.locator(".u-over").hover(position={"x": 1, "y": 40})
    expect(curves.get_by_role("columnheader", name="at epoch 0")).to_be_visible()
    expect(run(curves, 1).get_by_role("cell").nth(1)).to_have_text("1")
    expect(run(curves, 2).get_by_role("cell").nth(1)).to_have_text("0.5")
    expect(curves.get_by_role("status")).to_have_text("epoch 0: run 1 1, run 2 0.5")


def test_keys_move_the_cursor_and_zoom(lab: LabPage, curves: Locator) -> None:
    plot(curves).focus()
    for epoch in range(2):
        lab.page.keyboard.press("ArrowRight")
        expect(curves.get_by_role("columnheader", name=f"at epoch {epoch}")).to_be_visible()
    lab.page.keyboard.press("+")
    expect(curves.get_by_role("button", name="Show all")).to_be_visible()
    lab.page.keyboard.press("0")
    expect(curves.get_by_role("button", name="Show all")).to_have_count(0)


def test_runs_are_shown_with_their_names_numbers_and_configuration(lab: LabPage, path: str) -> None:
    notebook_id = lab.server.create_record(path)
    config = {"lr": 0.01, "model": {"layers": [64, 64]}, "text": "<img src=x>" * 1_000}
    runs = lab.server.start_runs(
        notebook_id,
        {"config": config, "config_source": ConfigSource.DERIVED},
        {"config": {"lr": 0.1}, "config_source": ConfigSource.GIVEN, "name": "wide"},
        {"config": {"lr": 1}, "config_source": ConfigSource.PARAMETERS},
    )
    for epoch, run_id in enumerate(reversed(runs)):  # in another order than they began
        fields = {"run_id": run_id, "metrics": {"loss": 1.0}}
        lab.server.add_checkpoint(notebook_id, epoch, epoch, **fields)
    curves = lab.show(path, checkpoints=3).locator(".axon-Curves")
    legend = curves.get_by_role("row")
    begin = re.escape("derived from code lr=0.01, model.layers=[64,64], text=<img")
    expect(legend).to_have_text(
        [
            re.compile("^run"),
            re.compile("^run 3"),
            "from parameters lr=1",
            re.compile("^wide"),
            "lr=0.1",
            re.compile("^run 1"),
            re.compile(f"^{begin}"),
        ]
    )
    title = re.compile(r"lr=0\.01.{20,400}… \(derived from code\)$")
    expect(legend.last.get_by_role("cell")).to_have_attribute("title", title)
    # The numbers are those of REST, and the filter knows them.
    found = lab.server.request("GET", f"/runs/{runs[0]}")
    assert found["number"] == 1
    lab.filter("run:1")
    expect(lab.rows).to_have_count(1)
    expect(lab.rows).to_contain_text("run 1")
    lab.filter("run:wide")
    expect(lab.rows).to_contain_text("wide")
    assert curves.evaluate("node => node.scrollWidth <= node.clientWidth")
