"""The thread that turns what happened to notebook files into records."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from typing import Any, Generic, TypeVar

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
from ..records import NotebookCell, NotebookSummary
from ..store.failures import ForeignRecord
from .embedded import EmbeddedIds
from .files import RealFolders, file_state, read_file, read_settled, resolved, was_changed
from .opened import Opened, OpenedStore
from .queue import Delete, Event, EventQueue, Opening, Rename, Save
from .recording import Recorder

#: Seconds a REST request that changes something waits for saves that are on their way, and for a store that has to be
#: opened again.
SETTLE_TIMEOUT = 30.0
#: Seconds after a save before it is worked on, unless somebody asks for the record.
_REST = 0.2
#: Seconds for which a file that could not be read, and has not changed since, is not read again without being asked for.
_UNREADABLE = 60.0
#: Seconds before what the store did not take is tried again; the last one for good.
_RETRY = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

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
    before : callable, optional
        Called before anything is done or asked, from any thread; must be quick and not raise.
    """

    def __init__(
        self,
        url: str,
        open: Callable[[], _Opened],
        log: logging.Logger,
        ids: EmbeddedIds | None = None,
        read: Callable[[str], Mapping[str, Any]] = read_file,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._log = log
        self._ids = EmbeddedIds() if ids is None else ids
        self._read = read
        self._before = before
        self._store = OpenedStore(url, open, log, self._ids)
        self._queue = EventQueue(_REST)
        self._queue.put(Opening(self._store.url))
        self._folders = RealFolders()
        self._unreadable = _UnreadableFiles()
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
        self._store.close()

    # What stands on the store.

    @property
    def is_open(self) -> bool:
        """Whether the store could be opened, and is still where it was."""
        return self._store.is_open

    @property
    def is_due(self) -> bool:
        """Whether the store has to be opened, for the first time or again, before it is of use; :meth:`settle` waits."""
        return self._store.is_due

    @property
    def opened(self) -> _Opened:
        """What opening the store gave.

        Raises
        ------
        StoreError
            As long as it cannot be opened; the message says why.
        """
        return self._store.opened

    @property
    def origin(self) -> str:
        """The id of this Jupyter data folder; raises as :attr:`opened` does."""
        return self.opened.origin

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

    def reopen(self) -> None:
        """Have the store opened again if its file was removed or replaced; returns at once."""
        if self._store.is_lost:
            self._queue.put(Opening(self._store.url))

    def settle(self, timeout: float = SETTLE_TIMEOUT) -> bool:
        """Wait until what happened so far is in the store, or has failed to get there once more.

        Returns
        -------
        bool
            Whether all of it is in the store.
        """
        self._before()
        # READ_TIMEOUT is all that is given to what has failed before, and to a store that was not open yet: nobody can
        # tell how long that takes.
        if not self._store.was_open:
            timeout = min(timeout, READ_TIMEOUT)
        ends = time.monotonic() + timeout
        if self._store.is_lost:
            self.reopen()
            self._queue.settle(timeout, min(timeout, READ_TIMEOUT))  # there may be more to do then
            timeout = max(0.0, ends - time.monotonic())
        return self._queue.settle(timeout, min(timeout, READ_TIMEOUT))

    def sync_file(
        self, path: str, owner: str, *, previous: Sequence[NotebookCell] | None = None
    ) -> NotebookSummary:
        """Read a file and bring its record up to date, or make it.

        Parameters
        ----------
        previous : sequence of NotebookCell, optional
            The cells that the file was made of: its cells without ids of their own take theirs. By default those that the
            record has.

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
        self._queue.put(Save(resolved(path), owner, previous=previous, done=[done]))
        try:
            return done.result(SETTLE_TIMEOUT)
        except Overdue:
            raise StoreBusy(f"the record of {path} is still on its way to the store") from None

    def look_at_files(self, ids: Iterable[str]) -> bool:
        """Have the files of those records that somebody else than Jupyter changed recorded; whether there are any.

        :meth:`settle` waits for it. A file that cannot be read leaves its record as it was.

        Raises
        ------
        StoreError
            When the store cannot be read.
        """
        changed = [
            binding
            for binding in self.opened.repository.bindings.get_many(ids)
            if binding.origin == self.origin
            and not self._unreadable.is_known(str(binding.path))
            and was_changed(binding)
        ]
        for binding in changed:
            self._queue.put(Save(str(binding.path), binding.user_id))
        return bool(changed)

    # The thread.

    def _work(self) -> None:
        while (event := self._queue.take()) is not None:
            try:
                self._handle(event)
            except (RecordDamaged, ForeignRecord) as error:  # which no other record has to wait for
                self._give_up(event, error)
            except StoreDamaged as error:
                if self._store.is_open:  # other notebooks may not need the damaged part
                    self._store.record_in_next(event)
                    self._give_up(event, error)
                else:
                    self._try_again(event, error)
            except (StoreError, NoSpace) as error:
                self._try_again(event, error)
            except InvalidData as error:
                if self._unreadable.add(event.path, error):
                    self._give_up(event, error)
                event.fail(error)
            except AxonError as error:
                self._give_up(event, error)
            except Exception as error:  # noqa: BLE001 - one notebook's trouble must not end the thread
                self._log.error(
                    "axon: the record of %s could not be made", event.path, exc_info=True
                )
                event.fail(error)

    def _give_up(self, event: Event, error: AxonError) -> None:
        self._log.warning("axon: %s has no up-to-date record: %s", event.path, error)
        event.fail(error)

    def _try_again(self, event: Event, error: AxonError) -> None:
        if self._stopping.is_set():
            event.fail(error)
            self._log.error(
                "axon: what last happened to %s is not in the store: %s", event.path, error
            )
            return
        if event.failures == 0:
            self._log.error("axon: notebooks are saved, but their records have to wait: %s", error)
        self._queue.put_back(event, _RETRY[min(event.failures, len(_RETRY) - 1)], error)

    def _handle(self, event: Event) -> None:
        self._before()
        if self._store.is_due:
            self._put(self._store.begin(), event)
        match event:
            case Save():
                event.resolve(self._recorder.save(event))
                self._unreadable.remove(event.path)
            case Rename():
                self._put(self._recorder.rename(event.path, event.new_path), event)
            case Delete():
                self._put(self._recorder.delete(event.path), event)
        if event.failures:
            self._log.info("axon: the store takes records again")

    def _put(self, saves: Iterable[Save], cause: Event) -> None:
        for save in saves:
            self._queue.put(save, cause=cause)

    @property
    def _recorder(self) -> Recorder:
        repository, origin = self.opened.repository, self.origin
        return Recorder(
            repository,
            origin,
            self._store.files,
            self._folders,
            self._ids,
            self._read_whole,
            self._warn,
        )

    def _warn(self, text: str) -> None:
        self._log.warning("axon: %s", text)

    def _read_whole(self, path: str) -> Mapping[str, Any]:
        return read_settled(path, self._read, self._stopping.wait)


class _UnreadableFiles:
    """The files that could not be read: each is told of once, and not read again and again.

    The worker adds and removes them; any thread may ask.
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[type[InvalidData], tuple[int, ...], float]] = {}

    def add(self, path: str, error: InvalidData) -> bool:
        """Remember that a file could not be read; whether this is news."""
        before = self._found.get(path)
        self._found[path] = type(error), file_state(path), time.monotonic()
        return before is None or before[0] is not type(error)

    def remove(self, path: str) -> None:
        """Forget a file, which could be read."""
        self._found.pop(path, None)

    def is_known(self, path: str) -> bool:
        """Whether a file could not be read a short while ago, and is the same still."""
        found = self._found.get(path)
        return (
            found is not None
            and found[1] == file_state(path)
            and time.monotonic() < found[2] + _UNREADABLE
        )
