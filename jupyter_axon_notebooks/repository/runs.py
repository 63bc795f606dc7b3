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

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypedDict

import sqlalchemy as sa
from tinydb import where
from tinydb.queries import QueryInstance

from ..errors import Conflict, InvalidData, NotFound, RecordDamaged
from ..metrics import finite_metrics
from ..records import (
    ConfigSource,
    NotebookCheckpoint,
    NotebookStatus,
    RunProcess,
    RunStatus,
    TrainingRun,
    UpdateRun,
    decode_step,
    format_time,
    new_id,
    now,
    now_after,
)
from ..store import Document, document, retried
from ..store.codec import column_text, encode
from ..store.series_table import columns
from ..store.tables import decode_document
from .retention_rules import parse_rules
from .run_queries import (
    RUNNING,
    RunQueries,
    decode_run,
    is_active,
    is_expired,
    read_run,
    run_key,
    with_current_status,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: The lease after each checkpoint of a run that was started by its first checkpoint.
_IMPLICIT_RUN_LEASE: Final = timedelta(hours=1)

#: The maximum length of the id of a new run. PostgreSQL limits the size of index rows.
_MAX_ID_LENGTH: Final = 255


#: The field of a notebook's document with the largest number of a run that was deleted.
LAST_NUMBER: Final = "last_run_number"
#: Limits of the fields of a run, in characters, and of its configuration, in bytes of JSON.
MAX_LABEL, MAX_NOTES, MAX_TAGS, MAX_CONFIG_SIZE = 255, 100_000, 100, 1 << 20


class GivenFields(TypedDict, total=False):
    """The fields of a run that its user sets."""

    name: str | None
    config: dict[str, Any] | None
    config_source: ConfigSource | None
    tags: list[str]
    notes: str | None
    group: str | None
    keep: str | None


class RunFields(GivenFields, total=False):
    """The fields of a new run."""

    parent_checkpoint_id: str | None
    process: RunProcess | None
    lease_until: datetime | None
    key: str | None
    cell: str | None
    ordinal: int | None
    skipped_run_id: str | None


class RunRepository(RunQueries):
    """The training runs of a store."""

    def start(
        self,
        notebook_id: str,
        *,
        id: str | None = None,
        started_at: datetime | None = None,
        **fields: Unpack[RunFields],
    ) -> TrainingRun:
        """Start a run from scratch or from a checkpoint, and set the record to ``running``.

        Parameters
        ----------
        id : str, optional
            Unique within the notebook; a random one by default.
        started_at : datetime, optional
            The start of a run that could not be stored when it began.
        **fields
            Other fields of :class:`~jupyter_axon_notebooks.records.TrainingRun`. Without
            ``lease_until``, the run is active until it is finished; :meth:`renew` extends it.

        Raises
        ------
        NotFound
            When there is no such notebook, or it has no such checkpoint.
        Conflict
            When the notebook has a run of this id.
        InvalidData
            When the id is blank or has more than 255 characters, or a field is too large.
        """
        run_id = new_id() if id is None else id
        run = TrainingRun(id=run_id, notebook_id=notebook_id, started_at=now(), **fields)
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
        check_run(run)
        newest = self._store.runs.max_value("started_at", of="notebook_id", value=run.notebook_id)
        run.started_at = started_at or now_after(newest)
        self._check_parent(run)
        run.number = self._last_number(notebook) + 1
        try:
            self._store.runs.insert(_document(run))
        except Conflict:
            raise Conflict(f"notebook {run.notebook_id} has a run {run.id} already") from None
        if is_active(run):
            self._set_notebook_status(notebook, NotebookStatus.RUNNING)

    def _check_parent(self, run: TrainingRun) -> None:
        if run.parent_checkpoint_id is not None:
            parent = self._store.checkpoints.get(doc_id=run.parent_checkpoint_id)
            if parent is None or parent["notebook_id"] != run.notebook_id:
                raise NotFound("checkpoint", run.parent_checkpoint_id)

    def _last_number(self, notebook: Document) -> int:
        notebook_id = str(notebook.doc_id)
        last = self._store.runs.max_value("number", of="notebook_id", value=notebook_id)
        return max(last or 0, notebook.get(LAST_NUMBER) or 0)

    def number(self, documents: Sequence[dict[str, Any]]) -> None:
        """Set the numbers of new runs of a notebook that have none, or one that is taken."""
        notebook = self._store.notebooks.get(doc_id=documents[0]["notebook_id"])
        if notebook is None:
            return
        r = self._store.run_index.runs.c
        query = sa.select(r.number).where(r.notebook_id == column_text(str(notebook.doc_id)))
        taken = set(self._store.read(lambda connection: connection.scalars(query).all()))
        last = max(self._last_number(notebook), *(one.get("number") or 0 for one in documents))
        for one in sorted(documents, key=itemgetter("started_at")):
            if (one.get("number") or 0) < 1 or one["number"] in taken:
                last += 1
                one["number"] = last
            taken.add(one["number"])

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
        run = decode_run(found)
        if run.process is not None or run.lease_until is None:
            return
        is_unfinished = run.status in (RunStatus.RUNNING, RunStatus.STOPPED)
        if is_unfinished and run.lease_until < moment + _IMPLICIT_RUN_LEASE / 2:
            self._set_status(notebook, notebook_id, run_id, RunStatus.RUNNING, lease_until)

    def add_summary(self, checkpoint: NotebookCheckpoint) -> None:
        """Add the metrics of a new checkpoint to the summaries of its run.

        Called in a transaction that has locked the notebook. Metrics that were logged are
        summarized by their series.
        """
        metrics = finite_metrics(checkpoint.metrics)
        if checkpoint.run_id is None or not metrics:
            return
        notebook_id, index = checkpoint.notebook_id, self._store.run_index
        c = index.checkpoints.c
        is_later = sa.tuple_(c.epoch, c.step) > (checkpoint.epoch, checkpoint.step)
        later = sa.select(c.id).where(
            c.notebook_id == column_text(notebook_id),
            c.run_id == column_text(checkpoint.run_id),
            is_later,
        )
        with self._store.transaction() as connection:
            if connection.scalar(later.limit(1)) is not None:
                self.summarize(notebook_id, checkpoint.run_id)
                return
            run = index.find_row(connection, run_key(notebook_id, checkpoint.run_id))
            if run is not None:
                logged = self._store.logged_series.names(connection, run, notebook_id)
                new = {name: value for name, value in metrics.items() if name not in logged}
                rows = columns([(checkpoint.step, 0.0, new)])
                self._store.mark_written()
                index.add_metrics(connection, run, notebook_id, rows, in_order=True)

    def summarize(self, notebook_id: str, run_id: str) -> None:
        """Summarize the metrics of a run's checkpoints again, as :meth:`add_summary` does."""
        index = self._store.run_index
        with self._store.transaction() as connection:
            run = index.find_row(connection, run_key(notebook_id, run_id))
            if run is None:
                return
            logged = set(self._store.logged_series.names(connection, run, notebook_id))
            points = []
            of_run = (where("notebook_id") == notebook_id) & (where("run_id") == run_id)
            for stored in self._store.checkpoints.iterate_json(of_run):
                with suppress(RecordDamaged, KeyError, TypeError):
                    found = decode_document(stored)
                    step = decode_step(found["step"], found.get("large_step"))
                    if found.get("run_id") == run_id:
                        points.append((found["epoch"], step, finite_metrics(found["metrics"])))
            points.sort(key=itemgetter(0, 1))
            rows = columns((step, 0.0, metrics) for _, step, metrics in points)
            new = {name: column for name, column in rows.items() if name not in logged}
            self._store.mark_written()
            index.remove_summaries(connection, run, notebook_id, kept=logged)
            index.add_metrics(connection, run, notebook_id, new, in_order=True)

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
            run = decode_run(found)
            if run.status is not RunStatus.RUNNING:
                return run
            run.lease_until = lease_until
            self._write(run)
        return run

    @retried
    def update(self, notebook_id: str, id: str, updates: UpdateRun) -> TrainingRun:
        """Change the name, configuration, tags, notes, group or rules of a run, or archive it.

        Returns the changed run.

        Raises
        ------
        NotFound
            When the notebook has no such run.
        InvalidData
            When a field is too large, or ``keep`` is no rule.
        """
        if updates.keep:
            parse_rules(updates.keep)
        with self._store.transaction():
            self._store.notebooks.get_for_update(notebook_id)
            found = self._store.runs.get_for_update(run_key(notebook_id, id))
            if found is None:
                raise NotFound("run", id)
            run = decode_run(found)
            for name in updates.__struct_fields__:
                value = getattr(updates, name)
                if value is not None:
                    setattr(run, name, None if value == "" or value is False else value)
            check_run(run)
            run.tags = list(dict.fromkeys(run.tags))
            self._write(run)
            return self._with_metrics([with_current_status(run)])[0]

    @retried
    def set_parent(
        self, notebook_id: str, id: str, *, parent_checkpoint_id: str | None, key: str | None
    ) -> None:
        """Set the checkpoint that a run resumes, and its key, before it has data of its own.

        Raises
        ------
        NotFound
            When the notebook has no such run or checkpoint.
        """
        with self._store.transaction():
            self._store.notebooks.get_for_update(notebook_id)
            found = self._store.runs.get_for_update(run_key(notebook_id, id))
            if found is None:
                raise NotFound("run", id)
            run = decode_run(found)
            run.parent_checkpoint_id, run.key = parent_checkpoint_id, key
            self._check_parent(run)
            self._write(run)

    @retried
    def remove(self, notebook_id: str, id: str) -> None:
        """Remove a run and its series from an open transaction; raises NotFound."""
        with self._store.transaction() as connection:
            notebook = self._store.notebooks.get_for_update(notebook_id)
            found = self._store.runs.get_for_update(run_key(notebook_id, id))
            if found is None:
                raise NotFound("run", id)
            number = found.get("number") or 0
            if notebook is not None and number > (notebook.get(LAST_NUMBER) or 0):
                notebook[LAST_NUMBER] = number  # so that no other run gets it
                self._store.notebooks.replace(notebook)
            row = self._store.run_index.row_of(connection, str(found.doc_id))
            self._store.mark_written()
            for table in (self._store.run_index.metrics, *self._store.logged_series.tables):
                in_notebook = table.c.notebook_id == column_text(notebook_id)
                connection.execute(table.delete().where(in_notebook, table.c.run == row))
            self._store.runs.remove([str(found.doc_id)])
            if notebook is not None and not self.update_expired(notebook_id):
                self._end_notebook(notebook, NotebookStatus.STOPPED)

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
            run = self._set_status(notebook, notebook_id, id, status, lease_until)
            return self._with_metrics([run])[0]

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
        run = decode_run(found)
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
        if is_active(run):
            self._set_notebook_status(notebook, NotebookStatus.RUNNING)
        elif not self.update_expired(str(notebook.doc_id)):
            self._end_notebook(notebook, NotebookStatus(with_current_status(run).status.value))
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
                if found is None or found.get("status") != RUNNING:
                    continue
                run = read_run(found)
                if run.status is RunStatus.RUNNING:  # renewed in the meantime
                    has_active = True
                else:
                    self._write(run)
        return has_active

    def _running(self, notebook_ids: Collection[str] | None) -> Iterator[TrainingRun]:
        """Yield the runs that are stored as ``running``, with their current status.

        With None, these are the runs of all notebooks.

        Damaged runs are left out. Reading such a run itself raises an error.
        """
        stored_as_running: QueryInstance = where("status") == RUNNING
        if notebook_ids is not None:
            stored_as_running &= where("notebook_id").one_of(list(notebook_ids))
        for stored in self._store.runs.iterate_json(stored_as_running):
            with suppress(RecordDamaged):
                found = decode_document(stored)
                if found.get("status") == RUNNING:
                    yield read_run(found)

    def find_expired(self, notebook_ids: Collection[str]) -> set[str]:
        """Return the notebooks that have expired runs and no active run."""
        if not notebook_ids:
            return set()
        expired, active = set[str](), set[str]()
        for run in self._running(notebook_ids):
            (active if run.status is RunStatus.RUNNING else expired).add(run.notebook_id)
        return expired - active

    def next_lease_end(self, notebook_id: str | None = None) -> datetime | None:
        """Return the earliest end of a lease among the active runs, of all or of one notebook.

        At that time the status of a run may change although nothing is written.
        """
        running = self._running(None if notebook_id is None else [notebook_id])
        leases = [run.lease_until for run in running if is_active(run)]
        return min((until for until in leases if until is not None), default=None)

    def finish_expired(self) -> int:
        """Stop all expired runs; return the number of their notebooks."""
        found = [run["notebook_id"] for run in self._store.runs.search(is_expired(now()))]
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


def check_run(run: TrainingRun) -> None:
    """Raise InvalidData for fields that are larger than any in practice."""
    for name in ("name", "group", "keep", "notes"):
        value = getattr(run, name)
        limit = MAX_NOTES if name == "notes" else MAX_LABEL
        if value is not None and len(value) > limit:
            raise InvalidData(f"$.{name}", f"expected at most {limit:,} characters")
    if len(run.tags) > MAX_TAGS or any(len(tag) > MAX_LABEL for tag in run.tags):
        raise InvalidData(
            "$.tags", f"expected at most {MAX_TAGS} tags of at most {MAX_LABEL} characters"
        )
    try:
        config_size = len(encode(run.config).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidData("$.config", f"expected a JSON object: {error}") from None
    if config_size > MAX_CONFIG_SIZE:
        raise InvalidData("$.config", f"expected at most {MAX_CONFIG_SIZE:,} bytes of JSON")


def _check_id(id: str) -> None:
    """Raise InvalidData for an id that a new run cannot have. Older stores may have such ids."""
    if not id.strip():
        raise InvalidData("$.run_id", "expected a string that is not blank; omit it for no run")
    if len(id) > _MAX_ID_LENGTH:
        raise InvalidData(
            "$.run_id", f"expected at most {_MAX_ID_LENGTH} characters, got {len(id)}"
        )


def _document(run: TrainingRun) -> Document:
    stored = run.to_json()
    stored.pop("metrics", None)
    return document(run_key(run.notebook_id, run.id), stored)
