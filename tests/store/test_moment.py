"""The text that tells whether anything has been committed since."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path

import pytest
from engines import ON_DISK, new_url

from jupyter_axon_notebooks.store import Store


def test_a_moment_lasts_as_long_as_nothing_is_committed(store: Store) -> None:
    before = store.moment()
    store.runs.all()
    with store.snapshot():
        store.notebooks.all()
    assert store.moment() == before


def test_whatever_is_committed_ends_a_moment_and_none_comes_again(store: Store) -> None:
    moments = [store.moment()]
    for change in (
        lambda: store.runs.insert({"notebook_id": "n", "id": "r"}),
        lambda: store.runs.update({"status": "failed"}),
        lambda: store.runs.update({"status": "running"}),
        lambda: store.checkpoints.insert({"notebook_id": "n"}),
        lambda: store.runs.truncate(),
        lambda: store.checkpoints.truncate(),
    ):
        change()
        moments.append(store.moment())
    assert len(set(moments)) == len(moments)


@pytest.mark.parametrize("engine", ON_DISK)
def test_what_another_process_commits_ends_a_moment_once_it_is_committed(engine: str, tmp_path: Path) -> None:
    url = new_url(engine, tmp_path)
    with closing(Store(url)) as store, closing(Store(url)) as other:
        before = store.moment()
        with suppress(ZeroDivisionError), other.transaction():
            other.runs.insert({"notebook_id": "n"})
            assert store.runs.all() == []
            raise ZeroDivisionError
        with other.transaction():
            other.runs.insert({"notebook_id": "n"})
            unseen = store.moment()
            assert store.runs.all() == []
        assert store.moment() not in (before, unseen)
        assert len(store.runs.all()) == 1


def test_two_openings_of_a_file_share_no_moment(tmp_path: Path) -> None:
    url = new_url("sqlite", tmp_path)
    with closing(Store(url)) as one:
        first = one.moment()
    with closing(Store(url)) as other:
        assert other.moment() != first


def test_a_moment_survives_a_fork_on_both_sides(tmp_path: Path) -> None:
    with closing(Store(new_url("sqlite", tmp_path))) as store:
        before = store.moment()
        child = os.fork()
        if child == 0:
            status = 1
            with suppress(BaseException):
                status = 0 if store.moment() != before else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        mine = store.moment()
        store.runs.insert({"notebook_id": "n"})
        assert store.moment() != mine
