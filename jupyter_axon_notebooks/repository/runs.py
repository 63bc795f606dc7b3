"""Training runs: start, renew, finish and list them, and update the status of their notebook.

A run is *active* while its status is ``running`` and its lease has not ended. Without a lease, it
is active until it is finished. A run whose lease has ended is *expired*. It is read as ``stopped``,
even before that status is stored. It is not ``failed``, since usually the kernel was restarted or
killed. Stopped and failed runs can be resumed.

While a notebook has an active run, its record is ``running``, and saves do not change that. When
the last active run ends, the record takes the run's status, unless the record has another status
than ``running`` by then, which was set by hand.
"""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from tinydb import where
from tinydb.queries import QueryInstance

from ..errors import Conflict, InvalidData, NotFound, RecordDamaged
from ..records import (
    NotebookStatus,
    RunProcess,
    RunStatus,
    TrainingRun,
    format_time,
    new_id,
    now,
    now_after,
)
from ..store import Document, Store, document, retried
from ..store.tables import decode_document
from .damage import check_damage

#: The lease after each checkpoint of a run that was started by its first checkpoint.
_IMPLICIT_RUN_LEASE: Final = timedelta(hours=1)

#: The maximum length of the id of a new run. PostgreSQL limits the size of index rows.
_MAX_ID_LENGTH: Final = 255

_RUNNING: Final = RunStatus.RUNNING.value


def run_key(notebook_id: str, run_id: str) -> str:
    """Return the id of a run's document. It contains a hash of the run's id to limit its length."""
    digest = hashlib.sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{notebook_id}/{digest}"


