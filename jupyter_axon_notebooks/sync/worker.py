"""The worker thread that opens the store and records what happens to notebook files."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from ..defaults import READ_TIMEOUT
from ..errors import (
    AxonError,
    InvalidData,
    NoSpace,
    RecordDamaged,
    StoreBusy,
    StoreDamaged,
    StoreError,
)
from ..records import NotebookCell, NotebookSummary, is_record_id
from ..repository import Binding, NotebookRepository
from ..store import ForeignRecord
from ..store.urls import shown_url
from .contents import EmbeddedIds
from .files import (
    file_state,
    fingerprint,
    is_notebook_file,
    read_file,
    read_stable,
    resolve_path,
)
from .queue import Delete, Event, EventQueue, OpenStore, Rename, Save
from .recorder import NotebookRecorder

#: Seconds that a request waits for pending saves before it changes something.
DRAIN_TIMEOUT: Final = 30.0
#: Seconds between a save and its processing, unless a request waits for the record.
_SAVE_DELAY: Final = 0.2
#: Seconds before an unchanged file that could not be read is read again without a request.
_UNREADABLE_DELAY: Final = 60.0
#: Seconds before a failed event is tried again; the last value repeats.
_RETRY_DELAYS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class StoreSession(Protocol):
    """An open store with what depends on it."""

    @property
    def repository(self) -> NotebookRepository:
        """The operations on records."""

    @property
    def origin(self) -> str:
        """The id of this Jupyter data directory."""

    @property
    def is_lost(self) -> bool:
        """True if the store's file was deleted or replaced."""

    def close(self) -> None:
        """Close the store."""


_Session = TypeVar("_Session", bound=StoreSession)


