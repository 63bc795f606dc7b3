"""Load archives into a store.

A notebook is loaded in one transaction with everything that belongs to it, so nobody sees half of one, and a load that
was interrupted is continued by loading the same file again. Documents that the store has already are skipped. A
document that differs from the one in the store is a conflict, which is reported and left alone. A notebook that was
saved since it was archived is such a conflict, but gets the runs and checkpoints that it lacks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tinydb import where

from ..errors import (
    ArchiveRefused,
    AxonError,
    Conflict,
    InvalidData,
    NoSpace,
    NotFound,
    RecordDamaged,
)
from ..repository.notebooks import binding_lock
from ..repository.parts import listed_contents
from ..repository.retention import file_key
from ..states import StateFiles
from ..states.folders import free_bytes, size_text
from ..states.layout import PARTS, Part, state_name
from ..store import Store, document
from ..store.failures import ForeignRecord
from ..store.schema import CHECKPOINTS, CONTENTS, NOTEBOOKS, PROVENANCE, RUNS, VERSIONS
from ..userfiles import read_regular, real_path
from .documents import DocumentAssembler, IncomingNotebook, read_document, read_notebook_document
from .format import (
    TABLES,
    DocumentProblem,
    archived_id,
    canonical_json,
    split_document_id,
)
from .reader import ArchiveReader
from .writer import Progress, no_progress

#: Each table before those that refer to it.
_HISTORY = (CONTENTS.name, VERSIONS.name)
_TRAINING = (RUNS.name, CHECKPOINTS.name, PROVENANCE.name)
_STATE_FORMATS = ("safetensors", "torch", "keras", "skops", "joblib", "npz", "onnx", "hdf5", None)
_CHUNK = 1 << 20
#: Fields of a notebook that say which file it belongs to here; they don't count when notebooks are compared.
_BINDING = frozenset({"origin", "path", "former_paths", "file", "synced_at"})
#: Notebook files whose ids are read, and their largest size in bytes.
_MAX_FILES, _MAX_FILE_SIZE = 10_000, 64 << 20


@dataclass
class TableCounts:
    """The documents of one table that were loaded."""

    added: int = 0
    unchanged: int = 0
    replaced: int = 0


@dataclass
class LoadReport:
    """The result of loading an archive.

    Attributes
    ----------
    conflicts : list of DocumentProblem
        Documents that the store has and that differ. They were left alone.
    damaged : list of DocumentProblem
        Documents that are invalid in the archive, or damaged in the store. They were left out.
    foreign : list of DocumentProblem
        Notebooks of users whose records the database does not let this role write.
    rebound : dict
        Paths of notebook files, by the id of the record that was bound to them.
    states : int
        State files that were restored.
    """

    tables: dict[str, TableCounts] = field(
        default_factory=lambda: {name: TableCounts() for name in TABLES}
    )
    conflicts: list[DocumentProblem] = field(default_factory=list)
    damaged: list[DocumentProblem] = field(default_factory=list)
    foreign: list[DocumentProblem] = field(default_factory=list)
    rebound: dict[str, str] = field(default_factory=dict)
    states: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether everything in the archive is in the store now."""
        return not (self.conflicts or self.damaged or self.foreign)

    def merge(self, other: LoadReport) -> None:
        """Include another report."""
        for name, counts in other.tables.items():
            mine = self.tables[name]
            mine.added += counts.added
            mine.unchanged += counts.unchanged
            mine.replaced += counts.replaced
        self.conflicts += other.conflicts
        self.damaged += other.damaged
        self.foreign += other.foreign
        self.rebound.update(other.rebound)
        self.states += other.states


def load_archive(
    store: Store,
    archive: ArchiveReader,
    *,
    overwrite: bool = False,
    owner: str | None = None,
    origin: str | None = None,
    folder: Path | None = None,
    states: StateFiles | None = None,
    progress: Progress = no_progress,
) -> LoadReport:
    """Load the documents of an archive into a store.

    Parameters
    ----------
    overwrite : bool
        Replace notebooks that differ, with everything that belongs to them. A notebook with checkpoints or state files
        that the archive lacks is never replaced.
    owner : str, optional
        The user who becomes the owner of the notebooks; by default they keep theirs.
    origin, folder : str, Path, optional
        The origin of this data folder, and a folder that is searched for notebook files. A record from another origin
        is bound to the file that carries its id, if that file has no record.
    states : StateFiles, optional
        Where archived state files are restored; without it they are ignored.
    """
    report = LoadReport(damaged=list(archive.problems))
    if states is not None:
        _check_space(archive, states)
    files = {} if origin is None or folder is None else find_notebook_files(folder)
    loader = _Loader(store, archive, overwrite, owner, origin, files, states)
    total, done = archive.count(), 0
    for notebook_id in archive.notebook_ids():
        report.merge(loader.load(notebook_id))
        done += archive.count(notebook_id)
        progress(done, total)
    return report


