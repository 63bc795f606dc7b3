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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from tinydb import where

from ..errors import Conflict, InvalidData, RecordDamaged
from ..repository.headers import file_lock
from ..repository.parts import content_ids
from ..repository.retention import file_key
from ..repository.runs import LAST_NUMBER, RunRepository
from ..states import StateStorage
from ..states.layout import PARTS, Part, state_name
from ..store import ForeignRecord, Store, document
from ..store.schema import CHECKPOINTS, CONTENTS, NOTEBOOKS, PROVENANCE, RUNS, VERSIONS
from ..userfiles import read_regular, real_path
from .documents import assemble_notebook, read_document, read_notebook, read_plain_notebook
from .format import (
    CHUNK,
    DocumentProblem,
    Progress,
    no_progress,
    split_document_id,
)
from .reader import ArchiveReader
from .series import add_series, has_all_rows

#: The tables of what belongs to a notebook, each before those that refer to it.
_HISTORY_TABLES = (CONTENTS.name, VERSIONS.name)
_TRAINING_TABLES = (RUNS.name, CHECKPOINTS.name, PROVENANCE.name)
_STATE_FORMATS = ("safetensors", "torch", "keras", "skops", "joblib", "npz", "onnx", "hdf5", None)
_BATCH = 500
#: Fields that say which file a notebook belongs to here, and those of the numbers of runs, which
#: depend on the other runs here. They are not compared.
_LOCAL_FIELDS = frozenset(
    {"origin", "path", "former_paths", "file", "synced_at", "number", LAST_NUMBER}
)
#: The maximum number of files and folders to search for notebook files, and the maximum size of a
#: notebook file in bytes.
_MAX_ENTRIES, _MAX_FILE_SIZE = 100_000, 64 << 20
_DIFFERS = "it differs from the one in the store"


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
        Paths of notebook files, by the id of the record that was bound to them; None for a record
        that was loaded without a file, since another record has it.
    states : int
        State files that were restored.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[DocumentProblem] = field(default_factory=list)
    rebound: dict[str, str | None] = field(default_factory=dict)
    states: int = 0

    def add(self, other: LoadReport) -> None:
        """Include the report of a notebook."""
        self.counts.update(other.counts)
        self.problems += other.problems
        self.rebound.update(other.rebound)
        self.states += other.states

    def of_kind(self, kind: str) -> list[DocumentProblem]:
        """Return the problems of one kind."""
        return [problem for problem in self.problems if problem.kind == kind]


class _Rejected(Exception):
    """Rolls back the transaction of a notebook, because of the problems that were reported."""


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
        Replace notebooks that differ, with everything that belongs to them. A notebook with runs,
        logged values, checkpoints or state files that the archive lacks is never replaced.
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


