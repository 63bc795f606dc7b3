"""The change marker differs after every commit, and only then."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.engines import ON_DISK, new_url

from jupyter_axon_notebooks.store import Document, Store


def test_every_commit_changes_the_marker_to_a_new_one(store: Store) -> None:
    markers = [store.change_marker()]
    for change in (
        lambda: store.runs.insert(Document({"notebook_id": "n"}, "r")),
        lambda: store.runs.update({"status": "failed"}, ["r"]),
        lambda: store.runs.update({"status": "running"}, ["r"]),
        lambda: store.checkpoints.insert({"notebook_id": "n"}),
        lambda: store.runs.remove(["r"]),
    ):
        change()
        markers.append(store.change_marker())
    assert len(set(markers)) == len(markers)


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_commit_of_another_connection_changes_the_marker(engine: str, tmp_path: Path) -> None:
    url = new_url(engine, tmp_path)
    with closing(Store(url)) as store, closing(Store(url)) as other:
        before = store.change_marker()
        with suppress(ZeroDivisionError), other.transaction():
            other.runs.insert({"notebook_id": "n"})
            raise ZeroDivisionError
        with other.transaction():
            other.runs.insert({"notebook_id": "n"})
            uncommitted = store.change_marker()
            assert store.runs.all() == []
        assert store.change_marker() not in (before, uncommitted)
        assert len(store.runs.all()) == 1


def test_markers_are_not_reused_by_the_next_process(tmp_path: Path) -> None:
    url = new_url("sqlite", tmp_path)
    with closing(Store(url)) as one:
        first = one.change_marker()
    with closing(Store(url)) as other:
        assert other.change_marker() != first
