"""Metric curves; what is on the canvas stands in the table below it too."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect
from support.page import Hands


@pytest.fixture
def curves(hands: Hands, path: str) -> Locator:
    """Two runs of ten epochs, the second better, and one measurement that is not a number."""
    hands.lab.write(path)
    notebook = hands.lab.record(path)
    for run, scale in (("a", 1.0), ("b", 0.5)):
        for epoch in range(10):
            hands.lab.checkpoint(
                notebook,
                epoch,
                epoch * 100,
                run_id=f"{notebook}-{run}",
                metrics={"val_loss": scale / (epoch + 1), "accuracy": epoch / 10},
            )
    hands.lab.checkpoint(
        notebook,
        10,
        1000,
        run_id=f"{notebook}-a",
        metrics={"val_loss": "NaN"},
        nonfinite=["val_loss"],
    )
    hands.open(path)
    curves = hands.open_panel().locator(".axon-Curves")
    expect(curves.locator("canvas")).to_be_visible()
    return curves


def plot(curves: Locator) -> Locator:
    return curves.get_by_role("img", name=re.compile("^Curves of"))


def run(curves: Locator, number: int) -> Locator:
    return curves.get_by_role("row", name=f"run {number}")


def test_each_run_has_a_curve_and_a_row_in_numbers(curves: Locator) -> None:
    expect(run(curves, 1).get_by_role("cell")).to_have_text(["10", "NaN", "0.1"])
    expect(run(curves, 2).get_by_role("cell")).to_have_text(["10", "0.05", "0.05"])
    expect(run(curves, 2)).to_contain_text("best")
    expect(curves).to_contain_text("1 point is not drawn")


def test_another_metric_another_axis_and_a_logarithmic_scale(curves: Locator) -> None:
    curves.get_by_label("Metric").select_option("accuracy")
    expect(run(curves, 1).get_by_role("cell")).to_have_text(["10", "0.9", "0.9"])
    expect(plot(curves)).to_have_accessible_name(
        re.compile("^Curves of accuracy by epoch, 10 points")
    )
    curves.get_by_label("Over").select_option("step")
    expect(plot(curves)).to_have_accessible_name(
        re.compile("^Curves of accuracy by step, 10 points")
    )
    curves.get_by_label("log").check()
    expect(curves).to_contain_text("2 points are not drawn")
    expect(run(curves, 1).get_by_role("cell").first).to_have_text("9")


def test_a_run_can_be_hidden(curves: Locator) -> None:
    run(curves, 1).get_by_role("checkbox").uncheck()
    expect(run(curves, 1).get_by_role("cell").first).to_have_text("")
    expect(run(curves, 2).get_by_role("cell").first).to_have_text("10")


def test_the_cursor_tells_the_values_there(hands: Hands, curves: Locator) -> None:
    curves.locator(".u-over").hover(position={"x": 1, "y": 40})
    expect(curves.get_by_role("columnheader", name="at epoch 0")).to_be_visible()
    expect(run(curves, 1).get_by_role("cell").nth(1)).to_have_text("1")
    expect(run(curves, 2).get_by_role("cell").nth(1)).to_have_text("0.5")
    expect(curves.get_by_role("status")).to_have_text("epoch 0: run 1 1, run 2 0.5")


def test_dragging_zooms_and_a_button_shows_all_again(hands: Hands, curves: Locator) -> None:
    over = curves.locator(".u-over")
    over.hover(position={"x": 60, "y": 20})
    hands.page.mouse.down()
    over.hover(position={"x": 160, "y": 30})
    hands.page.mouse.up()
    curves.get_by_role("button", name="Show all").click()
    expect(curves.get_by_role("button", name="Show all")).to_have_count(0)


def test_keys_move_the_cursor_and_zoom(hands: Hands, curves: Locator) -> None:
    plot(curves).focus()
    hands.page.keyboard.press("ArrowRight")
    expect(curves.get_by_role("columnheader", name="at epoch 0")).to_be_visible()
    hands.page.keyboard.press("ArrowRight")
    expect(curves.get_by_role("columnheader", name="at epoch 1")).to_be_visible()
    hands.page.keyboard.press("+")
    expect(curves.get_by_role("button", name="Show all")).to_be_visible()
    hands.page.keyboard.press("0")
    expect(curves.get_by_role("button", name="Show all")).to_have_count(0)
