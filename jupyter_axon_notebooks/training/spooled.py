"""Storing what spool files hold: by the process that writes them, and after it was killed."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import AxonError, Conflict, InvalidData, NotFound, StoreBusy, StoreError
from ..records import NewNotebook, Record, RunStatus, TrainingRun, now
from ..repository import NotebookRepository
from ..spool import SpoolReader, is_own, list_spools
from ..store.database import BUSY_TIMEOUT
from ..stores import OpenStore, StoreSettings, open_store_at
from .discovery.location import NotebookLocation
from .discovery.record import find_or_create_record
from .messages import warn
from .processes import is_alive, is_running

#: Rows that are stored in one transaction.
_ROWS = 5_000
#: Seconds to wait for a locked store, and between two attempts to record a run.
_BUSY_TIMEOUT = BUSY_TIMEOUT
_PAUSE = 0.1


class SpooledRun(Record, kw_only=True):
    """The header of a spool file: the run, and where it belongs.

    Attributes
    ----------
    path : str, optional
        The file of the notebook or script, as the data folder ``origin`` has it.
    record_id : str, optional
        The id of the notebook's record, if the user named it.
    """

    run: TrainingRun
    store_url: str
    owner: str
    origin: str | None = None
    path: str | None = None
    record_id: str | None = None
    kind: Literal["notebook", "script", "unknown"] = "unknown"


def spool_folders(data_folder: Path) -> list[Path]:
    """Return the folders of spool files: the usual one, and another if that is not writable."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return [data_folder / "spool", Path(tempfile.gettempdir()) / f"axon-spool-{user}"]


def run_fields(run: TrainingRun) -> dict[str, Any]:
    """Return what a run was begun with, to record it later."""
    return {
        "key": run.key,
        "cell": run.cell,
        "ordinal": run.ordinal,
        "skipped_run_id": run.skipped_run_id,
        "name": run.name,
        "config": run.config,
        "config_source": run.config_source,
        "tags": run.tags,
        "notes": run.notes,
        "group": run.group,
        "keep": run.keep,
    }


def store_rows(
    repository: NotebookRepository, reader: SpoolReader, notebook_id: str, run_id: str
) -> int:
    """Store the rows that the store lacks; return the offset after them.

    Raises
    ------
    NotFound
        If the run is not recorded.
    StoreError
        If the store is unavailable.
    """
    series = repository.series
    offset = series.offset(notebook_id, run_id, reader.id)
    size = reader.size  # what is being written is for the next call
    while True:
        rows, end = reader.read(offset, _ROWS)
        if not rows:
            return max(offset, end)
        offset = series.append(notebook_id, run_id, rows, spool=reader.id, begin=offset, end=end)
        if offset >= size:
            return offset


class RunRecorder(Protocol):
    """The recording of runs that could not be recorded when they began or ended.

    Calls of the training may wait for these methods, so they raise StoreBusy soon.
    """

    def record_run(self, opened: OpenStore, run: TrainingRun) -> None:
        """Record a run that the store lacks, in its present status."""

    def record_end(self, opened: OpenStore, run: TrainingRun) -> None:
        """Record how a run ended, unless the store has it."""


class SpoolStore:
    """The store as the thread that moves rows uses it: with a connection of its own."""

    def __init__(self, settings: StoreSettings, recorder: RunRecorder) -> None:
        self._settings = settings
        self._recorder = recorder
        self._opened: OpenStore | None = None
        self._pid = os.getpid()

    def append(self, reader: SpoolReader, run: TrainingRun) -> int:
        """Store rows of a run, and the run if it is missing; return the offset after them."""
        with self._open() as opened:
            try:
                return store_rows(opened.repository, reader, run.notebook_id, run.id)
            except NotFound:
                _retry(lambda: self._recorder.record_run(opened, run))
                return store_rows(opened.repository, reader, run.notebook_id, run.id)

    def finish(self, spool: str, run: TrainingRun, *, is_over: bool) -> None:
        """Forget a file that was removed, and record the end of the run."""
        with self._open() as opened:
            opened.repository.series.forget_spool(run.notebook_id, run.id, spool)
            if is_over:
                _retry(lambda: self._recorder.record_end(opened, run))

    @contextmanager
    def _open(self) -> Iterator[OpenStore]:
        if self._opened is not None and self._opened.store.is_lost:
            self.close()
        if self._opened is None:
            self._opened = open_store_at(self._settings, busy_timeout=_BUSY_TIMEOUT, warn=warn)
        try:
            yield self._opened
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close the store; the next call opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None and self._pid == os.getpid():
            opened.close()


