"""Runs: attempts at training, how long each is taken for alive, and the status that they give their notebook.

A run lives while it is ``running`` and its lease has not run out; one without a lease lives until it is ended. A run
whose lease ran out has ended there and then, whether or not anybody has written that down: whoever reads it is shown
it as ``stopped``, for nobody saw it fail, and a kernel that was restarted or killed is the usual reason. Both ``stopped``
and ``failed`` are unfinished, so it can be resumed.

While a run of a notebook lives, the notebook's record is ``running``, whatever its saves say. When the last one ends,
the record becomes what that run became, until a save says otherwise. A status that somebody gave the record by hand
meanwhile is left alone.
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
from ..store.tables import stored_document
from .damage import damage_named

#: How long a run lives after its last checkpoint that a checkpoint began: nobody announced it, and nobody may end it.
UNATTENDED: Final = timedelta(hours=1)

#: The most characters in the id of a new run; PostgreSQL's index of checkpoints by run has little room.
LONGEST_ID: Final = 255

_RUNNING: Final = RunStatus.RUNNING.value


def run_key(notebook_id: str, run_id: str) -> str:
    """Return the id of a run's document, given the run's own id, which is unique only within its notebook.

    The own id is hashed, so that the key has a bounded length and no two pairs of ids have the same key.
    """
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
        """Start a run, from scratch or from a checkpoint of the same notebook, whose record becomes ``running``.

        Parameters
        ----------
        id : str, optional
            Unique within the notebook; a random one by default.
        lease_until : datetime, optional
            The time when the run expires unless :meth:`renew` extends it. With None it lives until it is finished.
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
            notebook = self._store.notebooks.locked(run.notebook_id)
            if notebook is None:
                raise NotFound("notebook", run.notebook_id)
            self._begin(notebook, run, started_at)
        return run

    def _begin(
        self, notebook: Document, run: TrainingRun, started_at: datetime | None = None
    ) -> None:
        _check_id(run.id)
        newest = self._store.runs.highest("started_at", of="notebook_id", value=run.notebook_id)
        run.started_at = started_at or now_after(newest)
        if run.parent_checkpoint_id is not None:
            parent = self._store.checkpoints.get(doc_id=run.parent_checkpoint_id)
            if parent is None or parent["notebook_id"] != run.notebook_id:
                raise NotFound("checkpoint", run.parent_checkpoint_id)
        try:
            self._store.runs.insert(_document(run))
        except ValueError:
            raise Conflict(f"notebook {run.notebook_id} has a run {run.id} already") from None
        if _lives(run):
            self._give(notebook, NotebookStatus.RUNNING)

    def admit_checkpoint(self, notebook: Document, run_id: str) -> None:
        """Have a run take a checkpoint, under its notebook's lock: one that is not known yet begins with it.

        Such a run lives for :data:`UNATTENDED` after its last checkpoint.
        """
        notebook_id = str(notebook.doc_id)
        key = run_key(notebook_id, run_id)
        found = self._store.runs.get(doc_id=key)
        moment = now()
        if found is None:
            lease_until = moment + UNATTENDED
            run = TrainingRun(
                id=run_id, notebook_id=notebook_id, started_at=moment, lease_until=lease_until
            )
            self._begin(notebook, run)
            return
        run = _stored_run(found)
        if run.process is not None or run.lease_until is None:
            return
        if (
            run.status in (RunStatus.RUNNING, RunStatus.STOPPED)
            and run.lease_until < moment + UNATTENDED / 2
        ):
            self._move(notebook, notebook_id, run_id, RunStatus.RUNNING, moment + UNATTENDED)

    def get(self, notebook_id: str, id: str) -> TrainingRun | None:
        """Return a run of a notebook, or None; an expired one is shown as ``stopped``."""
        found = self._store.runs.get(doc_id=run_key(notebook_id, id))
        return None if found is None else _run(found)

    def list(
        self,
        notebook_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        status: RunStatus | None = None,
    ) -> builtins.list[TrainingRun]:
        """Return the runs of a notebook, newest first; ``status`` matches what is shown, so expired ones are ``stopped``."""
        order = ["-started_at", "-id"]
        condition = _runs_of(notebook_id, status)
        found = self._store.runs.search(condition, sort=order, limit=limit, skip=offset)
        runs = [_run(stored) for stored in found]
        # A run may have expired since the search.
        return [run for run in runs if status in (None, run.status)]

    def count(self, notebook_id: str, *, status: RunStatus | None = None) -> int:
        """Return the number of runs of a notebook."""
        return self._store.runs.count(_runs_of(notebook_id, status))

    @retried
    def renew(self, notebook_id: str, id: str, lease_until: datetime) -> TrainingRun:
        """Extend the lease of a run.

        A run that was finished or found expired meanwhile stays so and is returned: check its status.
        :meth:`update_status` reopens it. Raises NotFound.
        """
        with self._store.transaction():
            found = self._store.runs.locked(run_key(notebook_id, id))
            if found is None:
                raise NotFound("run", id)
            run = _stored_run(found)
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

        The notebook's record is ``running`` while any of its runs lives, and then takes the status of the last one.

        Parameters
        ----------
        lease_until : datetime, optional
            The lease of a run that becomes ``running``. Without one it lives until it is finished.

        Raises
        ------
        NotFound
            When the notebook has no such run.
        """
        with self._store.transaction():
            notebook = self._store.notebooks.locked(notebook_id)  # first, as everybody does
            return self._move(notebook, notebook_id, id, status, lease_until)

    def _move(
        self,
        notebook: Document | None,
        notebook_id: str,
        id: str,
        status: RunStatus,
        lease_until: datetime | None,
    ) -> TrainingRun:
        found = self._store.runs.locked(run_key(notebook_id, id))
        if found is None:
            raise NotFound("run", id)
        run = _stored_run(found)
        if status is not RunStatus.RUNNING:
            run.ended_at = now_after(run.started_at)
        else:
            run.ended_at = None
            if lease_until is not None or run.status is not status:
                run.lease_until = lease_until
        run.status = status
        self._write(run)
        if notebook is None:
            return run  # a run without its notebook's record is damage, but can be ended
        if _lives(run):
            self._give(notebook, NotebookStatus.RUNNING)
        elif not self.update_expired(str(notebook.doc_id)):
            self._leave(notebook, NotebookStatus(_shown(run).status.value))
        return run

    # The status of the notebook

    def update_expired(self, notebook_id: str) -> bool:
        """Write down, under the notebook's lock, which of its runs have lapsed; whether any lives."""
        lives = False
        lapsed = []
        for run in self._running([notebook_id]):
            if run.status is RunStatus.RUNNING:
                lives = True
            else:
                lapsed.append(run_key(notebook_id, run.id))
        for key in sorted(lapsed):
            with suppress(RecordDamaged):
                found = self._store.runs.locked(key)
                if found is None or found.get("status") != _RUNNING:
                    continue
                run = _run(found)
                if run.status is RunStatus.RUNNING:  # renewed in the meantime
                    lives = True
                else:
                    self._write(run)
        return lives

    def _running(self, notebook_ids: Collection[str]) -> Iterator[TrainingRun]:
        """Read the runs of some notebooks that are stored as running, as they are now.

        A damaged run is left out: it is reported to whoever asks for it, and affects nobody else.
        """
        of_these = where("notebook_id").one_of(list(notebook_ids)) & (where("status") == _RUNNING)
        for stored in self._store.runs.texts(of_these):
            with suppress(RecordDamaged):
                found = stored_document(stored)
                if found.get("status") == _RUNNING:
                    yield _run(found)

    def find_expired(self, notebook_ids: Collection[str]) -> set[str]:
        """Which of these notebooks, whose records are ``running``, have runs that lapsed and none that lives."""
        if not notebook_ids:
            return set()
        lapsed, living = set[str](), set[str]()
        for run in self._running(notebook_ids):
            (living if run.status is RunStatus.RUNNING else lapsed).add(run.notebook_id)
        return lapsed - living

    def next_lease_end(self, notebook_id: str) -> datetime | None:
        """Return when the next lease of a notebook's runs ends, if one does.

        Unless it is renewed, the run is shown as ``stopped`` from then on, although nothing is written.
        """
        leases = [run.lease_until for run in self._running([notebook_id]) if _lives(run)]
        return min((until for until in leases if until is not None), default=None)

    def finish_expired(self) -> int:
        """Store the end of all expired runs, so that searches by status find it; return the number of their notebooks."""
        running = [found["notebook_id"] for found in self._store.runs.search(_lapsed(now()))]
        lapsed = {notebook_id for notebook_id in running if isinstance(notebook_id, str)}
        for notebook_id in sorted(lapsed):
            self._finish_expired(notebook_id)
        return len(lapsed)

    @retried
    def _finish_expired(self, notebook_id: str) -> None:
        with self._store.transaction():
            notebook = self._store.notebooks.locked(notebook_id)
            if not self.update_expired(notebook_id) and notebook is not None:
                self._leave(notebook, NotebookStatus.STOPPED)

    def _leave(self, notebook: Document, status: NotebookStatus) -> None:
        if notebook.get("status") == NotebookStatus.RUNNING.value:
            self._give(notebook, status)

    def _give(self, notebook: Document, status: NotebookStatus) -> None:
        if notebook.get("status") != status.value:
            notebook["status"] = status.value
            notebook["updated_at"] = format_time(now_after(notebook.get("updated_at")))
            self._store.notebooks.replace(notebook)

    def _write(self, run: TrainingRun) -> None:
        self._store.runs.replace(_document(run))


