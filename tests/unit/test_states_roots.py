"""The list of the roots that state files were written to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.states.roots import ROOTS, add_known_root, former_roots


def write(root: Path, folder: Path) -> None:
    with StateStorage(root, data_folder=folder).open_writer("n", "c", "model") as writer:
        writer.write(b"weights")
        writer.commit()


def test_a_root_is_listed_once_it_is_written_to_and_only_once(tmp_path: Path) -> None:
    folder, roots = tmp_path / "axon_notebooks", [tmp_path / "a b", tmp_path / "ä"]
    files = StateStorage(roots[0], data_folder=folder)
    assert not files.can_read(str(roots[0] / "n/c/model.bin"), "n")
    assert not folder.exists()
    for root in (*roots, *roots):
        write(root, folder)
    assert (folder / ROOTS).read_text() == "".join(f"{root}\n" for root in roots)
    assert former_roots(folder) == [str(folder / "states"), *map(str, roots)]
    assert stat.S_IMODE((folder / ROOTS).stat().st_mode) == 0o600


def test_a_state_that_was_left_below_another_root_is_found_there_and_not_read(
    tmp_path: Path,
) -> None:
    write(tmp_path / "old", tmp_path / "axon_notebooks")
    files = StateStorage(tmp_path / "new", data_folder=tmp_path / "axon_notebooks")
    assert files.find_former_root("n/c/model.bin", "n") == str(tmp_path / "old")
    assert files.find_former_root("n/c/model.bin", "another") is None
    assert files.find_former_root("n/gone/model.bin", "n") is None
    assert not files.can_read("n/c/model.bin", "n")


def test_what_an_interrupted_process_or_a_person_wrote_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "axon_notebooks"
    folder.mkdir()
    (folder / ROOTS).write_bytes(b"relative\n\n/nul\0\n\xff\n/torn")
    add_known_root(folder, "/whole")
    add_known_root(folder, "/two\nlines")
    assert former_roots(folder) == [str(folder / "states"), "/torn", "/whole"]


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and links")
@pytest.mark.parametrize(
    "kind", ["a folder", "a pipe", "a link", "no folder to be in", "a full file"]
)
def test_a_list_that_cannot_be_used_costs_no_state(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "axon_notebooks"
    if kind == "no folder to be in":
        folder.write_text("")
    else:
        folder.mkdir()
    if kind == "a folder":
        (folder / ROOTS).mkdir()
    elif kind == "a pipe":
        os.mkfifo(folder / ROOTS)
    elif kind == "a link":
        (folder / ROOTS).symlink_to(tmp_path / "victim")
    elif kind == "a full file":
        (folder / ROOTS).write_bytes(b"/x\n" * 100_000)
    write(tmp_path / "root", folder)
    assert (tmp_path / "root/n/c/model.bin").read_bytes() == b"weights"
    assert former_roots(folder) == [str(folder / "states")]
    assert not (tmp_path / "victim").exists()
