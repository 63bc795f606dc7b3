"""Load archives into a store.

A notebook is loaded in one transaction with everything that belongs to it, so nobody sees half of
one, and loading the same file again continues an interrupted load. Documents that the store has
already are skipped. A document that differs from the one in the store is a conflict, which is
reported and left alone. A notebook that was saved since it was archived is such a conflict, but
gets the runs and checkpoints that it lacks.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tinydb import where

from ..errors import ArchiveRefused, AxonError, Conflict, InvalidData, RecordDamaged
from ..repository.headers import file_lock
from ..repository.parts import content_ids
from ..repository.retention import file_key
from ..states import StateStorage
from ..states.layout import PARTS, Part, state_name
from ..store import ForeignRecord, Store, document
from ..store.schema import CHECKPOINTS, CONTENTS, NOTEBOOKS, PROVENANCE, RUNS, VERSIONS
from ..userfiles import read_regular, real_path
from .documents import assemble_notebook, read_document, read_notebook, read_plain_notebook
from .format import (
    DocumentProblem,
    MemberDigest,
    Progress,
    canonical_json,
    no_progress,
    split_document_id,
)
from .reader import ArchiveReader

#: Each table before those that refer to it.
_HISTORY = (CONTENTS.name, VERSIONS.name)
_TRAINING = (RUNS.name, CHECKPOINTS.name, PROVENANCE.name)
_STATE_FORMATS = ("safetensors", "torch", "keras", "skops", "joblib", "npz", "onnx", "hdf5", None)
_BATCH = 500
_CHUNK = 1 << 20
#: Fields of a notebook that say which file it belongs to here. They are not compared.
_BINDING = frozenset({"origin", "path", "former_paths", "file", "synced_at"})
#: The maximum number of files and folders to search for notebook files, and the maximum size of a
#: notebook file in bytes.
_MAX_ENTRIES, _MAX_FILE_SIZE = 100_000, 64 << 20
_DIFFERS = "it differs from the one in the store"

_Documents = dict[str, dict[str, Any]]


@dataclass
class LoadReport:
    """The result of loading an archive.

    Attributes
    ----------
    counts : Counter
        How many documents were ``added``, ``unchanged`` and ``replaced``, by table and one of these
        words.
    problems : list of DocumentProblem
        Documents that were not loaded, and why.
    rebound : dict
        Paths of notebook files, by the id of the record that was bound to them.
    states : int
        State files that were restored.
    is_rejected : bool
        Whether nothing of the notebook was loaded.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[DocumentProblem] = field(default_factory=list)
    rebound: dict[str, str] = field(default_factory=dict)
    states: int = 0
    is_rejected: bool = False

    def add(self, other: LoadReport) -> None:
        """Include the report of a notebook."""
        self.counts.update(other.counts)
        self.problems += other.problems
        self.rebound.update(other.rebound)
        self.states += 0 if other.is_rejected else other.states

    def add_problem(self, kind: Any, table: str, id: str, reason: str) -> None:
        """Note a document that is not loaded."""
        self.problems.append(DocumentProblem(kind, table, id, reason))

    def of_kind(self, kind: str) -> list[DocumentProblem]:
        """Return the problems of one kind."""
        return [problem for problem in self.problems if problem.kind == kind]


class _Rejected(Exception):
    """Rolls back the transaction of a notebook, because of the problems in a report."""

    def __init__(self, report: LoadReport) -> None:
        super().__init__()
        self.report = report


class _RestoredState(NamedTuple):
    checkpoint_id: str
    part: Part
    name: str


def find_notebook_files(folder: Path) -> dict[str, list[str]]:
    """Return the notebook files in a folder and below it, by the record id in their metadata."""
    found: dict[str, list[str]] = {}
    count = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += 1 + len(names)
        if count > _MAX_ENTRIES:
            break
        for path in (os.path.join(parent, name) for name in names if name.endswith(".ipynb")):
            with suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
                notebook = json.loads(read_regular(path, _MAX_FILE_SIZE))
                id = notebook["metadata"]["axon"]["notebook_id"]
                found.setdefault(id, []).append(real_path(path))
    return found


