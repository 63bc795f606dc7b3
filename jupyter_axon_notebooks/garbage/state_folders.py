"""The removal of state files of killed processes and deleted checkpoints."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from ..atomic_files import lock
from ..states import StateStorage
from ..states.folders import Folder
from ..states.layout import MARK, MARKS, PART_MARKS, STATE_NAMES, is_temporary
from ..states.writer import read_mark, remove_if_empty

#: Returns the names of the state files of (notebook id, checkpoint id), or None if there is no
#: such record.
RecordedNames = Callable[[str, str], Collection[str] | None]


@dataclass
class SweepReport:
    """The result of a sweep.

    Attributes
    ----------
    folders : list of str
        The removed folders of checkpoints without a record.
    temporaries : list of str
        The removed files that a killed process had not completed or not recorded.
    freed : int
        The total size of the removed files in bytes.
    problems : list of str
        The paths that could not be read or removed, with the reasons.
    """

    folders: list[str] = field(default_factory=list)
    temporaries: list[str] = field(default_factory=list)
    freed: int = 0
    problems: list[str] = field(default_factory=list)


def sweep(
    states: StateStorage,
    recorded_names: RecordedNames,
    progress: Callable[[], object] = lambda: True,
    *,
    older_than: float = 3600.0,
) -> SweepReport:
    """Remove temporary files of killed writers, and state files without a record.

    A temporary file is removed if it was not written for ``older_than`` seconds and its writer is
    dead.

    A checkpoint folder without a record is removed only if nothing in it changed for that long, it
    contains only state files, and it or its notebook's folder has this store's mark for unrecorded
    files. In a folder with a record, only marked state files that the record does not name are
    removed.

    Parameters
    ----------
    recorded_names : callable
        Called only for folders from which files may be removed. An exception that it raises ends
        the sweep.
    progress : callable
        Called after each checkpoint folder. The sweep ends early when it returns False.
    older_than : float
        Seconds. Recording a checkpoint after its files were written must take less time.
    """
    return _Sweep(states, recorded_names, time.time() - older_than).run(progress)


class _Sweep:
    def __init__(self, states: StateStorage, recorded_names: RecordedNames, before: float) -> None:
        self._root = states.root
        self._store_id = states.store_id
        self._recorded_names = recorded_names
        self._before = before
        self._report = SweepReport()

    def run(self, progress: Callable[[], object]) -> SweepReport:
        with self._reported(self._root), contextlib.closing(Folder(self._root)) as top:
            for notebook_id in top.names():
                path = os.path.join(top.path, notebook_id)
                with self._reported(path), top.enter(notebook_id) as notebook:
                    for _ in self._sweep_notebook(top, notebook_id, notebook):
                        if progress() is False:
                            return self._report
        return self._report

    @contextlib.contextmanager
    def _reported(self, path: str) -> Iterator[None]:
        """Add errors to the report instead of raising them."""
        try:
            yield
        except FileNotFoundError:
            pass  # removed meanwhile
        except NotADirectoryError as error:
            if path == self._root:  # below the root, files and links are ignored
                self._report.problems.append(f"{path}: {error.strerror or error}")
        except OSError as error:
            self._report.problems.append(f"{path}: {error.strerror or error}")

    def _sweep_notebook(self, top: Folder, notebook_id: str, notebook: Folder) -> Iterator[None]:
        names = notebook.names()
        is_deleted = MARK in names and read_mark(notebook) == self._store_id
        has_records = False
        for checkpoint_id in names:
            if checkpoint_id == MARK:
                continue
            path = os.path.join(notebook.path, checkpoint_id)
            with self._reported(path), notebook.enter(checkpoint_id) as folder:
                has_records |= self._sweep_checkpoint(top, notebook_id, folder, is_deleted)
            yield
        if is_deleted and (
            has_records or (notebook.stat().st_mtime < self._before and notebook.names() == [MARK])
        ):
            notebook.unlink(MARK)
            top.rmdir(notebook_id)

    def _sweep_checkpoint(
        self, top: Folder, notebook_id: str, folder: Folder, is_deleted: bool
    ) -> bool:
        """Sweep the folder of a checkpoint; return whether its record was looked up and exists."""
        entries = folder.entries()
        newest = max([folder.stat().st_mtime, *(found.st_mtime for found in entries.values())])
        for name, found in list(entries.items()):
            if (
                is_temporary(name)
                and found.st_mtime < self._before
                and not _is_locked(folder, name)
            ):
                self._remove(folder, name, found)
                del entries[name]
        if newest >= self._before:
            return False
        marks = {
            name for name in MARKS & entries.keys() if read_mark(folder, name) == self._store_id
        }
        if not marks and not is_deleted:
            return False
        checkpoint_id = os.path.basename(folder.path)
        recorded = self._recorded_names(notebook_id, checkpoint_id)
        if recorded is not None:
            self._remove_unrecorded(folder, entries, recorded, marks)
            return True
        if (is_deleted or MARK in marks) and _holds_only_states(entries):
            # Remove single files, so that a file that is added meanwhile stays. Remove marks last:
            # if the process is killed here, the next sweep continues.
            for name in STATE_NAMES & entries.keys():
                folder.unlink(name)
                self._report.freed += entries[name].st_size
            if remove_if_empty(top, notebook_id, checkpoint_id):
                self._report.folders.append(folder.path)
        return False

    def _remove_unrecorded(
        self,
        folder: Folder,
        entries: Mapping[str, os.stat_result],
        recorded: Collection[str],
        marks: Collection[str],
    ) -> None:
        """Remove the marked files that a checkpoint's record does not name, and the marks."""
        parts = {part for part, mark in PART_MARKS.items() if mark in marks or MARK in marks}
        for name in STATE_NAMES & entries.keys():
            if name not in recorded and name.partition(".")[0] in parts:
                self._remove(folder, name, entries[name])
        for mark in marks:
            folder.unlink(mark)

    def _remove(self, folder: Folder, name: str, found: os.stat_result) -> None:
        folder.unlink(name)
        self._report.temporaries.append(os.path.join(folder.path, name))
        self._report.freed += found.st_size


def _holds_only_states(entries: Mapping[str, os.stat_result]) -> bool:
    return all(
        (name in STATE_NAMES or name in MARKS) and stat.S_ISREG(found.st_mode)
        for name, found in entries.items()
    )


def _is_locked(folder: Folder, name: str) -> bool:
    """Return whether the writer of a temporary file still holds its lock."""
    fd = folder.open(name)
    try:
        return not lock(fd, wait=False)
    finally:
        os.close(fd)
