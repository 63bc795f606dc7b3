"""Notes of checkpoints whose state files are written, but which the store has not recorded yet.

When the store is unavailable, training continues, and the record of a checkpoint is written to
``<root>/<notebook_id>/<checkpoint_id>/unrecorded.json``. Garbage collection keeps such folders.
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

#: The largest note that is read, in bytes; code and packages take a few hundred thousand at most.
_MAX_BYTES: Final = 64 << 20


class Note(NamedTuple):
    """The unrecorded data of a checkpoint, and the time at which the note was written."""

    notebook_id: str
    checkpoint_id: str
    document: dict[str, Any]
    written_at: float = 0.0


def write_note(root: str, note: Note) -> None:
    """Write the note of a checkpoint durably, replacing an earlier one.

    It also sets the times of the root and of the notebook's folder, so that folders that have not
    changed need not be searched for notes. Raises NoSpace or StateError if it cannot be written.
    """
    content = json.dumps(note.document).encode()
    with convert_os_errors("write a note of", root, needed=len(content)):
        make_folders(root)
        with (
            Folder(root) as top,
            top.make(check_id(note.notebook_id, "$.notebook_id")) as notebook,
            notebook.make(check_id(note.checkpoint_id, "$.checkpoint_id")) as folder,
        ):
            write_atomic(os.path.join(folder.path, NOTE), content)
            for changed in (notebook, top):
                changed.sync()
            notebook.touch()
            top.touch()


def has_note(root: str, notebook_id: str, checkpoint_id: str) -> bool:
    """Return whether a checkpoint has a note, and so is neither recorded nor deleted."""
    return os.path.lexists(os.path.join(root, notebook_id, checkpoint_id, NOTE))


def root_time(root: str) -> int | None:
    """Return the modification time of the root in ns, which every note changes; None if missing."""
    try:
        return os.stat(root).st_mtime_ns
    except OSError:
        return None


def note_folders(root: str) -> Iterator[tuple[str, int]]:
    """Yield the ids of notebooks that may have notes, with the folder's modification time in ns."""
    for name, path in _list_folders(root):
        with contextlib.suppress(OSError):
            yield name, os.stat(path).st_mtime_ns


def list_notes(root: str, notebook_id: str) -> list[str]:
    """Return the ids of a notebook's checkpoints with notes, ordered by the time of the note."""
    found: list[tuple[int, str]] = []
    for checkpoint_id, path in _list_folders(os.path.join(root, notebook_id)):
        with contextlib.suppress(OSError):
            found.append((os.lstat(os.path.join(path, NOTE)).st_mtime_ns, checkpoint_id))
    return [checkpoint_id for _, checkpoint_id in sorted(found)]


def read_note(root: str, notebook_id: str, checkpoint_id: str) -> Note | None:
    """Return the note of a checkpoint; None if another process has recorded it meanwhile.

    Raises StateError if it cannot be read.
    """
    path = os.path.join(root, notebook_id, checkpoint_id)
    try:
        with Folder(path) as folder, os.fdopen(folder.open(NOTE), "rb") as file:
            content, written_at = file.read(_MAX_BYTES + 1), os.fstat(file.fileno()).st_mtime
        if len(content) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        document = json.loads(content)
        if not isinstance(document, dict):
            raise ValueError("expected an object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"{os.path.join(path, NOTE)} cannot be read: {error}") from error
    return Note(notebook_id, checkpoint_id, document, written_at)


def _list_folders(path: str) -> list[tuple[str, str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(
                (entry.name, entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)
            )
    except OSError:
        return []


def remove_note(root: str, notebook_id: str, checkpoint_id: str) -> None:
    """Remove the note of a checkpoint, if it exists."""
    with (
        convert_os_errors("remove a note of", root),
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        Folder(root) as top,
        top.enter(check_id(notebook_id, "$.notebook_id")) as notebook,
        notebook.enter(check_id(checkpoint_id, "$.checkpoint_id")) as folder,
    ):
        folder.unlink(NOTE)
        folder.sync()


def move_checkpoint(root: str, checkpoint_id: str, old_notebook_id: str, notebook_id: str) -> str:
    """Move the folder of a checkpoint to that of another notebook, and return its new path.

    Raises StateError if it cannot be moved.
    """
    check_id(checkpoint_id, "$.checkpoint_id")
    for id in (old_notebook_id, notebook_id):
        check_id(id, "$.notebook_id")
    with convert_os_errors("move", root), Folder(root) as top, top.make(notebook_id) as notebook:
        old = os.path.join(root, old_notebook_id, checkpoint_id)
        new = os.path.join(notebook.path, checkpoint_id)
        os.rename(old, new)
        notebook.sync()
        top.sync()
        top.rmdir(old_notebook_id)
    return new
