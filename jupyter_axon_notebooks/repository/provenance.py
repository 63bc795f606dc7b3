"""Where checkpoints came from; how it is kept is in :mod:`.stored_provenance`, what speaks against it in :mod:`.flags`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from ..errors import NotFound
from ..provenance import (
    CheckpointDiff,
    CheckpointProvenance,
    Environment,
    ExecutedCell,
    Flag,
    Provenance,
    ResumedFrom,
)
from ..records import NotebookCheckpoint, NotebookVersion
from ..store import Document, Store, retried
from .changes import diff_checkpoints, is_code_changed
from .checkpoints import CheckpointRepository
from .flags import Saved, flags
from .runs import RunRepository
from .script import script_of
from .stored_provenance import (
    is_execution,
    listed_provenance,
    put_provenance_together,
    take_provenance_apart,
)
from .versions import VersionRepository


class ProvenanceRepository:
    """The provenance of checkpoints: executed code, environment and notebook version."""

    def __init__(
        self,
        store: Store,
        checkpoints: CheckpointRepository,
        runs: RunRepository,
        versions: VersionRepository,
    ) -> None:
        self._store = store
        self._checkpoints = checkpoints
        self._runs = runs
        self._versions = versions

    def add(
        self, notebook_id: str, executed: Sequence[ExecutedCell], environment: Environment
    ) -> str:
        """Store executed cells and their environment; return the ``provenance_id`` for checkpoints.

        The id follows from the content: what the notebook has stored already is not stored again. Raises NotFound.
        """
        id, documents = take_provenance_apart(notebook_id, executed, environment)
        # It is written together with all that it lists: who finds it there has the rest.
        if not self._store.provenance.present([id]):
            self._write(notebook_id, {str(one.doc_id): one for one in documents})
        return id

    @retried
    def _write(self, notebook_id: str, documents: Mapping[str, Document]) -> None:
        with self._store.transaction():
            if self._store.notebooks.locked(notebook_id) is None:
                raise NotFound("notebook", notebook_id)
            present = self._store.provenance.present(documents)
            missing = [one for id, one in documents.items() if id not in present]
            if missing:
                self._store.provenance.insert_new(*missing)

    @retried
    def get(self, checkpoint_id: str) -> CheckpointProvenance:
        """Return the provenance of a checkpoint and the flags on its reproducibility.

        Without executed cells if no kernel recorded any. Raises NotFound.
        """
        with self._store.snapshot():
            checkpoint = self._checkpoint(checkpoint_id)
            known = self._known_of(checkpoint)
            known.resumed_from = self._resumed_from(checkpoint)
            return known

    @retried
    def diff(self, before: str, after: str) -> CheckpointDiff:
        """Return the changes in code, metrics and environment between two checkpoints; raises NotFound.

        The code is what was executed, or what was saved if that is not known of both.
        """
        with self._store.snapshot():
            one, other = self._checkpoint(before), self._checkpoint(after)
            return diff_checkpoints(one, self._known_of(one), other, self._known_of(other))

    def get_script(self, checkpoint_id: str) -> str | None:
        """Return the code executed before a checkpoint as a Python script, or None if unknown; raises NotFound."""
        executed = self.get(checkpoint_id).executed
        return script_of(executed, f"Checkpoint {checkpoint_id}") if executed else None

    def get_notebook(self, checkpoint_id: str) -> NotebookVersion:
        """Return the notebook as it was saved when a checkpoint was made; raises NotFound."""
        checkpoint = self._checkpoint(checkpoint_id)
        version = self._versions.get(checkpoint.notebook_id, checkpoint.version_id or "")
        if version is None:
            raise NotFound("version", checkpoint.version_id or f"of checkpoint {checkpoint_id}")
        return version

    def _checkpoint(self, id: str) -> NotebookCheckpoint:
        checkpoint = self._checkpoints.get(id)
        if checkpoint is None:
            raise NotFound("checkpoint", id)
        return checkpoint

    def _known_of(self, checkpoint: NotebookCheckpoint) -> CheckpointProvenance:
        known = CheckpointProvenance(checkpoint_id=checkpoint.id)
        if checkpoint.version_id is not None:
            known.version = self._versions.get(
                checkpoint.notebook_id, checkpoint.version_id, outputs=False
            )
        provenance = self._stored(checkpoint)
        if provenance is not None:
            known.executed, known.environment = provenance.executed, provenance.environment
            known.flags = self._flags(known, checkpoint.notebook_id)
        return known

    def _resumed_from(self, checkpoint: NotebookCheckpoint) -> ResumedFrom | None:
        notebook_id, run_id = checkpoint.notebook_id, checkpoint.run_id
        run = None if run_id is None else self._runs.get(notebook_id, run_id)
        if run is None or run.parent_checkpoint_id is None:
            return None
        last = self._checkpoints.get_latest(notebook_id, run_id=run_id) or checkpoint
        resumed = ResumedFrom(checkpoint_id=run.parent_checkpoint_id, last_checkpoint_id=last.id)
        parent = self._checkpoints.get(run.parent_checkpoint_id)
        if parent is not None and parent.notebook_id == notebook_id:
            resumed.epoch, resumed.run_id = parent.epoch, parent.run_id
            resumed.code_changed = is_code_changed(self._known_of(parent), self._known_of(last))
        return resumed

    def _stored(self, checkpoint: NotebookCheckpoint) -> Provenance | None:
        if checkpoint.provenance_id is None:
            return None
        found = self._store.provenance.get(doc_id=checkpoint.provenance_id)
        if (
            found is None
            or not is_execution(found)
            or found["notebook_id"] != checkpoint.notebook_id
        ):
            return None
        listed = self._store.provenance.get(doc_ids=sorted(listed_provenance(found)))
        documents = {str(one.doc_id): one for one in listed}
        return put_provenance_together(checkpoint.provenance_id, found, documents)

    def _flags(self, known: CheckpointProvenance, notebook_id: str) -> list[Flag]:
        record = self._store.notebooks.get(doc_id=notebook_id)
        then = known.version
        if then is None or record is None:
            return []
        current: NotebookVersion | None = then
        if record["version_id"] != then.id:
            current = self._versions.get(notebook_id, record["version_id"], outputs=False)
        if current is None:
            return []
        saved_at = _saved_at(record) or current.created_at
        # A file may have been there long before its record.
        then_at = min(then.created_at, saved_at) if current is then else then.created_at
        return flags(known.executed, Saved(then.cells, then_at), Saved(current.cells, saved_at))


def _saved_at(record: Mapping[str, Any]) -> datetime | None:
    """When the file of a record was written, as far as the record knows."""
    with suppress(KeyError, TypeError, ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(record["file"]["mtime"] / 1e9, timezone.utc)
    return None