def load_archive(
    store: Store,
    archive: ArchiveReader,
    *,
    overwrite: bool = False,
    owner: str | None = None,
    origin: str | None = None,
    folder: Path | None = None,
    states: StateStorage | None = None,
    progress: Progress = no_progress,
) -> LoadReport:
    """Load the documents of an archive into a store.

    Parameters
    ----------
    overwrite : bool
        Replace notebooks that differ, with everything that belongs to them. A notebook with
        checkpoints or state files that the archive lacks is never replaced.
    owner : str, optional
        The user who becomes the owner of the notebooks; by default they keep theirs.
    origin, folder : optional
        The origin of this data folder, and a folder that is searched for notebook files. A record
        from another origin is bound to the file that carries its id, if that file has no record.
    states : StateStorage, optional
        Where archived state files are restored; without it they are ignored.
    """
    loader = _Loader(store, archive, overwrite, owner, origin, folder, states)
    report = LoadReport(problems=list(archive.problems))
    counts = archive.count_documents()
    for notebook_id in counts:
        report.add(loader.load(notebook_id))
        progress(sum(report.counts.values()), sum(counts.values()))
    return report


class _Loader:
    """Loads notebooks; ``_report`` is that of the transaction that is open."""

    def __init__(
        self,
        store: Store,
        archive: ArchiveReader,
        overwrite: bool,
        owner: str | None,
        origin: str | None,
        folder: Path | None,
        states: StateStorage | None,
    ) -> None:
        self._store = store
        self._archive = archive
        self._overwrite = overwrite
        self._owner = owner
        self._origin = origin
        self._folder = folder
        self._states = states
        self._is_plain = archive.manifest is None
        self._report = LoadReport()
        self._restored: list[_RestoredState] = []

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        return {} if self._folder is None else find_notebook_files(self._folder)

    def load(self, id: str) -> LoadReport:
        """Load a notebook and everything that belongs to it, or report why not."""
        try:
            with self._restored_states(id):
                report = self._attempt(id, lambda: self._add(id))
                if self._overwrite and report.of_kind("conflict"):
                    report = self._attempt(id, lambda: self._replace(id))
                if report.is_rejected:
                    raise _Rejected(report)
        except _Rejected as rejected:
            report = rejected.report
        return report

    def _attempt(self, id: str, work: Callable[[], None]) -> LoadReport:
        """Do ``work`` in one transaction, which is rolled back if it raises _Rejected."""

        def once() -> LoadReport:
            self._report = LoadReport(states=len(self._restored))
            with self._store.transaction():
                work()
                if self._overwrite and self._report.of_kind("conflict"):
                    raise _Rejected(self._report)
            return self._report

        try:
            return self._store.retry(once)
        except _Rejected as rejected:
            return LoadReport(problems=rejected.report.problems, is_rejected=True)
        except (Conflict, RecordDamaged, ForeignRecord) as error:
            kind = {Conflict: "conflict", RecordDamaged: "damaged"}.get(type(error), "foreign")
            report = LoadReport(is_rejected=True)
            report.add_problem(kind, NOTEBOOKS.name, id, str(error))
            return report

    def _reject(self, kind: str, table: str, id: str, reason: str) -> NoReturn:
        self._report.add_problem(kind, table, id, reason)
        raise _Rejected(self._report)

    # State files

    @contextmanager
    def _restored_states(self, notebook_id: str) -> Iterator[None]:
        """Restore missing state files, and remove them again if the notebook is rejected."""
        self._restored = []
        states = self._states
        if states is None:
            yield
            return
        try:
            for checkpoint_id, name, expected in self._archive.states(notebook_id):
                part: Part = "model" if name.startswith("model.") else "optimizer"
                stored = self._store.checkpoints.get(doc_id=checkpoint_id) or {}
                path = stored.get(f"{part}_state_path", f"{notebook_id}/{checkpoint_id}/{name}")
                digest = (stored.get("digests") or {}).get(part, expected.sha256)
                if path and digest == expected.sha256 and not states.can_read(path, notebook_id):
                    self._restore(states, notebook_id, checkpoint_id, part, name, expected)
                    self._restored.append(_RestoredState(checkpoint_id, part, name))
            yield
        except BaseException:
            self._remove_restored(states, notebook_id, self._restored)
            raise
        unrecorded = [
            one
            for one in self._restored
            if not self._store.checkpoints.contains(doc_id=one.checkpoint_id)
        ]
        self._remove_restored(states, notebook_id, unrecorded)
        self._report.states -= len(unrecorded)
        recorded = {one.checkpoint_id for one in self._restored if one not in unrecorded}
        for checkpoint_id in recorded:
            states.mark_recorded(notebook_id, checkpoint_id)

    def _remove_restored(
        self, states: StateStorage, notebook_id: str, restored: Iterable[_RestoredState]
    ) -> None:
        for checkpoint_id, _, name in restored:
            with suppress(AxonError):
                staged = states.stage_removal(notebook_id, checkpoint_id, [name])
                states.remove_staged(notebook_id, checkpoint_id, staged)

    def _restore(
        self,
        states: StateStorage,
        notebook_id: str,
        checkpoint_id: str,
        part: Part,
        name: str,
        expected: MemberDigest,
    ) -> None:
        format = next(one for one in _STATE_FORMATS if state_name(part, one) == name)
        with states.open_writer(
            notebook_id, checkpoint_id, part, format=format, expected_size=expected.size
        ) as writer:
            with self._archive.open_state(notebook_id, checkpoint_id, name) as source:
                while chunk := source.read(_CHUNK):
                    writer.write(chunk)
            if writer.digest != expected.sha256:
                raise ArchiveRefused(f"{self._archive.path} was changed while it was loaded")
            writer.commit()

    # Inside the transaction

    def _add(self, id: str) -> None:
        """Add the documents of a notebook that the store lacks."""
        archived = next(self._archive.documents(NOTEBOOKS.name, id), None)
        if archived is None:
            self._add_to_stored(id)
            return
        derived: dict[str, _Documents] = {}
        try:
            if self._is_plain:
                _, notebook, derived = read_plain_notebook(archived)
            else:
                _, notebook = read_notebook(archived)
        except InvalidData as error:
            self._reject("damaged", NOTEBOOKS.name, id, str(error))
        if self._owner is not None:
            notebook["user_id"] = self._owner
        self._store.lock(f"notebook {id}")
        stored = self._store.notebooks.get_for_update(id)
        if stored is None:
            self._bind(id, notebook)
            self._insert_notebook(id, notebook)
        elif _comparable(stored) == _comparable(notebook):
            self._report.counts[NOTEBOOKS.name, "unchanged"] += 1
        else:
            self._add_to_changed(id, notebook, stored)
            return
        for table in _HISTORY:
            if table in derived:
                self._add_documents(table, derived[table])
            elif not self._is_plain:
                self._add_table(table, id)
        if self._report.problems:
            raise _Rejected(self._report)
        for table in _TRAINING:
            self._add_table(table, id)
        try:
            assemble_notebook(self._store, id, self._store.notebooks.get(doc_id=id))
        except RecordDamaged as error:
            self._reject("damaged", NOTEBOOKS.name, id, f"its cells are incomplete: {error}")

    def _replace(self, id: str) -> None:
        """Replace a stored notebook, unless that loses checkpoints or state files."""
        self._store.lock(f"notebook {id}")
        self._store.notebooks.get_for_update(id)
        archived = dict(self._valid(CHECKPOINTS.name, id))
        of_notebook = where("notebook_id") == id
        if missing := self._store.checkpoints.ids(of_notebook) - archived.keys():
            reason = (
                f"the store has checkpoints of it that the archive lacks ({len(missing)}); first "
                "delete the checkpoints that you do not need"
            )
            self._reject("conflict", NOTEBOOKS.name, id, reason)
        for stored in self._store.checkpoints.iterate(of_notebook):
            keys = zip(_state_keys(stored), _state_keys(archived[str(stored.doc_id)]), strict=True)
            if any(key and key != other for key, other in keys):
                reason = (
                    "the store has a state file of it that the archive lacks; first delete the "
                    "checkpoint"
                )
                self._reject("conflict", CHECKPOINTS.name, str(stored.doc_id), reason)
        for table in (*_HISTORY, *_TRAINING):
            self._store.table(table).remove_notebook(id)
        self._store.notebooks.remove(doc_ids=[id])
        self._report.problems.clear()
        self._add(id)
        for table, result in [*self._report.counts]:
            if result == "added":
                count = self._report.counts.pop((table, "added"))
                self._report.counts[table, "replaced"] = count

    def _add_to_stored(self, id: str) -> None:
        """Add runs and checkpoints to a notebook that the archive does not have."""
        if self._store.notebooks.get_for_update(id) is not None:
            for table in _TRAINING:
                self._add_table(table, id)
            return
        for table in (*_HISTORY, *_TRAINING):
            for archived in self._archive.documents(table, id):
                reason = f"its notebook {id} is neither in the file nor in the store"
                self._report.add_problem("damaged", table, split_document_id(archived)[0], reason)
        raise _Rejected(self._report)

    def _add_to_changed(
        self, id: str, notebook: Mapping[str, Any], stored: Mapping[str, Any]
    ) -> None:
        """Add runs and checkpoints to a notebook that was saved since; reject any other."""
        checkpoints = (one for _, one in self._valid(CHECKPOINTS.name, id))
        versions = {one["version_id"] for one in checkpoints if one.get("version_id") is not None}
        is_same = stored.get("created_at") == notebook["created_at"] and (
            self._is_plain or self._store.versions.existing_ids(versions) == versions
        )
        if self._overwrite or not is_same:
            self._reject("conflict", NOTEBOOKS.name, id, _DIFFERS)
        for table in _TRAINING:
            self._add_table(table, id)
        added = any(result == "added" for _, result in self._report.counts)
        addition = "; it is kept, and the runs and checkpoints that it lacked were added"
        reason = _DIFFERS + (addition if added else "")
        self._report.add_problem("conflict", NOTEBOOKS.name, id, reason)

    def _bind(self, id: str, notebook: dict[str, Any]) -> None:
        """Bind a new record to the file that carries its id; reject it if its file is taken."""
        if self._origin is not None and notebook.get("origin") != self._origin:
            ids = {id, notebook.get("embedded_id") or id}
            paths = [path for one in ids for path in self._files.get(one, [])]
            if len(paths) == 1 and self._find_bound(self._origin, paths[0]) is None:
                former = [path for path in [notebook.get("path")] if path not in (None, paths[0])]
                notebook["former_paths"] = [*notebook.get("former_paths", []), *former]
                notebook.update(origin=self._origin, path=paths[0], file={})
                self._report.rebound[id] = paths[0]
        origin, path = notebook.get("origin"), notebook.get("path")
        if origin is not None and path is not None:
            bound = self._find_bound(origin, path)
            if bound is not None:
                reason = f"its file {path} belongs to notebook {bound} in the store"
                self._reject("conflict", NOTEBOOKS.name, id, reason)

    def _find_bound(self, origin: str, path: str) -> str | None:
        self._store.lock(file_lock(origin, path))
        found = self._store.notebooks.get((where("origin") == origin) & (where("path") == path))
        return None if found is None else str(found.doc_id)

    def _insert_notebook(self, id: str, notebook: Mapping[str, Any]) -> None:
        # Insert it first: row-level security rejects documents of notebooks of other users.
        try:
            self._store.notebooks.insert_new(document(id, notebook))
        except ForeignRecord:
            reason = (
                f"it belongs to {notebook['user_id']}, whose records this user of the "
                f"database may not write"
            )
            self._reject("foreign", NOTEBOOKS.name, id, reason)
        self._report.counts[NOTEBOOKS.name, "added"] += 1

    def _valid(self, table: str, notebook_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for archived in self._archive.documents(table, notebook_id):
            try:
                yield read_document(table, archived, is_plain=self._is_plain)
            except InvalidData as error:
                id = split_document_id(archived)[0]
                self._report.add_problem("damaged", table, id, str(error))

    def _add_table(self, table: str, notebook_id: str) -> None:
        documents = self._valid(table, notebook_id)
        while batch := dict(islice(documents, _BATCH)):
            if table == CHECKPOINTS.name:
                self._adjust_checkpoints(batch)
            if table == VERSIONS.name:
                self._check_contents(batch)
            self._add_documents(table, batch)

    def _adjust_checkpoints(self, checkpoints: _Documents) -> None:
        """Set the paths of restored state files, and remove the ids of missing versions."""
        for checkpoint_id, part, name in self._restored:
            if (found := checkpoints.get(checkpoint_id)) is not None:
                found[f"{part}_state_path"] = f"{found['notebook_id']}/{checkpoint_id}/{name}"
        if self._is_plain:
            versions = {str(one.get("version_id")) for one in checkpoints.values()}
            missing = versions - self._store.versions.existing_ids(versions)
            for found in checkpoints.values():
                if found.get("version_id") in missing:
                    del found["version_id"]

    def _check_contents(self, versions: _Documents) -> None:
        """Report versions whose contents are not all in the store."""
        listed = {id: content_ids(version) for id, version in versions.items()}
        present = self._store.contents.existing_ids(set().union(*listed.values()))
        for id, contents in listed.items():
            if missing := len(contents - present):
                reason = f"contents of it are not in the file ({missing})"
                self._report.add_problem("damaged", VERSIONS.name, id, reason)

    def _add_documents(self, table: str, documents: _Documents) -> None:
        """Insert the documents that the store lacks, and compare the others."""
        rows = self._store.table(table)
        stored = {str(one.doc_id): one for one in rows.get(doc_ids=list(documents))}
        new = [document(id, one) for id, one in documents.items() if id not in stored]
        if new:
            rows.insert_new(*new)
            self._report.counts[table, "added"] += len(new)
        for id, one in stored.items():
            if _comparable(one) == _comparable(documents[id]):
                self._report.counts[table, "unchanged"] += 1
            else:
                own_id = str(one.get("id", id))  # of a run, whose document id is derived from it
                self._report.add_problem("conflict", table, own_id, _DIFFERS)


def _comparable(stored: Mapping[str, Any]) -> str:
    """Return a document as text, without its binding and the paths of hashed state files."""
    compared = {name: value for name, value in stored.items() if name not in _BINDING}
    digests = stored.get("digests")
    for part, key in zip(PARTS, _state_keys(stored), strict=True):
        if key:
            has_digest = isinstance(digests, dict) and bool(digests.get(part))
            compared[f"{part}_state_path"] = has_digest or key
    return canonical_json(compared)


def _state_keys(checkpoint: Mapping[str, Any]) -> list[Any]:
    """Return the state files that a checkpoint names, without the root of its own folder."""
    own = (checkpoint.get("notebook_id"), checkpoint.get("id"))
    paths = (checkpoint.get(f"{part}_state_path") for part in PARTS)
    return [key if path and (key := file_key(path))[:2] == own else path for path in paths]
