"""Concurrent changes of a record: none is lost, and deleted checkpoints do not reappear."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from support.page import LIST_URL, POLL_URL, LabPage

RECORD_URL = re.compile(r"/axon/notebooks/[^/?]+\?\d+$")

#: Record in `window.visible` whether a row is there, whenever that changes.
_WATCH_ROW = """id => {
  const panel = document.querySelector('#axon-panel');
  window.visible = [];
  new MutationObserver(() => {
    const isVisible = panel.querySelector(`[data-checkpoint="${id}"]`) !== null;
    if (window.visible.at(-1) !== isVisible) {
      window.visible.push(isVisible);
    }
  }).observe(panel, { childList: true, subtree: true });
}"""


@pytest.fixture
def notebook(lab: LabPage, path: str) -> str:
    """The id of a notebook with four checkpoints, which is open beside the panel."""
    notebook_id = lab.server.create_record(path, "x = 1")
    for step in range(4):
        lab.server.add_checkpoint(notebook_id, 0, step, metrics={"loss": 1 / (1 + step)})
    lab.show(path, checkpoints=4)
    return notebook_id


@pytest.fixture
def ids(lab: LabPage, notebook: str) -> list[str]:
    """The ids of the checkpoints, the newest first."""
    return [checkpoint["id"] for checkpoint in lab.server.list_checkpoints(notebook)]


def add_tags(lab: LabPage, *tags: str) -> None:
    field = lab.panel.get_by_label("Tags", exact=True)
    for tag in tags:
        field.fill(tag)
        field.press("Enter")


def delete(lab: LabPage, ids: list[str]) -> None:
    lab.start("axon:delete-checkpoints", ids=ids)
    lab.dialog.locator(".jp-mod-warn").click()


def test_tags_added_in_quick_succession_are_all_kept(lab: LabPage, notebook: str) -> None:
    release = lab.hold_responses(RECORD_URL, "PUT")
    with lab.page.expect_request(lambda request: request.method == "PUT"):
        add_tags(lab, "alpha", "beta")
    release()
    expect(lab.panel.locator(".axon-Tag")).to_have_text(["alpha", "beta"])
    assert lab.server.get_record(notebook)["metadata"]["tags"] == ["alpha", "beta"]


def test_a_tag_that_another_user_adds_meanwhile_is_kept(lab: LabPage, notebook: str) -> None:
    release = lab.hold_responses(POLL_URL)  # the panel does not know of the change
    lab.server.update_record(notebook, tags=["theirs"])
    add_tags(lab, "mine")
    release()
    expect(lab.panel.locator(".axon-Tag")).to_have_text(["theirs", "mine"])
    assert lab.server.get_record(notebook)["metadata"]["tags"] == ["theirs", "mine"]


def test_a_response_from_before_a_deletion_does_not_restore_the_row(
    lab: LabPage, notebook: str, ids: list[str]
) -> None:
    lab.page.evaluate(_WATCH_ROW, ids[0])
    lab.server.update_checkpoint(notebook, ids[0], tags=["changed"])  # so that the panel loads it
    release = lab.hold_responses(LIST_URL)
    delete(lab, ids[:1])
    expect(lab.row(ids[0])).to_have_count(0)
    with lab.page.expect_response(LIST_URL):
        release()
    with lab.page.expect_response(LIST_URL):  # by then, the panel has handled the one before
        pass
    expect(lab.rows).to_have_count(3)
    assert lab.page.evaluate("window.visible").count(True) <= 1


def test_a_checkpoint_that_another_user_deletes_is_no_longer_selected(
    lab: LabPage, notebook: str, ids: list[str]
) -> None:
    lab.select(*ids[:2])
    toolbar = lab.panel.locator(".axon-Table-selected")
    expect(toolbar).to_contain_text("2 selected")
    lab.server.delete_checkpoint(notebook, ids[0])
    expect(toolbar).to_contain_text("1 selected")


def test_failed_pins_are_counted_and_the_others_are_pinned(
    lab: LabPage, notebook: str, ids: list[str]
) -> None:
    for failing in ids[:2]:
        lab.page.route(
            f"**/checkpoints/{failing}?*",
            lambda route: route.fulfill(status=503, json={"message": "busy"}),
        )
    lab.start("axon:toggle-pin", ids=ids)
    expect(lab.notification).to_contain_text("2 checkpoints could not be changed: busy")
    pinned = [found["pinned"] for found in lab.server.list_checkpoints(notebook)]
    assert pinned == [False, False, True, True]
    lab.notification.get_by_role("button", name="Hide").click()
    expect(lab.notification).to_have_count(0)
