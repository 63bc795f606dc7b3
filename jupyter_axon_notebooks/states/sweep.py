"""Taking away what killed processes left behind, and nothing else."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .folders import Folder, lock
from .layout import MARK, STATE_NAMES, is_temporary
from .writer import drop_if_empty, read_mark


@dataclass
class SweepReport:
    """What a sweep did.

    Attributes
    ----------
    folders : list of str
        Checkpoint folders that no record knew, removed.
    temporaries : list of str
        Files that a killed writer had begun, removed.
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
    known: Callable[[str, str], bool],
    *,
    store_id: str,
    older_than: float,
    progress: Callable[[int], None] | None = None,
) -> SweepReport:
    """Remove temporary files of killed writers, and checkpoint folders that no record knows.

    A temporary file goes if nobody wrote to it for ``older_than`` seconds and its writer no longer lives. A folder
    goes if nothing in it changed for as long, it was written under ``store_id``, and it holds nothing but
    state files: one with anything else in it is not ours to judge.

    Parameters
    ----------
    known : callable
        Whether there is a record of (notebook id, checkpoint id). Asked last and only of folders that would
        otherwise go. What it raises ends the sweep.
    older_than : float
        Seconds of grace. Longer than it takes to record a checkpoint after its files were committed.
    progress : callable, optional
        Given the number of checkpoint folders looked at so far, after each. What it raises ends the sweep.
    """
    report = SweepReport()
    before = time.time() - older_than
    seen = 0
    try:
        top = Folder(root)
    except FileNotFoundError:
        return report
    except OSError as error:
        report.problems.append(f"{root}: {error.strerror or error}")
        return report
    with top:
        for notebook_id in top.names():
            with _reported(report, top, notebook_id), top.enter(notebook_id) as home:
                for checkpoint_id in home.names():
                    with _reported(report, home, checkpoint_id), home.enter(checkpoint_id) as folder:
                        if _sweep_folder(folder, before, report, store_id) and not known(
                            notebook_id, checkpoint_id
                        ):
                            _remove(top, notebook_id, folder, report)
                    seen += 1
                    if progress is not None:
                        progress(seen)
    return report


@contextlib.contextmanager
def _reported(report: SweepReport, parent: Folder, name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        pass  # gone meanwhile, or a file or a link, of which there are none of ours here
    except OSError as error:
        report.problems.append(f"{os.path.join(parent.path, name)}: {error.strerror or error}")


def _sweep_folder(folder: Folder, before: float, report: SweepReport, store_id: str) -> bool:
    """Remove dead temporary files; whether the folder itself may go if no record knows it."""
    entries = folder.entries()
    newest = max([folder.stat().st_mtime, *(found.st_mtime for found in entries.values())])
    for name, found in list(entries.items()):
        if is_temporary(name) and found.st_mtime < before and not _is_alive(folder, name):
            folder.unlink(name)
            report.temporaries.append(os.path.join(folder.path, name))
            report.freed += found.st_size
            del entries[name]
    return (
        newest < before
        and MARK in entries
        and all(name in STATE_NAMES or name == MARK for name in entries)
        and all(stat.S_ISREG(found.st_mode) for found in entries.values())
        and read_mark(folder) == store_id
    )


def _is_alive(folder: Folder, name: str) -> bool:
    """Whether the writer of a temporary file still holds its lock."""
    fd = folder.open(name)
    try:
        return not lock(fd, wait=False)
    finally:
        os.close(fd)


def _remove(top: Folder, notebook_id: str, folder: Folder, report: SweepReport) -> None:
    # By name, not as a tree: a file that someone adds just now keeps the folder. The mark goes last, so that
    # a sweep that is killed here is finished by the next.
    for name, found in folder.entries().items():
        if name in STATE_NAMES:
            folder.unlink(name)
            report.freed += found.st_size
    if drop_if_empty(top, notebook_id, os.path.basename(folder.path)):
        report.folders.append(folder.path)
