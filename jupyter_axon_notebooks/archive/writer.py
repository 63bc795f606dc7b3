"""Write archives."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, Any

from tinydb import Query, where

from .._version import __version__
from ..errors import AxonError, RecordDamaged
from ..records import now
from ..states import StateFiles
from ..states.layout import PARTS, STATE_NAMES, can_name_folders
from ..store import Store
from ..store.codec import decode, encode
from ..store.schema import CHECKPOINTS, NOTEBOOKS, RUNS, SCHEMA_VERSION
from .documents import DocumentAssembler
from .format import (
    FORMAT,
    MANIFEST,
    RECORDS,
    TABLES,
    DocumentProblem,
    Manifest,
    MemberDigest,
    TableDigest,
    add_document_id,
    archived_id,
    state_member,
)

#: Called with the number of documents that are done, and with that of all.
Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 20


def no_progress(_done: int, _total: int | None) -> None:
    """Report nothing."""


@dataclass
class ArchiveSummary:
    """The content of an archive that was written.

    Attributes
    ----------
    problems : list of DocumentProblem
        Records whose cells cannot be read, which are archived without them; documents that are not JSON, and state
        files that cannot be read, which are left out.
    orphans : int
        Documents that belong to no record, which are left out.
    state_files : int
        State files that the checkpoints name.
    """

    manifest: Manifest
    problems: list[DocumentProblem] = field(default_factory=list)
    orphans: int = 0
    state_files: int = 0


def write_archive(
    store: Store,
    file: IO[bytes],
    *,
    notebook_ids: Sequence[str] | None = None,
    run_ids: Sequence[str] | None = None,
    states: StateFiles | None = None,
    progress: Progress = no_progress,
) -> ArchiveSummary:
    """Write an archive of a store, or of some of its notebooks.

    The records are those of one moment, read in one transaction, which does not block writers (except of a store in
    memory). Memory use does not depend on the size of the store.

    Parameters
    ----------
    file : file
        Need not be seekable.
    run_ids : sequence of str, optional
        Include only these runs of the notebooks, and their checkpoints.
    states : StateFiles, optional
        Include the state files of the checkpoints.
    """
    return _ArchiveWriter(store, notebook_ids, run_ids, states).write(file, progress)


class _ArchiveWriter:
    def __init__(
        self,
        store: Store,
        notebook_ids: Sequence[str] | None,
        run_ids: Sequence[str] | None,
        states: StateFiles | None,
    ) -> None:
        self._store = store
        self._notebook_ids = None if notebook_ids is None else list(dict.fromkeys(notebook_ids))
        self._run_ids = None if run_ids is None else list(dict.fromkeys(run_ids))
        self._states = states
        self._assembler = DocumentAssembler(store)
        self._state_paths: dict[str, tuple[str, str, str]] = {}
        self._summary = ArchiveSummary(
            Manifest(
                format=FORMAT,
                schema_version=SCHEMA_VERSION,
                package=__version__,
                created_at=now(),
                store_id=store.id,
                tables={name: TableDigest() for name in TABLES},
                notebooks=self._notebook_ids,
                runs=self._run_ids,
            )
        )

    def write(self, file: IO[bytes], progress: Progress) -> ArchiveSummary:
        manifest = self._summary.manifest
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            with archive.open(RECORDS, "w", force_zip64=True) as member:
                manifest.members[RECORDS] = _copy(self._records(progress), member)
            for name, (notebook_id, checkpoint_id, path) in self._state_paths.items():
                self._write_state(archive, name, notebook_id, checkpoint_id, path)
            text = json.dumps(_plain(manifest), indent=1)
            archive.writestr(MANIFEST, text)
        return self._summary

    def _records(self, progress: Progress) -> Iterator[bytes]:
        """Yield the JSON of all tables, one document a line."""
        between = "{\n"
        done = 0
        with self._store.snapshot():
            known = self._store.notebooks.ids(Query().noop())
            total = sum(self._count(name) for name in TABLES)
            for name in TABLES:
                yield f'{between}"{name}": {{'.encode()
                between = "\n},\n"
                digest = self._summary.manifest.tables[name]
                for doc_id, text in self._texts(name):
                    done += 1
                    progress(done, total)
                    document = self._document(name, doc_id, text, known)
                    if document is not None:
                        comma = "," if digest.count else ""
                        digest.add(document)
                        yield f'{comma}\n"{digest.count}": {encode(document)}'.encode()
            yield b"\n}\n}\n"

    def _texts(self, name: str) -> Iterator[tuple[str, str]]:
        table = self._store.table(name)
        if self._notebook_ids is None:
            return table.texts()
        if name == NOTEBOOKS.name:
            return table.texts(doc_ids=self._notebook_ids)
        return chain.from_iterable(
            table.texts(where("notebook_id") == id) for id in self._notebook_ids
        )

    def _count(self, name: str) -> int:
        table = self._store.table(name)
        if self._notebook_ids is None:
            return len(table)
        if name == NOTEBOOKS.name:
            return len(table.present(self._notebook_ids))
        return sum(table.count(where("notebook_id") == id) for id in self._notebook_ids)

    def _document(
        self, name: str, doc_id: str, text: str, known: set[str]
    ) -> dict[str, Any] | None:
        try:
            document = decode(text)
        except RecordDamaged:
            document = None
        if not isinstance(document, dict):
            reason = "the stored text is not a document; it was left out of the archive"
            self._summary.problems.append(DocumentProblem(name, doc_id, reason))
            return None
        if name == NOTEBOOKS.name:
            return add_document_id(doc_id, self._with_cells(doc_id, document))
        if document.get("notebook_id") not in known:
            self._summary.orphans += 1
            return None
        if self._run_ids is not None:
            run_id = {RUNS.name: "id", CHECKPOINTS.name: "run_id"}.get(name)
            if run_id is not None and document.get(run_id) not in self._run_ids:
                return None
        if name == CHECKPOINTS.name:
            self._note_states(doc_id, document)
        return add_document_id(archived_id(name, doc_id, document), document)

    def _with_cells(self, doc_id: str, document: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._assembler.assemble(doc_id, document)
        except RecordDamaged as error:
            reason = f"{error}; it was archived without its cells"
            self._summary.problems.append(DocumentProblem(NOTEBOOKS.name, doc_id, reason))
            return document

    def _note_states(self, checkpoint_id: str, checkpoint: dict[str, Any]) -> None:
        notebook_id = checkpoint["notebook_id"]
        for part in PARTS:
            path = checkpoint.get(f"{part}_state_path")
            if not path or not isinstance(path, str):
                continue
            self._summary.state_files += 1
            if self._states is not None and can_name_folders(notebook_id, checkpoint_id):
                name = f"{part}{os.path.splitext(path)[1]}"
                name = name if name in STATE_NAMES else f"{part}.bin"
                member = state_member(notebook_id, checkpoint_id, name)
                self._state_paths[member] = notebook_id, checkpoint_id, path

    def _write_state(
        self,
        archive: zipfile.ZipFile,
        name: str,
        notebook_id: str,
        checkpoint_id: str,
        path: str,
    ) -> None:
        assert self._states is not None
        try:
            with self._states.open(path, notebook_id) as source:
                info = zipfile.ZipInfo(name)  # with a constant date, and not compressed
                info.file_size = os.fstat(source.fileno()).st_size
                with archive.open(info, "w", force_zip64=True) as member:
                    chunks = iter(lambda: source.read(_CHUNK), b"")
                    self._summary.manifest.members[name] = _copy(chunks, member)
        except AxonError as error:
            reason = f"a state file was left out of the archive: {error}"
            self._summary.problems.append(
                DocumentProblem(CHECKPOINTS.name, checkpoint_id, reason)
            )


def _copy(chunks: Iterator[bytes], target: IO[bytes]) -> MemberDigest:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        target.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return MemberDigest(size=size, sha256=digest.hexdigest())


def _plain(manifest: Manifest) -> dict[str, Any]:
    return {
        **manifest.to_json(),
        "tables": {name: one.to_json() for name, one in manifest.tables.items()},
        "members": {name: one.to_json() for name, one in manifest.members.items()},
    }