def _check_space(archive: ArchiveReader, states: StateFiles) -> None:
    needed, free = archive.states_size, free_bytes(str(_existing(Path(states.root))))
    if free is not None and needed > free:
        raise NoSpace(
            f"the state files in {archive.path} take {size_text(needed)}, and {states.root} has {size_text(free)} left. "
            "Free some space, or set c.AxonNotebooks.states_root to a folder on another disk"
        )


def _existing(path: Path) -> Path:
    return next((one for one in (path, *path.parents) if one.is_dir()), path)


def find_notebook_files(folder: Path) -> dict[str, list[str]]:
    """Return the notebook files in a folder and below it by the record id in their metadata."""
    found: dict[str, list[str]] = {}
    for path in _notebook_paths(folder):
        with suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
            metadata = json.loads(read_regular(path, _MAX_FILE_SIZE))["metadata"]
            id = metadata["axon"]["notebook_id"]
            if isinstance(id, str):
                found.setdefault(id, []).append(real_path(path))
    return found


def _notebook_paths(folder: Path) -> Iterator[str]:
    count = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(".ipynb"):
                yield os.path.join(parent, name)
                count += 1
                if count == _MAX_FILES:
                    return


class _Rejected(Exception):
    """Rolls back the transaction of a notebook; the report says why."""

    def __init__(self, **problems: Iterable[DocumentProblem]) -> None:
        super().__init__()
        self.report = LoadReport(**{name: list(found) for name, found in problems.items()})  # type: ignore[arg-type]


class _RestoredState(NamedTuple):
    checkpoint_id: str
    part: Part
    name: str


