"""From a store to a dump.

Documents are dumped as they are stored. Those of notebooks have their cells in them besides, which makes them documents
that upstream reads; so the contents of each newest version are in a dump twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import IO, Any, NamedTuple

from tinydb import Query, where

from ..errors import RecordDamaged
from ..store import Store
from ..store.codec import decode
from ..store.dumpformat import TABLES, About, DumpWriter, dumped
from ..store.schema import CHECKPOINTS, NOTEBOOKS, RUNS
from .damage import check_damage
from .notebooks import NotebookRepository
from .parts import FILE_KEY

#: Told how many of how many documents are done.
Progress = Callable[[int, int], None]


def dumped_id(table: str, doc_id: str, document: Mapping[str, Any]) -> str:
    """Return the id that a stored document has in a dump: a run's own, of which the store's key is derived."""
    own = document.get("id") if table == RUNS.name else None
    return own if isinstance(own, str) else doc_id


class Fault(NamedTuple):
    """A document that something is wrong with: its table, its id, and what."""

    table: str
    id: str
    reason: str


class Dumped(NamedTuple):
    """What a dump has.

    Attributes
    ----------
    damaged : list of Fault
        Records whose cells could not be read, which are dumped without, and documents that are no JSON, which are not.
    orphans : int
        Documents that belong to no record, which are left out: what was written ahead of a save, for one.
    state_files : int
        State files that its checkpoints name, none of which it has.
    """

    about: About
    damaged: list[Fault]
    orphans: int
    state_files: int


def dump_store(
    store: Store,
    file: IO[bytes],
    notebook_ids: Sequence[str] | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Dumped:
    """Write a dump of the store as it is at one moment, or of some of its notebooks with all that belongs to them.

    Little of it is in memory at any time, and nobody else has to wait meanwhile. (With ``memory://`` everybody has.)
    """
    return _Dumping(store, notebook_ids).write(file, progress)


class _Dumping:
    def __init__(self, store: Store, notebook_ids: Sequence[str] | None) -> None:
        self._store = store
        self._wanted = None if notebook_ids is None else list(dict.fromkeys(notebook_ids))
        self._notebooks = NotebookRepository(store)
        self._damaged: list[Fault] = []
        self._orphans = self._state_files = 0

    def write(self, file: IO[bytes], progress: Progress) -> Dumped:
        """Write the whole of it."""
        writer = DumpWriter(file)
        with self._store.snapshot():
            ids = self._store.notebooks.ids(Query().noop())
            total = sum(self._count(name) for name in TABLES)
            done = 0
            for name in TABLES:
                writer.begin(name)
                for doc_id, text in self._texts(name):
                    done += 1
                    progress(done, total)
                    document = self._document(name, doc_id, text, ids)
                    if document is not None:
                        writer.add(document)
        about = writer.finish(self._store.id, self._wanted)
        return Dumped(about, self._damaged, self._orphans, self._state_files)

    def _texts(self, name: str) -> Iterator[tuple[str, str]]:
        table = self._store.table(name)
        if self._wanted is None:
            return table.iterate_json()
        if name == NOTEBOOKS.name:
            return table.iterate_json(doc_ids=self._wanted)
        return chain.from_iterable(
            table.iterate_json(where("notebook_id") == id) for id in self._wanted
        )

    def _count(self, name: str) -> int:
        table = self._store.table(name)
        if self._wanted is None:
            return len(table)
        if name == NOTEBOOKS.name:
            return len(table.existing_ids(self._wanted))
        return sum(table.count(where("notebook_id") == id) for id in self._wanted)

    def _document(self, name: str, doc_id: str, text: str, ids: set[str]) -> dict[str, Any] | None:
        try:
            document = decode(text)
        except RecordDamaged:
            document = None
        if not isinstance(document, dict):
            self._damaged.append(
                Fault(name, doc_id, "the stored text is not a document; it is not in the dump")
            )
            return None
        if name == NOTEBOOKS.name:
            return dumped(doc_id, self._whole(doc_id, document))
        if document.get("notebook_id") not in ids:
            self._orphans += 1
            return None
        if name == CHECKPOINTS.name:
            paths = (document.get(f"{part}_state_path") for part in ("model", "optimizer"))
            self._state_files += sum(map(bool, paths))
        return dumped(dumped_id(name, doc_id, document), document)

    def _whole(self, doc_id: str, document: dict[str, Any]) -> dict[str, Any]:
        try:
            return whole_document(self._notebooks, doc_id, document)
        except RecordDamaged as error:
            self._damaged.append(
                Fault(NOTEBOOKS.name, doc_id, f"{error}; it is dumped without its cells")
            )
            return document


def whole_document(
    notebooks: NotebookRepository, id: str, stored: Mapping[str, Any]
) -> dict[str, Any]:
    """A notebook's stored document with what it leaves to its version: cells, and what rebuilds the file.

    Raises
    ------
    RecordDamaged
        When the version or a content is missing, or a field of the document.
    """
    with check_damage(f"notebook {id}"):
        notebook = notebooks.assemble(stored)
        document = {**stored, "cells": [cell.to_json() for cell in notebook.cells]}
        if FILE_KEY in notebook.metadata.extra:
            extra = {**stored["metadata"]["extra"], FILE_KEY: notebook.metadata.extra[FILE_KEY]}
            document["metadata"] = {**stored["metadata"], "extra": extra}
    return document


def bare_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`whole_document` made the document of."""
    bare = {name: value for name, value in document.items() if name != "cells"}
    metadata = bare.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("extra"), dict):
        extra = {name: value for name, value in metadata["extra"].items() if name != FILE_KEY}
        bare["metadata"] = {**metadata, "extra": extra}
    return bare
