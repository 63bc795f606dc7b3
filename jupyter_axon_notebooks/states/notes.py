"""Checkpoints whose state files are in their place, but which no store has recorded yet.

While a store cannot be had, a training goes on: what would have been recorded is noted beside the state files, in
``<root>/<notebook_id>/<checkpoint_id>/unrecorded.json``. A folder with such a note is swept by nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ..atomic_files import write_atomic
from ..errors import StateError
from .folders import Folder, convert_os_errors, make_folders
from .layout import NOTE, check_id

#: Bytes of a note that are read: code and packages are a few hundred thousand at most.
_LONGEST: Final = 64 << 20


class Note(NamedTuple):
    """What is to be recorded of a checkpoint, whose folder its files are in, and when that was written."""

    notebook_id: str
    checkpoint_id: str
    document: dict[str, Any]
    written_at: float = 0.0


def write_note(root: str, note: Note) -> None:
    """Put a note beside the state files of a checkpoint, whole and durable, in place of an earlier one.

    The times of the root and of the notebook's folder change, so that who looks for notes need not look into folders that
    stay the same.

    Raises
    ------
    NoSpace, StateError
        If it cannot be written.
    """
    octets = json.dumps(note.document, ensure_ascii=True).encode()
    with convert_os_errors("note a checkpoint beside", root, needed=len(octets)):
        make_folders(root)
        with (
            Folder(root) as top,
            top.make(check_id(note.notebook_id, "$.notebook_id")) as home,
            home.make(check_id(note.checkpoint_id, "$.checkpoint_id")) as folder,
        ):
            write_atomic(os.path.join(folder.path, NOTE), octets)
            for changed in (home, top):
                changed.sync()
            home.touch()
            top.touch()


def has_note(root: str, notebook_id: str, checkpoint_id: str) -> bool:
    """Whether a checkpoint has a note: nobody has recorded it, or deleted it, since it was written."""
    return os.path.lexists(os.path.join(root, notebook_id, checkpoint_id, NOTE))


def root_time(root: str) -> int | None:
    """Return the time (in ns) of the root, which changes whenever a note is written below it; None where there is no root."""
    try:
        return os.stat(root).st_mtime_ns
    except OSError:
        return None


def note_folders(root: str) -> Iterator[tuple[str, int]]:
    """Yield the notebooks that may have notes, with the time (in ns) that changes whenever one is written."""
    for name, path in _folders(root):
        with contextlib.suppress(OSError):
            yield name, os.stat(path).st_mtime_ns


def list_notes(root: str, notebook_id: str) -> list[str]:
    """Return the ids of a notebook's checkpoints that have a note; the one with the last note comes last."""
    found: list[tuple[int, str]] = []
    for checkpoint_id, path in _folders(os.path.join(root, notebook_id)):
        with contextlib.suppress(OSError):
            found.append((os.lstat(os.path.join(path, NOTE)).st_mtime_ns, checkpoint_id))
    return [checkpoint_id for _, checkpoint_id in sorted(found)]


def read_note(root: str, notebook_id: str, checkpoint_id: str) -> Note | None:
    """Return a checkpoint's note; None where it is gone, since somebody else has taken care of it.

    Raises
    ------
    StateError
        If it cannot be read.
    """
    path = os.path.join(root, notebook_id, checkpoint_id)
    try:
        with Folder(path) as folder, os.fdopen(folder.open(NOTE), "rb") as file:
            octets, written_at = file.read(_LONGEST + 1), os.fstat(file.fileno()).st_mtime
        if len(octets) > _LONGEST:
            raise ValueError(f"it is larger than {_LONGEST} bytes")
        document = json.loads(octets)
        if not isinstance(document, dict):
            raise ValueError("expected an object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"{os.path.join(path, NOTE)} cannot be read: {error}") from error
    return Note(notebook_id, checkpoint_id, document, written_at)


def _folders(path: str) -> list[tuple[str, str]]:
    try:
        with os.scandir(path) as entries:
            found = [
                (entry.name, entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []
    return sorted(found)


def remove_note(root: str, notebook_id: str, checkpoint_id: str) -> None:
    """Remove a note, if it is there: the checkpoint is recorded, or never will be."""
    with (
        convert_os_errors("remove a note beside", root),
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        Folder(root) as top,
        top.enter(check_id(notebook_id, "$.notebook_id")) as home,
        home.enter(check_id(checkpoint_id, "$.checkpoint_id")) as folder,
    ):
        folder.unlink(NOTE)
        folder.sync()


def move_checkpoint(root: str, checkpoint_id: str, old_notebook_id: str, notebook_id: str) -> str:
    """Move the folder of a checkpoint to the notebook that it turns out to belong to; its new path.

    Raises
    ------
    StateError
        If it cannot be moved.
    """
    for id, field in ((old_notebook_id, "$.notebook_id"), (notebook_id, "$.notebook_id")):
        check_id(id, field)
    check_id(checkpoint_id, "$.checkpoint_id")
    with convert_os_errors("move", root), Folder(root) as top, top.make(notebook_id) as home:
        old = os.path.join(root, old_notebook_id, checkpoint_id)
        new = os.path.join(home.path, checkpoint_id)
        os.rename(old, new)
        home.sync()
        top.sync()
        top.rmdir(old_notebook_id)
    return new