def _retry(record: Callable[[], None]) -> None:
    """Record something, if need be in several attempts, between which a training may go on."""
    end = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            return record()
        except StoreBusy:
            if time.monotonic() > end:
                raise
        time.sleep(_PAUSE)


def recover_spools(
    repository: NotebookRepository,
    origin: str,
    folders: Iterable[Path],
    store_url: str,
    owner: str | None,
) -> Iterator[tuple[Path, str | None]]:
    """Store the rows of processes that are gone, and remove their files.

    Parameters
    ----------
    repository, origin : NotebookRepository, str
        Where rows are stored, and the id of the data folder.
    folders : iterable of Path
        The folders of spool files; those of other users are left out.
    store_url : str
        Only files for this store.
    owner : str, optional
        Only files of this user.

    Yields
    ------
    tuple of Path and str or None
        Each file, and why it could not be stored.

    Raises
    ------
    StoreError
        If the store is unavailable.
    """
    for path in [path for folder in folders for path in _list_own(folder)]:
        try:
            with SpoolReader(path) as reader:
                header = SpooledRun.from_json(reader.header)
                is_ours = header.store_url == store_url and owner in (None, header.owner)
                if not is_ours or _is_written(reader, header.run):
                    continue
                notebook_id = _record_run(repository, origin, header)
                store_rows(repository, reader, notebook_id, header.run.id)
                reader.remove()
                repository.series.forget_spool(notebook_id, header.run.id, reader.id)
        except StoreError:
            raise
        except FileNotFoundError:  # another process has stored it meanwhile
            continue
        except (AxonError, OSError) as error:
            yield path, str(error)
        else:
            yield path, None


def _is_written(reader: SpoolReader, run: TrainingRun) -> bool:
    """Return whether a process writes a file, or stores it."""
    if not reader.is_abandoned():
        return True
    # Windows and some network file systems have no locks.
    return not reader.is_locked() and run.process is not None and is_running(run.process)


def _list_own(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list_spools(folder) if is_own(folder) else []
    return []


def _record_run(repository: NotebookRepository, origin: str, header: SpooledRun) -> str:
    """Record a run, unless it is recorded; return the id of its notebook."""
    run = header.run
    notebook_id = _find_notebook(repository, origin, header)
    if repository.runs.get(notebook_id, run.id) is None:
        parent = run.parent_checkpoint_id
        exists = parent is not None and repository.get_checkpoint(parent) is not None
        with suppress(Conflict):  # another process has recorded it meanwhile
            repository.runs.start(
                notebook_id,
                id=run.id,
                started_at=min(run.started_at, now()),
                parent_checkpoint_id=parent if exists else None,
                process=run.process,
                lease_until=now(),
                **run_fields(run),
            )
    known = repository.runs.get(notebook_id, run.id)
    if known is not None and known.status is RunStatus.RUNNING and not is_alive(known):
        repository.runs.update_status(notebook_id, run.id, RunStatus.STOPPED)
    return notebook_id


def _find_notebook(repository: NotebookRepository, origin: str, header: SpooledRun) -> str:
    id, owner = header.run.notebook_id, header.owner
    for known in (id, header.record_id):
        found = None if known is None else repository.find_summary(known)
        if found is not None and found.user_id == owner:
            return found.id
    path = header.path
    if path is not None and header.origin == origin and os.path.isfile(path):
        with suppress(InvalidData, NotFound):
            location = NotebookLocation(header.kind, "a spool file", path)
            found = find_or_create_record(repository, location, origin, owner)
            if found.user_id == owner:
                return found.id
    name = os.path.splitext(os.path.basename(path))[0] if path else "recovered"
    return repository.create(NewNotebook(id=id, user_id=owner, name=name)).id
