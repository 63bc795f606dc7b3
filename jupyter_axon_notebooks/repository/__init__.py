"""The operations on records: what this project does, told without Jupyter, HTTP or file formats.

:class:`NotebookRepository` is the whole of it. The modules beside it hold its parts: :mod:`.notebooks`,
:mod:`.checkpoints` and :mod:`.runs`, how cells are kept, :mod:`.parts` and :mod:`.versions`, and for how long, :mod:`.housekeeping`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tinydb import where

from ..errors import Conflict, NotFound
from ..provenance import CheckpointDiff, CheckpointProvenance, Environment, ExecutedCell
from ..records import (
    CellChange,
    NewCheckpoint,
    NewNotebook,
    NotebookCell,
    NotebookCheckpoint,
    NotebookStatus,
    NotebookSummary,
    NotebookVersion,
    RunProcess,
    RunStatus,
    TrainingNotebook,
    TrainingRun,
    UpdateCheckpoint,
    UpdateNotebook,
    VersionSummary,
    new_id,
    now,
)
from ..store import Store
from .bindings import Binding, Bindings
from .checkpoints import Checkpoints, StatePart, StoredState, checkpoints_of
from .diff import diff, with_ids_of
from .housekeeping import Housekeeping, Tidied
from .notebooks import NotebookFilters, Notebooks, SavedNotebook, deleted_from, matching
from .provenance import Provenances
from .pruning import Prunable, PrunePlan, Pruning
from .retention import Rule
from .runs import Runs, runs_of
from .script import script_of
from .series import RunSeries, Series
from .starter import STARTER_CELLS
from .states import NoStates, States
from .versions import Versions

if TYPE_CHECKING:
    from typing_extensions import Unpack


__all__ = [
    "STARTER_CELLS",
    "Binding",
    "NoStates",
    "NotebookRepository",
    "Prunable",
    "PrunePlan",
    "RunSeries",
    "SavedNotebook",
    "StatePart",
    "States",
    "Tidied",
]


class NotebookRepository:
    """Every operation on notebook records, checkpoints, versions and runs.

    Synchronous; safe to call from any thread. Each operation that changes something is one transaction, so two
    processes never lose each other's change, and what has returned is on disk.

    Times never go back, whatever the clock does: a notebook's checkpoints and runs are each later than those that were
    there before, and each change of a record later than the last. So newest first is last committed first, and who asks
    for the checkpoints since the newest one that it saw gets all that were added after.

    Parameters
    ----------
    store : Store
        Where records are kept.
    states : States, optional
        Where state files are kept: it is asked to remove them when their checkpoint or notebook is deleted, and what
        records call them. Without it, checkpoints have the paths that are stored, relative to the root of the state files.
    starter_cells : sequence of (str, str)
        Type and source of the cells that a notebook created without any begins with.
    """

    def __init__(
        self,
        store: Store,
        *,
        states: States | None = None,
        starter_cells: Sequence[tuple[str, str]] = STARTER_CELLS,
    ) -> None:
        states = states or NoStates()
        self._store = store
        self._notebooks = Notebooks(store, states, starter_cells)
        self._checkpoints = Checkpoints(store, states)
        self._runs = Runs(store)
        self._versions = Versions(store)
        self._series = Series(store, self._runs)
        self._pruning = Pruning(store, states, self._checkpoints, self._runs)
        self._provenances = Provenances(store, self._checkpoints, self._runs, self._versions)
        self._bindings = Bindings(store, self._notebooks)
        self._housekeeping = Housekeeping(store, self._versions)

    # Notebooks

    def create(self, new: NewNotebook) -> TrainingNotebook:
        """Create a record. Without cells it gets the starter cells, without metadata upstream's kernel.

        Raises
        ------
        Conflict
            When its id, or the file it is bound to, belongs to another record.
        InvalidData
            When two of its cells share an id.
        """
        return self._notebooks.create(new)

    def create_saved(self, new: NewNotebook, saved: SavedNotebook) -> TrainingNotebook:
        """Create the record of a file that was saved; raises as :meth:`create`."""
        return self._notebooks.create(new, saved)

    def save(self, id: str, saved: SavedNotebook, *, unless_read: bool = False) -> NotebookSummary:
        """Bring a record up to date with its file.

        Its name, description, links and the tags that were set on the record stay. ``updated_at`` moves only when
        the save changed something.

        Parameters
        ----------
        unless_read : bool
            Not if the record has been brought up to date with the file as it is: ``saved`` is what was written, and
            another writer may have been a moment later.

        Raises
        ------
        NotFound
            When there is no such record.
        Conflict
            When it has been, with ``unless_read``.
        """
        return self._notebooks.save(id, saved, unless_read=unless_read)

    def find_by_id(self, id: str, *, outputs: bool = True) -> TrainingNotebook | None:
        """A record with its cells; None where there is none.

        Without ``outputs``, which may be large, they are not read, and the cells have none.
        """
        return self._notebooks.find(id=id, outputs=outputs)

    def find_by_path(self, origin: str, path: str) -> NotebookSummary | None:
        """The record that is bound to a file; None where none is."""
        return self._notebooks.summary((where("origin") == origin) & (where("path") == path))

    def find_summary(self, id: str) -> NotebookSummary | None:
        """A record without its cells; None where there is none. One look-up, however large the notebook."""
        return self._notebooks.summary(id=id)

    def ids_beginning(self, prefix: str) -> list[str]:
        """The ids of the records whose ids begin with ``prefix``."""
        return self._notebooks.ids_beginning(prefix)

    def list_deleted(self, path: str) -> list[NotebookSummary]:
        """The records whose file was ``path`` until it was deleted. Reads every record: for rare questions."""
        return self._notebooks.page(deleted_from(path), None, 0)

    def list_by_user(
        self,
        user_id: str,
        limit: int | None = None,
        offset: int = 0,
        **filters: Unpack[NotebookFilters],
    ) -> list[NotebookSummary]:
        """A user's records, newest ``updated_at`` first."""
        return self._notebooks.page(matching(user_id, **filters), limit, offset)

    def list_all(
        self,
        limit: int | None = None,
        offset: int = 0,
        **filters: Unpack[NotebookFilters],
    ) -> list[NotebookSummary]:
        """Everybody's records, newest ``updated_at`` first."""
        return self._notebooks.page(matching(**filters), limit, offset)

    def count_notebooks(
        self,
        user_id: str | None = None,
        **filters: Unpack[NotebookFilters],
    ) -> int:
        """How many records a list would have in all; ``user_id`` None counts everybody's."""
        return self._notebooks.count(matching(user_id, **filters))

    def update(
        self, id: str, updates: UpdateNotebook, *, expected_version: str | None = None
    ) -> TrainingNotebook:
        """Change the given fields of a record; the rest stays.

        Raises
        ------
        NotFound
            When there is no such record.
        Stale
            When ``expected_version`` is given and is not the current one.
        InvalidData
            When two of its cells would share an id.
        """
        return self._notebooks.update(id, updates, expected_version)

    def update_status(self, id: str, status: NotebookStatus) -> TrainingNotebook:
        """Change a record's status; raises NotFound."""
        return self.update(id, UpdateNotebook(status=status))

    def update_cell(
        self, notebook_id: str, cell: NotebookCell, *, expected_version: str | None = None
    ) -> TrainingNotebook:
        """Replace the cell that has ``cell``'s id. Raises NotFound naming the notebook or the cell, and Stale."""

        def place(ids: list[str]) -> int:
            return _index(ids, cell.id)

        return self._notebooks.edit_cells(notebook_id, place, cell, expected_version)

    def change_cell(
        self,
        notebook_id: str,
        cell_id: str,
        change: Callable[[NotebookCell], NotebookCell],
        *,
        expected_version: str | None = None,
    ) -> TrainingNotebook:
        """Replace a cell by what ``change`` makes of it; its id stays.

        ``change`` is called inside the transaction, so that no other change of the cell is lost. It should be quick.
        Raises NotFound naming the notebook or the cell, and Stale.
        """
        return self._notebooks.change_cell(notebook_id, cell_id, change, expected_version)

    def add_cell(
        self,
        notebook_id: str,
        cell: NotebookCell,
        position: int | None = None,
        *,
        expected_version: str | None = None,
    ) -> TrainingNotebook:
        """Insert a cell before the one at ``position``, or append it where there is none.

        Raises NotFound and Stale, and Conflict when the notebook has a cell of that id.
        """

        def place(ids: list[str]) -> int:
            if cell.id in ids:
                raise Conflict(f"notebook {notebook_id} has a cell {cell.id} already")
            return position if position is not None and 0 <= position < len(ids) else len(ids)

        return self._notebooks.edit_cells(notebook_id, place, cell, expected_version)

    def delete_cell(
        self, notebook_id: str, cell_id: str, *, expected_version: str | None = None
    ) -> TrainingNotebook:
        """Remove a cell. Raises NotFound naming the notebook or the cell, and Stale."""

        def place(ids: list[str]) -> int:
            return _index(ids, cell_id)

        return self._notebooks.edit_cells(notebook_id, place, None, expected_version)

    def delete(self, id: str) -> None:
        """Remove a record with its checkpoints, versions, runs and state files.

        Raises
        ------
        NotFound
            When there is no such record.
        StateError
            When it is removed, but its state files could not be.
        """
        self._notebooks.delete(id)

    # Bindings

    def binding_at(self, origin: str, path: str) -> Binding | None:
        """Who is bound to a file; None where nobody is."""
        return self._bindings.at(origin, path)

    def bindings_of(self, ids: Iterable[str]) -> list[Binding]:
        """What the records of these ids are bound to; those that there are."""
        return self._bindings.of_all(ids)

    def bindings_carrying(self, embedded_id: str) -> list[Binding]:
        """The records whose file carries an id, and the record of that id itself."""
        return self._bindings.carrying(embedded_id)

    def bindings_formerly_at(self, origin: str, path: str) -> list[Binding]:
        """Who was bound to a file before. Reads every record of the origin: for rare questions."""
        return self._bindings.formerly_at(origin, path)

    def list_bindings(self, origin: str, folder: str | None = None) -> list[Binding]:
        """The records of an origin that are bound to a file; with ``folder``, to one beneath it."""
        return self._bindings.all(origin, folder)

    def bindings_elsewhere(
        self, user_id: str | None, origin: str, path: str | None = None
    ) -> list[Binding]:
        """A user's records, or with None everybody's, that are bound under another origin: to any file, or to one."""
        return self._bindings.elsewhere(user_id, origin, path)

    def rebind(self, id: str, origin: str) -> Binding | None:
        """Bind a record to its file under ``origin`` in place of its own.

        Raises NotFound, and Conflict where another user's record is bound there. A record of the same user that was
        bound there is kept with all that it has, is bound to no file from then on, notes the other as
        ``extra.axon.replaced_by``, and is returned.
        """
        return self._bindings.rebind(id, origin)

    def bind(self, id: str, path: str) -> NotebookSummary:
        """Bind a record to another file; whoever was bound there is released. Raises NotFound."""
        return self._bindings.bind(id, path, now())

    def release(self, id: str) -> NotebookSummary:
        """Bind a record to no file any more, since its file was deleted: ``extra.axon.deleted_at`` says when.

        Its checkpoints stay. Raises NotFound.
        """
        return self._bindings.release(id, now())

    def annotate(self, id: str, **notes: Any) -> NotebookSummary:
        """Add notes to ``extra.axon`` of a record, in place of those of the same names. Raises NotFound."""
        return self._bindings.annotate(id, notes)

    # Versions

    def list_versions(
        self, notebook_id: str, limit: int | None = None, offset: int = 0
    ) -> list[VersionSummary]:
        """The versions of a notebook, newest first."""
        return self._versions.summaries(notebook_id, limit, offset)

    def count_versions(self, notebook_id: str) -> int:
        """How many versions of a notebook are kept."""
        return self._versions.count(notebook_id)

    def get_version(
        self, notebook_id: str, version_id: str, *, outputs: bool = True
    ) -> NotebookVersion | None:
        """A version of a notebook with its cells; None where it has no such version.

        ``outputs`` as :meth:`find_by_id` takes it.
        """
        return self._versions.get(notebook_id, version_id, outputs=outputs)

    def diff_versions(self, notebook_id: str, before: str, after: str) -> list[CellChange]:
        """Return the changes in the sources between two versions of a notebook.

        A cell that was given another id, as when the notebook was converted to nbformat 4.5, is recognised by its source.

        Raises
        ------
        NotFound
            When the notebook has no such version.
        """
        versions = []
        for version_id in (before, after):
            version = self.get_version(notebook_id, version_id, outputs=False)
            if version is None:
                raise NotFound("version", version_id)
            versions.append(version.cells)
        old, new = versions
        return diff(with_ids_of(old, new), new)

    # Checkpoints

    def create_checkpoint(
        self, new: NewCheckpoint, *, overwrite: bool = False, made_at: datetime | None = None
    ) -> NotebookCheckpoint:
        """Store a checkpoint, tied to the notebook's current version unless it names another.

        A run that its notebook does not have yet begins with it, and is taken for stopped an hour after its last
        checkpoint; runs of other notebooks may have the same id. Within a run (epoch, step) is unique; without a run nothing is.

        Parameters
        ----------
        overwrite : bool
            Replace the run's checkpoint at this epoch and step, if it has one: that one and its state files are gone.
        made_at : datetime, optional
            When it was made, of one that could not be stored then. It takes its place among the others by that, so who
            has asked for later ones already is not told of it.

        Raises
        ------
        NotFound
            When there is no such notebook.
        Conflict
            When the run has a checkpoint at this epoch and step that is not to be replaced, or is pinned; when the id is
            taken.
        InvalidData
            When the notebook has no such version, or a run that would begin with it cannot have this id.
        """
        return self._checkpoints.create(new, overwrite=overwrite, made_at=made_at)

    def checkpoint_ids_beginning(self, prefix: str) -> list[str]:
        """The ids of the checkpoints whose ids begin with ``prefix``."""
        return self._checkpoints.ids_beginning(prefix)

    def get_checkpoint(self, id: str) -> NotebookCheckpoint | None:
        """A checkpoint; None where there is none."""
        return self._checkpoints.get(id)

    def list_checkpoints(
        self,
        notebook_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        since: datetime | None = None,
        run_id: str | None = None,
    ) -> list[NotebookCheckpoint]:
        """The checkpoints of a notebook, newest ``created_at`` first; ``since`` leaves out what is not newer."""
        return self._checkpoints.page(
            checkpoints_of(notebook_id, since=since, run_id=run_id), limit, offset
        )

    def count_checkpoints(
        self, notebook_id: str, *, since: datetime | None = None, run_id: str | None = None
    ) -> int:
        """How many checkpoints a list would have in all."""
        return self._checkpoints.count(checkpoints_of(notebook_id, since=since, run_id=run_id))

    def latest_checkpoint(
        self, notebook_id: str, *, run_id: str | None = None
    ) -> NotebookCheckpoint | None:
        """The newest checkpoint of a notebook, or of one of its runs."""
        return next(iter(self.list_checkpoints(notebook_id, limit=1, run_id=run_id)), None)

    def get_best_checkpoint(
        self, notebook_id: str, metric_key: str, minimize: bool
    ) -> NotebookCheckpoint | None:
        """The checkpoint with the best value of a metric; None where none has a finite number there.

        Equal values go to the earliest (``created_at``, then id). ``metric_key`` may be dotted;
        :func:`jupyter_axon_notebooks.metrics.resolve` says what it then means.
        """
        return next(iter(self.get_best_checkpoints(notebook_id, metric_key, minimize, 1)), None)

    def get_best_checkpoints(
        self, notebook_id: str, metric_key: str, minimize: bool, limit: int
    ) -> list[NotebookCheckpoint]:
        """The ``limit`` best checkpoints by a metric, best first; ranked as :meth:`get_best_checkpoint` does."""
        return self._checkpoints.best(notebook_id, metric_key, minimize=minimize, limit=limit)

    def metric_names(self, notebook_id: str) -> set[str]:
        """Return the names by which a notebook's checkpoints can be ranked, except for extremely long ones."""
        return self._store.metric_names(notebook_id)

    def metric_series(
        self,
        notebook_id: str,
        keys: Sequence[str] = (),
        *,
        run_id: str | None = None,
        since: datetime | None = None,
    ) -> list[RunSeries]:
        """What a notebook's checkpoints measured, by run, the run with the oldest checkpoint first.

        Parameters
        ----------
        keys : sequence of str
            The names of the metrics, which may be dotted as in :meth:`get_best_checkpoint`; each is then a column of every
            run. Without any, all that a run has a number of.
        since : datetime, optional
            Leaves out checkpoints that are not newer: who has seen those up to the newest ``created_at`` gets what is new.
        """
        return self._series.by_run(notebook_id, keys, run_id, since)

    def update_checkpoint(self, id: str, updates: UpdateCheckpoint) -> NotebookCheckpoint:
        """Change a checkpoint's tags or pin; raises NotFound."""
        return self._checkpoints.update(id, updates)

    def add_metrics(self, id: str, metrics: Any, tags: Sequence[str] = ()) -> NotebookCheckpoint:
        """Add metrics and tags to a checkpoint, which is the newest of its notebook then; metrics of the same name are replaced.

        Raises
        ------
        NotFound
            When there is no such checkpoint.
        Conflict
            When together they have more numbers that are not finite than can be named.
        """
        return self._checkpoints.add_metrics(id, metrics, tags)

    def attach_state(
        self,
        id: str,
        part: StatePart,
        commit: Callable[[], StoredState],
        digest: str,
        is_there: Callable[[str], bool] = lambda _path: True,
    ) -> NotebookCheckpoint:
        """Give a checkpoint a state file.

        ``commit`` puts the file in its place and is called inside the transaction, after all checks: two uploads at
        once cannot overwrite one another. It should be quick, and may be called again: should the database break the
        transaction off, the next attempt has to be given the same state. A state with the same ``digest`` whose file is there, as
        ``is_there`` tells of its path, is left as it is and ``commit`` not called. A pruned checkpoint takes back
        only the states that it had, and with the last of them is pruned no more.

        Raises
        ------
        NotFound
            When there is no such checkpoint.
        Conflict
            When it has another state in this place: states are written once.
        """
        return self._checkpoints.attach_state(id, part, commit, digest, is_there)

    def delete_checkpoint(self, id: str) -> None:
        """Remove a checkpoint and its state files; raises as :meth:`delete`."""
        self._checkpoints.delete(id)

    # Retention

    def plan_prune(self, notebook_id: str, rules: Sequence[Rule]) -> PrunePlan:
        """Which checkpoints of a notebook would lose their state files, were only those kept that a rule keeps.

        :mod:`.retention` has the rules. Whatever they say, it is never one that is pinned, never the newest that has
        state files, nor the newest of a run that is not completed. State files that were registered where they lay, and
        such as another checkpoint names as well, are none of ours to remove, and stay referred to.

        Raises
        ------
        NotFound
            When there is no such notebook.
        InvalidData
            When there is no rule.
        """
        return self._pruning.plan(notebook_id, rules)

    def prune(
        self,
        notebook_id: str,
        rules: Sequence[Rule],
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> list[Prunable]:
        """Remove the state files of the checkpoints that :meth:`plan_prune` names, in turns; those that were pruned.

        Their records and metrics stay: ``model_state_path`` is ``""`` and ``pruned_at`` is when. A checkpoint that somebody
        pins, tags or changes meanwhile stays whole.

        Parameters
        ----------
        progress : callable
            Given how many are done of how many, after each turn. What it raises ends the pruning there.

        Raises
        ------
        NotFound, InvalidData
            As :meth:`plan_prune` does.
        StateError
            When checkpoints are pruned, but state files of them could not be removed; the pruning ends there.
        """
        return self._pruning.prune(notebook_id, rules, progress)

    def put_provenance(
        self, notebook_id: str, executed: Sequence[ExecutedCell], environment: Environment
    ) -> str:
        """Store what was executed, and in what; the ``provenance_id`` for the checkpoints that come of it.

        What the notebook has stored already is not stored again: of the same the id is the same, and nothing is written.
        Raises NotFound.
        """
        return self._provenances.put(notebook_id, executed, environment)

    def checkpoint_provenance(self, checkpoint_id: str) -> CheckpointProvenance:
        """All that is known of where a checkpoint came from, and what speaks against it coming out again.

        Nothing is known of what was executed for a checkpoint that no kernel made. Raises NotFound.
        """
        return self._provenances.of_checkpoint(checkpoint_id)

    def checkpoint_script(self, checkpoint_id: str) -> str | None:
        """What was executed before a checkpoint, in that order, as a Python script; None where nobody knows.

        Raises NotFound.
        """
        known = self.checkpoint_provenance(checkpoint_id)
        return script_of(known.executed, f"Checkpoint {checkpoint_id}") if known.executed else None

    def checkpoint_notebook(self, checkpoint_id: str) -> NotebookVersion:
        """The notebook as it had been saved when a checkpoint was made; raises NotFound naming what is missing."""
        checkpoint = self.get_checkpoint(checkpoint_id)
        if checkpoint is None:
            raise NotFound("checkpoint", checkpoint_id)
        version = self.get_version(checkpoint.notebook_id, checkpoint.version_id or "")
        if version is None:
            raise NotFound("version", checkpoint.version_id or f"of checkpoint {checkpoint_id}")
        return version

    def diff_checkpoints(self, before: str, after: str) -> CheckpointDiff:
        """What changed from one checkpoint to another: code, metrics, environment; raises NotFound naming a missing one.

        The code is what was executed; where that is not known of both, what was saved.
        """
        return self._provenances.diff(before, after)

    # Runs

    def create_run(
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
        """Begin a run, from scratch or from a checkpoint of the same notebook, whose record is ``running`` from now on.

        Parameters
        ----------
        id : str, optional
            Its id, unique within the notebook; a random one by default.
        lease_until : datetime, optional
            When it is taken for stopped unless :meth:`renew_run` says otherwise; None: it lives until it is ended.
        started_at : datetime, optional
            When it began, of one that could not be stored then.
        key, cell, ordinal, skipped_run_id : optional
            As :class:`~jupyter_axon_notebooks.records.TrainingRun` has them.

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
        return self._runs.create(run, started_at=started_at)

    def renew_run(self, notebook_id: str, id: str, lease_until: datetime) -> TrainingRun:
        """Say that a run lives, and until when to believe it.

        One that was ended meanwhile, or whose lease ran out and was found to have, stays ended and is returned so: look
        at its status. :meth:`update_run_status` reopens it. Raises NotFound.
        """
        return self._runs.renew(notebook_id, id, lease_until)

    def get_run(self, notebook_id: str, id: str) -> TrainingRun | None:
        """Return a run of a notebook, or None. One whose lease has run out is shown as ``stopped`` since then."""
        return self._runs.get(notebook_id, id)

    def list_runs(
        self,
        notebook_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        status: RunStatus | None = None,
    ) -> list[TrainingRun]:
        """The runs of a notebook, newest first; ``status`` as they are shown, so that a lapsed one is ``stopped``."""
        found = self._runs.page(runs_of(notebook_id, status), limit, offset)
        # A lease may have ended since the store was asked.
        return [run for run in found if status in (None, run.status)]

    def count_runs(self, notebook_id: str, *, status: RunStatus | None = None) -> int:
        """How many runs a list would have in all."""
        return self._runs.count(runs_of(notebook_id, status))

    def update_run_status(
        self, notebook_id: str, id: str, status: RunStatus, *, lease_until: datetime | None = None
    ) -> TrainingRun:
        """Move a run on: any status but ``running`` ends it, ``running`` reopens it.

        The notebook's record is ``running`` while any of its runs lives, and becomes what the last one became.

        Parameters
        ----------
        lease_until : datetime, optional
            The lease of a run that is ``running`` then. One that is reopened without lives until it is ended.

        Raises
        ------
        NotFound
            When the notebook has no such run.
        """
        return self._runs.set_status(notebook_id, id, status, lease_until)

    def end_lapsed_runs(self) -> int:
        """Write down the end of all runs whose lease has run out; of how many notebooks.

        They and their records are shown as ``stopped`` before. What this adds is that lists by status find them so.
        """
        return self._runs.end_lapsed()

    def next_lease_end(self, notebook_id: str) -> datetime | None:
        """Return when the next lease of a notebook's runs ends, if one does.

        Unless it is renewed, the run is shown as stopped from then on, although nothing is written.
        """
        return self._runs.next_lease_end(notebook_id)

    def change_marker(self) -> str:
        """Return a text that changes with all that is committed; see :meth:`.store.Store.change_marker`."""
        return self._store.change_marker()

    # Housekeeping, in steps: each is a short transaction, and between two the caller may wait, or stop for good

    def notebooks_to_tidy(self, keep: int, user_id: str | None = None) -> list[str]:
        """The notebooks, of one user or of all, of which :meth:`tidy_notebook` with ``keep`` would remove versions."""
        return self._housekeeping.crowded(keep, user_id)

    def tidy_notebook(self, id: str, keep: int) -> Iterator[Tidied]:
        """Remove the versions of a notebook that are not its newest ``keep`` and that no checkpoint refers to.

        With them go the contents that no other version lists, and such as no version lists at all. Yields what each
        step removed, which may be nothing.
        """
        return self._housekeeping.tidy(id, keep)

    def notebooks_written_ahead(self) -> set[str]:
        """The ids, of notebooks or of none, under which contents wait for a version to list them.

        Either a large save is under way, or one was killed in the middle.
        """
        return self._housekeeping.ahead()

    def drop_written_ahead(self, id: str) -> Iterator[Tidied]:
        """Remove contents that wait for a version to list them, in steps; a save under way writes them once more."""
        return self._housekeeping.drop_ahead(id)


def _index(ids: list[str], cell_id: str) -> int:
    try:
        return ids.index(cell_id)
    except ValueError:
        raise NotFound("cell", cell_id) from None
