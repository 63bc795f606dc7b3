"""From a dump to a store.

Each notebook is loaded with all that belongs to it in one transaction: nobody ever sees half of one, and whoever was
interrupted loads the same file again. What is there already and the same is passed over; what is there and differs is
a conflict, which is named and left alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tinydb import where

from ..errors import Conflict, InvalidData, RecordDamaged
from ..store import Document, Store, document
from ..store.dumpfile import DumpFile, Found
from ..store.dumpformat import canonical, dumped, undumped
from ..store.schema import CHECKPOINTS, CONTENTS, NOTEBOOKS, PROVENANCE, RUNS, VERSIONS
from .dump import Fault, Progress, whole_document
from .incoming import IncomingNotebook, incoming, incoming_notebook, listed
from .loaded import Loaded
from .notebooks import Notebooks, binding_lock
from .states import NoStates

#: In this order: what refers to another follows it.
_BELONGING = (CONTENTS.name, VERSIONS.name, RUNS.name, CHECKPOINTS.name, PROVENANCE.name)
_CELLS = (CONTENTS.name, VERSIONS.name)


class Group:
    """Where in the file a notebook is, and what belongs to it."""

    def __init__(self) -> None:
        self.notebook: int | None = None
        self.places: dict[str, array[int]] = {}

    def add(self, found: Found) -> None:
        """Note where a document is; raises InvalidData where the notebook is there twice."""
        if found.table != NOTEBOOKS.name:
            self.places.setdefault(found.table, array("q")).append(found.place)
        elif self.notebook is None:
            self.notebook = found.place
        else:
            raise InvalidData("$.id", "another notebook of the file has it already")

    def __len__(self) -> int:
        return sum(map(len, self.places.values())) + (self.notebook is not None)


class Sorted(NamedTuple):
    """A file that was read through and found good: what is where in it, by notebook, and what is damaged."""

    file: DumpFile
    groups: dict[str, Group]
    damaged: list[Fault]


def sort_dump(file: DumpFile, progress: Callable[[int], None] = lambda _done: None) -> Sorted:
    """Read a file through, and find out what belongs to which notebook; only that is kept in memory.

    Raises
    ------
    DumpRefused
        As :meth:`.store.dumpfile.DumpFile.scan` does.
    """
    groups: dict[str, Group] = {}
    damaged: list[Fault] = []
    for number, found in enumerate(file.scan(), 1):
        progress(number)
        named = f"#{found.key}"
        try:
            if not isinstance(found.document, dict):
                raise InvalidData("$", "expected an object")
            named, own = undumped(found.document)
            owner = named if found.table == NOTEBOOKS.name else own.get("notebook_id")
            if not isinstance(owner, str):
                raise InvalidData("$.notebook_id", "expected a text")
            groups.setdefault(owner, Group()).add(found)
        except InvalidData as error:
            damaged.append(Fault(found.table, named, str(error)))
    return Sorted(file, groups, damaged)


def load_dump(
    store: Store,
    given: Sorted,
    *,
    overwrite: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Loaded:
    """Load what is in a file.

    Parameters
    ----------
    overwrite : bool
        Replace notebooks that differ, and all that belongs to them; never one with checkpoints that the file lacks.
    """
    loading = _Loading(store, given.file, overwrite)
    loaded = Loaded(about=given.file.about, damaged=list(given.damaged))
    total, done = sum(map(len, given.groups.values())), 0
    for notebook_id, group in given.groups.items():
        loaded.merge(loading.attempt(notebook_id, group))
        done += len(group)
        progress(done, total)
    return loaded


class _Refused(Exception):
    """A group that is not loaded; the transaction is taken back."""

    def __init__(self, *, conflicts: Iterable[Fault] = (), damaged: Iterable[Fault] = ()) -> None:
        super().__init__()
        self.conflicts, self.damaged = list(conflicts), list(damaged)


class _Loading:
    def __init__(self, store: Store, file: DumpFile, overwrite: bool) -> None:
        self._store = store
        self._file = file
        self._overwrite = overwrite
        self._notebooks = Notebooks(store, NoStates(), ())

    def attempt(self, notebook_id: str, group: Group) -> Loaded:
        """Load what belongs together, or nothing of it."""
        try:
            try:
                return self._store.attempt(lambda: self._in_transaction(notebook_id, group))
            except Conflict:  # somebody else may have stored it meanwhile; then it is there now
                return self._store.attempt(lambda: self._in_transaction(notebook_id, group))
        except Conflict as error:
            refused = _Refused(conflicts=[Fault(NOTEBOOKS.name, notebook_id, str(error))])
        except _Refused as error:
            refused = error
        return Loaded(conflicts=refused.conflicts, damaged=refused.damaged)

    def _in_transaction(self, notebook_id: str, group: Group) -> Loaded:
        if group.notebook is None:
            with self._store.transaction():
                return self._belonging(notebook_id, group)
        notebook = self._prepared(notebook_id, group, group.notebook)
        with self._store.transaction():
            self._store.lock(f"notebook {notebook_id}")
            stored = self._store.notebooks.locked(notebook_id)
            if stored is not None and canonical(stored) != canonical(notebook.stored):
                if not self._overwrite:
                    differs = Fault(NOTEBOOKS.name, notebook_id, "the store has it, and it differs")
                    raise _Refused(conflicts=[differs])
                return self._replace(notebook, group)
            loaded = self._take_all(notebook, group, stored)
            if loaded.conflicts and self._overwrite:
                return self._replace(notebook, group)
            return loaded

    def _prepared(self, notebook_id: str, group: Group, place: int) -> IncomingNotebook:
        versions: dict[str, dict[str, Any]] = {}
        contents: set[str] = set()
        verbatim = self._file.about is not None
        if not verbatim:  # what its cells make depends on what there is
            versions = dict(self._valid(VERSIONS.name, self._documents(group, VERSIONS.name), []))
            contents = {id for id, _ in self._valid(CONTENTS.name, self._documents(group, CONTENTS.name), [])}
        [[given]] = self._file.batches([place])
        try:
            return incoming_notebook(given, verbatim=verbatim, versions=versions, contents=contents)
        except InvalidData as error:
            raise _Refused(damaged=[Fault(NOTEBOOKS.name, notebook_id, str(error))]) from None

    def _documents(self, group: Group, table: str) -> Iterable[Any]:
        return (one for batch in self._file.batches(group.places.get(table, ())) for one in batch)

    def _valid(
        self, table: str, given: Iterable[Any], damaged: list[Fault]
    ) -> Iterable[tuple[str, dict[str, Any]]]:
        for one in given:
            try:
                yield incoming(table, one, verbatim=self._file.about is not None)
            except InvalidData as error:
                damaged.append(Fault(table, undumped(one)[0], str(error)))

    # Inside a transaction

    def _belonging(self, notebook_id: str, group: Group) -> Loaded:
        """Take what belongs to a notebook that the file does not have, but the store."""
        if self._store.notebooks.locked(notebook_id) is None:
            reason = f"its notebook {notebook_id} is neither in the file nor in the store"
            strays = [
                Fault(table, undumped(one)[0], reason)
                for table in group.places
                for one in self._documents(group, table)
            ]
            raise _Refused(damaged=strays)
        loaded = Loaded()
        for table in _BELONGING:
            if table in _CELLS:
                loaded.damaged += (
                    Fault(table, undumped(one)[0], f"its notebook {notebook_id} is not in the file")
                    for one in self._documents(group, table)
                )
            else:
                self._take_table(loaded, table, group)
        return loaded

    def _take_all(self, notebook: IncomingNotebook, group: Group, stored: Document | None) -> Loaded:
        loaded = Loaded()
        for table in _BELONGING:
            self._take_table(loaded, table, group)
            self._take(loaded, table, {str(one.doc_id): dict(one) for one in notebook.made.get(table, [])})
            if table in _CELLS and loaded.conflicts:
                raise _Refused(conflicts=loaded.conflicts)
        self._take_notebook(loaded, notebook, stored)
        return loaded

    def _take_notebook(self, loaded: Loaded, notebook: IncomingNotebook, stored: Document | None) -> None:
        table = loaded.tables[NOTEBOOKS.name]
        if stored is None:
            self._check_path(notebook)
            self._store.notebooks.insert_new(document(notebook.id, notebook.stored))
            table.added += 1
        else:
            table.unchanged += 1
        try:
            found = whole_document(self._notebooks, self._store.notebooks.get(doc_id=notebook.id))
        except (RecordDamaged, KeyError, TypeError, ValueError) as error:
            fault = Fault(NOTEBOOKS.name, notebook.id, f"it cannot be put together: {error}")
            raise _Refused(damaged=[*loaded.damaged, fault]) from None
        table.read.add(dumped(notebook.id, found if notebook.dumped is None else notebook.dumped))
        table.found.add(dumped(notebook.id, found))

    def _check_path(self, notebook: IncomingNotebook) -> None:
        origin, path = notebook.stored.get("origin"), notebook.stored.get("path")
        if origin is not None and path is not None:
            self._store.lock(binding_lock(origin, path))
            bound = self._store.notebooks.get((where("origin") == origin) & (where("path") == path))
            if bound is not None:
                raise Conflict(f"its file {path} belongs to notebook {bound.doc_id} in the store")

    def _replace(self, notebook: IncomingNotebook, group: Group) -> Loaded:
        """Take a notebook in place of the one that is there."""
        store, belonging = self._store, where("notebook_id") == notebook.id
        given = {id for id, _ in self._valid(CHECKPOINTS.name, self._documents(group, CHECKPOINTS.name), [])}
        if more := len(store.checkpoints.ids(belonging) - given):
            some = "a checkpoint" if more == 1 else f"{more} checkpoints"
            reason = f"the store has {some} of it that the file lacks; delete what is not wanted first"
            raise _Refused(conflicts=[Fault(NOTEBOOKS.name, notebook.id, reason)])
        for name in _BELONGING:
            store.table(name).remove(belonging)
        store.notebooks.remove(doc_ids=[notebook.id])
        loaded = self._take_all(notebook, group, None)
        if loaded.conflicts:
            raise _Refused(conflicts=loaded.conflicts)
        for table in loaded.tables.values():
            table.added, table.replaced = 0, table.added
        return loaded

    def _take_table(self, loaded: Loaded, table: str, group: Group) -> None:
        for batch in self._file.batches(group.places.get(table, ())):
            found: dict[str, dict[str, Any]] = {}
            for id, one in self._valid(table, batch, loaded.damaged):
                if found.setdefault(id, one) is not one:
                    loaded.damaged.append(Fault(table, id, "the file has two documents of this id"))
            self._take(loaded, table, self._complete(loaded, found) if table == VERSIONS.name else found)

    def _complete(self, loaded: Loaded, versions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Those of ``versions`` whose contents are in the store."""
        contents = self._store.contents
        missing = {id: len(needed - contents.present(needed)) for id, needed in _listed(versions)}
        loaded.damaged += (
            Fault(VERSIONS.name, id, f"{count} of its contents are not in the file")
            for id, count in missing.items()
            if count
        )
        return {id: version for id, version in versions.items() if not missing[id]}

    def _take(self, loaded: Loaded, table: str, given: Mapping[str, dict[str, Any]]) -> None:
        """Store what is not there yet, and see what is."""
        rows, tally = self._store.table(table), loaded.tables[table]
        there = {str(one.doc_id): one for one in rows.get(doc_ids=list(given))}
        new = [document(id, one) for id, one in given.items() if id not in there]
        if new:
            rows.insert_new(*new)
            there.update((str(one.doc_id), one) for one in rows.get(doc_ids=[one.doc_id for one in new]))
            tally.added += len(new)
        added = {str(one.doc_id) for one in new}
        for id, one in given.items():
            if id not in added:
                if canonical(there[id]) != canonical(one):
                    loaded.conflicts.append(Fault(table, id, "the store has it, and it differs"))
                    continue
                tally.unchanged += 1
            tally.read.add(dumped(id, one))
            tally.found.add(dumped(id, there[id]))


def _listed(versions: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, set[str]]]:
    return ((id, listed(version)) for id, version in versions.items())