class RunRepository:
    """The training runs of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def start(
        self,
        notebook_id: str,
        *,
        id: str | None = None,
        parent_checkpoint_id: str | None = None,
        process: RunProcess | None = None,
        lease_until: datetime | None = None,
        started_at: datetime | None = None,
        key: str | None = None,
        cell: str | None = None,
        ordinal: int | None = None,
        skipped_run_id: str | None = None,
    ) -> TrainingRun:
        """Start a run from scratch or from a checkpoint, and set the record to ``running``.

        Parameters
        ----------
        id : str, optional
            Unique within the notebook; a random one by default.
        lease_until : datetime, optional
            The time when the run expires unless :meth:`renew` extends it. Without it, the run is
            active until it is finished.
        started_at : datetime, optional
            The start of a run that could not be stored when it began.
        key, cell, ordinal, skipped_run_id : optional
            See :class:`~jupyter_axon_notebooks.records.TrainingRun`.

        Raises
        ------
        NotFound
            When there is no such notebook, or it has no such checkpoint.
        Conflict
            When the notebook has a run of this id.
        InvalidData
            When the id is blank or has more than 255 characters.
        """
        run = TrainingRun(
            id=new_id() if id is None else id,
            notebook_id=notebook_id,
            parent_checkpoint_id=parent_checkpoint_id,
            started_at=now(),
            lease_until=lease_until,
            process=process,
            key=key,
            cell=cell,
            ordinal=ordinal,
            skipped_run_id=skipped_run_id,
        )
        return self._add(run, started_at)

    @retried
    def _add(self, run: TrainingRun, started_at: datetime | None) -> TrainingRun:
        with self._store.transaction():
            notebook = self._store.notebooks.get_for_update(run.notebook_id)
            if notebook is None:
                raise NotFound("notebook", run.notebook_id)
            self._begin(notebook, run, started_at)
        return run

    def _begin(
        self, notebook: Document, run: TrainingRun, started_at: datetime | None = None
    ) -> None:
        _check_id(run.id)
        newest = self._store.runs.max_value("started_at", of="notebook_id", value=run.notebook_id)
        run.started_at = started_at or now_after(newest)
        if run.parent_checkpoint_id is not None:
            parent = self._store.checkpoints.get(doc_id=run.parent_checkpoint_id)
            if parent is None or parent["notebook_id"] != run.notebook_id:
                raise NotFound("checkpoint", run.parent_checkpoint_id)
        try:
            self._store.runs.insert(_document(run))
        except Conflict:
            raise Conflict(f"notebook {run.notebook_id} has a run {run.id} already") from None
        if _is_active(run):
            self._set_notebook_status(notebook, NotebookStatus.RUNNING)

    def start_or_extend(self, notebook: Document, run_id: str) -> None:
        """Start the run of a new checkpoint if it does not exist, or extend its lease.

        Leases of runs that :meth:`start` started are not extended.
        """
        notebook_id = str(notebook.doc_id)
        found = self._store.runs.get(doc_id=run_key(notebook_id, run_id))
        moment = now()
        lease_until = moment + _IMPLICIT_RUN_LEASE
        if found is None:
            run = TrainingRun(
                id=run_id, notebook_id=notebook_id, started_at=moment, lease_until=lease_until
            )
            self._begin(notebook, run)
            return
        run = _decode(found)
        if run.process is not None or run.lease_until is None:
            return
        is_unfinished = run.status in (RunStatus.RUNNING, RunStatus.STOPPED)
        if is_unfinished and run.lease_until < moment + _IMPLICIT_RUN_LEASE / 2:
            self._set_status(notebook, notebook_id, run_id, RunStatus.RUNNING, lease_until)

    def get(self, notebook_id: str, id: str) -> TrainingRun | None:
        """Return a run of a notebook, or None."""
        found = self._store.runs.get(doc_id=run_key(notebook_id, id))
        return None if found is None else _read(found)

    def list(
        self,
        notebook_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        status: RunStatus | None = None,
    ) -> builtins.list[TrainingRun]:
        """Return the runs of a notebook, newest first; expired runs are ``stopped``."""
        order = ["-started_at", "-id"]
        condition = _run_query(notebook_id, status)
        found = self._store.runs.search(condition, sort=order, limit=limit, skip=offset)
        runs = [_read(stored) for stored in found]
        # A run may have expired since the search.
        return [run for run in runs if status in (None, run.status)]

    def count(self, notebook_id: str, *, status: RunStatus | None = None) -> int:
        """Return the number of runs of a notebook."""
        return self._store.runs.count(_run_query(notebook_id, status))

    @retried
    def renew(self, notebook_id: str, id: str, lease_until: datetime) -> TrainingRun:
        """Extend the lease of a run and return the run; raises NotFound.

        Check its status: a run that is no longer stored as ``running`` is returned unchanged.
        :meth:`update_status` reopens it.
        """
        with self._store.transaction():
            found = self._store.runs.get_for_update(run_key(notebook_id, id))
            if found is None:
                raise NotFound("run", id)
            run = _decode(found)
            if run.status is not RunStatus.RUNNING:
                return run
            run.lease_until = lease_until
            self._write(run)
        return run

    @retried
    def update_status(
        self, notebook_id: str, id: str, status: RunStatus, *, lease_until: datetime | None = None
    ) -> TrainingRun:
        """Finish a run, or reopen it with ``running``.

        The notebook's record is ``running`` while any of its runs is active, and then takes the
        status of the last one.

        Parameters
        ----------
        lease_until : datetime, optional
            The lease of a run that becomes ``running``. Without it, the run is active until it is
            finished.

        Raises
        ------
        NotFound
            When the notebook has no such run.
        """
        with self._store.transaction():
            # Every transaction locks the notebook first, so that none deadlock.
            notebook = self._store.notebooks.get_for_update(notebook_id)
            return self._set_status(notebook, notebook_id, id, status, lease_until)

    def _set_status(
        self,
        notebook: Document | None,
        notebook_id: str,
        id: str,
        status: RunStatus,
        lease_until: datetime | None,
    ) -> TrainingRun:
        found = self._store.runs.get_for_update(run_key(notebook_id, id))
        if found is None:
            raise NotFound("run", id)
        run = _decode(found)
        if status is not RunStatus.RUNNING:
            run.ended_at = now_after(run.started_at)
        else:
            run.ended_at = None
            if lease_until is not None or run.status is not status:
                run.lease_until = lease_until
        run.status = status
        self._write(run)
        if notebook is None:
            return run  # a damaged store: the run has no notebook, but can be finished
        if _is_active(run):
            self._set_notebook_status(notebook, NotebookStatus.RUNNING)
        elif not self.update_expired(str(notebook.doc_id)):
            self._end_notebook(notebook, NotebookStatus(_with_current_status(run).status.value))
        return run

    def update_expired(self, notebook_id: str) -> bool:
        """Stop a locked notebook's expired runs; return whether it has an active run."""
        has_active = False
        expired = []
        for run in self._running([notebook_id]):
            if run.status is RunStatus.RUNNING:
                has_active = True
            else:
                expired.append(run_key(notebook_id, run.id))
        for key in sorted(expired):
            with suppress(RecordDamaged):
                found = self._store.runs.get_for_update(key)
                if found is None or found.get("status") != _RUNNING:
                    continue
                run = _read(found)
                if run.status is RunStatus.RUNNING:  # renewed in the meantime
                    has_active = True
                else:
                    self._write(run)
        return has_active

    def _running(self, notebook_ids: Collection[str]) -> Iterator[TrainingRun]:
        """Yield the runs of notebooks that are stored as ``running``, with their current status.

        Damaged runs are left out. Reading such a run itself raises an error.
        """
        stored_as_running = where("notebook_id").one_of(list(notebook_ids)) & (
            where("status") == _RUNNING
        )
        for stored in self._store.runs.iterate_json(stored_as_running):
            with suppress(RecordDamaged):
                found = decode_document(stored)
                if found.get("status") == _RUNNING:
                    yield _read(found)

    def find_expired(self, notebook_ids: Collection[str]) -> set[str]:
        """Return the notebooks that have expired runs and no active run."""
        if not notebook_ids:
            return set()
        expired, active = set[str](), set[str]()
        for run in self._running(notebook_ids):
            (active if run.status is RunStatus.RUNNING else expired).add(run.notebook_id)
        return expired - active

    def next_lease_end(self, notebook_id: str) -> datetime | None:
        """Return the earliest end of a lease among a notebook's active runs, or None.

        At that time the notebook's status may change although nothing is written.
        """
        leases = [run.lease_until for run in self._running([notebook_id]) if _is_active(run)]
        return min((until for until in leases if until is not None), default=None)

    def finish_expired(self) -> int:
        """Stop all expired runs; return the number of their notebooks."""
        found = [run["notebook_id"] for run in self._store.runs.search(_is_expired(now()))]
        notebook_ids = {notebook_id for notebook_id in found if isinstance(notebook_id, str)}
        for notebook_id in sorted(notebook_ids):
            self._finish_expired(notebook_id)
        return len(notebook_ids)

    @retried
    def _finish_expired(self, notebook_id: str) -> None:
        with self._store.transaction():
            notebook = self._store.notebooks.get_for_update(notebook_id)
            if not self.update_expired(notebook_id) and notebook is not None:
                self._end_notebook(notebook, NotebookStatus.STOPPED)

    def _end_notebook(self, notebook: Document, status: NotebookStatus) -> None:
        if notebook.get("status") == NotebookStatus.RUNNING.value:
            self._set_notebook_status(notebook, status)

    def _set_notebook_status(self, notebook: Document, status: NotebookStatus) -> None:
        if notebook.get("status") != status.value:
            notebook["status"] = status.value
            notebook["updated_at"] = format_time(now_after(notebook.get("updated_at")))
            self._store.notebooks.replace(notebook)

    def _write(self, run: TrainingRun) -> None:
        self._store.runs.replace(_document(run))


