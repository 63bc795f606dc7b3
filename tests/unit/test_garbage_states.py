"""Garbage collection of state files removes what killed processes left, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.state_files import list_files, make_older, read_state, write_state

from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.states import StateStorage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "states"


@pytest.fixture
def storage(root: Path) -> StateStorage:
    return StateStorage(root)


def test_old_folders_without_a_record_are_removed(storage: StateStorage, root: Path) -> None:
    for checkpoint in ("known", "lost", "young"):
        write_state(storage, b"12345", checkpoint=checkpoint)
    write_state(storage, b"123", notebook="gone")
    make_older(root)
    now = time.time()
    os.utime(root / "n/young/model.bin", (now, now))
    asked, counts = [], []

    def named(notebook: str, checkpoint: str) -> set[str] | None:
        asked.append((notebook, checkpoint))
        return {"model.bin"} if checkpoint == "known" else None

    report = sweep(storage, named, older_than=3600, progress=lambda: counts.append(1))
    assert sorted(asked) == [("gone", "c"), ("n", "known"), ("n", "lost")]
    assert sorted(report.folders) == [str(root / "gone/c"), str(root / "n/lost")]
    assert report.freed == 8
    assert report.temporaries == report.problems == []
    assert len(counts) == 4
    assert sorted(path.name for path in root.glob("*/*")) == ["known", "young"]
    assert not (root / "gone").exists()


@pytest.mark.parametrize("changed", ["n/c", "n/c/model.bin", "n/c/.store"])
def test_a_recent_change_keeps_the_folder(storage: StateStorage, root: Path, changed: str) -> None:
    write_state(storage)
    make_older(root, 100.0)
    os.utime(root / changed)
    assert sweep(storage, lambda n, c: None, older_than=90).folders == []
    make_older(root, 100.0)
    assert sweep(storage, lambda n, c: None, older_than=110).folders == []
    assert sweep(storage, lambda n, c: None, older_than=90).folders == [str(root / "n/c")]


def test_old_temporary_files_are_removed(storage: StateStorage, root: Path) -> None:
    write_state(storage)
    old, young = (root / f"n/c/.optimizer.{number:032x}.tmp" for number in range(2))
    for path in (old, young):
        path.write_bytes(b"12345")
    os.utime(old, (0, 0))
    report = sweep(storage, lambda n, c: {"model.bin"})
    assert (report.temporaries, report.freed) == ([str(old)], 5)
    assert list_files(root / "n/c") == [young.name, ".store", "model.bin"]


def test_files_of_living_writers_stay(storage: StateStorage, root: Path) -> None:
    with storage.open_writer("n", "c", "model") as writer:
        writer.write(b"slow")
        make_older(root)
        report = sweep(StateStorage(root), lambda n, c: None)
        assert report.temporaries == report.folders == []
        assert read_state(storage, writer.commit().path) == b"slow"


def test_files_of_other_stores_and_programs_stay(root: Path) -> None:
    first = StateStorage(root, store_id="first")
    write_state(first)
    (root / "experiments/run1").mkdir(parents=True)
    (root / "experiments/run1/model.pt").write_bytes(b"years of work")
    (root / "experiments/empty").mkdir()
    (root / "notes.txt").write_bytes(b"x")
    make_older(root)
    before = list_files(root)
    for store in ("second", "firs", ""):
        report = sweep(StateStorage(root, store_id=store), lambda n, c: None)
        assert report.folders == report.problems == []
    assert list_files(root) == before
    assert sweep(first, lambda n, c: None).folders == [str(root / "n/c")]


def test_folders_with_other_files_stay(storage: StateStorage, root: Path) -> None:
    write_state(storage)
    (root / "n/c/checkpoint.json").write_bytes(b"{}")
    write_state(storage, checkpoint="d")
    (root / "n/d/optimizer.bin").mkdir()
    make_older(root)
    assert sweep(storage, lambda n, c: None).folders == []
    assert (root / "n/c/model.bin").exists()


def test_links_are_not_followed(storage: StateStorage, root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_state(StateStorage(elsewhere))
    write_state(storage, notebook="m")
    (root / "n").symlink_to(elsewhere / "n")
    (root / "m/d").symlink_to(elsewhere / "n" / "c")
    (root / "m/c/optimizer.bin").symlink_to(elsewhere / "n/c/model.bin")
    (root / f"m/c/.model.{0:032x}.tmp").symlink_to(elsewhere / "n/c/model.bin")
    make_older(root)
    make_older(elsewhere)
    before = list_files(tmp_path)
    report = sweep(storage, lambda n, c: None)
    assert report.folders == report.temporaries == []
    assert list_files(tmp_path) == before


def test_recorded_files_stay_even_if_the_record_is_lost(storage: StateStorage, root: Path) -> None:
    stored = write_state(storage)
    storage.mark_recorded("n", "c")
    make_older(root)
    assert sweep(storage, lambda n, c: None).folders == []
    assert read_state(storage, stored.path) == b"weights"


@pytest.mark.parametrize("checkpoint", [None, "c"])
def test_files_of_deleted_records_are_removed(
    storage: StateStorage, root: Path, checkpoint: str | None
) -> None:
    for name in ("c", "d"):
        write_state(storage, checkpoint=name)
        storage.mark_recorded("n", name)
    storage.mark_unrecorded("n", checkpoint)
    make_older(root)
    assert sweep(StateStorage(root, store_id="another"), lambda n, c: None).folders == []
    assert sweep(storage, lambda n, c: {"model.bin"}).folders == []  # removes the mark
    assert sweep(storage, lambda n, c: None).folders == []
    storage.mark_unrecorded("n", checkpoint)
    make_older(root)
    removed = {str(root / "n" / name) for name in ("cd" if checkpoint is None else "c")}
    assert set(sweep(storage, lambda n, c: None).folders) == removed
    make_older(root)
    sweep(storage, lambda n, c: None)
    assert (root / "n").exists() == (checkpoint is not None)


def test_an_unrecorded_part_of_a_recorded_checkpoint_is_removed(
    storage: StateStorage, root: Path
) -> None:
    write_state(storage)
    storage.mark_recorded("n", "c")
    lost = write_state(storage, b"12345", part="optimizer")
    assert sweep(storage, lambda n, c: {"model.bin"}).temporaries == []  # it may yet be recorded
    make_older(root)
    report = sweep(storage, lambda n, c: {"model.bin"})
    assert (report.temporaries, report.freed) == ([lost.path], 5)
    assert list_files(root / "n/c") == ["model.bin"]
