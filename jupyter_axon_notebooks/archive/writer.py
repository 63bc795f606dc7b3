"""Write archives."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import IO, Any

import msgspec
from tinydb import Query, where

from .._version import __version__
from ..errors import AxonError, RecordDamaged
from ..records import now
from ..states import StateStorage
from ..states.layout import PARTS, STATE_NAMES, can_name_folders
from ..store import Store
from ..store.codec import decode, encode
from ..store.schema import CHECKPOINTS, NOTEBOOKS, RUNS, SCHEMA_VERSION
from .documents import assemble_notebook
from .format import (
    CHUNK,
    FORMAT,
    MANIFEST,
    RECORDS,
    STATES,
    TABLES,
    DocumentProblem,
    Manifest,
    Progress,
    TableSummary,
    add_document_id,
    digest,
    no_progress,
    series_name,
)
from .series import write_series


@dataclass
class ArchiveSummary:
    """The content of an archive that was written.

    Attributes
    ----------
    problems : list of DocumentProblem
        Records whose cells cannot be read, which are archived without them; documents that are not
        JSON, and state files that cannot be read, which are left out.
    orphans : int
        Documents that belong to no record, which are left out.
    state_files : int
        State files that the checkpoints name.
    """

    manifest: Manifest
    problems: list[DocumentProblem] = field(default_factory=list)
    orphans: int = 0
    state_files: int = 0

    def add_problem(self, table: str, id: str, reason: str) -> None:
        """Add a document that could not be archived as it is."""
        self.problems.append(DocumentProblem("damaged", table, id, reason))


def write_archive(
    store: Store,
    file: IO[bytes],
    *,
    notebook_ids: Sequence[str] | None = None,
    run_ids: Sequence[str] | None = None,
    states: StateStorage | None = None,
    progress: Progress = no_progress,
) -> ArchiveSummary:
    """Write an archive of a store, or of some of its notebooks.

    The records are those of one moment, read in one transaction, which blocks no writers (except of
    a store in memory). Memory use does not depend on the size of the store. The file need not be
    seekable.

    Parameters
    ----------
    run_ids : sequence of str, optional
        Include only these runs of the notebooks, and their checkpoints.
    states : StateStorage, optional
        Include the state files of the checkpoints.
    """
    manifest = Manifest(
        format=FORMAT,
        schema_version=SCHEMA_VERSION,
        package=__version__,
        created_at=now(),
        store_id=store.id,
        tables={name: TableSummary() for name in TABLES},
        notebooks=None if notebook_ids is None else list(dict.fromkeys(notebook_ids)),
        runs=None if run_ids is None else list(dict.fromkeys(run_ids)),
    )
    records = _RecordsWriter(store, ArchiveSummary(manifest), states is not None, progress)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        with store.snapshot():
            with archive.open(RECORDS, "w", force_zip64=True) as member:
                manifest.members[RECORDS] = digest(records.lines(), member)
            for run_key, notebook_id in records.runs:
                content = write_series(store, run_key, notebook_id)
                if (header := next(content, None)) is not None:
                    name = series_name(run_key)
                    with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                        manifest.members[name] = digest(chain([header], content), member)
        for name, (checkpoint_id, notebook_id, path) in records.states.items():
            if states is None:
                break
            try:
                with (
                    states.open(path, notebook_id) as source,
                    archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member,
                ):
                    chunks = iter(partial(source.read, CHUNK), b"")
                    manifest.members[name] = digest(chunks, member)
            except AxonError as error:
                reason = f"a state file was left out of the archive: {error}"
                records.summary.add_problem(CHECKPOINTS.name, checkpoint_id, reason)
        archive.writestr(MANIFEST, msgspec.json.encode(manifest))
    return records.summary


class _RecordsWriter:
    """Writes the records of an archive.

    Attributes
    ----------
    states : dict
        Checkpoint, notebook and path of its state files, by member name.
    runs : list
        The ids of the documents of its runs, and their notebooks.
    """

    def __init__(
        self, store: Store, summary: ArchiveSummary, with_states: bool, progress: Progress
    ) -> None:
        self.summary = summary
        self._with_states = with_states
        self.states: dict[str, tuple[str, str, str]] = {}
        self.runs: list[tuple[str, str]] = []
        self._store = store
        self._progress = progress

    def lines(self) -> Iterator[bytes]:
        """Yield the JSON of all tables, with each document on a line of its own."""
        done = 0
        with self._store.snapshot():
            known = self._store.notebooks.ids(Query().noop())
            is_whole = self.summary.manifest.notebooks is None
            total = sum(len(self._store.table(name)) for name in TABLES) if is_whole else None
            yield b"{\n"
            for table, summary in self.summary.manifest.tables.items():
                yield f'"{table}": {{'.encode()
                for doc_id, text in self._texts(table):
                    done += 1
                    self._progress(done, total)
                    document = self._document(table, doc_id, text, known)
                    if document is not None:
                        separator = "," if summary.count else ""
                        summary.add(document)
                        yield f'{separator}\n"{summary.count}": {encode(document)}'.encode()
                yield b"\n}\n" if table == TABLES[-1] else b"\n},\n"
            yield b"}\n"

    def _texts(self, table: str) -> Iterator[tuple[str, str]]:
        rows, ids = self._store.table(table), self.summary.manifest.notebooks
        if ids is None:
            return rows.iterate_json()
        if table == NOTEBOOKS.name:
            return iter(rows.get_json(ids))
        return chain.from_iterable(rows.iterate_json(where("notebook_id") == id) for id in ids)

    def _document(
        self, table: str, doc_id: str, text: str, known: set[str]
    ) -> dict[str, Any] | None:
        """Return the archived form of a document; None if it is left out."""
        try:
            document = decode(text)
        except RecordDamaged:
            document = None
        if not isinstance(document, dict):
            reason = "the stored text is not a document; it was left out of the archive"
            self.summary.add_problem(table, doc_id, reason)
            return None
        if table == NOTEBOOKS.name:
            try:
                document = assemble_notebook(self._store, doc_id, document)
            except RecordDamaged as error:
                reason = f"{error}; it was archived without its cells"
                self.summary.add_problem(table, doc_id, reason)
            return add_document_id(doc_id, document)
        if document.get("notebook_id") not in known:
            self.summary.orphans += 1
            return None
        runs = self.summary.manifest.runs
        run_field = {RUNS.name: "id", CHECKPOINTS.name: "run_id"}.get(table)
        if runs is not None and run_field is not None and document.get(run_field) not in runs:
            return None
        if table == CHECKPOINTS.name:
            self._add_states(doc_id, document)
        if table == RUNS.name:
            self.runs.append((doc_id, document["notebook_id"]))
        # A run is known by its own id, from which the id of its document is derived.
        own_id = document.get("id") if table == RUNS.name else None
        return add_document_id(own_id if isinstance(own_id, str) else doc_id, document)

    def _add_states(self, checkpoint_id: str, checkpoint: dict[str, Any]) -> None:
        """Add the state files of a checkpoint, and change its paths to where they will be."""
        notebook_id = checkpoint["notebook_id"]
        for part in PARTS:
            path = checkpoint.get(f"{part}_state_path")
            if not path or not isinstance(path, str):
                continue
            self.summary.state_files += 1
            if self._with_states and can_name_folders(notebook_id, checkpoint_id):
                name = f"{part}{os.path.splitext(path)[1]}"
                name = name if name in STATE_NAMES else f"{part}.bin"
                own = f"{notebook_id}/{checkpoint_id}/{name}"
                self.states[f"{STATES}/{own}"] = checkpoint_id, notebook_id, path
                if (checkpoint.get("digests") or {}).get(part):
                    checkpoint[f"{part}_state_path"] = own
