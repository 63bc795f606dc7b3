"""Checkpoints and runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, Protocol

from tinydb import where
from tinydb.queries import QueryInstance

from ..errors import Conflict, InvalidData, NotFound
from ..records import (
    NewCheckpoint,
    NotebookCheckpoint,
    RunStatus,
    TrainingRun,
    UpdateCheckpoint,
    format_time,
    new_id,
    now,
    now_after,
)
from ..store import DocumentTable, Store, document, retried
from .damage import damage_named
from .states import States, files_remain

StatePart = Literal["model", "optimizer"]
STATE_PARTS: tuple[StatePart, ...] = ("model", "optimizer")


class StoredState(Protocol):
    """A state file that is in its place: absolute path, SHA-256 in hex, size in bytes."""

    @property
    def path(self) -> str:
        """Where it is."""

    @property
    def digest(self) -> str:
        """Its SHA-256, in hex."""

    @property
    def size(self) -> int:
        """Its size in bytes."""


class Checkpoints:
    """The checkpoint half of the repository; :class:`.NotebookRepository` says what each operation promises."""

    def __init__(self, store: Store, states: States) -> None:
        self._store = store
        self._states = states

    @retried
    def create(self, new: NewCheckpoint) -> NotebookCheckpoint:
        """Store a new checkpoint."""
        with self._store.transaction():
            notebook = self._store.notebooks.locked(new.notebook_id)
            if notebook is None:
                raise NotFound("notebook", new.notebook_id)
            checkpoint = NotebookCheckpoint(
                **{
                    name: getattr(new, name)
                    for name in new.__struct_fields__
                    if name not in ("id", "version_id")
                },
                id=new.id or new_id(),
                version_id=new.version_id or notebook["version_id"],
                created_at=now_after(self._newest(self._store.checkpoints, "created_at", new.notebook_id)),
            )
            if new.version_id is not None:
                self._check_version(new.notebook_id, new.version_id)
            if new.run_id is not None:
                self._begin_if_new(new.notebook_id, new.run_id)
            stored = document(checkpoint.id, checkpoint.to_json())
            try:
                if new.id is None:
                    self._store.checkpoints.insert_new(stored)
                else:
                    self._store.checkpoints.insert(stored)
            except ValueError:
                raise Conflict(f"checkpoint {checkpoint.id} exists already") from None
            except Conflict as error:
                if ".run_id" not in str(error):  # not the index that holds (run, epoch, step) unique
                    raise
                raise Conflict(
                    f"run {checkpoint.run_id} has a checkpoint at epoch {checkpoint.epoch}, "
                    f"step {checkpoint.step} already"
                ) from None
        return checkpoint

    @staticmethod
    def _newest(table: DocumentTable, time: str, notebook_id: str) -> str | None:
        """When the newest of a notebook's documents is from; under the notebook's lock, for the next one's time."""
        found: str | None = table.highest(time, of="notebook_id", value=notebook_id)
        return found

    def _check_version(self, notebook_id: str, version_id: str) -> None:
        version = self._store.versions.get(doc_id=version_id)
        if version is None or version["notebook_id"] != notebook_id:
            raise InvalidData("$.version_id", f"notebook {notebook_id} has no version {version_id}")

    def _begin_if_new(self, notebook_id: str, run_id: str) -> None:
        run = self._store.runs.get(doc_id=run_id)
        if run is None:
            self.create_run(TrainingRun(id=run_id, notebook_id=notebook_id, started_at=now()))
        elif run["notebook_id"] != notebook_id:
            raise Conflict(f"run {run_id} belongs to another notebook")

    def get(self, id: str) -> NotebookCheckpoint | None:
        """A checkpoint by id."""
        found = self._store.checkpoints.get(doc_id=id)
        return None if found is None else _checkpoint(found)

    def ids_beginning(self, prefix: str) -> list[str]:
        """The ids that begin with ``prefix``."""
        return self._store.checkpoints.ids_beginning(prefix)

    def page(self, matching: QueryInstance, limit: int | None, offset: int) -> list[NotebookCheckpoint]:
        """The checkpoints that match, newest first."""
        order = ["-created_at", "-id"]
        found = self._store.checkpoints.search(matching, sort=order, limit=limit, skip=offset)
        return [_checkpoint(stored) for stored in found]

    def count(self, matching: QueryInstance) -> int:
        """How many checkpoints match."""
        return self._store.checkpoints.count(matching)

    def best(
        self, notebook_id: str, metric_key: str, *, minimize: bool, limit: int
    ) -> list[NotebookCheckpoint]:
        """The best by a metric, best first."""
        found = self._store.best(notebook_id, metric_key, minimize=minimize, limit=limit)
        return [_checkpoint(stored) for stored in found]

    def update(self, id: str, updates: UpdateCheckpoint) -> NotebookCheckpoint:
        """Change labels."""
        changes = {
            name: value for name in ("tags", "pinned") if (value := getattr(updates, name)) is not None
        }
        return self._change(id, lambda checkpoint: checkpoint.update(changes))

    def attach_state(
        self,
        id: str,
        part: StatePart,
        commit: Callable[[], StoredState],
        digest: str,
        is_there: Callable[[str], bool],
    ) -> NotebookCheckpoint:
        """Record a state file that ``commit`` puts in its place."""

        def attach(checkpoint: dict[str, Any]) -> None:
            path = checkpoint.get(f"{part}_state_path")
            if path:
                if checkpoint.get("digests", {}).get(part) != digest:
                    raise Conflict(f"checkpoint {id} has a {part} state already; states are written once")
                if is_there(path):
                    return
            stored = commit()
            checkpoint[f"{part}_state_path"] = stored.path
            checkpoint["digests"] = {**checkpoint.get("digests", {}), part: stored.digest}
            checkpoint["sizes"] = {**checkpoint.get("sizes", {}), part: stored.size}

        return self._change(id, attach)

    @retried
    def _change(self, id: str, apply: Callable[[dict[str, Any]], None]) -> NotebookCheckpoint:
        with self._store.transaction():
            if self._store.checkpoints.locked(id) is None:
                raise NotFound("checkpoint", id)
            self._store.checkpoints.update(apply, doc_ids=[id])
            return _checkpoint(self._store.checkpoints.get(doc_id=id))

    def delete(self, id: str) -> None:
        """Remove a checkpoint and its state files."""
        notebook_id = self._remove(id)
        with files_remain(f"checkpoint {id}"):
            self._states.remove_checkpoint(notebook_id, id)

    @retried
    def _remove(self, id: str) -> str:
        """Remove a checkpoint; the id of its notebook."""
        with self._store.transaction():
            found = self._store.checkpoints.locked(id)
            if found is None:
                raise NotFound("checkpoint", id)
            self._store.checkpoints.remove(doc_ids=[id])
            self._states.abandon(found["notebook_id"], id)
        return str(found["notebook_id"])

    # Runs

    @retried
    def create_run(self, run: TrainingRun) -> TrainingRun:
        """Store a new run."""
        with self._store.transaction():
            if self._store.notebooks.locked(run.notebook_id) is None:
                raise NotFound("notebook", run.notebook_id)
            run.started_at = now_after(self._newest(self._store.runs, "started_at", run.notebook_id))
            if run.parent_checkpoint_id is not None:
                parent = self._store.checkpoints.get(doc_id=run.parent_checkpoint_id)
                if parent is None or parent["notebook_id"] != run.notebook_id:
                    raise NotFound("checkpoint", run.parent_checkpoint_id)
            try:
                self._store.runs.insert(document(run.id, run.to_json()))
            except ValueError:
                raise Conflict(f"run {run.id} exists already") from None
        return run

    def get_run(self, id: str) -> TrainingRun | None:
        """A run by id."""
        found = self._store.runs.get(doc_id=id)
        return None if found is None else _run(found)

    def runs(self, notebook_id: str, limit: int | None, offset: int) -> list[TrainingRun]:
        """The runs of a notebook, newest first."""
        order = ["-started_at", "-id"]
        of_notebook = where("notebook_id") == notebook_id
        found = self._store.runs.search(of_notebook, sort=order, limit=limit, skip=offset)
        return [_run(stored) for stored in found]

    @retried
    def set_run_status(self, id: str, status: RunStatus) -> TrainingRun:
        """Move a run on, or end it."""
        with self._store.transaction():
            found = self._store.runs.locked(id)
            if found is None:
                raise NotFound("run", id)
            run = _run(found)
            run.status = status
            run.ended_at = None if status is RunStatus.RUNNING else now_after(run.started_at)
            changed = run.to_json()

            def replace(stored: Any) -> None:
                stored.clear()
                stored.update(changed)

            self._store.runs.update(replace, doc_ids=[id])
        return run


def checkpoints_of(
    notebook_id: str, *, since: datetime | None = None, run_id: str | None = None
) -> QueryInstance:
    """The condition that a list of checkpoints is asked for; ``since`` leaves out what is not newer."""
    condition: QueryInstance = where("notebook_id") == notebook_id
    if since is not None:
        condition &= where("created_at") > format_time(since)
    if run_id is not None:
        condition &= where("run_id") == run_id
    return condition


def _checkpoint(document: Mapping[str, Any]) -> NotebookCheckpoint:
    with damage_named(f"checkpoint {document.get('id')}"):
        return NotebookCheckpoint.from_json(document)


def _run(document: Mapping[str, Any]) -> TrainingRun:
    with damage_named(f"run {document.get('id')}"):
        return TrainingRun.from_json(document)
