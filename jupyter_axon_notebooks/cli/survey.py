"""The state files there are, beside those that records name. Reads only."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import AxonError, InvalidData, NotFound
from ..states import StateStorage
from ..states.layout import NOTE, split_state_path
from ..states.roots import paths_below
from ..states.sweep import is_interrupted

#: Seconds for which a folder without a record may be a checkpoint in the making.
_GRACE = 3600

#: A checkpoint: notebook id, its own, and by part the path and the size of its state files, as they are recorded.
Known = tuple[str, str, dict[str, tuple[str, int | None]]]


class States(NamedTuple):
    """What lies under the root of the state files, and what the records say should.

    ``unknown`` and ``unfinished`` are checkpoint folders no record knows, old and recent; ``interrupted`` are recent ones
    whose writers are gone; ``noted`` are those with a note of what is still to be recorded. Of the files that records name, ``missing`` are those that are not there, each with the
    places where they were looked for; ``elsewhere`` those that lie below a folder which is not configured; ``refused`` those
    that are there and may not be read, each with the reason; ``altered`` those of another size than was recorded.
    """

    used: int
    folders: int
    unknown: list[str]
    unfinished: list[str]
    interrupted: list[str]
    noted: list[str]
    missing: list[dict[str, Any]]
    elsewhere: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    altered: list[dict[str, Any]]


def survey(
    files: StateStorage,
    known: list[Known] | None,
    progress: Callable[[], None] = lambda: None,
    *,
    former_roots: Sequence[str] = (),
) -> States:
    """Compare the state files with those of the ``known`` checkpoints; None where these could not be read.

    Files that are not found are looked for below ``former_roots``, and below the other folders that records name.
    """
    root = files.root
    walked: set[str] = set()
    names = {(notebook_id, checkpoint_id) for notebook_id, checkpoint_id, _ in known or []}
    before = time.time() - _GRACE
    used = folders = 0
    unknown: list[str] = []
    unfinished: list[str] = []
    interrupted: list[str] = []
    noted: list[str] = []
    for home in _folders(root):
        for folder in _folders(home.path):
            progress()
            measured, newest = _measure(folder.path)
            used += measured
            folders += 1
            walked.add(folder.path)
            if os.path.lexists(os.path.join(folder.path, NOTE)):
                noted.append(folder.path)
            elif known is not None and (home.name, folder.name) not in names:
                recent = interrupted if is_interrupted(folder.path) else unfinished
                (unknown if newest < before else recent).append(folder.path)
    for paths in (unknown, unfinished, interrupted, noted):
        paths.sort()
    found = States(used, folders, unknown, unfinished, interrupted, noted, [], [], [], [])
    roots = _former_roots(files, known or [], former_roots)
    for notebook_id, checkpoint_id, parts in known or []:
        for path, size in parts.values():
            _compare(found, files, roots, walked, (notebook_id, checkpoint_id, path, size))
    return found


def _former_roots(
    files: StateStorage, known: list[Known], former_roots: Sequence[str]
) -> list[str]:
    """The folders in which state files may have been left: ``former_roots``, and those of absolute paths in records."""
    roots = dict.fromkeys(former_roots)
    for notebook_id, _, parts in known:
        for path, _ in parts.values():
            names = split_state_path(path) if os.path.isabs(path) else None
            if names is not None and names[0] == notebook_id:
                roots[Path(path).parents[len(names) - 1].as_posix()] = None
    own = os.path.realpath(files.root)
    return [root for root in roots if os.path.realpath(root) != own]


def _compare(
    found: States,
    files: StateStorage,
    former_roots: list[str],
    walked: set[str],
    recorded: tuple[str, str, str, int | None],
) -> None:
    """Note what is wrong with a state file, if anything is."""
    notebook_id, checkpoint_id, path, size = recorded
    full = place = files.full_path(path)
    named: dict[str, Any] = {
        "checkpoint_id": checkpoint_id,
        "notebook_id": notebook_id,
        "path": full,
    }
    if not (
        _is_usual(full, os.path.join(files.root, notebook_id, checkpoint_id))
        and os.path.dirname(full) in walked
        and os.path.isfile(full)
        and os.access(full, os.R_OK)
    ):  # what follows takes much longer
        try:
            place = files.find_path(path, notebook_id)
        except (InvalidData, NotFound) as error:
            places = files.candidate_paths(path, notebook_id)
            left = paths_below(former_roots, path, notebook_id)
            if there := next((one for one in left.items() if os.path.isfile(one[1])), None):
                found.elsewhere.append({**named, "root": there[0], "found": there[1]})
            elif os.path.isfile(full):
                found.refused.append({**named, "reason": str(error)})
            else:
                found.missing.append(
                    {**named, "looked for": [*dict.fromkeys([*places, *left.values()])]}
                )
            return
        except AxonError as error:
            found.refused.append({**named, "reason": str(error)})
            return
    with suppress(OSError):
        if size is not None and (now := os.path.getsize(place)) != size:
            found.altered.append({**named, "path": place, "size": now, "recorded size": size})


def _is_usual(path: str, folder: str) -> bool:
    """Whether ``path`` is that of a file directly in ``folder``, and no link."""
    return path == os.path.join(folder, os.path.basename(path)) and not os.path.islink(path)


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
