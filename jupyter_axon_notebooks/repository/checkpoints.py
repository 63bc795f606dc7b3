"""Checkpoints: add, find, rank, change and delete them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import PureWindowsPath
from typing import Any, Literal, Protocol

import sqlalchemy as sa
from tinydb import where
from tinydb.queries import QueryInstance

from ..errors import AxonError, Conflict, InvalidData, NotFound, RecordDamaged
from ..metrics import merge_metrics
from ..records import (
    NewCheckpoint,
    NotebookCheckpoint,
    TrainingRun,
    UpdateCheckpoint,
    format_time,
    new_id,
    now_after,
)
from ..store import Store, document, retried
from ..store.codec import column_text, plain_text
from .damage import check_damage
from .retention_rules import rank_checkpoints
from .run_queries import is_active
from .runs import RunRepository
from .states import States, files_remain

StatePart = Literal["model", "optimizer"]
STATE_PARTS: tuple[StatePart, ...] = ("model", "optimizer")
#: The fields with paths of state files. Stored paths are relative to the root of the state files.
_PATHS = tuple(f"{part}_state_path" for part in STATE_PARTS)


class StoredState(Protocol):
    """A state file in its folder."""

    @property
    def path(self) -> str:
        """The absolute path."""

    @property
    def digest(self) -> str:
        """The SHA-256 in hexadecimal digits."""

    @property
    def size(self) -> int:
        """The size in bytes."""


class CheckpointRepository:
    """The checkpoints of a store and their state files."""

    def __init__(self, store: Store, states: States, runs: RunRepository) -> None:
        self._store = store
        self._states = states
        self._runs = runs

    def add(
        self, new: NewCheckpoint, *, overwrite: bool = False, made_at: datetime | None = None
    ) -> NotebookCheckpoint:
        """Store a checkpoint. By default it refers to the notebook's current version.

        A run that does not exist is started, and expires an hour after its last checkpoint. Runs
        of different notebooks may have the same id. Within a run (epoch, step) is unique.

        Parameters
        ----------
        overwrite : bool
            Replace the run's checkpoint at this epoch and step, and remove its state files.
        made_at : datetime, optional
            The time of a checkpoint that could not be stored when it was made. Lists are sorted by
            this time, so a list of checkpoints since a later time does not contain it.

        Raises
        ------
        NotFound
            When there is no such notebook.
        Conflict
            When the id exists, or when the run has a checkpoint at this epoch and step, unless
            ``overwrite`` is set and that checkpoint is not pinned.
        InvalidData
            When the notebook has no such version, or the run id is not valid.
        """
        checkpoint, replaced = self._add(new, overwrite, made_at)
        if replaced is not None:
            # Garbage collection removes files that cannot be removed now.
            with suppress(AxonError):
                self._states.remove_checkpoint(checkpoint.notebook_id, replaced)
        return checkpoint

    @retried
    def _add(
        self, new: NewCheckpoint, overwrite: bool, made_at: datetime | None
    ) -> tuple[NotebookCheckpoint, str | None]:
        """Store a checkpoint; return it and the id of the checkpoint that it replaced, if any."""
        with self._store.transaction():
            notebook = self._store.notebooks.get_for_update(new.notebook_id)
            if notebook is None:
                raise NotFound("notebook", new.notebook_id)
            if new.version_id is not None:
                self._check_version(new.notebook_id, new.version_id)
            fields = {name: getattr(new, name) for name in new.__struct_fields__}
            fields["id"] = new.id or new_id()
            fields["version_id"] = new.version_id or notebook["version_id"]
            created_at = made_at or now_after(self._newest(new.notebook_id))
            checkpoint = NotebookCheckpoint(**fields, created_at=created_at)
            replaced = None
            if new.run_id is not None:
                self._runs.start_or_extend(notebook, new.run_id)
                replaced = self._replace(checkpoint) if overwrite else None
            stored = document(checkpoint.id, checkpoint.to_json())
            for name in _PATHS:
                if path := stored.get(name):
                    stored[name] = self._states.recorded_path(path, checkpoint.notebook_id)
                    setattr(checkpoint, name, self._states.full_path(stored[name]))
            exists = f"checkpoint {checkpoint.id} exists already"
            if new.id is not None and self._store.checkpoints.contains(doc_id=new.id):
                raise Conflict(exists)
            try:
                self._store.checkpoints.insert(stored)
            except Conflict as error:
                if ".run_id" in str(error):  # the index on (run, epoch, step)
                    raise Conflict(f"{_describe(checkpoint)} already") from None
                raise Conflict(exists) from None
            if replaced is not None and new.run_id is not None:
                self._runs.summarize(new.notebook_id, new.run_id)
            else:
                self._runs.add_summary(checkpoint)
        return checkpoint, replaced

    def _replace(self, checkpoint: NotebookCheckpoint) -> str | None:
        """Remove the run's checkpoint at the same epoch and step, and return its id."""
        position = ("notebook_id", "run_id", "epoch", "step")
        found = self._store.checkpoints.find_one(
            **{name: getattr(checkpoint, name) for name in position}
        )
        if found is None or (id := str(found.doc_id)) == checkpoint.id:
            return None
        stored = self._store.checkpoints.get_for_update(id)
        if stored is None:
            return None
        if stored.get("pinned"):
            raise Conflict(f"{_describe(checkpoint)}, which is pinned; unpin it to replace it")
        self._store.checkpoints.remove(doc_ids=[id])
        self._states.mark_unrecorded(checkpoint.notebook_id, id)
        return id

    def _newest(self, notebook_id: str) -> str | None:
        """Return the time of a notebook's newest checkpoint, or None."""
        found: str | None = self._store.checkpoints.max_value(
            "created_at", of="notebook_id", value=notebook_id
        )
        return found

    def _check_version(self, notebook_id: str, version_id: str) -> None:
        version = self._store.versions.get(doc_id=version_id)
        if version is None or version["notebook_id"] != notebook_id:
            raise InvalidData("$.version_id", f"notebook {notebook_id} has no version {version_id}")

    def find_ids(self, prefix: str) -> builtins.list[str]:
        """Return the ids of checkpoints that begin with ``prefix``."""
        return self._store.checkpoints.ids_with_prefix(prefix)

    def get(self, id: str) -> NotebookCheckpoint | None:
        """Return a checkpoint, or None."""
        found = self._store.checkpoints.get(doc_id=id)
        return None if found is None else self.read(found)

    def read(self, stored: Mapping[str, Any]) -> NotebookCheckpoint:
        """Return the checkpoint of a stored document, with absolute paths; raises RecordDamaged."""
        checkpoint = decode_checkpoint(stored)
        for name in _PATHS:
            if path := getattr(checkpoint, name):
                setattr(checkpoint, name, self._states.full_path(path))
        return checkpoint

    def list(
        self,
        notebook_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        since: datetime | None = None,
        run_id: str | None = None,
    ) -> builtins.list[NotebookCheckpoint]:
        """Return the checkpoints of a notebook or a run, newest ``created_at`` first."""
        condition = checkpoint_query(notebook_id, since=since, run_id=run_id)
        order = ["-created_at", "-id"]
        found = self._store.checkpoints.search(condition, sort=order, limit=limit, skip=offset)
        return [self.read(stored) for stored in found]

    def list_state_names(self, notebook_id: str, checkpoint_id: str) -> set[str] | None:
        """Return the names of a checkpoint's state files, or None if there is no record."""
        checkpoint = self.get(checkpoint_id)
        if checkpoint is None or checkpoint.notebook_id != notebook_id:
            return None
        paths = (checkpoint.model_state_path, checkpoint.optimizer_state_path)
        return {PureWindowsPath(path).name for path in paths if path}

    def count(
        self, notebook_id: str, *, since: datetime | None = None, run_id: str | None = None
    ) -> int:
        """Return the number of checkpoints of a notebook or a run."""
        return self._store.checkpoints.count(
            checkpoint_query(notebook_id, since=since, run_id=run_id)
        )

    def get_latest(
        self, notebook_id: str, *, run_id: str | None = None
    ) -> NotebookCheckpoint | None:
        """Return the newest checkpoint of a notebook or a run, or None."""
        return next(iter(self.list(notebook_id, limit=1, run_id=run_id)), None)

    def list_latest(self, runs: Sequence[TrainingRun]) -> dict[tuple[str, str], NotebookCheckpoint]:
        """Return the newest checkpoint of each run that has one, by notebook and run.

        Damaged checkpoints are left out.
        """
        c = self._store.run_index.checkpoints.c
        newest = c.created_at.desc(), c.id.desc()
        age = sa.func.row_number().over(partition_by=(c.notebook_id, c.run_id), order_by=newest)
        keys = [(column_text(run.notebook_id), column_text(run.id)) for run in runs]
        among = sa.tuple_(c.notebook_id, c.run_id).in_(keys)
        aged = sa.select(c.id, age.label("age")).where(among).subquery()
        query = sa.select(aged.c.id).where(aged.c.age == 1)
        ids = self._store.read(lambda connection: connection.scalars(query).all())
        found = self._store.checkpoints.get(doc_ids=[plain_text(id) for id in ids])
        latest = {}
        for stored in found:
            with suppress(RecordDamaged):
                one = self.read(stored)
                latest[one.notebook_id, str(one.run_id)] = one
        return latest

    def list_best(
        self,
        notebook_id: str,
        metric: str,
        minimize: bool,
        limit: int,
        *,
        run_id: str | None = None,
    ) -> builtins.list[NotebookCheckpoint]:
        """Return the ``limit`` best checkpoints of a notebook or a run by a metric, best first.

        Only finite numbers are ranked, equal ones earliest first (``created_at``, then id).
        ``metric`` may be dotted; see :func:`jupyter_axon_notebooks.metrics.resolve`.
        """
        if run_id is not None:
            return rank_checkpoints(self.list(notebook_id, run_id=run_id), metric, minimize)[:limit]
        found = self._store.best(notebook_id, metric, minimize=minimize, limit=limit)
        return [self.read(stored) for stored in found]

    def list_metric_names(self, notebook_id: str) -> set[str]:
        """Return the names of metrics by which checkpoints can be ranked, except very long ones."""
        return self._store.metric_names(notebook_id)

    def update(self, id: str, updates: UpdateCheckpoint) -> NotebookCheckpoint:
        """Change a checkpoint's tags or pin; raises NotFound."""
        changes = {
            name: value
            for name in ("tags", "pinned")
            if (value := getattr(updates, name)) is not None
        }
        return self._change(id, lambda checkpoint: checkpoint.update(changes))

    @retried
    def add_metrics(self, id: str, metrics: Any, tags: Sequence[str] = ()) -> NotebookCheckpoint:
        """Add metrics and tags to a checkpoint, which becomes the newest of its notebook.

        Metrics of the same name are replaced.

        Raises
        ------
        NotFound
            When there is no such checkpoint.
        Conflict
            When the merged metrics have too many numbers that are not finite.
        """
        with self._store.transaction():
            found = self._store.checkpoints.get(doc_id=id)
            if found is not None:
                # Every transaction locks the notebook first, so that none deadlock.
                self._store.notebooks.get_for_update(found["notebook_id"])
                found = self._store.checkpoints.get_for_update(id)
            if found is None:
                raise NotFound("checkpoint", id)
            checkpoint = decode_checkpoint(found)
            checkpoint.metrics = merge_metrics(checkpoint.metrics, metrics)
            checkpoint.tags = list(dict.fromkeys([*checkpoint.tags, *tags]))
            # A poll for new checkpoints must return it.
            checkpoint.created_at = now_after(self._newest(checkpoint.notebook_id))
            try:
                stored = document(id, checkpoint.to_json())
            except InvalidData as error:  # too many non-finite numbers
                raise Conflict(
                    f"{_describe(checkpoint)}; cannot add the metrics to it: {error}"
                ) from None
            self._store.checkpoints.replace(stored)
            if checkpoint.run_id is not None:
                self._runs.summarize(checkpoint.notebook_id, checkpoint.run_id)
            return self.read(stored)

    def attach_state(
        self,
        id: str,
        part: StatePart,
        commit: Callable[[], StoredState],
        digest: str,
        exists: Callable[[str], bool] = lambda _path: True,
    ) -> NotebookCheckpoint:
        """Add a state file to a checkpoint.

        If a state with this ``digest`` is recorded and ``exists(path)``, nothing changes. A pruned
        checkpoint accepts only the states that it had. ``pruned_at`` is removed when it has all of
        them again.

        Parameters
        ----------
        commit : callable
            Moves the file to its final path. Called inside the transaction, after all checks, so
            that concurrent uploads cannot overwrite each other. It must be quick, and is called
            again if the transaction is retried.

        Raises
        ------
        NotFound
            When there is no such checkpoint.
        Conflict
            When it has another state of this part. States cannot be replaced.
        """

        def attach(checkpoint: dict[str, Any]) -> None:
            path = checkpoint.get(f"{part}_state_path")
            digests, sizes = checkpoint.get("digests", {}), checkpoint.get("sizes", {})
            known = digests.get(part)
            if path and known != digest:
                raise Conflict(
                    f"checkpoint {id} has a {part} state already; states are written once"
                )
            if known not in (None, digest):
                raise Conflict(f"checkpoint {id} is recorded with another {part} state")
            if path and exists(path):
                return
            state = commit()
            checkpoint[f"{part}_state_path"] = self._states.recorded_path(
                state.path, checkpoint["notebook_id"]
            )
            checkpoint["digests"] = digests = {**digests, part: state.digest}
            checkpoint["sizes"] = {**sizes, part: state.size}
            if all(checkpoint.get(f"{known_part}_state_path") for known_part in digests):
                checkpoint.pop("pruned_at", None)

        return self._change(id, attach)

    @retried
    def _change(self, id: str, apply: Callable[[dict[str, Any]], None]) -> NotebookCheckpoint:
        with self._store.transaction():
            stored = self._store.checkpoints.get_for_update(id)
            if stored is None:
                raise NotFound("checkpoint", id)
            apply(stored)
            self._store.checkpoints.replace(stored)
            return self.read(stored)

    def delete(self, id: str) -> None:
        """Remove a checkpoint and its state files.

        Raises
        ------
        NotFound
            When there is no such checkpoint.
        StateError
            When the checkpoint was removed, but not its state files.
        """
        notebook_id = self._remove(id)
        with files_remain(f"checkpoint {id}"):
            self._states.remove_checkpoint(notebook_id, id)

    @retried
    def _remove(self, id: str) -> str:
        """Remove the record of a checkpoint; return the id of its notebook."""
        with self._store.transaction():
            found = self._store.checkpoints.get(doc_id=id)
            if found is not None:
                self._store.notebooks.get_for_update(found["notebook_id"])
                found = self._store.checkpoints.get_for_update(id)
            if found is None:
                raise NotFound("checkpoint", id)
            self._store.checkpoints.remove(doc_ids=[id])
            self._states.mark_unrecorded(found["notebook_id"], id)
            if isinstance(run_id := found.get("run_id"), str):
                self._runs.summarize(found["notebook_id"], run_id)
        return str(found["notebook_id"])

    def delete_run(self, notebook_id: str, run_id: str, *, with_pinned: bool = False) -> None:
        """Delete a run with its series, its checkpoints and their state files.

        Raises
        ------
        NotFound
            When the notebook has no such run.
        Conflict
            When the run is active, or a checkpoint is pinned, unless ``with_pinned``. Nothing is
            deleted then.
        StateError
            When state files remain.
        """
        removed = self._remove_run(notebook_id, run_id, with_pinned)
        with files_remain(f"run {run_id}"):
            for id in removed:
                self._states.remove_checkpoint(notebook_id, id)

    @retried
    def _remove_run(self, notebook_id: str, run_id: str, with_pinned: bool) -> builtins.list[str]:
        """Remove the records of a run and its checkpoints; return the ids of the checkpoints."""
        with self._store.transaction():
            self._store.notebooks.get_for_update(notebook_id)
            run = self._runs.get(notebook_id, run_id)
            if run is None:
                raise NotFound("run", run_id)
            if is_active(run):
                raise Conflict(f"run {run_id} is running; stop it first")
            found = self._store.checkpoints.search(checkpoint_query(notebook_id, run_id=run_id))
            pinned = [str(one.doc_id) for one in found if one.get("pinned")]
            if pinned and not with_pinned:
                count = (
                    "a pinned checkpoint"
                    if len(pinned) == 1
                    else f"{len(pinned)} pinned checkpoints"
                )
                raise Conflict(
                    f"run {run_id} has {count} that must be unpinned first, such as {pinned[0]}"
                )
            ids = [str(one.doc_id) for one in found]
            self._store.checkpoints.remove(doc_ids=ids)
            for id in ids:
                self._states.mark_unrecorded(notebook_id, id)
            self._runs.remove(notebook_id, run_id)
        return ids


def checkpoint_query(
    notebook_id: str, *, since: datetime | None = None, run_id: str | None = None
) -> QueryInstance:
    """Return a query for the checkpoints of a notebook or a run, newer than ``since``."""
    condition: QueryInstance = where("notebook_id") == notebook_id
    if since is not None:
        condition &= where("created_at") > format_time(since)
    if run_id is not None:
        condition &= where("run_id") == run_id
    return condition


def decode_checkpoint(stored: Mapping[str, Any]) -> NotebookCheckpoint:
    """Return the checkpoint of a stored document, with its paths as stored.

    Raises RecordDamaged.
    """
    with check_damage(f"checkpoint {stored.get('id')}"):
        return NotebookCheckpoint.from_json(stored)


def _describe(checkpoint: NotebookCheckpoint) -> str:
    position = f"epoch {checkpoint.epoch}, step {checkpoint.step}"
    return f"run {checkpoint.run_id} has a checkpoint at {position}"