def _run_query(notebook_id: str, status: RunStatus | None = None) -> QueryInstance:
    condition: QueryInstance = where("notebook_id") == notebook_id
    if status is not None:
        matches: QueryInstance = where("status") == status.value
        if status is RunStatus.RUNNING:
            matches &= ~_is_expired(now())
        elif status is RunStatus.STOPPED:
            matches |= _is_expired(now())
        condition &= matches
    return condition


def _check_id(id: str) -> None:
    """Raise InvalidData for an id that a new run cannot have. Older stores may have such ids."""
    if not id.strip():
        raise InvalidData("$.run_id", "expected a string that is not blank; omit it for no run")
    if len(id) > _MAX_ID_LENGTH:
        raise InvalidData(
            "$.run_id", f"expected at most {_MAX_ID_LENGTH} characters, got {len(id)}"
        )


def _document(run: TrainingRun) -> Document:
    return document(run_key(run.notebook_id, run.id), run.to_json())


def _is_expired(moment: datetime) -> QueryInstance:
    running: QueryInstance = where("status") == _RUNNING
    return running & (where("lease_until") <= format_time(moment))


def _is_active(run: TrainingRun) -> bool:
    return run.status is RunStatus.RUNNING and (run.lease_until is None or run.lease_until > now())


def _decode(found: Mapping[str, Any]) -> TrainingRun:
    with check_damage(f"run {found.get('id')}"):
        return TrainingRun.from_json(found)


def _read(found: Mapping[str, Any]) -> TrainingRun:
    """Decode a run, with its current status."""
    return _with_current_status(_decode(found))


def _with_current_status(run: TrainingRun) -> TrainingRun:
    """Set an expired run to ``stopped``, and return it."""
    if run.status is RunStatus.RUNNING and not _is_active(run):
        run.status, run.ended_at = RunStatus.STOPPED, run.lease_until
    return run
