"""The text that tells whether anything has been committed since."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.engines import ON_DISK, new_url

from jupyter_axon_notebooks.store import Store


def test_a_marker_lasts_as_long_as_nothing_is_committed(store: Store) -> None:
    before = store.change_marker()
    store.runs.all()
    with store.snapshot():
        store.notebooks.all()
    assert store.change_marker() == before


def test_whatever_is_committed_changes_the_marker_and_none_comes_again(store: Store) -> None:
    markers = [store.change_marker()]
    for change in (
        lambda: store.runs.insert({"notebook_id": "n", "id": "r"}),
        lambda: store.runs.update({"status": "failed"}),
        lambda: store.runs.update({"status": "running"}),
        lambda: store.checkpoints.insert({"notebook_id": "n"}),
        lambda: store.runs.truncate(),
        lambda: store.checkpoints.truncate(),
    ):
        change()
        markers.append(store.change_marker())
    assert len(set(markers)) == len(markers)


@pytest.mark.parametrize("engine", ON_DISK)
def test_what_another_process_commits_changes_the_marker_once_it_is_committed(
    engine: str, tmp_path: Path
) -> None:
    url = new_url(engine, tmp_path)
    with closing(Store(url)) as store, closing(Store(url)) as other:
        before = store.change_marker()
        with suppress(ZeroDivisionError), other.transaction():
            other.runs.insert({"notebook_id": "n"})
            assert store.runs.all() == []
            raise ZeroDivisionError
        with other.transaction():
            other.runs.insert({"notebook_id": "n"})
            unseen = store.change_marker()
            assert store.runs.all() == []
        assert store.change_marker() not in (before, unseen)
        assert len(store.runs.all()) == 1


def test_two_openings_of_a_file_share_no_marker(tmp_path: Path) -> None:
    url = new_url("sqlite", tmp_path)
    with closing(Store(url)) as one:
        first = one.change_marker()
    with closing(Store(url)) as other:
        assert other.change_marker() != first


def test_a_marker_survives_a_fork_on_both_sides(tmp_path: Path) -> None:
    with closing(Store(new_url("sqlite", tmp_path))) as store:
        before = store.change_marker()
        child = os.fork()
        if child == 0:
            status = 1
            with suppress(BaseException):
                status = 0 if store.change_marker() != before else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        mine = store.change_marker()
        store.runs.insert({"notebook_id": "n"})
        assert store.change_marker() != mine
