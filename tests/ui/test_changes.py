"""Concurrent changes of a record: none is lost, and deleted checkpoints do not reappear."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from support.page import LIST_URL, POLL_URL, LabPage

RECORD_URL = re.compile(r"/axon/notebooks/[^/?]+\?\d+$")
CHECKPOINT_URL = re.compile(r"/axon/notebooks/[^/?]+/checkpoints/[-0-9a-f]+\?\d+$")
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


def test_a_pin_that_another_user_removes_at_once_is_removed(
    lab: LabPage, notebook: str, ids: list[str]
) -> None:
    pin = lab.row(ids[-1]).locator(".axon-Pin")
    with lab.page.expect_response(CHECKPOINT_URL):
        lab.start("axon:toggle-pin", ids=ids[-1:])
    expect(pin).to_have_attribute("aria-pressed", "true")
    release = lab.hold_responses(LIST_URL)
    lab.server.update_checkpoint(notebook, ids[-1], pinned=False)
    release()
    expect(pin).to_have_attribute("aria-pressed", "false")


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


def test_deletion_continues_after_an_already_deleted_checkpoint(
    lab: LabPage, notebook: str, ids: list[str]
) -> None:
    release = lab.hold_responses(POLL_URL)  # the panel does not know of the deletion
    lab.server.delete_checkpoint(notebook, ids[0])
    delete(lab, ids[:3])
    expect(lab.rows).to_have_count(1)
    release()
    assert [found["id"] for found in lab.server.list_checkpoints(notebook)] == ids[3:]
    expect(lab.notification).to_have_count(0)


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


def test_enter_in_an_input_method_does_not_save(lab: LabPage, notebook: str) -> None:
    field = lab.panel.get_by_label("Tags", exact=True)
    field.fill("学")
    field.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
    expect(field).to_have_value("学")
    field.press("Enter")
    expect(lab.panel.locator(".axon-Tag")).to_have_text(["学"])
