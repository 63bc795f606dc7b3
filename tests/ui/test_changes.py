"""Concurrent changes of a record: none is lost, and deleted checkpoints do not reappear."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from support.page import POLL_URL, LabPage


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
    lab.section("Record").click()
    field = lab.panel.get_by_label("Tags", exact=True)
    for tag in tags:
        field.fill(tag)
        field.press("Enter")


def test_a_tag_that_another_user_adds_meanwhile_is_kept(lab: LabPage, notebook: str) -> None:
    release = lab.hold_responses(POLL_URL)  # the panel does not know of the change
    lab.server.update_record(notebook, tags=["theirs"])
    add_tags(lab, "mine")
    release()
    expect(lab.panel.locator(".axon-Tag")).to_have_text(["theirs", "mine"])
    assert lab.server.get_record(notebook)["metadata"]["tags"] == ["theirs", "mine"]


def test_a_checkpoint_that_another_user_deletes_is_no_longer_selected(
    lab: LabPage, notebook: str, ids: list[str]
) -> None:
    lab.select(*ids[:2])
    toolbar = lab.panel.locator(".axon-Table-selected")
    expect(toolbar).to_contain_text("2 selected")
    lab.server.delete_checkpoint(notebook, ids[0])
    expect(toolbar).to_contain_text("1 selected")