class NotebookSync(Generic[_Session]):
    """Keeps the records of notebook files up to date.

    Events are queued from the beginning. The worker thread opens the store, and tries again until
    it succeeds; when the store's file is deleted or replaced, it opens the store again.

    Parameters
    ----------
    url : str
        The store's URL, for messages.
    open : callable
        Opens the store; raises AxonError. Called in the worker thread.
    ids : EmbeddedIds, optional
        Updated with the ids that files carry.
    read : callable
        Reads a notebook by its path; raises as :func:`.files.read_file` does. Called in the worker
        thread.
    check_origin : callable
        Called before each event and each wait, from any thread. Must be quick and not raise.
    """

    def __init__(
        self,
        url: str,
        open: Callable[[], _Session],
        log: logging.Logger,
        ids: EmbeddedIds | None = None,
        read: Callable[[str], Mapping[str, Any]] = read_file,
        check_origin: Callable[[], object] = lambda: None,
    ) -> None:
        self._url = shown_url(url)
        self._open = open
        self._log = log
        self._ids = EmbeddedIds() if ids is None else ids
        self._read = read
        self._check_origin = check_origin
        self._session: _Session | None = None
        self._recorder: NotebookRecorder | None = None
        self._open_error: Exception = self._opening_error()
        self._was_open = False
        self._tried_to_open = threading.Event()
        self._queue = EventQueue(_SAVE_DELAY)
        self._queue.put(OpenStore(self._url))
        self._unreadable = _UnreadableFiles()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="axon-sync", daemon=True)

    def start(self) -> None:
        """Start the worker thread; it first opens the store and finds files changed meanwhile."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Process the queued events and stop; return False after ``timeout`` seconds.

        What is left is found when the server starts again or the record is read, from the files.
        """
        self._stopping.set()
        self._queue.close()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Close the store, after :meth:`stop`."""
        if self._session is not None:
            self._session.close()

    # The store. Any thread may call these.

    @property
    def is_open(self) -> bool:
        """True if the store is open and its file is in place."""
        session = self._session  # read once: the worker may change it
        return session is not None and not session.is_lost

    @property
    def session(self) -> _Session:
        """The open store; raises StoreError with the reason while it cannot be opened."""
        session = self._session
        if session is None:
            raise self._open_error.with_traceback(None)
        return session

    @property
    def origin(self) -> str:
        """The id of this Jupyter data directory; raises as :attr:`session` does."""
        return self.session.origin

    def _opening_error(self) -> StoreBusy:
        return StoreBusy(f"the store {self._url} is still being opened")

    def reopen(self) -> None:
        """Open the store again if its file was deleted or replaced; return at once."""
        if self._session is not None and not self.is_open:
            self._queue.put(OpenStore(self._url))

    # Events. These return at once.

    def notebook_saved(self, path: str, owner: str, content: Mapping[str, Any] | None) -> None:
        """Queue a save; ``content`` is None if the file has to be read."""
        # Resolved now, because links may lead elsewhere when the event is processed.
        path = resolve_path(path)
        self._queue.put(Save(path, owner, content, fingerprint(path)))

    def file_renamed(self, old_path: str, new_path: str) -> None:
        """Queue the rename of a file or folder."""
        self._queue.put(Rename(resolve_path(old_path), resolve_path(new_path)))

    def file_deleted(self, path: str) -> None:
        """Queue the deletion of a file or folder."""
        self._queue.put(Delete(resolve_path(path)))

    # Requests. These wait.

    def drain(self, timeout: float = DRAIN_TIMEOUT) -> bool:
        """Wait until all events so far are recorded; return False if some are not.

        A store that has not been open yet, and an event that has failed before, are waited for at
        most ``READ_TIMEOUT`` seconds, because nobody can tell how long they take.
        """
        self._check_origin()
        if not self._was_open:
            timeout = min(timeout, READ_TIMEOUT)
        end = time.monotonic() + timeout
        if self._session is not None and not self.is_open:
            self.reopen()
            # Opening the store may queue further events.
            self._queue.drain(timeout, min(timeout, READ_TIMEOUT))
            timeout = max(0.0, end - time.monotonic())
        return self._queue.drain(timeout, min(timeout, READ_TIMEOUT))

    def wait_for_session(self, timeout: float) -> _Session:
        """Return the open store; wait until it is open or cannot be opened.

        Raises StoreError with the reason if it is still not open after ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        if not self.is_open:
            self.drain(timeout)  # so that it is opened now, also if that has failed before
            self._tried_to_open.wait(max(0.0, end - time.monotonic()))
        return self.session

    def sync_file(
        self, path: str, owner: str, *, previous: Sequence[NotebookCell] | None = None
    ) -> NotebookSummary:
        """Read a file and create or update its record.

        Parameters and errors are those of :meth:`.NotebookRecorder.record`. Raises StoreBusy after
        :data:`DRAIN_TIMEOUT` seconds.
        """
        waiter: Future[NotebookSummary] = Future()
        self._queue.put(Save(resolve_path(path), owner, previous=previous, waiters=[waiter]))
        try:
            return waiter.result(DRAIN_TIMEOUT)
        except FutureTimeout:
            raise StoreBusy(
                f"{path} was not recorded within {DRAIN_TIMEOUT:g} s; try again"
            ) from None

    def queue_changed_files(self, bindings: Iterable[Binding]) -> bool:
        """Queue files of records that were changed outside Jupyter; return whether any were."""
        changed = [
            binding
            for binding in bindings
            if binding.origin == self.origin
            and not self._unreadable.contains(str(binding.path))
            and _is_changed(binding)
        ]
        for binding in changed:
            self._queue.put(Save(str(binding.path), binding.user_id))
        return bool(changed)

    # The worker thread.

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            self._check_origin()
            try:
                if not self.is_open:
                    self._tried_to_open.clear()
                    self._open_store(event)
            except AxonError as error:
                self._retry(event, error)
                continue
            finally:
                self._tried_to_open.set()
            try:
                self._process(event)
            except (RecordDamaged, StoreDamaged, ForeignRecord) as error:
                self._give_up(event, error)  # other records may still be written
            except (StoreError, NoSpace) as error:
                self._retry(event, error)
            except InvalidData as error:
                if self._unreadable.add(event.path, error):
                    self._give_up(event, error)
                event.fail(error)
            except AxonError as error:
                self._give_up(event, error)
            except Exception as error:  # noqa: BLE001 - other notebooks must still be recorded
                self._log.error("axon: recording %s failed", event.path, exc_info=True)
                event.fail(error)

    def _process(self, event: Event) -> None:
        assert self._recorder is not None  # created with the session
        match event:
            case Save():
                summary = self._recorder.record(
                    event.path,
                    event.owner,
                    content=event.content,
                    file=event.file,
                    previous=event.previous,
                )
                event.finish(summary)
                self._unreadable.remove(event.path)
            case Rename():
                self._put_saves(self._recorder.rename(event.path, event.new_path), event)
            case Delete():
                self._put_saves(self._recorder.delete(event.path), event)
        if event.failures:
            self._log.info("axon: notebooks are recorded again")

    def _give_up(self, event: Event, error: AxonError) -> None:
        self._log.warning("axon: the record of %s is not up to date: %s", event.path, error)
        event.fail(error)

    def _retry(self, event: Event, error: AxonError) -> None:
        if self._stopping.is_set():
            event.fail(error)
            self._log.error("axon: the last change of %s is not recorded: %s", event.path, error)
            return
        if event.failures == 0:
            self._log.error("axon: notebooks are saved but not recorded for now: %s", error)
        delay = _RETRY_DELAYS[min(event.failures, len(_RETRY_DELAYS) - 1)]
        self._queue.retry(event, delay, error)

    def _open_store(self, event: Event) -> None:
        """Open the store, and queue the files that changed while it was not open."""
        if self._session is not None:
            self._log.warning(
                "axon: the store %s was deleted or replaced while it was in use. Notebooks that "
                "are missing from it are recorded again; missing checkpoints are lost",
                self._url,
            )
        self._open_error = self._opening_error()
        try:
            self.close()
            self._session = None
            session = self._open()
        except Exception as error:
            self._was_open = False
            named = isinstance(error, AxonError)
            self._open_error = error if named else StoreError(f"the store {self._url}: {error}")
            raise self._open_error from error
        bindings = self._list_bindings(session)
        self._ids.load(
            {
                str(binding.path): str(binding.embedded_id)
                if is_record_id(binding.embedded_id)
                else binding.id  # embedded by the next save
                for binding in bindings
            }
        )
        changed = {str(b.path): b.user_id for b in bindings if _is_changed(b)}
        recorded = {str(binding.path): binding.user_id for binding in bindings}
        owners = {} if self._recorder is None else self._recorder.owners
        changed |= {
            path: owner
            for path, owner in owners.items()
            if path not in recorded and is_notebook_file(path)
        }
        self._recorder = NotebookRecorder(
            session.repository,
            session.origin,
            partial(self._log.warning, "axon: %s"),
            read=lambda path: read_stable(path, self._read, self._stopping.wait),
            ids=self._ids,
        )
        self._recorder.owners |= owners | recorded
        self._session = session
        self._was_open = True
        self._log.info("axon: training notebooks are recorded in %s", self._url)
        self._put_saves(changed.items(), event)

    def _list_bindings(self, session: _Session) -> list[Binding]:
        try:
            return session.repository.bindings.list(session.origin)
        except Exception as error:  # noqa: BLE001 - other parts of the store are usable
            self._log.error(
                "axon: notebooks that changed while no server ran are recorded when they are "
                "read: %s",
                error,
            )
            return []

    def _put_saves(self, files: Iterable[tuple[str, str]], cause: Event) -> None:
        for path, owner in files:
            self._queue.put(Save(path, owner), cause=cause)


def _is_changed(binding: Binding) -> bool:
    """Return whether a bound file exists and differs from when it was last read."""
    if binding.path is None:
        return False
    found = fingerprint(binding.path)
    return bool(found) and found != binding.file


class _UnreadableFiles:
    """Files that could not be read; each is reported once and not read again for a while.

    The worker adds and removes files; any thread may query.
    """

    def __init__(self) -> None:
        self._files: dict[str, tuple[type[InvalidData], tuple[int, ...], float]] = {}

    def add(self, path: str, error: InvalidData) -> bool:
        """Add a file; return whether this kind of error is new for it."""
        before = self._files.get(path)
        self._files[path] = type(error), file_state(path), time.monotonic()
        return before is None or before[0] is not type(error)

    def remove(self, path: str) -> None:
        """Remove a file that could be read."""
        self._files.pop(path, None)

    def contains(self, path: str) -> bool:
        """Return whether a file could not be read recently and has not changed since."""
        found = self._files.get(path)
        return (
            found is not None
            and found[1] == file_state(path)
            and time.monotonic() < found[2] + _UNREADABLE_DELAY
        )
