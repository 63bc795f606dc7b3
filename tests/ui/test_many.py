"""A notebook with 10,000 checkpoints."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Response, expect
from support.lab import Lab
from support.page import Hands

COUNT = 10_000
RUNS = 4
PATH = "many.ipynb"
#: Milliseconds after which every page of them was looked at again, a slow machine allowed for.
EACH_PAGE_SEEN = 200_000
#: The one that is best, far from the newest.
BEST = 4_321


@pytest.fixture(scope="module")
def notebook(lab: Lab) -> str:
    """Four runs, each of 250 epochs with ten steps."""
    lab.write(PATH, "lr = 0.1")
    notebook = lab.record(PATH)
    a_run = COUNT // RUNS
    lab.checkpoints(
        notebook,
        (
            {
                "run_id": f"{notebook}-{i // a_run}",
                "epoch": i % a_run // 10,
                "step": i % a_run,
                "metrics": {
                    "val_loss": 0.001 if i == BEST else 1 / (1 + i % a_run) + 0.01,
                    "accuracy": i / COUNT,
                },
            }
            for i in range(COUNT)
        ),
    )
    return notebook


@pytest.fixture
def many(hands: Hands, notebook: str) -> Hands:
    hands.open(PATH)
    hands.open_panel()
    expect(hands.panel).to_contain_text(f"{COUNT} checkpoints")
    return hands


def test_all_are_there_and_only_those_in_view_are_drawn(many: Hands) -> None:
    grid = many.panel.get_by_role("grid")
    expect(grid).to_have_attribute("aria-rowcount", str(COUNT + 1))
    assert many.rows.count() < 100
    grid.evaluate("grid => { grid.scrollTop = grid.scrollHeight }")
    last = many.panel.locator(f'[aria-rowindex="{COUNT + 1}"]')
    expect(last.get_by_role("gridcell").nth(3)).to_have_text("0")
    assert many.rows.count() < 100
    grid.focus()
    many.page.keyboard.press("End")
    expect(last).to_have_class(re.compile("axon-mod-active"))
    many.page.keyboard.press("Home")
    expect(many.panel.locator('[aria-rowindex="2"]')).to_have_class(re.compile("axon-mod-active"))


def test_they_sort_with_the_best_marked_on_top(many: Hands) -> None:
    head = many.panel.get_by_role("columnheader", name="val_loss")
    head.click()
    head.click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    first = many.panel.locator('[aria-rowindex="2"]')
    expect(first.get_by_role("img", name="Best")).to_be_visible()
    expect(first.get_by_role("gridcell").nth(3)).to_have_text(str(BEST % (COUNT // RUNS)))


def test_they_are_filtered(many: Hands) -> None:
    many.filter("epoch:7 run:2")
    expect(many.panel).to_contain_text(f"10 of {COUNT}")
    expect(many.rows).to_have_count(10)
    many.filter("val_loss<0.005")
    expect(many.rows).to_have_count(1)
    many.filter("nonesuch")
    expect(many.panel).to_contain_text("No checkpoint matches this filter")


def test_their_curves_are_drawn_and_can_be_looked_into(many: Hands) -> None:
    curves = many.panel.locator(".axon-Curves")
    curves.get_by_label("Over").select_option("step")
    plot = curves.get_by_role("img", name=re.compile("^Curves of"))
    expect(plot).to_have_accessible_name(re.compile("^Curves of val_loss by step, 2500 points"))
    expect(curves.get_by_role("row", name="run 4").get_by_role("cell").first).to_have_text("2500")
    curves.locator(".u-over").hover()  # in the middle
    expect(curves.get_by_role("columnheader", name=re.compile(r"at step 1\d\d\d"))).to_be_visible()
    plot.focus()
    many.page.keyboard.press("+")
    curves.get_by_role("button", name="Show all").click()
    expect(curves.get_by_role("button", name="Show all")).to_have_count(0)


def test_the_notebook_can_be_typed_in_while_they_come(hands: Hands, notebook: str) -> None:
    hands.open(PATH)
    hands.page.locator(".jp-Notebook .cm-content").first.click()
    hands.command("axon:toggle-panel")
    hands.page.locator(".jp-Notebook .cm-content").first.click()
    hands.page.keyboard.press("End")
    hands.page.keyboard.type("  # typed")
    expect(hands.page.locator(".jp-Notebook .cm-content").first).to_have_text("lr = 0.1  # typed")
    expect(hands.panel).to_contain_text(f"{COUNT} checkpoints")


def test_tags_that_others_give_to_old_ones_appear(many: Hands, notebook: str) -> None:
    old = many.lab.rest("GET", f"/notebooks/{notebook}/checkpoints?limit=1&offset=700")[0]["id"]
    many.lab.rest("PUT", f"/notebooks/{notebook}/checkpoints/{old}", {"tags": ["paper"]})
    many.filter("paper")
    expect(many.row(old)).to_be_visible(timeout=EACH_PAGE_SEEN)


def test_nothing_is_sent_again_while_nothing_changes(many: Hands) -> None:
    """Twelve looks at the server, by which two pages of older ones had their turn."""
    answers: list[Response] = []
    with many.page.expect_response(re.compile("/checkpoints.limit=50&")):
        pass  # all of them have come
    many.page.on("response", lambda answer: answers.append(answer))
    looks = 0
    while looks < 12:
        with many.page.expect_response(lambda response: "/axon/notebooks?" in response.url):
            looks += 1
    listed = [answer for answer in answers if "/checkpoints" in answer.url]
    assert any("offset=" in answer.url for answer in listed)
    assert {answer.status for answer in listed} == {304}
