"""From a dump to a store.

Each notebook is loaded with all that belongs to it in one transaction: nobody ever sees half of one, and whoever was
interrupted loads the same file again. What is there already and the same is passed over; what is there and differs is
a conflict, which is named and left alone; a notebook that was saved since gets the runs and checkpoints that it lacks.

Where one transaction holds up all others, a large notebook is loaded in short ones: its contents ahead, which nobody
sees; then the notebook as a whole, with its history and its runs; then its checkpoints, which so are there little by
little. No version that they refer to can go meanwhile, since the first checkpoint of each is loaded with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from tinydb import where

from ..errors import AxonError, Conflict, InvalidData, RecordDamaged
from ..store import Document, ForeignRecord, Store, document
from ..store.dumpfile import DumpFile
from ..store.dumpformat import canonical, dumped, undumped
from ..store.schema import CHECKPOINTS, CONTENTS, NOTEBOOKS, PROVENANCE, RUNS, VERSIONS
from .checkpoints import STATE_PARTS
from .dump import Fault, Progress, whole_document
from .headers import file_lock
from .incoming import IncomingNotebook
from .loaded import Loaded
from .notebooks import NotebookRepository
from .parts import content_ids
from .reading import Reading
from .retention import file_key
from .sorting import Group, Sorted
from .taking import Taking

#: In this order: what refers to another follows it.
_BELONGING = (CONTENTS.name, VERSIONS.name, RUNS.name, CHECKPOINTS.name, PROVENANCE.name)
_CELLS, _BESIDE = _BELONGING[:2], _BELONGING[2:]


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
        Replace notebooks that differ, and all that belongs to them, each in one transaction; never one with
        checkpoints or state files that the file lacks.
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
    """What is not loaded, and why; the transaction is taken back."""

    def __init__(
        self,
        *,
        conflicts: Iterable[Fault] = (),
        damaged: Iterable[Fault] = (),
        foreign: Iterable[Fault] = (),
    ) -> None:
        super().__init__()
        self.why = Loaded(conflicts=list(conflicts), damaged=list(damaged), foreign=list(foreign))


class _Differs(_Refused):
    """The store has a notebook, and it is another than the file's, or the same at another time."""

    def __init__(self, notebook_id: str, besides: str = "") -> None:
        fault = Fault(NOTEBOOKS.name, notebook_id, f"the store has it, and it differs{besides}")
        super().__init__(conflicts=[fault])


