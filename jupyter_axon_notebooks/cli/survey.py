"""The state files there are, beside those that records name. Reads only."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..errors import AxonError
from ..states import StateFiles
from ..states.notes import NOTE

#: Seconds for which a folder without a record may be a checkpoint in the making.
_GRACE = 3600

#: A checkpoint: notebook id, its own, and its state files by part.
Known = tuple[str, str, dict[str, str]]


class States(NamedTuple):
    """What lies under the root of the state files, and what the records say should.

    ``unknown`` and ``unfinished`` are checkpoint folders no record knows, old and recent; ``noted`` are those with a note
    of what is still to be recorded; ``missing`` are the files that records name and that are not there; ``refused`` those that
    are there and may not be read, each with the reason.
    """

    used: int
    folders: int
    unknown: list[str]
    unfinished: list[str]
    noted: list[str]
    missing: list[dict[str, str]]
    refused: list[dict[str, str]]


def survey(
    files: StateFiles,
    known: list[Known] | None,
    progress: Callable[[], None] = lambda: None,
) -> States:
    """Compare the state files with those of the ``known`` checkpoints; None where these could not be read."""
    root = files.root
    walked: set[str] = set()
    names = {(notebook_id, checkpoint_id) for notebook_id, checkpoint_id, _ in known or []}
    before = time.time() - _GRACE
    used = folders = 0
    unknown: list[str] = []
    unfinished: list[str] = []
    noted: list[str] = []
    for home in _folders(root):
        for folder in _folders(home.path):
            progress()
            size, newest = _measure(folder.path)
            used += size
            folders += 1
            walked.add(folder.path)
            if os.path.lexists(os.path.join(folder.path, NOTE)):
                noted.append(folder.path)
            elif known is not None and (home.name, folder.name) not in names:
                (unknown if newest < before else unfinished).append(folder.path)
    missing: list[dict[str, str]] = []
    refused: list[dict[str, str]] = []
    for notebook_id, checkpoint_id, paths in known or []:
        for path in paths.values():
            named = {"checkpoint_id": checkpoint_id, "notebook_id": notebook_id, "path": path}
            if not os.path.isfile(path):
                missing.append(named)
            elif (
                _is_usual(path, os.path.join(root, notebook_id, checkpoint_id))
                and os.path.dirname(path) in walked
            ):
                continue  # much cheaper than what follows
            elif (reason := _refusal(files, path, notebook_id)) is not None:
                refused.append({**named, "reason": reason})
    return States(used, folders, sorted(unknown), sorted(unfinished), sorted(noted), missing, refused)


def _is_usual(path: str, folder: str) -> bool:
    """Whether ``path`` is that of a file directly in ``folder``, and no link."""
    return path == os.path.join(folder, os.path.basename(path)) and not os.path.islink(path)


def _refusal(files: StateFiles, path: str, notebook_id: str) -> str | None:
    """Why the state file at ``path`` is not read; None where it is."""
    try:
        files.open(path, notebook_id, field="state path").close()
    except AxonError as error:
        return str(error)
    return None


def _folders(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    yield from found


def _measure(folder: str) -> tuple[int, float]:
    """Bytes in a folder's files, and when the last of them, or the folder, changed."""
    size, newest = 0, 0.0
    try:
        newest = os.stat(folder).st_mtime
        with os.scandir(folder) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                newest = max(newest, found.st_mtime)
                size += found.st_size if entry.is_file(follow_symlinks=False) else 0
    except OSError:  # gone meanwhile, or not ours to look into
        pass
    return size, newest