def _runs_of(notebook_id: str, status: RunStatus | None = None) -> QueryInstance:
    """The condition that a list of runs is asked for; what lapsed counts as stopped."""
    condition: QueryInstance = where("notebook_id") == notebook_id
    if status is not None:
        matches: QueryInstance = where("status") == status.value
        if status is RunStatus.RUNNING:
            matches &= ~_lapsed(now())
        elif status is RunStatus.STOPPED:
            matches |= _lapsed(now())
        condition &= matches
    return condition


def _check_id(id: str) -> None:
    """Raise InvalidData for an id that a new run cannot have. Such runs of older stores keep theirs."""
    if not id.strip():
        raise InvalidData("$.run_id", "expected a text that is not blank; leave it out for no run")
    if len(id) > LONGEST_ID:
        raise InvalidData("$.run_id", f"expected at most {LONGEST_ID} characters, got {len(id)}")


def _document(run: TrainingRun) -> Document:
    """Return the stored form of a run."""
    return document(run_key(run.notebook_id, run.id), run.to_json())


def _lapsed(moment: datetime) -> QueryInstance:
    running: QueryInstance = where("status") == _RUNNING
    return running & (where("lease_until") <= format_time(moment))


def _lives(run: TrainingRun) -> bool:
    return run.status is RunStatus.RUNNING and (run.lease_until is None or run.lease_until > now())


def _run(found: Mapping[str, Any]) -> TrainingRun:
    """A run as it is now."""
    return _shown(_stored_run(found))


def _shown(run: TrainingRun) -> TrainingRun:
    """``run``, stopped where its lease ran out."""
    if run.status is RunStatus.RUNNING and not _lives(run):
        run.status, run.ended_at = RunStatus.STOPPED, run.lease_until
    return run


def _stored_run(found: Mapping[str, Any]) -> TrainingRun:
    with damage_named(f"run {found.get('id')}"):
        return TrainingRun.from_json(found)