class _Loading:
    def __init__(self, store: Store, file: DumpFile, overwrite: bool) -> None:
        self._store = store
        self._reading = Reading(file)
        self._overwrite = overwrite
        self._notebooks = NotebookRepository(store)
        self._taking = Taking(store)

    def attempt(self, notebook_id: str, group: Group) -> Loaded:
        """Load what belongs together, or say why not."""
        try:
            loaded = self._named(notebook_id, lambda: self._add(notebook_id, group))
        except _Refused as refused:
            loaded = refused.why
        if loaded.conflicts and self._overwrite and group.notebook is not None:
            try:
                return self._named(notebook_id, lambda: self._replace(notebook_id, group))
            except _Refused as refused:
                loaded.conflicts = []
                loaded.merge(refused.why)
        return loaded

    @staticmethod
    def _named(notebook_id: str, work: Callable[[], Loaded]) -> Loaded:
        try:
            try:
                return work()
            except Conflict:  # somebody else may have stored it meanwhile; then it is there now
                return work()
        except Conflict as error:
            raise _Refused(conflicts=[Fault(NOTEBOOKS.name, notebook_id, str(error))]) from None
        except RecordDamaged as error:
            raise _Refused(damaged=[Fault(NOTEBOOKS.name, notebook_id, str(error))]) from None
        except ForeignRecord as error:
            raise _Refused(foreign=[Fault(NOTEBOOKS.name, notebook_id, str(error))]) from None

    def _add(self, notebook_id: str, group: Group) -> Loaded:
        """Store what is not there yet; raises _Refused for a notebook that is there and differs."""
        in_turns = self._store.admits_one_writer and group.is_large
        if group.notebook is None:
            tables = _BESIDE[:1] if in_turns else _BESIDE
            loaded = self._store.retry(lambda: self._join(notebook_id, group, tables))
            if in_turns:
                loaded.merge(
                    self._add_rest(group, lambda: self._hold_stored(notebook_id), _BESIDE[1:])
                )
            return loaded
        notebook = self._prepared(notebook_id, group)
        try:
            if in_turns:
                return self._add_in_turns(notebook, group)
            return self._store.retry(lambda: self._add_at_once(notebook, group))
        except _Differs:
            if self._overwrite:
                raise
            return self._add_beside(notebook, group, in_turns=in_turns)

    def _prepared(self, notebook_id: str, group: Group) -> IncomingNotebook:
        try:
            return self._reading.notebook(group)
        except InvalidData as error:
            raise _Refused(damaged=[Fault(NOTEBOOKS.name, notebook_id, str(error))]) from None

    def _add_at_once(self, notebook: IncomingNotebook, group: Group) -> Loaded:
        loaded = Loaded()
        with self._store.transaction():
            # First, since a database that keeps users apart lets nobody add to a notebook that is not his.
            self._take_notebook(loaded, notebook)
            for table in _CELLS:
                self._take_cells(loaded, notebook, table, group.places.get(table, ()))
            for table in _BESIDE:
                self._take_table(loaded, table, group.places.get(table, ()))
            self._check(loaded, notebook)
        return loaded

    def _add_in_turns(self, notebook: IncomingNotebook, group: Group) -> Loaded:
        loaded = Loaded()
        try:
            ahead = self._write_ahead(loaded, notebook, group)
            try:
                loaded.merge(self._store.retry(lambda: self._add_history(notebook, group, ahead)))
            except _Refused as refused:
                refused.why.damaged[:0] = loaded.damaged  # may be why
                raise
        except BaseException:
            with suppress(AxonError):  # why it is not loaded matters more
                self._notebooks.discard_staged(notebook.id)
            raise
        done = set(group.referring.values())
        loaded.merge(
            self._add_rest(group, lambda: self._hold_stored(notebook.id), _BESIDE[1:], done)
        )
        return loaded

    def _add_beside(self, notebook: IncomingNotebook, group: Group, *, in_turns: bool) -> Loaded:
        """Add what goes beside a notebook that differs, where it is one that was saved since.

        Somebody may have saved it after a load in turns was interrupted, and that goes on here.
        """

        def hold() -> None:
            self._hold_saved_since(notebook, group)

        def at_once() -> Loaded:
            loaded = Loaded()
            with self._store.transaction():
                hold()
                for table in _BESIDE:
                    self._take_table(loaded, table, group.places.get(table, ()))
            return loaded

        loaded = self._add_rest(group, hold, _BESIDE) if in_turns else self._store.retry(at_once)
        added = any(table.added for table in loaded.tables.values())
        besides = (
            "; it is kept, and what it lacked of its runs and checkpoints was added"
            if added
            else ""
        )
        loaded.conflicts[:0] = _Differs(notebook.id, besides).why.conflicts
        return loaded

    def _write_ahead(self, loaded: Loaded, notebook: IncomingNotebook, group: Group) -> set[str]:
        """Store the contents of a large notebook; their ids. Nobody lists them yet."""
        ahead: set[str] = set()
        for batch in self._reading.batches(
            loaded, CONTENTS.name, group.places.get(CONTENTS.name, ())
        ):
            given = _numbered(notebook, batch)
            taken = self._taking.take_in_turns(
                loaded, CONTENTS.name, given, lambda: self._hold(notebook)
            )
            if loaded.conflicts or len(taken) < len(given):
                raise _Refused(conflicts=loaded.conflicts, damaged=loaded.damaged)
            ahead |= taken
        return ahead

    def _add_history(self, notebook: IncomingNotebook, group: Group, ahead: set[str]) -> Loaded:
        """Store a notebook of which the contents are there."""
        loaded = Loaded()
        with self._store.transaction():
            self._take_notebook(loaded, notebook)
            if len(self._store.contents.existing_ids(ahead)) < len(ahead):
                raise Conflict("what it consists of was removed while it was loaded; load it again")
            self._take_cells(loaded, notebook, CONTENTS.name, ())
            self._take_cells(loaded, notebook, VERSIONS.name, group.places.get(VERSIONS.name, ()))
            self._take_table(loaded, RUNS.name, group.places.get(RUNS.name, ()))
            self._take_table(loaded, CHECKPOINTS.name, group.referring.values())
            self._check(loaded, notebook)
        return loaded

    def _add_rest(
        self,
        group: Group,
        hold: Callable[[], None],
        tables: Iterable[str],
        done: Collection[int] = (),
    ) -> Loaded:
        """Store what is in ``tables`` in turns, but for what is at the places ``done``; ``hold`` is called in each."""
        loaded = Loaded()
        for table in tables:
            left = (place for place in group.places.get(table, ()) if place not in done)
            for batch in self._reading.batches(loaded, table, left):
                self._taking.take_in_turns(loaded, table, batch, hold)
        return loaded

    def _replace(self, notebook_id: str, group: Group) -> Loaded:
        """Take a notebook in place of the one that is there, in one transaction: of two halves none is a notebook."""
        notebook = self._prepared(notebook_id, group)
        return self._store.retry(lambda: self._replace_at_once(notebook, group))

    def _replace_at_once(self, notebook: IncomingNotebook, group: Group) -> Loaded:
        store = self._store
        with store.transaction():
            self._store.lock(f"notebook {notebook.id}")
            store.notebooks.get_for_update(notebook.id)
            referring = self._check_nothing_is_lost(notebook.id, group)
            for name in _BELONGING:
                store.table(name).remove_notebook(notebook.id)
            store.notebooks.remove(doc_ids=[notebook.id])
            loaded = self._add_at_once(notebook, group)
            self._check_versions(loaded, referring)
            if loaded.conflicts:
                raise _Refused(conflicts=loaded.conflicts)
        for table in loaded.tables.values():
            table.added, table.replaced = 0, table.added
        return loaded

    def _check_nothing_is_lost(self, notebook_id: str, group: Group) -> dict[str, str]:
        """Raise _Refused where the store has checkpoints or state files that the file lacks.

        Returns the versions that the store's checkpoints refer to, as far as they are there: each with one that does.
        """
        states: dict[str, list[Any]] = {}
        for id, one in self._reading.valid(group, CHECKPOINTS.name):
            states.setdefault(id, _states(one))
        stored = where("notebook_id") == notebook_id
        if more := len(self._store.checkpoints.ids(stored) - states.keys()):
            some = "a checkpoint" if more == 1 else f"{more} checkpoints"
            reason = (
                f"the store has {some} of it that the file lacks; delete what is not wanted first"
            )
            raise _Refused(conflicts=[Fault(NOTEBOOKS.name, notebook_id, reason)])
        reason = (
            "the store has a state file of it that the file lacks; to replace it, delete it first"
        )
        lost: list[Fault] = []
        referring: dict[str, str] = {}
        for one in self._store.checkpoints.iterate(stored):
            id = str(one.doc_id)
            if any(
                path and path != given for path, given in zip(_states(one), states[id], strict=True)
            ):
                lost.append(Fault(CHECKPOINTS.name, id, reason))
            if (version_id := one.get("version_id")) is not None:
                referring.setdefault(version_id, id)
        if lost:
            raise _Refused(conflicts=lost)
        present = self._store.versions.existing_ids(referring)
        return {version_id: referring[version_id] for version_id in present}

    def _check_versions(self, loaded: Loaded, referring: Mapping[str, str]) -> None:
        """Have a conflict for each version that is no longer there, and the checkpoint that refers to it."""
        for version_id in sorted(referring.keys() - self._store.versions.existing_ids(referring)):
            reason = (
                f"checkpoint {referring[version_id]} in the store refers to it, and the file lacks it; "
                "delete what is not wanted first"
            )
            loaded.conflicts.append(Fault(VERSIONS.name, version_id, reason))

    # Inside a transaction

    def _hold(self, notebook: IncomingNotebook) -> Document | None:
        """Lock a notebook that is there and the same, or not there and free to be; its document."""
        self._store.lock(f"notebook {notebook.id}")
        stored = self._store.notebooks.get_for_update(notebook.id)
        if stored is None:
            self._check_path(notebook)
        elif canonical(stored) != canonical(notebook.stored):
            raise _Differs(notebook.id)
        return stored

    def _check_path(self, notebook: IncomingNotebook) -> None:
        origin, path = notebook.stored.get("origin"), notebook.stored.get("path")
        if origin is not None and path is not None:
            self._store.lock(file_lock(origin, path))
            bound = self._store.notebooks.get((where("origin") == origin) & (where("path") == path))
            if bound is not None:
                reason = f"its file {path} belongs to notebook {bound.doc_id} in the store"
                raise _Refused(conflicts=[Fault(NOTEBOOKS.name, notebook.id, reason)])

    def _hold_stored(self, notebook_id: str) -> None:
        """Lock a notebook that was there."""
        if self._store.notebooks.get_for_update(notebook_id) is None:
            reason = "it was deleted from the store while it was loaded"
            raise _Refused(conflicts=[Fault(NOTEBOOKS.name, notebook_id, reason)])

    def _hold_saved_since(self, notebook: IncomingNotebook, group: Group) -> None:
        """Lock a notebook that was there and has all versions that the file's checkpoints refer to."""
        stored = self._store.notebooks.get_for_update(notebook.id)
        if stored is None or stored.get("created_at") != notebook.stored["created_at"]:
            raise _Differs(notebook.id)
        if len(self._store.versions.existing_ids(group.referring)) < len(group.referring):
            raise _Differs(notebook.id)

    def _join(self, notebook_id: str, group: Group, tables: Iterable[str]) -> Loaded:
        """Take what belongs to a notebook that the file does not have, but the store."""
        loaded = Loaded()
        with self._store.transaction():
            if self._store.notebooks.get_for_update(notebook_id) is None:
                reason = f"its notebook {notebook_id} is neither in the file nor in the store"
                raise _Refused(damaged=self._strays(group, group.places, reason))
            reason = f"its notebook {notebook_id} is not in the file"
            loaded.damaged += self._strays(group, _CELLS, reason)
            for table in tables:
                self._take_table(loaded, table, group.places.get(table, ()))
        return loaded

    def _strays(self, group: Group, tables: Iterable[str], reason: str) -> Iterator[Fault]:
        return (
            Fault(table, undumped(one)[0], reason)
            for table in tables
            for one in self._reading.documents(group, table)
        )

    def _take_notebook(self, loaded: Loaded, notebook: IncomingNotebook) -> None:
        if self._hold(notebook) is not None:
            loaded.tables[NOTEBOOKS.name].unchanged += 1
            return
        try:
            self._store.notebooks.insert_new(document(notebook.id, notebook.stored))
        except ForeignRecord:
            reason = f"it belongs to {notebook.stored['user_id']}, whose records this user of the database does not store"
            raise _Refused(foreign=[Fault(NOTEBOOKS.name, notebook.id, reason)]) from None
        loaded.tables[NOTEBOOKS.name].added += 1

    def _check(self, loaded: Loaded, notebook: IncomingNotebook) -> None:
        """Put a notebook together that is there with all it consists of."""
        try:
            found = whole_document(
                self._notebooks, notebook.id, self._store.notebooks.get(doc_id=notebook.id)
            )
        except RecordDamaged as error:
            fault = Fault(NOTEBOOKS.name, notebook.id, f"it cannot be put together: {error}")
            raise _Refused(damaged=[*loaded.damaged, fault]) from None
        table = loaded.tables[NOTEBOOKS.name]
        table.read.add(dumped(notebook.id, found if notebook.dumped is None else notebook.dumped))
        table.found.add(dumped(notebook.id, found))

    def _take_cells(
        self, loaded: Loaded, notebook: IncomingNotebook, table: str, places: Iterable[int]
    ) -> None:
        """Take contents or versions, and those that the notebook's cells make; raises _Refused where any differ."""
        for batch in self._reading.batches(loaded, table, places):
            found = self._complete(loaded, notebook, batch) if table == VERSIONS.name else batch
            self._taking.take(
                loaded, table, _numbered(notebook, found) if table == CONTENTS.name else found
            )
        made = {str(one.doc_id): dict(one) for one in notebook.made.get(table, [])}
        self._taking.take(
            loaded, table, _numbered(notebook, made) if table == CONTENTS.name else made
        )
        if loaded.conflicts:
            raise _Refused(conflicts=loaded.conflicts)

    def _take_table(self, loaded: Loaded, table: str, places: Iterable[int]) -> None:
        for batch in self._reading.batches(loaded, table, places):
            self._taking.take(loaded, table, batch)

    def _complete(
        self, loaded: Loaded, notebook: IncomingNotebook, versions: dict[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Those of ``versions`` whose contents are in the store, and fit to be listed by them."""
        lists = {id: content_ids(version) for id, version in versions.items()}
        present = self._store.contents.existing_ids(set().union(*lists.values()))
        if notebook.numbering is not None:
            present = notebook.numbering.known(present)
        missing = {id: len(listed - present) for id, listed in lists.items()}
        loaded.damaged += (
            Fault(VERSIONS.name, id, f"{count} of its contents are not in the file")
            for id, count in missing.items()
            if count
        )
        return {id: version for id, version in versions.items() if not missing[id]}


def _numbered(
    notebook: IncomingNotebook, contents: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    if notebook.numbering is None:
        return contents
    return {id: notebook.numbering.numbered(id, one) for id, one in contents.items()}


def _states(checkpoint: Mapping[str, Any]) -> list[Any]:
    """The state files that a checkpoint names; those in its own folder without the root that the folder lies in."""
    own = (checkpoint.get("notebook_id"), checkpoint.get("id"))
    paths = (checkpoint.get(f"{part}_state_path") for part in STATE_PARTS)
    return [key if path and (key := file_key(path))[:2] == own else path for path in paths]
