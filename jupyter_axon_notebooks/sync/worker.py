"""The thread that turns what happened to notebook files into records."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from typing import Any, Generic, Protocol, TypeVar

from ..errors import (
    AxonError,
    Conflict,
    InvalidData,
    NoSpace,
    NotFound,
    RecordDamaged,
    StoreBusy,
    StoreDamaged,
    StoreError,
)
from ..mapping import MappedNotebook, map_notebook, notebook_name
from ..records import NewNotebook, NotebookSummary, now
from ..repository import Binding, NotebookRepository, SavedNotebook
from ..store.urls import shown_url
from .embedded import EmbeddedIds
from .files import (
    RealFolders,
    embedded_id,
    fingerprint,
    has_ids,
    is_as_saved,
    is_notebook_file,
    read_file,
    resolved,
    was_changed,
)
from .identity import Known, New, Sighting, identify
from .queue import Delete, Event, EventQueue, Opening, Rename, Save

#: Seconds a REST request waits for saves that are on their way.
SETTLE_TIMEOUT = 30.0
#: Seconds it waits for what has failed before.
PATIENCE = 2.0
#: Seconds after a save before it is worked on, unless somebody asks for the record.
_REST = 0.2
#: Seconds between attempts to read a file that is being written by somebody else.
_REREAD = (0.05, 0.2, 0.5)
#: Seconds before what the store did not take is tried again; the last one for good.
_RETRY = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: Attempts at a record that somebody else makes, binds or removes at the same time.
_ATTEMPTS = 3


class Opened(Protocol):
    """What the worker needs of an open store."""

    @property
    def repository(self) -> NotebookRepository:
        """Where records are kept."""

    @property
    def origin(self) -> str:
        """The id of this Jupyter data folder; records are bound to (origin, real path)."""

    @property
    def is_lost(self) -> bool:
        """Whether the store's file was removed or replaced, so that it has to be opened again."""

    def close(self) -> None:
        """Close the store."""


_Opened = TypeVar("_Opened", bound=Opened)