@dataclass
class _Loader:
    """Loads notebooks; ``report`` is that of the one that is loaded."""

    store: Store
    archive: ArchiveReader
    overwrite: bool
    owner: str | None
    origin: str | None
    folder: Path | None
    states: StateStorage | None
    report: LoadReport = field(default_factory=LoadReport)

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        return {} if self.folder is None else find_notebook_files(self.folder)

    @property
    def _is_plain(self) -> bool:
        return self.archive.manifest is None

    def load(self, id: str) -> LoadReport:
        """Load a notebook and everything that belongs to it, or report why not."""
        is_loaded = self._attempt(id, replace=False)
        if self.overwrite and self.report.of_kind("conflict"):
            is_loaded = self._attempt(id, replace=True)
        if is_loaded and self.states is not None:
            self._restore_states(self.states, id)
        return self.report

    def _attempt(self, id: str, *, replace: bool) -> bool:
        """Load a notebook in one transaction; return whether it was loaded."""

        def once() -> None:
            self.report = LoadReport()
            with self.store.transaction():
                self.store.lock(f"notebook {id}")
                self.store.notebooks.get_for_update(id)
                if replace:
                    self._remove(id)
                self._add(id)
                if self.overwrite and not replace and self.report.of_kind("conflict"):
                    raise _Rejected

        try:
            self.store.retry(once)
        except _Rejected:
            self.report = LoadReport(problems=self.report.problems)
            return False
        except (Conflict, RecordDamaged, ForeignRecord) as error:
            self.report = LoadReport()
            kind = {Conflict: "conflict", RecordDamaged: "damaged"}.get(type(error), "foreign")
            self._add_problem(kind, NOTEBOOKS.name, id, str(error))
            return False
        if replace:
            added = self.report.counts.items()
            self.report.counts = Counter(
                {(table, "replaced"): count for (table, _), count in added}
            )
        return True

    def _add_problem(self, kind: Any, table: str, id: str, reason: str) -> None:
        self.report.problems.append(DocumentProblem(kind, table, id, reason))

    def _reject(self, kind: Any, table: str, id: str, reason: str) -> NoReturn:
        self._add_problem(kind, table, id, reason)
        raise _Rejected

    # Inside the transaction

    def _add(self, id: str) -> None:
        """Add the documents of a notebook that the store lacks."""
        archived = next(self.archive.documents(NOTEBOOKS.name, id), None)
        stored = self.store.notebooks.get(doc_id=id)
        if archived is None:
            if stored is None:
                reason = "the file has documents that belong to it, and not the notebook itself"
                self._reject("damaged", NOTEBOOKS.name, id, reason)
            self._add_training(id)
            return
        try:
            if self._is_plain:
                notebook, derived = read_plain_notebook(archived)
            else:
                notebook, derived = read_notebook(archived), {}
        except InvalidData as error:
            self._reject("damaged", NOTEBOOKS.name, id, str(error))
        if self.owner is not None:
            notebook["user_id"] = self.owner
        if stored is None:
            self._bind(id, notebook)
        elif _comparable_text(stored) != _comparable_text(notebook):
            self._add_to_changed(id, notebook, stored)
            return
        # First the notebook: row-level security rejects documents of notebooks of other users.
        try:
            self._add_documents(NOTEBOOKS.name, {id: notebook})
        except ForeignRecord:
            reason = (
                f"it belongs to {notebook['user_id']}, whose records this user of the database "
                "may not write"
            )
            self._reject("foreign", NOTEBOOKS.name, id, reason)
        if self._is_plain:
            for table in _HISTORY_TABLES:
                self._add_documents(table, derived[table])
        else:
            self._add_tables(_HISTORY_TABLES, id)
        if self.report.problems:
            raise _Rejected
        self._add_training(id)
        try:
            assemble_notebook(self.store, id, self.store.notebooks.get(doc_id=id))
        except RecordDamaged as error:
            self._reject("damaged", NOTEBOOKS.name, id, f"its cells are incomplete: {error}")

    def _add_to_changed(
        self, id: str, notebook: Mapping[str, Any], stored: Mapping[str, Any]
    ) -> None:
        """Add runs and checkpoints to a notebook that was saved since; reject any other."""
        checkpoints = (one for _, one in self._valid(CHECKPOINTS.name, id))
        versions = {one["version_id"] for one in checkpoints if one.get("version_id") is not None}
        self.report.problems.clear()
        is_same = stored.get("created_at") == notebook["created_at"] and (
            self._is_plain or self.store.versions.existing_ids(versions) == versions
        )
        if self.overwrite or not is_same:
            self._reject("conflict", NOTEBOOKS.name, id, _DIFFERS)
        self._add_training(id)
        added = any(result == "added" for _, result in self.report.counts)
        addition = "; it is kept, and the runs and checkpoints that it lacked were added"
        self._add_problem("conflict", NOTEBOOKS.name, id, _DIFFERS + (addition if added else ""))

    def _remove(self, id: str) -> None:
        """Remove a stored notebook, unless that loses runs, values, checkpoints or state files."""
        archived = dict(self._valid(CHECKPOINTS.name, id))
        self.report.problems.clear()
        for stored in self.store.checkpoints.iterate(where("notebook_id") == id):
            other = archived.get(str(stored.doc_id))
            states = _state_keys(stored), _state_keys(other or {})
            if other is None or any(
                ours and ours != its for ours, its in zip(*states, strict=True)
            ):
                reason = (
                    "the archive lacks this checkpoint or its state file; delete the checkpoint "
                    "first if you do not need it"
                )
                self._reject("conflict", CHECKPOINTS.name, str(stored.doc_id), reason)
        self._check_runs(id)
        for table in (*_HISTORY_TABLES, *_TRAINING_TABLES):
            self.store.table(table).remove_notebook(id)
        self.store.notebooks.remove(doc_ids=[id])

    def _check_runs(self, notebook_id: str) -> None:
        """Reject a notebook with a stored run, or with logged rows, that the archive lacks."""
        archived = dict(self._archived_runs(notebook_id))
        for stored in self.store.runs.iterate(where("notebook_id") == notebook_id):
            key, lacks = str(stored.doc_id), "this run"
            if key in archived:
                with self.archive.open_series(key) or nullcontext() as member:
                    if has_all_rows(self.store, key, notebook_id, member):
                        continue
                lacks = "values of this run"
            reason = f"the archive lacks {lacks}; delete it first if you do not need it"
            self._reject("conflict", RUNS.name, str(stored.get("id")), reason)

    def _bind(self, id: str, notebook: dict[str, Any]) -> None:
        """Bind a new record to the file that carries its id, or to none if its file is taken."""
        origin, path = notebook.get("origin"), notebook.get("path")
        if self.origin is not None and origin != self.origin:
            ids = {id, notebook.get("embedded_id") or id}
            paths = [path for one in ids for path in self._files.get(one, [])]
            if len(paths) == 1 and not self._is_bound(self.origin, paths[0]):
                self._change_path(id, notebook, paths[0])
                notebook.update(origin=self.origin, file={})
                return
        if origin is not None and path is not None and self._is_bound(origin, path):
            self._change_path(id, notebook, None)

    def _is_bound(self, origin: str, path: str) -> bool:
        self.store.lock(file_lock(origin, path))
        return self.store.notebooks.find_one(origin=origin, path=path) is not None

    def _change_path(self, id: str, notebook: dict[str, Any], path: str | None) -> None:
        former = notebook.pop("path", None)
        if former not in (None, path):
            notebook["former_paths"] = [*notebook.get("former_paths", []), former]
        if path is not None:
            notebook["path"] = path
        self.report.rebound[id] = path

    def _valid(self, table: str, notebook_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for archived in self.archive.documents(table, notebook_id):
            try:
                yield read_document(table, archived, is_plain=self._is_plain)
            except InvalidData as error:
                self._add_problem("damaged", table, split_document_id(archived)[0], str(error))

    def _add_tables(self, tables: Iterable[str], notebook_id: str) -> None:
        for table in tables:
            documents = self._valid(table, notebook_id)
            while batch := dict(islice(documents, _BATCH)):
                if self._is_plain and table == CHECKPOINTS.name:
                    self._remove_missing_versions(batch)
                if table == VERSIONS.name:
                    self._check_contents(batch)
                self._add_documents(table, batch)

    def _add_training(self, notebook_id: str) -> None:
        """Add the runs with their series, and the checkpoints, which the store lacks."""
        self._add_tables(_TRAINING_TABLES, notebook_id)
        for key, id in self._archived_runs(notebook_id):
            if (member := self.archive.open_series(key)) is not None:
                with member:
                    try:
                        is_same = add_series(self.store, key, notebook_id, id, member)
                    except InvalidData as error:
                        self._reject("damaged", RUNS.name, id, str(error))
                if not is_same:
                    reason = "its series differ from those in the store"
                    self._add_problem("conflict", RUNS.name, id, reason)

    def _archived_runs(self, notebook_id: str) -> Iterator[tuple[str, str]]:
        """Yield the ids of the documents of valid runs, and the ids of the runs."""
        for archived in self.archive.documents(RUNS.name, notebook_id):
            with suppress(InvalidData):
                key, run = read_document(RUNS.name, archived, is_plain=self._is_plain)
                yield key, run["id"]

    def _remove_missing_versions(self, checkpoints: Mapping[str, dict[str, Any]]) -> None:
        versions = {str(one.get("version_id")) for one in checkpoints.values()}
        missing = versions - self.store.versions.existing_ids(versions)
        for checkpoint in checkpoints.values():
            if checkpoint.get("version_id") in missing:
                del checkpoint["version_id"]

    def _check_contents(self, versions: Mapping[str, dict[str, Any]]) -> None:
        """Report versions whose contents are not all in the store."""
        listed = {id: content_ids(version) for id, version in versions.items()}
        present = self.store.contents.existing_ids(set().union(*listed.values()))
        for id, contents in listed.items():
            if missing := len(contents - present):
                reason = f"contents of it are not in the file ({missing})"
                self._add_problem("damaged", VERSIONS.name, id, reason)

    def _add_documents(self, table: str, documents: Mapping[str, dict[str, Any]]) -> None:
        """Insert the documents that the store lacks, and compare the others."""
        rows = self.store.table(table)
        stored = {str(one.doc_id): one for one in rows.get(doc_ids=list(documents))}
        new = {id: one for id, one in documents.items() if id not in stored}
        if new:
            if table == RUNS.name:
                RunRepository(self.store).number(list(new.values()))
            rows.insert(*(document(id, one) for id, one in new.items()))
            self.report.counts[table, "added"] += len(new)
        if table == CHECKPOINTS.name:
            runs = RunRepository(self.store)
            for notebook_id, run_id in {
                (one["notebook_id"], one["run_id"]) for one in new.values() if one.get("run_id")
            }:
                runs.summarize(notebook_id, run_id)
        for id, one in stored.items():
            if _comparable_text(one) == _comparable_text(documents[id]):
                self.report.counts[table, "unchanged"] += 1
                continue
            own_id = str(one.get("id", id))  # of a run, whose document id is derived from it
            self._add_problem("conflict", table, own_id, _DIFFERS)

    def _restore_states(self, states: StateStorage, notebook_id: str) -> None:
        """Restore the missing state files of the checkpoints that the store has."""
        for checkpoint_id, name, expected in self.archive.states(notebook_id):
            part: Part = "model" if name.startswith("model.") else "optimizer"
            stored = self.store.checkpoints.get(doc_id=checkpoint_id)
            if stored is None or stored["notebook_id"] != notebook_id:
                continue
            path = stored.get(f"{part}_state_path")
            known = (stored.get("digests") or {}).get(part, expected.sha256)
            if not path or known != expected.sha256 or states.can_read(path, notebook_id):
                continue
            format = next(one for one in _STATE_FORMATS if state_name(part, one) == name)
            with (
                states.open_writer(
                    notebook_id, checkpoint_id, part, format=format, expected_size=expected.size
                ) as writer,
                self.archive.open_state(notebook_id, checkpoint_id, name) as source,
            ):
                for chunk in iter(partial(source.read, CHUNK), b""):
                    writer.write(chunk)
                restored = writer.commit()
            if not states.can_read(path, notebook_id):  # it was outside the folder of states
                changed = {f"{part}_state_path": restored.path}
                self.store.checkpoints.update(changed, doc_ids=[checkpoint_id])
            states.mark_recorded(notebook_id, checkpoint_id)
            self.report.states += 1


def _comparable_text(stored: Mapping[str, Any]) -> str:
    """Return a document as text, without its binding and the paths of hashed state files."""
    compared = {name: value for name, value in stored.items() if name not in _LOCAL_FIELDS}
    digests = stored.get("digests")
    for part, key in zip(PARTS, _state_keys(stored), strict=True):
        if key:
            has_digest = isinstance(digests, dict) and bool(digests.get(part))
            compared[f"{part}_state_path"] = has_digest or key
    return json.dumps(compared, sort_keys=True)


def _state_keys(checkpoint: Mapping[str, Any]) -> list[Any]:
    """Return the state files that a checkpoint names, without the root of its own folder."""
    own = (checkpoint.get("notebook_id"), checkpoint.get("id"))
    paths = (checkpoint.get(f"{part}_state_path") for part in PARTS)
    return [key if path and (key := file_key(path))[:2] == own else path for path in paths]
