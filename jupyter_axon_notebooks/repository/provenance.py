"""The provenance of checkpoints: executed code, environment and notebook version.

Three kinds of documents are stored, each under the hash of its content: a *source*, an
*environment*, and an *execution*, which lists the executed sources and names the environment. The
next checkpoint of the same cell therefore stores nothing. Documents of other kinds are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from ..errors import InvalidData, NotFound, RecordDamaged
from ..provenance import (
    CheckpointDiff,
    CheckpointProvenance,
    Environment,
    ExecutedCell,
    Flag,
    Provenance,
    ResumedFrom,
    RunReproducibility,
)
from ..records import (
    U32,
    CellStatus,
    Moment,
    NotebookCheckpoint,
    NotebookVersion,
    Record,
    TrainingRun,
)
from ..store import Document, Store, document, retried
from ..store.codec import encode
from .checkpoints import CheckpointRepository
from .damage import check_damage
from .diff import count_changes, diff_checkpoints, is_code_changed
from .flags import SavedCells, find_flags
from .parts import DIGEST_LENGTH, content_id
from .run_comparison import RunComparison, compare_runs
from .runs import RunRepository
from .script import export_script
from .versions import VersionRepository

#: Results that are cached, and cells with their sources.
_MAX_CACHED: Final = 5_000
_MAX_CODES: Final = 128


class _CodeKey(NamedTuple):
    """The ids from which the executed and the saved code of a checkpoint follow."""

    notebook_id: str
    provenance_id: str | None
    version_id: str | None

    @classmethod
    def of(cls, checkpoint: NotebookCheckpoint) -> _CodeKey:
        return cls(checkpoint.notebook_id, checkpoint.provenance_id, checkpoint.version_id)


class _FlagsKey(NamedTuple):
    """The ids and the time from which the flags of a checkpoint follow."""

    code: _CodeKey
    current_id: str | None
    saved_at: datetime | None


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
        self._version = lru_cache(_MAX_CODES)(self._load_version)
        self._code = lru_cache(_MAX_CODES)(self._load_code)
        self._short_flags = lru_cache(_MAX_CACHED)(self._derive_flags)
        self._changes = lru_cache(_MAX_CACHED)(self._count_changes)

    def add(
        self, notebook_id: str, executed: Sequence[ExecutedCell], environment: Environment
    ) -> str:
        """Store executed cells and their environment; return the ``provenance_id`` for checkpoints.

        Nothing is stored if the notebook has the same provenance already. Raises NotFound.
        """
        id, documents = split_provenance(notebook_id, executed, environment)
        # If this document exists, so do those that it refers to: they are written together.
        if not self._store.provenance.existing_ids([id]):
            self._write(notebook_id, {str(one.doc_id): one for one in documents})
        return id

    @retried
    def _write(self, notebook_id: str, documents: Mapping[str, Document]) -> None:
        with self._store.transaction():
            if self._store.notebooks.get_for_update(notebook_id) is None:
                raise NotFound("notebook", notebook_id)
            present = self._store.provenance.existing_ids(documents)
            missing = [one for id, one in documents.items() if id not in present]
            if missing:
                self._store.provenance.insert(*missing)

    @retried
    def get(self, checkpoint_id: str) -> CheckpointProvenance:
        """Return the provenance of a checkpoint and the flags on its reproducibility.

        There are no executed cells if no kernel recorded any. Raises NotFound.
        """
        with self._store.snapshot():
            checkpoint = self._checkpoint(checkpoint_id)
            provenance = self._get(checkpoint)
            provenance.resumed_from = self._resumed_from(checkpoint)
            return provenance

    @retried
    def diff(self, before: str, after: str) -> CheckpointDiff:
        """Return the differences between two checkpoints; raises NotFound.

        The executed code is compared, or the saved code if one checkpoint has no executed code.
        """
        with self._store.snapshot():
            one, other = self._checkpoint(before), self._checkpoint(after)
            return diff_checkpoints(one, self._get(one), other, self._get(other))

    def compare_runs(self, runs: Sequence[TrainingRun]) -> RunComparison:
        """Return the differences between runs, by their last checkpoints."""
        latest = [self._checkpoints.get_latest(run.notebook_id, run_id=run.id) for run in runs]
        ids = [None if checkpoint is None else checkpoint.id for checkpoint in latest]
        return compare_runs(runs, ids, self.diff)

    @retried
    def summarize_runs(
        self, runs: Sequence[TrainingRun], bases: Sequence[TrainingRun] = ()
    ) -> list[RunReproducibility]:
        """Return whether the last checkpoints of runs can be reproduced.

        Results are cached by what they are derived from, so that it is cheap to call this again.
        What depends on damaged records is left out.

        Parameters
        ----------
        bases : sequence of TrainingRun
            The runs with whose code that of the others is compared: a single one for all runs, or
            one for the runs of each notebook.
        """
        compared = [*runs, *bases]
        with self._store.snapshot():
            latest = self._checkpoints.list_latest(compared)
            ids = sorted({run.notebook_id for run in compared})
            records = {str(one.doc_id): one for one in self._store.notebooks.get(doc_ids=ids)}

            def find(run: TrainingRun) -> NotebookCheckpoint | None:
                return latest.get((run.notebook_id, run.id))

            by_notebook = {base.notebook_id: find(base) for base in bases}
            only = find(bases[0]) if len(bases) == 1 else None
            found = []
            for run in runs:
                summary = RunReproducibility(run_id=run.id)
                found.append(summary)
                checkpoint, record = find(run), records.get(run.notebook_id)
                if checkpoint is None or record is None:
                    continue
                summary.checkpoint_id, code = checkpoint.id, _CodeKey.of(checkpoint)
                with suppress(RecordDamaged):
                    summary.is_recorded = bool(self._code(code).executed)
                    key = _FlagsKey(code, record.get("version_id"), _saved_at(record))
                    summary.flags = self._short_flags(key)
                    first = by_notebook.get(run.notebook_id, only)
                    if first is not None:
                        summary.changed_cells = self._changes(_CodeKey.of(first), code)
        return found

    def _load_code(self, key: _CodeKey) -> CheckpointProvenance:
        """Return the executed cells and the version of a checkpoint."""
        code = CheckpointProvenance(checkpoint_id="")
        if key.version_id is not None:
            code.version = self._version(key.notebook_id, key.version_id)
        stored = self._find(key.notebook_id, key.provenance_id)
        if stored is not None:
            code.executed, code.environment = stored.executed, stored.environment
        return code

    def _load_version(self, notebook_id: str, version_id: str) -> NotebookVersion | None:
        return self._versions.get(notebook_id, version_id, outputs=False)

    def _derive_flags(self, key: _FlagsKey) -> list[Flag]:
        """Return flags without the sources of the cells."""
        found = self._flags(
            self._code(key.code), key.code.notebook_id, key.current_id, key.saved_at
        )
        for flag in found:
            flag.executed = flag.source = None
        return found

    def _count_changes(self, before: _CodeKey, after: _CodeKey) -> int | None:
        return 0 if before == after else count_changes(self._code(before), self._code(after))

    def get_script(self, checkpoint_id: str) -> str | None:
        """Return the code executed before a checkpoint as a script, or None; raises NotFound."""
        executed = self.get(checkpoint_id).executed
        return export_script(executed, f"Checkpoint {checkpoint_id}") if executed else None

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

    def _get(self, checkpoint: NotebookCheckpoint) -> CheckpointProvenance:
        provenance = self._load_code(_CodeKey.of(checkpoint))
        provenance.checkpoint_id = checkpoint.id
        record = self._store.notebooks.get(doc_id=checkpoint.notebook_id)
        if record is not None:
            current_id, saved_at = record.get("version_id"), _saved_at(record)
            provenance.flags = self._flags(provenance, checkpoint.notebook_id, current_id, saved_at)
        return provenance

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
            resumed.code_changed = is_code_changed(self._get(parent), self._get(last))
        return resumed

    def _find(self, notebook_id: str, provenance_id: str | None) -> Provenance | None:
        if provenance_id is None:
            return None
        found = self._store.provenance.get(doc_id=provenance_id)
        if found is None or found.get("kind") != "execution" or found["notebook_id"] != notebook_id:
            return None
        parts = self._store.provenance.get(doc_ids=sorted(provenance_ids(found)))
        documents = {str(one.doc_id): one for one in parts}
        return assemble_provenance(provenance_id, found, documents)

    def _flags(
        self,
        provenance: CheckpointProvenance,
        notebook_id: str,
        current_id: str | None,
        saved_at: datetime | None,
    ) -> list[Flag]:
        """Return the flags of a checkpoint; ``saved_at`` is when the current version was saved."""
        saved = provenance.version
        if saved is None or current_id is None or not provenance.executed:
            return []
        current = saved if current_id == saved.id else self._version(notebook_id, current_id)
        if current is None:
            return []
        written_at = saved_at or current.created_at
        # The file may have been saved long before its record was created.
        made_at = min(saved.created_at, written_at) if current is saved else saved.created_at
        return find_flags(
            provenance.executed,
            SavedCells(saved.cells, made_at),
            SavedCells(current.cells, written_at),
        )


def _saved_at(record: Mapping[str, Any]) -> datetime | None:
    """Return when the file of a record was written, or None if unknown."""
    with suppress(KeyError, TypeError, ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(record["file"]["mtime"] / 1e9, timezone.utc)
    return None


#: Execution count, hash of the source, cell id, status, time.
_Entry = tuple[U32 | None, str, str | None, CellStatus | None, Moment | None]


class _Source(Record, kw_only=True):
    source: str


class _Environment(Record, kw_only=True):
    environment: Environment


class _Execution(Record, kw_only=True):
    notebook_id: str
    cells: list[_Entry]
    environment: str

    def document_ids(self) -> set[str]:
        digests = {self.environment, *(entry[1] for entry in self.cells)}
        return {content_id(self.notebook_id, digest) for digest in digests}


_KINDS: dict[Any, type[Record]] = {
    "source": _Source,
    "environment": _Environment,
    "execution": _Execution,
}


def provenance_ids(fields: Mapping[str, Any]) -> set[str]:
    """Return the ids of the documents that a provenance document refers to.

    Raises InvalidData for a malformed document of one of the three kinds.
    """
    kind = fields.get("kind")
    form = _KINDS.get(kind) if isinstance(kind, str) else None
    record = form.from_json(fields) if form is not None else None
    return record.document_ids() if isinstance(record, _Execution) else set()


def split_provenance(
    notebook_id: str, executed: Sequence[ExecutedCell], environment: Environment
) -> tuple[str, list[Document]]:
    """Return the id of a provenance and its documents."""
    documents: dict[str, Document] = {}

    def put(kind: Literal["source", "environment", "execution"], **content: Any) -> str:
        fields = {"kind": kind, **content}
        digest = hashlib.sha256(encode(fields).encode()).hexdigest()[:DIGEST_LENGTH]
        id = content_id(notebook_id, digest)
        documents[id] = document(id, {**fields, "notebook_id": notebook_id})
        return digest

    environment_digest = put("environment", environment=environment.to_json())
    cells = []
    for cell in executed:
        fields = cell.to_json()
        source = put("source", source=fields["source"])
        rest = (fields.get(name) for name in ("cell_id", "status", "executed_at"))
        cells.append([fields.get("execution_count"), source, *rest])
    digest = put("execution", cells=cells, environment=environment_digest)
    return content_id(notebook_id, digest), list(documents.values())


def assemble_provenance(
    id: str, execution: Mapping[str, Any], documents: Mapping[str, Mapping[str, Any]]
) -> Provenance:
    """Return a provenance from its execution and its documents; raises RecordDamaged."""
    with check_damage(f"provenance {id}"):
        whole = _Execution.from_json(execution)
        if missing := whole.document_ids() - documents.keys():
            raise InvalidData("$", f"documents are missing from the store: {sorted(missing)}")

        def get(digest: str) -> Mapping[str, Any]:
            return documents[content_id(whole.notebook_id, digest)]

        executed = [
            ExecutedCell(
                source=_Source.from_json(get(source)).source,
                execution_count=count,
                cell_id=cell_id,
                status=status,
                executed_at=executed_at,
            )
            for count, source, cell_id, status, executed_at in whole.cells
        ]
        environment = _Environment.from_json(get(whole.environment)).environment
    return Provenance(
        id=id, notebook_id=whole.notebook_id, executed=executed, environment=environment
    )