class NotebookSync(Generic[_Opened]):
    """Keeps the records of notebook files up to date.

    What happens is noted from the start; the store is opened by the worker, and again and again until it can be.

    Parameters
    ----------
    url : str
        The store's, for messages.
    open : callable
        Opens the store; raises AxonError. Called from the worker's thread.
    ids : EmbeddedIds, optional
        Told which ids files carry.
    read : callable
        Reads a notebook by its path, and raises as :func:`.files.read_file` does. Called from the worker's thread.
    """

    def __init__(
        self,
        url: str,
        open: Callable[[], _Opened],
        log: logging.Logger,
        ids: EmbeddedIds | None = None,
        read: Callable[[str], Mapping[str, Any]] = read_file,
    ) -> None:
        self._url = shown_url(url)
        self._open = open
        self._log = log
        self._ids = EmbeddedIds() if ids is None else ids
        self._read = read
        self._opened: _Opened | None = None
        self._trouble: Exception = StoreBusy(f"the store {self._url} is still being opened")
        self._queue = EventQueue(_REST)
        self._queue.put(Opening(self._url))
        self._folders = RealFolders()
        self._files: dict[str, str] = {}
        self._replaced = False
        self._doubted = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="axon-sync", daemon=True)

    def start(self) -> None:
        """Start working; first open the store, and look for what happened to the known files while nobody looked."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish what was handed over, then stop; False when ``timeout`` seconds were not enough.

        What is left then is found again when the server starts or the record is read: the file has it.
        """
        self._stopping.set()
        self._queue.close()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Close the store, once the worker is stopped."""
        if self._opened is not None:
            self._opened.close()

    def remember(self, files: Mapping[str, str]) -> None:
        """Notebook files by path, each with its owner, that had a record once; called by ``open``, in the worker's thread.

        Those that the store does not know are recorded again, as are those of a store that is gone.
        """
        self._files |= files
        self._replaced = True

    # What stands on the store.

    @property
    def is_open(self) -> bool:
        """Whether the store could be opened, and is still where it was."""
        return self._opened is not None and not self._opened.is_lost

    @property
    def opened(self) -> _Opened:
        """What opening the store gave.

        Raises
        ------
        StoreError
            As long as it cannot be opened; the message says why.
        """
        if self._opened is None:
            raise self._trouble.with_traceback(None)
        return self._opened

    @property
    def origin(self) -> str:
        """The id of this Jupyter data folder; raises as :attr:`opened` does."""
        return self.opened.origin

    @property
    def _repository(self) -> NotebookRepository:
        return self.opened.repository

    # What happened. These return at once.

    def saved(self, path: str, owner: str, content: Mapping[str, Any] | None) -> None:
        """A file was saved, with this content where it is at hand."""
        # Now: what links lead to may be another file when the worker looks.
        seen = self._folders.look_at(path)
        self._queue.put(Save(seen.path, owner, content, seen.file, seen.folder))

    def renamed(self, old_path: str, new_path: str) -> None:
        """A file, or a folder, was renamed."""
        self._folders.forget()
        self._queue.put(Rename(resolved(old_path), resolved(new_path)))

    def deleted(self, path: str) -> None:
        """A file, or a folder, was deleted."""
        self._folders.forget()
        self._queue.put(Delete(resolved(path)))

    # What is asked. These wait.

    def doubt(self) -> None:
        """Have a store that was found damaged opened again, once: whoever opens it may find that it cannot be used."""
        if not self._doubted:
            self._doubted = True
            self._queue.put(Opening(self._url, anew=True))

    def settle(self, timeout: float = SETTLE_TIMEOUT) -> None:
        """Wait until what happened so far is in the store, or has failed to get there once more."""
        if not self.is_open:
            timeout = min(timeout, PATIENCE)
            if self._opened is not None:
                self._queue.put(Opening(self._url))
                self._queue.settle(timeout, timeout)  # there may be more to do then
        if not self._queue.settle(timeout, min(timeout, PATIENCE)):
            self._log.warning("axon: saves are still on their way to the store after %.0f s", timeout)

    def sync_file(self, path: str, owner: str) -> NotebookSummary:
        """Read a file and bring its record up to date, or make it.

        Raises
        ------
        NotFound
            When there is no such file.
        InvalidData
            When it is not a notebook.
        StoreError
            When the store does not take it.
        """
        done: Future[NotebookSummary] = Future()
        self._queue.put(Save(resolved(path), owner, done=[done]))
        try:
            return done.result(SETTLE_TIMEOUT)
        except Overdue:
            raise StoreBusy(f"the record of {path} is still on its way to the store") from None

    def freshen(self, ids: Iterable[str]) -> bool:
        """Sync the files of those records that somebody else than Jupyter changed; whether there were any.

        Raises
        ------
        StoreError
            When the store cannot be read. A file that cannot be read leaves its record as it was.
        """
        waiting = []
        for binding in self._repository.bindings_of(ids):
            if binding.origin == self.origin and was_changed(binding):
                done: Future[NotebookSummary] = Future()
                self._queue.put(Save(str(binding.path), binding.user_id, done=[done]))
                waiting.append(done)
        for done in waiting:
            try:
                error = done.exception(SETTLE_TIMEOUT)
            except Overdue as overdue:
                error = overdue
            if error is not None:
                self._log.debug("axon: a record is shown as it was when its file was last read: %s", error)
        return bool(waiting)

    # The thread.

    def _work(self) -> None:
        while (event := self._queue.take()) is not None:
            try:
                self._handle(event)
            except RecordDamaged as error:  # which no other record has to wait for
                self._give_up(event, error)
            except StoreDamaged as error:
                if self._opened is not None and self._doubted:
                    self._give_up(event, error)  # opened again, it passed: others may get along with it
                    continue
                if self._opened is not None:
                    self._doubted = True
                    self._leave()
                self._try_again(event, error)
            except (StoreError, NoSpace) as error:
                self._try_again(event, error)
            except AxonError as error:
                self._give_up(event, error)
            except Exception as error:  # noqa: BLE001 - one notebook's trouble must not end the thread
                self._log.error("axon: the record of %s could not be made", event.path, exc_info=True)
                event.fail(error)

    def _give_up(self, event: Event, error: AxonError) -> None:
        self._log.warning("axon: %s has no up-to-date record: %s", event.path, error)
        event.fail(error)

    def _try_again(self, event: Event, error: AxonError) -> None:
        if self._stopping.is_set():
            event.fail(error)
            self._log.error("axon: what last happened to %s is not in the store: %s", event.path, error)
            return
        if event.failures == 0:
            self._log.error("axon: notebooks are saved, but their records have to wait: %s", error)
        self._queue.put_back(event, _RETRY[min(event.failures, len(_RETRY) - 1)], error)

    def _handle(self, event: Event) -> None:
        if not self.is_open or (isinstance(event, Opening) and event.anew):
            self._begin()
        match event:
            case Save():
                event.resolve(self._save(event))
            case Rename():
                self._rename(event.path, event.new_path)
            case Delete():
                self._delete(event.path)
        if event.failures:
            self._log.info("axon: the store takes records again")

    def _begin(self) -> None:
        """Open the store, and look for what happened to the known files while nobody looked."""
        self._replaced = self._replaced or (self._opened is not None and self._opened.is_lost)
        try:
            self._leave()
            opened = self._open()
        except Exception as error:
            named = isinstance(error, AxonError)
            self._trouble = error if named else StoreError(f"the store {self._url}: {error}")
            raise self._trouble from error
        bindings = self._known(opened)
        self._ids.learn({str(b.path): b.embedded_id for b in bindings if b.embedded_id is not None})
        self._opened = opened
        self._log.info("axon: training notebooks are recorded in %s", self._url)
        for binding in filter(was_changed, bindings):
            self._queue.put(Save(str(binding.path), binding.user_id))
        known = {str(binding.path): binding.user_id for binding in bindings}
        if self._replaced:
            for path, owner in self._files.items():
                if path not in known and is_notebook_file(path):
                    self._queue.put(Save(path, owner))
            self._replaced = self._doubted = False
        self._files |= known

    def _leave(self) -> None:
        self.close()
        self._opened = None

    def _known(self, opened: _Opened) -> list[Binding]:
        try:
            return opened.repository.list_bindings(opened.origin)
        except Exception as error:  # noqa: BLE001 - the store can be used, whatever is wrong with some of it
            self._log.error("axon: what changed while no server ran is found later: %s", error)
            return []

    def _bound(self, path: str) -> list[Binding]:
        """Who is bound to a file, or to files beneath a folder."""
        exactly = self._repository.binding_at(self.origin, path)
        beneath = self._repository.list_bindings(self.origin, folder=path)
        return beneath if exactly is None else [exactly, *beneath]

    def _rename(self, old_path: str, new_path: str) -> None:
        for binding in self._bound(old_path):
            path = new_path + str(binding.path)[len(old_path) :]
            self._repository.bind(binding.id, path)
            self._forget(binding)
            self._files[path] = binding.user_id
            self._look_again(binding)

    def _delete(self, path: str) -> None:
        for binding in self._bound(path):
            self._repository.release(binding.id)
            self._forget(binding)
            self._look_again(binding)

    def _forget(self, binding: Binding) -> None:
        self._files.pop(str(binding.path), None)

    def _look_again(self, binding: Binding) -> None:
        """Make a record of what has been saved where a record's file was, if that was before we heard of its going."""
        path = str(binding.path)
        if is_notebook_file(path):
            self._queue.put(Save(path, binding.user_id))

    def _save(self, save: Save) -> NotebookSummary:
        path, content, file = self._place(save), save.content, save.file
        self._files.setdefault(path, save.owner)
        if content is None or path != save.path or not is_as_saved(content) or self._is_recorded(path, file):
            file = fingerprint(path)  # before reading: what is written meanwhile is then noticed
            content = self._read_whole(path)
            self._note_embedded(path, content, file)
        seen = Sighting(self.origin, path, save.owner, embedded_id(content), file)
        for attempt in range(1, _ATTEMPTS + 1):
            found = identify(seen, self._repository)
            if attempt == _ATTEMPTS and isinstance(found, New) and found.id is not None:
                # Taken, though by nobody who can be seen: a record of another user, whom the database keeps apart.
                found = New(copied_from=found.id)
            try:
                if isinstance(found, Known):
                    return self._update(found, seen, content)
                return self._create(found, seen, content)
            except (Conflict, NotFound):
                # Somebody else was quicker: with the file, with the id, or with removing the record.
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _place(self, save: Save) -> str:
        """The real path of what was saved: as the hook knew it, unless its folder turns out to be elsewhere."""
        if save.folder is None or fingerprint(save.path) == save.file:
            return save.path
        return os.path.join(self._folders.look_up(save.folder), os.path.basename(save.path))

    def _is_recorded(self, path: str, file: dict[str, int]) -> bool:
        """Whether the file as it is has been recorded already: two servers wrote it at once, and one was later."""
        bound = self._repository.binding_at(self.origin, path)
        return bound is not None and bool(file) and bound.file == file

    def _note_embedded(self, path: str, content: Mapping[str, Any], file: dict[str, int]) -> None:
        # Not of a file that has gone since: its name may be another notebook's next.
        id = embedded_id(content)
        if id is not None and fingerprint(path) == file:
            self._ids.read(path, id)

    def _update(self, found: Known, seen: Sighting, content: Mapping[str, Any]) -> NotebookSummary:
        if found.moved:
            self._repository.bind(found.id, seen.path)
        previous = None if has_ids(content) else self._repository.find_by_id(found.id)
        mapped = map_notebook(content, previous=previous.cells if previous is not None else ())
        return self._repository.save(found.id, _saved(mapped, seen))

    def _create(self, found: New, seen: Sighting, content: Mapping[str, Any]) -> NotebookSummary:
        saved = _saved(map_notebook(content), seen)
        if found.copied_from is not None:
            axon = {**saved.metadata.extra.get("axon", {}), "copied_from": found.copied_from}
            saved.metadata.extra = {**saved.metadata.extra, "axon": axon}
        name = notebook_name(seen.path)
        new = NewNotebook(id=found.id, user_id=seen.owner, name=name, path=seen.path, origin=seen.origin)
        created = self._repository.create_saved(new, saved)
        summary = self._repository.find_summary(created.id)
        if summary is None:
            raise NotFound("notebook", created.id)
        return summary

    def _read_whole(self, path: str) -> Mapping[str, Any]:
        for delay in _REREAD:
            try:
                return self._read(path)
            except InvalidData:
                self._stopping.wait(delay)  # it may be half-written
        return self._read(path)


def _saved(mapped: MappedNotebook, seen: Sighting) -> SavedNotebook:
    return SavedNotebook(
        cells=mapped.cells,
        metadata=mapped.metadata,
        status=mapped.status,
        synced_at=now(),
        embedded_id=seen.embedded_id,
        file=seen.file,
    )
