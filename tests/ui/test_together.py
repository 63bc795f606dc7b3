"""Several who change the same record at once: nobody's change is lost, and nothing that is gone comes back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from support.page import Hands

# JupyterLab adds the time to every address, for browsers not to keep answers.
LIST = re.compile(r"/axon/notebooks/[^/?]+/checkpoints\?")
ONE = re.compile(r"/axon/notebooks/[^/?]+/checkpoints/[-0-9a-f]+\?\d+$")
RECORDS = re.compile(r"/axon/notebooks\?")
RECORD = re.compile(r"/axon/notebooks/[^/?]+\?\d+$")


@pytest.fixture
def notebook(hands: Hands, path: str) -> str:
    """The record of a notebook that is open beside the panel, where its checkpoints have come."""
    hands.lab.write(path, "x = 1")
    notebook = hands.lab.record(path)
    for step in range(4):
        hands.lab.checkpoint(notebook, 0, step, metrics={"loss": 1 / (1 + step)})
    hands.open(path)
    hands.open_panel()
    expect(hands.rows).to_have_count(4)
    return notebook


def checkpoints(hands: Hands, notebook: str) -> list[dict[str, Any]]:
    """What is stored, the newest first."""
    listed: list[dict[str, Any]] = hands.lab.rest("GET", f"/notebooks/{notebook}/checkpoints")
    return listed


def hold(page: Page, url: re.Pattern[str], method: str = "GET") -> Callable[[], None]:
    """Keep the answers to requests from now on, until what is returned is called; there is one when this returns."""
    held: list[tuple[Route, Any]] = []
    is_holding = True

    def keep(route: Route) -> None:
        if not is_holding or route.request.method != method:
            route.continue_()
            return
        answer = route.fetch()
        if is_holding:
            held.append((route, answer))
        else:
            route.fulfill(response=answer)

    page.route(url, keep)
    if method == "GET":
        while not held:
            page.wait_for_event("request")

    def release() -> None:
        nonlocal is_holding
        is_holding = False
        for route, answer in held:
            route.fulfill(response=answer)

    return release


def toggle_pin(hands: Hands, *ids: str) -> None:
    hands.page.evaluate(
        "ids => void window.jupyterapp.commands.execute('axon:toggle-pin', { ids })", list(ids)
    )


def add_tags(hands: Hands, *tags: str) -> None:
    field = hands.panel.get_by_label("Tags", exact=True)
    for tag in tags:
        field.fill(tag)
        field.press("Enter")


def test_tags_that_are_given_one_right_after_the_other_are_all_kept(
    hands: Hands, notebook: str
) -> None:
    release = hold(hands.page, RECORD, "PUT")
    with hands.page.expect_request(lambda request: request.method == "PUT"):
        add_tags(hands, "alpha", "beta")
    release()
    expect(hands.panel.locator(".axon-Tag")).to_have_text(["alpha", "beta"])
    assert hands.lab.rest("GET", f"/notebooks/{notebook}")["metadata"]["tags"] == ["alpha", "beta"]


def test_a_tag_that_somebody_else_gives_meanwhile_is_kept(hands: Hands, notebook: str) -> None:
    release = hold(hands.page, RECORDS)  # so that the panel does not know of it
    hands.lab.rest("PUT", f"/notebooks/{notebook}", {"tags": ["theirs"]})
    add_tags(hands, "mine")
    release()
    expect(hands.panel.locator(".axon-Tag")).to_have_text(["theirs", "mine"])
    assert hands.lab.rest("GET", f"/notebooks/{notebook}")["metadata"]["tags"] == ["theirs", "mine"]


def test_a_pin_that_somebody_else_takes_back_at_once_is_taken_back_here(
    hands: Hands, notebook: str
) -> None:
    pinned = checkpoints(hands, notebook)[-1]["id"]
    pin = hands.row(pinned).locator(".axon-Pin")
    with hands.page.expect_response(LIST) as listed:
        pass
    assert listed.value.ok or listed.value.status == 304
    release = hold(hands.page, LIST)
    with hands.page.expect_response(ONE):
        toggle_pin(hands, pinned)
    expect(pin).to_have_attribute("aria-pressed", "true")
    hands.lab.rest("PUT", f"/notebooks/{notebook}/checkpoints/{pinned}", {"pinned": False})
    release()
    expect(pin).to_have_attribute("aria-pressed", "false")


def test_an_answer_from_before_a_deletion_does_not_bring_the_deleted_back(
    hands: Hands, notebook: str
) -> None:
    deleted = checkpoints(hands, notebook)[0]["id"]
    hands.page.evaluate(
        """id => {
          const panel = document.querySelector('#axon-panel');
          window.seen = [];
          new MutationObserver(() => {
            const isThere = panel.querySelector(`[data-checkpoint="${id}"]`) !== null;
            if (window.seen.at(-1) !== isThere) {
              window.seen.push(isThere);
            }
          }).observe(panel, { childList: true, subtree: true });
        }""",
        deleted,
    )
    # Another answer than the last is needed, which would be taken.
    hands.lab.rest("PUT", f"/notebooks/{notebook}/checkpoints/{deleted}", {"tags": ["doomed"]})
    release = hold(hands.page, LIST)
    hands.page.evaluate(
        "ids => void window.jupyterapp.commands.execute('axon:delete-checkpoints', { ids })",
        [deleted],
    )
    hands.page.locator(".jp-Dialog .jp-mod-warn").click()
    expect(hands.row(deleted)).to_have_count(0)
    with hands.page.expect_response(LIST):
        release()
    with hands.page.expect_response(LIST):  # what is asked for next: the last was taken by then
        pass
    expect(hands.rows).to_have_count(3)
    assert hands.page.evaluate("window.seen").count(True) <= 1


def test_what_somebody_else_deleted_is_not_selected_any_more(hands: Hands, notebook: str) -> None:
    first, second, *_ = (one["id"] for one in checkpoints(hands, notebook))
    for one in (first, second):
        hands.row(one).get_by_role("checkbox").check()
    chosen = hands.panel.locator(".axon-Table-selected")
    expect(chosen).to_contain_text("2 selected")
    hands.lab.rest("DELETE", f"/notebooks/{notebook}/checkpoints/{first}")
    expect(chosen).to_contain_text("1 selected")


def test_one_that_is_gone_already_does_not_keep_the_others_from_being_deleted(
    hands: Hands, notebook: str
) -> None:
    ids = [one["id"] for one in checkpoints(hands, notebook)]
    release = hold(hands.page, LIST)  # so that the panel does not know of it
    hands.lab.rest("DELETE", f"/notebooks/{notebook}/checkpoints/{ids[0]}")
    hands.page.evaluate(
        "ids => void window.jupyterapp.commands.execute('axon:delete-checkpoints', { ids })",
        ids[:3],
    )
    hands.page.locator(".jp-Dialog .jp-mod-warn").click()
    expect(hands.rows).to_have_count(1)
    release()
    assert [one["id"] for one in checkpoints(hands, notebook)] == ids[3:]
    expect(hands.page.locator(".Toastify__toast")).to_have_count(0)


def test_what_cannot_be_pinned_is_counted_and_the_rest_is_pinned(
    hands: Hands, notebook: str
) -> None:
    ids = [one["id"] for one in checkpoints(hands, notebook)]
    for refused in ids[:2]:
        hands.page.route(
            f"**/checkpoints/{refused}?*",
            lambda route: route.fulfill(status=503, json={"message": "busy"}),
        )
    toggle_pin(hands, *ids)
    toast = hands.page.locator(".Toastify__toast")
    expect(toast).to_contain_text("2 checkpoints could not be changed: busy")
    assert [one["pinned"] for one in checkpoints(hands, notebook)] == [False, False, True, True]
    toast.get_by_role("button", name="Hide").click()
    expect(toast).to_have_count(0)


def test_enter_that_ends_a_composition_stores_nothing(hands: Hands, notebook: str) -> None:
    field = hands.panel.get_by_label("Tags", exact=True)
    field.fill("学")
    field.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
    expect(field).to_have_value("学")
    field.press("Enter")
    expect(hands.panel.locator(".axon-Tag")).to_have_text(["学"])
