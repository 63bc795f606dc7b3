"""Taking away what killed processes left behind, and nothing else."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from ..atomic_files import lock
from .folders import Folder
from .layout import MARK, MARKS, PART_MARKS, STATE_NAMES, is_temporary
from .writer import drop_if_empty, read_mark

#: Seconds within which the writer of a temporary file has locked it.
_UNLOCKED = 2.0


@dataclass
class SweepReport:
    """What a sweep did.

    Attributes
    ----------
    folders : list of str
        Checkpoint folders that no record knew, removed.
    temporaries : list of str
        Files that a killed writer had begun, or not come to record, removed.
    freed : int
        Bytes in all of them.
    problems : list of str
        What could not be looked at or removed, and why; the sweep went on.
    """

    folders: list[str] = field(default_factory=list)
    temporaries: list[str] = field(default_factory=list)
    freed: int = 0
    problems: list[str] = field(default_factory=list)


def sweep(
    root: str,
    named: Callable[[str, str], Collection[str] | None],
    *,
    store_ids: Collection[str],
    older_than: float,
    progress: Callable[[int], None] | None = None,
) -> SweepReport:
    """Remove temporary files of killed writers, and what no record knows: checkpoint folders, and state files in them.

    A temporary file goes if nobody wrote to it for ``older_than`` seconds and its writer no longer lives. A folder
    goes if nothing in it changed for as long, it is marked, under one of ``store_ids``, as one that no record vouches for, or
    its notebook's is, and it holds nothing but state files: one with anything else in it is not ours to judge. Of a
    folder that a record does know, a state file goes that is so marked and that the record does not name.

    Parameters
    ----------
    named : callable
        The names of the state files that the record of (notebook id, checkpoint id) gives; None where there is no such
        record. Asked last and only of folders of which something would otherwise go. What it raises ends the sweep.
    older_than : float
        Seconds of grace. Longer than it takes to record a checkpoint after its files were committed.
    progress : callable, optional
        Given the number of checkpoint folders looked at so far, after each. What it raises ends the sweep.
    """
    sweeping = _Sweep(named, store_ids, time.time() - older_than, progress)
    try:
        top = Folder(root)
    except FileNotFoundError:
        return sweeping.report
    except OSError as error:
        sweeping.report.problems.append(f"{root}: {error.strerror or error}")
        return sweeping.report
    with top:
        for notebook_id in top.names():
            with sweeping.reported(top, notebook_id), top.enter(notebook_id) as home:
                sweeping.sweep_notebook(top, notebook_id, home)
    return sweeping.report


class _Sweep:
    """One sweep: what it goes by, and what it has done."""

    def __init__(
        self,
        named: Callable[[str, str], Collection[str] | None],
        store_ids: Collection[str],
        before: float,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.report = SweepReport()
        self._named = named
        self._store_ids = store_ids
        self._before = before
        self._progress = progress
        self._seen = 0

    @contextlib.contextmanager
    def reported(self, parent: Folder, name: str) -> Iterator[None]:
        """Go on after an error inside."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            pass  # gone meanwhile, or a file or a link, of which there are none of ours here
        except OSError as error:
            self.report.problems.append(
                f"{os.path.join(parent.path, name)}: {error.strerror or error}"
            )

    def sweep_notebook(self, top: Folder, notebook_id: str, home: Folder) -> None:
        """Sweep the folder of a notebook."""
        children = home.names()
        abandoned = MARK in children and read_mark(home) in self._store_ids
        recorded = 0
        for checkpoint_id in children:
            if checkpoint_id == MARK:
                continue
            with self.reported(home, checkpoint_id), home.enter(checkpoint_id) as folder:
                recorded += self._sweep_checkpoint(top, notebook_id, folder, abandoned=abandoned)
            self._seen += 1
            if self._progress is not None:
                self._progress(self._seen)
        # It was not deleted after all, or nothing is left to be removed.
        if abandoned and (
            recorded or (home.stat().st_mtime < self._before and home.names() == [MARK])
        ):
            home.unlink(MARK)
            top.rmdir(notebook_id)

    def _sweep_checkpoint(
        self, top: Folder, notebook_id: str, folder: Folder, *, abandoned: bool
    ) -> bool:
        """Sweep the folder of a checkpoint; whether it was found to have a record."""
        entries = folder.entries()
        newest = max([folder.stat().st_mtime, *(found.st_mtime for found in entries.values())])
        for name, found in list(entries.items()):
            if is_temporary(name) and found.st_mtime < self._before and not _is_alive(folder, name):
                self._remove(folder, name, found)
                del entries[name]
        if newest >= self._before:
            return False
        marks = {
            name for name in MARKS & entries.keys() if read_mark(folder, name) in self._store_ids
        }
        if not marks and not abandoned:
            return False
        checkpoint_id = os.path.basename(folder.path)
        names = self._named(notebook_id, checkpoint_id)
        if names is not None:
            self._keep(folder, entries, names, marks)
        elif (abandoned or MARK in marks) and _holds_states_only(entries):
            # By name, not as a tree: a file that someone adds just now keeps the folder. The marks go last, so that
            # a sweep that is killed here is finished by the next.
            for name in STATE_NAMES & entries.keys():
                folder.unlink(name)
                self.report.freed += entries[name].st_size
            if drop_if_empty(top, notebook_id, checkpoint_id):
                self.report.folders.append(folder.path)
        return names is not None

    def _keep(
        self,
        folder: Folder,
        entries: Mapping[str, os.stat_result],
        names: Collection[str],
        marks: Collection[str],
    ) -> None:
        """Remove what was never recorded of a checkpoint that is; its record vouches for the rest from now on."""
        unrecorded = {part for part, mark in PART_MARKS.items() if mark in marks or MARK in marks}
        for name in STATE_NAMES & entries.keys():
            if name not in names and name.partition(".")[0] in unrecorded:
                self._remove(folder, name, entries[name])
        for mark in marks:
            folder.unlink(mark)

    def _remove(self, folder: Folder, name: str, found: os.stat_result) -> None:
        folder.unlink(name)
        self.report.temporaries.append(os.path.join(folder.path, name))
        self.report.freed += found.st_size


def _holds_states_only(entries: Mapping[str, os.stat_result]) -> bool:
    return all(
        (name in STATE_NAMES or name in MARKS) and stat.S_ISREG(found.st_mode)
        for name, found in entries.items()
    )


def is_interrupted(path: str) -> bool:
    """Whether a folder holds temporary files, and the writer of none of them is alive.

    False where there are no locks to tell it by.
    """
    if sys.platform == "win32":
        return False
    now = time.time()
    try:
        with Folder(path) as folder:
            begun = {name: found for name, found in folder.entries().items() if is_temporary(name)}
            # A file that was made this moment may not be locked yet, and the lock that is tried here would be in the way.
            is_old = all(found.st_mtime < now - _UNLOCKED for found in begun.values())
            return bool(begun) and is_old and not any(_is_alive(folder, name) for name in begun)
    except OSError:  # gone meanwhile, or not ours to look into
        return False


def _is_alive(folder: Folder, name: str) -> bool:
    """Whether the writer of a temporary file still holds its lock."""
    fd = folder.open(name)
    try:
        return not lock(fd, wait=False)
    finally:
        os.close(fd)