class _Loader:
    def __init__(
        self,
        store: Store,
        archive: ArchiveReader,
        overwrite: bool,
        owner: str | None,
        origin: str | None,
        files: Mapping[str, list[str]],
        states: StateFiles | None,
    ) -> None:
        self._store = store
        self._archive = archive
        self._overwrite = overwrite
        self._owner = owner
        self._origin = origin
        self._files = files
        self._states = states
        self._verified = archive.manifest is not None
        self._assembler = DocumentAssembler(store)

    def load(self, id: str) -> LoadReport:
        """Load a notebook and everything that belongs to it, or report why not."""
        try:
            with self._restored_states(id) as restored:
                notebook = self._read_notebook(id)
                try:
                    return self._attempt(id, lambda: self._add(id, notebook, restored))
                except _Rejected as rejected:
                    if notebook is None or not (self._overwrite and rejected.report.conflicts):
                        raise
                    return self._attempt(id, partial(self._replace, notebook, restored))
        except _Rejected as rejected:
            return rejected.report

    def _attempt(self, id: str, work: Callable[[], LoadReport]) -> LoadReport:
        def once() -> LoadReport:
            with self._store.transaction():
                report = work()
                if report.conflicts and self._overwrite:
                    raise _Rejected(conflicts=report.conflicts)
                return report

        def problem(error: AxonError) -> list[DocumentProblem]:
            return [DocumentProblem(NOTEBOOKS.name, id, str(error))]

        try:
            return self._store.attempt(once)
        except Conflict as error:
            raise _Rejected(conflicts=problem(error)) from None
        except RecordDamaged as error:
            raise _Rejected(damaged=problem(error)) from None
        except ForeignRecord as error:
            raise _Rejected(foreign=problem(error)) from None

    # Reading the archive

    def _read_notebook(self, id: str) -> IncomingNotebook | None:
        archived = self._archive.notebook(id)
        if archived is None:
            return None
        versions: dict[str, dict[str, Any]] = {}
        contents: set[str] = set()
        if not self._verified:
            versions = {one: found for one, found in self._valid(VERSIONS.name, id, [])}
            contents = {one for one, _ in self._valid(CONTENTS.name, id, [])}
        try:
            notebook = read_notebook_document(
                archived, verified=self._verified, versions=versions, contents=contents
            )
        except InvalidData as error:
            problem = DocumentProblem(NOTEBOOKS.name, id, str(error))
            raise _Rejected(damaged=[problem]) from None
        if self._owner is not None:
            notebook.stored["user_id"] = self._owner
        return notebook

    def _valid(
        self, table: str, notebook_id: str, damaged: list[DocumentProblem]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for batch in self._archive.documents(table, notebook_id):
            for archived in batch:
                try:
                    yield read_document(table, archived, verified=self._verified)
                except InvalidData as error:
                    id = split_document_id(archived)[0]
                    damaged.append(DocumentProblem(table, id, str(error)))

    # State files

    @contextmanager
    def _restored_states(self, notebook_id: str) -> Iterator[list[_RestoredState]]:
        """Restore the state files of checkpoints that lack them; remove them again if the notebook is rejected."""
        restored: list[_RestoredState] = []
        states = self._states
        if states is None:
            yield restored
            return
        try:
            for checkpoint_id, name, expected in self._archive.states(notebook_id):
                part: Part = "model" if name.startswith("model.") else "optimizer"
                stored = self._store.checkpoints.get(doc_id=checkpoint_id)
                path = "/".join((notebook_id, checkpoint_id, name))
                if stored is not None:
                    path = stored.get(f"{part}_state_path") or path
                    digest = (stored.get("digests") or {}).get(part, expected.sha256)
                    if stored.get("pruned_at") or digest != expected.sha256:
                        continue
                if states.holds(path, notebook_id):
                    continue
                format = next(one for one in _STATE_FORMATS if state_name(part, one) == name)
                with states.writer(
                    notebook_id, checkpoint_id, part, format=format, expected_size=expected.size
                ) as writer:
                    with self._archive.open_state(notebook_id, checkpoint_id, name) as source:
                        while chunk := source.read(_CHUNK):
                            writer.write(chunk)
                    if writer.digest != expected.sha256:
                        raise ArchiveRefused(f"{self._archive.path} has changed while it was loaded")
                    writer.commit()
                restored.append(_RestoredState(checkpoint_id, part, name))
            yield restored
        except BaseException:
            for checkpoint_id, _, name in restored:
                with suppress(AxonError):
                    aside = states.set_aside(notebook_id, checkpoint_id, [name])
                    states.remove_aside(notebook_id, checkpoint_id, aside)
            raise
        for checkpoint_id in {one.checkpoint_id for one in restored}:
            states.recorded(notebook_id, checkpoint_id)

    # Inside the transaction

    def _add(
        self, id: str, notebook: IncomingNotebook | None, restored: list[_RestoredState]
    ) -> LoadReport:
        """Store what the store lacks."""
        report = LoadReport(states=len(restored))
        if notebook is None:
            self._add_to_stored(report, id, restored)
            return report
        notebook = replace(notebook, stored=dict(notebook.stored))  # this may be repeated
        self._store.lock(f"notebook {id}")
        stored = self._store.notebooks.locked(id)
        if stored is None:
            self._bind(report, notebook)
            self._insert_notebook(report, notebook)
        elif _comparable(stored) == _comparable(notebook.stored):
            report.tables[NOTEBOOKS.name].unchanged += 1
        else:
            self._add_to_changed(report, notebook, stored, restored)
            return report
        for table in _HISTORY:
            self._add_history(report, notebook, table)
        for table in _TRAINING:
            self._add_table(report, table, id, restored)
        try:
            self._assembler.assemble(id, self._store.notebooks.get(doc_id=id))
        except RecordDamaged as error:
            problem = DocumentProblem(NOTEBOOKS.name, id, f"its cells are incomplete: {error}")
            raise _Rejected(damaged=[*report.damaged, problem]) from None
        return report

    def _replace(
        self, notebook: IncomingNotebook, restored: list[_RestoredState]
    ) -> LoadReport:
        """Store a notebook in place of the one that is there."""
        id = notebook.id
        self._store.lock(f"notebook {id}")
        stored = self._store.notebooks.locked(id)
        versions = self._check_nothing_is_lost(id)
        for table in (*_HISTORY, *_TRAINING):
            self._store.table(table).discard_of(id)
        self._store.notebooks.remove(doc_ids=[id])
        if stored is not None and stored.get("origin") == self._origin != notebook.stored.get("origin"):
            kept = {name: stored[name] for name in ("origin", "path", "former_paths") if name in stored}
            notebook = replace(notebook, stored={**notebook.stored, **kept, "file": {}})
        report = self._add(id, notebook, restored)
        lost = versions.keys() - self._store.versions.present(versions)
        report.conflicts += (
            DocumentProblem(
                VERSIONS.name,
                version_id,
                f"checkpoint {versions[version_id]} in the store refers to it, and the file lacks it; delete that "
                "checkpoint first",
            )
            for version_id in sorted(lost)
        )
        for counts in report.tables.values():
            counts.added, counts.replaced = 0, counts.added
        return report

    def _check_nothing_is_lost(self, id: str) -> dict[str, str]:
        """Reject a replacement that loses checkpoints or state files.

        Returns the versions that checkpoints in the store refer to, each with one of those checkpoints.
        """
        archived: dict[str, list[Any]] = {}
        for checkpoint_id, found in self._valid(CHECKPOINTS.name, id, []):
            archived.setdefault(checkpoint_id, _state_keys(found))
        of_notebook = where("notebook_id") == id
        if missing := len(self._store.checkpoints.ids(of_notebook) - archived.keys()):
            reason = (
                f"the store has {missing} checkpoint(s) of it that the file lacks; delete those that are not needed first"
            )
            raise _Rejected(conflicts=[DocumentProblem(NOTEBOOKS.name, id, reason)])
        reason = "the store has a state file of it that the file lacks; delete the checkpoint first to replace it"
        lost: list[DocumentProblem] = []
        versions: dict[str, str] = {}
        for stored in self._store.checkpoints.each(of_notebook):
            checkpoint_id = str(stored.doc_id)
            pairs = zip(_state_keys(stored), archived[checkpoint_id], strict=True)
            if any(key and key != archived_key for key, archived_key in pairs):
                lost.append(DocumentProblem(CHECKPOINTS.name, checkpoint_id, reason))
            if (version_id := stored.get("version_id")) is not None:
                versions.setdefault(version_id, checkpoint_id)
        if lost:
            raise _Rejected(conflicts=lost)
        present = self._store.versions.present(versions)
        return {version_id: versions[version_id] for version_id in present}

    def _add_to_stored(
        self, report: LoadReport, id: str, restored: list[_RestoredState]
    ) -> None:
        """Add runs and checkpoints to a notebook that is only in the store."""
        is_stored = self._store.notebooks.locked(id) is not None
        reason = (
            f"its notebook {id} is not in the file"
            if is_stored
            else f"its notebook {id} is neither in the file nor in the store"
        )
        for table in _HISTORY if is_stored else (*_HISTORY, *_TRAINING):
            for batch in self._archive.documents(table, id):
                report.damaged += (
                    DocumentProblem(table, split_document_id(one)[0], reason) for one in batch
                )
        if is_stored:
            for table in _TRAINING:
                self._add_table(report, table, id, restored)
        else:
            raise _Rejected(damaged=report.damaged)

    def _add_to_changed(
        self,
        report: LoadReport,
        notebook: IncomingNotebook,
        stored: Mapping[str, Any],
        restored: list[_RestoredState],
    ) -> None:
        """Add runs and checkpoints to a notebook that was saved since; reject any other notebook with the same id."""
        reason = "the store has it, and it differs"
        versions = {
            version_id
            for _, one in self._valid(CHECKPOINTS.name, notebook.id, [])
            if isinstance(version_id := one.get("version_id"), str)
        }
        is_older_state = (
            not self._overwrite
            and stored.get("created_at") == notebook.stored["created_at"]
            and len(self._store.versions.present(versions)) == len(versions)
        )
        if not is_older_state:
            raise _Rejected(conflicts=[DocumentProblem(NOTEBOOKS.name, notebook.id, reason)])
        for table in _TRAINING:
            self._add_table(report, table, notebook.id, restored)
        if any(counts.added for counts in report.tables.values()):
            reason += "; it is kept, and the runs and checkpoints that it lacked were added"
        report.conflicts.insert(0, DocumentProblem(NOTEBOOKS.name, notebook.id, reason))

    def _bind(self, report: LoadReport, notebook: IncomingNotebook) -> None:
        """Bind a new record to the file here that carries its id, and reject one whose file has another record."""
        stored = notebook.stored
        if self._origin is not None and stored.get("origin") != self._origin:
            ids = dict.fromkeys([stored.get("embedded_id") or notebook.id, notebook.id])
            paths = [path for id in ids for path in self._files.get(id, [])]
            if len(paths) == 1 and self._bound(self._origin, paths[0]) is None:
                former = [path for path in (stored.get("path"),) if path not in (None, paths[0])]
                stored["former_paths"] = [*stored.get("former_paths", []), *former]
                stored.update(origin=self._origin, path=paths[0], file={})
                report.rebound[notebook.id] = paths[0]
        origin, path = stored.get("origin"), stored.get("path")
        if origin is not None and path is not None:
            bound = self._bound(origin, path)
            if bound is not None:
                reason = f"its file {path} belongs to notebook {bound} in the store"
                raise _Rejected(conflicts=[DocumentProblem(NOTEBOOKS.name, notebook.id, reason)])

    def _bound(self, origin: str, path: str) -> str | None:
        self._store.lock(binding_lock(origin, path))
        bound = self._store.notebooks.get((where("origin") == origin) & (where("path") == path))
        return None if bound is None else str(bound.doc_id)

    def _insert_notebook(self, report: LoadReport, notebook: IncomingNotebook) -> None:
        # Before anything else, since row-level security refuses documents of a notebook that is not the user's.
        try:
            self._store.notebooks.insert_new(document(notebook.id, notebook.stored))
        except ForeignRecord:
            reason = (
                f"it belongs to {notebook.stored['user_id']}, and this user of the database may not write "
                "that user's records"
            )
            raise _Rejected(
                foreign=[DocumentProblem(NOTEBOOKS.name, notebook.id, reason)]
            ) from None
        report.tables[NOTEBOOKS.name].added += 1

    def _add_history(self, report: LoadReport, notebook: IncomingNotebook, table: str) -> None:
        """Add contents or versions, archived and derived ones; reject the notebook where any differ."""
        for found in _batches(self._valid(table, notebook.id, report.damaged)):
            if table == CONTENTS.name:
                found = {id: notebook.limit_ordinal(id, one) for id, one in found.items()}
            else:
                found = self._complete_versions(report, found)
            self._add_documents(report, table, found)
        self._add_documents(report, table, notebook.derived.get(table, {}))
        if report.conflicts:
            raise _Rejected(conflicts=report.conflicts)

    def _complete_versions(
        self, report: LoadReport, versions: dict[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Return the versions whose contents are all in the store."""
        listed = {id: listed_contents(version) for id, version in versions.items()}
        present = self._store.contents.present(set().union(*listed.values()))
        for id, contents in listed.items():
            if missing := len(contents - present):
                reason = f"{missing} of its contents are not in the file"
                report.damaged.append(DocumentProblem(VERSIONS.name, id, reason))
        return {id: one for id, one in versions.items() if listed[id] <= present}

    def _add_table(
        self, report: LoadReport, table: str, notebook_id: str, restored: list[_RestoredState]
    ) -> None:
        for found in _batches(self._valid(table, notebook_id, report.damaged)):
            if table == CHECKPOINTS.name:
                self._point_to_restored(found, restored)
            self._add_documents(report, table, found)

    def _point_to_restored(
        self, found: dict[str, dict[str, Any]], restored: list[_RestoredState]
    ) -> None:
        """Let checkpoints name the state files that were restored, which may have been elsewhere."""
        for checkpoint_id, part, name in restored:
            if (checkpoint := found.get(checkpoint_id)) is not None:
                path = "/".join((checkpoint["notebook_id"], checkpoint_id, name))
                checkpoint[f"{part}_state_path"] = path

    def _add_documents(
        self, report: LoadReport, table: str, found: Mapping[str, dict[str, Any]]
    ) -> None:
        """Insert the documents that the store lacks, and compare the others."""
        if not found:
            return
        rows, counts = self._store.table(table), report.tables[table]
        stored = {str(one.doc_id): one for one in rows.get(doc_ids=list(found))}
        new = [document(id, one) for id, one in found.items() if id not in stored]
        if new:
            rows.insert_new(*new)
            counts.added += len(new)
        for id, one in stored.items():
            if _comparable(one) == _comparable(found[id]):
                counts.unchanged += 1
            else:
                reason = "the store has it, and it differs"
                problem = DocumentProblem(table, archived_id(table, id, one), reason)
                report.conflicts.append(problem)


def _batches(
    documents: Iterator[tuple[str, dict[str, Any]]], size: int = 500
) -> Iterator[dict[str, dict[str, Any]]]:
    batch: dict[str, dict[str, Any]] = {}
    for id, found in documents:
        batch[id] = found
        if len(batch) == size:
            yield batch
            batch = {}
    if batch:
        yield batch


def _comparable(stored: Mapping[str, Any]) -> str:
    """Return a document as text, without what depends on where the store is: bindings, and places of state files."""
    compared = {name: value for name, value in stored.items() if name not in _BINDING}
    digests = stored.get("digests")
    for part, key in zip(PARTS, _state_keys(stored), strict=True):
        if key:
            has_digest = isinstance(digests, dict) and bool(digests.get(part))
            compared[f"{part}_state_path"] = has_digest or key
    return canonical_json(compared)


def _state_keys(checkpoint: Mapping[str, Any]) -> list[Any]:
    """Return the state files that a checkpoint names; those in its own folder without the root of the folder."""
    own = (checkpoint.get("notebook_id"), checkpoint.get("id"))
    paths = (checkpoint.get(f"{part}_state_path") for part in PARTS)
    return [key if path and (key := file_key(path))[:2] == own else path for path in paths]
