"""The logs of a training process: rows are on disk at once, and in the store soon after.

:meth:`RunLog.append` writes to a spool file and never waits for the store. One thread of the
process moves the rows on. What it did not move when the process ended is in the spool files, and is
stored by :func:`.recovery.recover_spools`.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from ..errors import InvalidData
from ..records import RunStatus, TrainingRun
from ..spool import Row, SpoolReader, SpoolWriter
from .messages import print_message
from .system_metrics import SystemSampler

#: Seconds between two passes while rows are logged: how far the store is behind.
_INTERVAL: Final = 0.5
#: Seconds between two samples of system metrics.
_SAMPLE_INTERVAL: Final = 10.0
#: Seconds until the store is tried again after a failure, doubled by each, and the longest.
_RETRY, _MAX_RETRY = 1.0, 60.0
#: Seconds for the last rows when the process ends.
_EXIT_TIMEOUT: Final = 5.0
#: The largest number of rows that stay in memory while no spool file can be written.
_MAX_UNWRITTEN: Final = 100_000
#: Rows that are written at once later, while a training may wait.
_WRITTEN_AT_ONCE: Final = 1_000
#: The largest number of logs whose files stay open while rows wait for the store.
_MAX_OPEN: Final = 100
#: Rows that are read at once.
_READ_AT_ONCE: Final = 100_000
#: The size of a spool file after which another one is begun, in bytes.
_MAX_SPOOL: Final = 64 << 20


class Store(Protocol):
    """The store as the thread uses it."""

    def append(self, reader: SpoolReader, run: TrainingRun) -> int:
        """Store the rows of a file from where the store has them on; return the offset after them.

        The run is recorded if it was not yet.
        """

    def finish(self, spool: str, run: TrainingRun, *, is_over: bool) -> None:
        """Forget a file, which was removed since all its rows are stored.

        If the log is over, the end of the run is recorded, should that have failed.
        """

    def close(self) -> None:
        """Close the store; the next call opens it again."""


Warn = Callable[[str], object]


class RunLog:
    """The log of one run in this process.

    Parameters
    ----------
    thread : LogThread
        The thread that moves the rows.
    folders : sequence of Path
        Where spool files are created: the first, unless that fails.
    run : TrainingRun
        The run, as it stands.
    header : mapping
        The header of the files.
    """

    def __init__(
        self,
        thread: LogThread,
        folders: Sequence[Path],
        run: TrainingRun,
        header: Mapping[str, Any],
    ) -> None:
        # The store needs NumPy for rows. If the thread imported it, other threads would find a
        # module that is only partly initialized.
        import_module("numpy")
        self._run = run
        self._thread = thread
        self._folders = folders
        self._header = header
        self._lock = threading.RLock()
        self._appended: deque[Row] = deque()  # rows that are being appended
        self._is_appending = False
        self._unwritten: deque[Row] = deque(maxlen=_MAX_UNWRITTEN)
        self._writer: SpoolWriter | None = None
        self._synced = 0
        self._stored = 0
        self._removed: str | None = None  # the file that the store has not forgotten yet
        self._is_closed = False
        self._is_released = False
        self._is_moving = False
        self._sample = 0
        with self._lock:
            self._open()

    def append(self, row: Row) -> None:
        """Append a row; the user is warned if it cannot be written.

        A signal handler may interrupt this method and log. Its row is appended after the others.
        """
        with self._lock:
            self._appended.append(row)
            if self._is_appending:
                return
            self._is_appending = True
            try:
                while self._appended:
                    self._append(self._appended.popleft())
                self._thread.wake()
            finally:
                self._is_appending = False

    def _append(self, row: Row) -> None:
        if self._is_released and self._writer is None:  # the process ends
            self._open()
        if self._writer is None or not self._writer.is_open or self._unwritten:
            self._unwritten.append(row)
            return
        try:
            self._writer.append(row)
        except OSError as error:
            self._unwritten.append(row)
            self._warn_of_disk(error)
        except InvalidData as error:
            self._thread.warn_once("row", f"values are not logged: {error}")

    def close(self) -> None:
        """End the log; its file is removed when the store has all rows."""
        self._is_closed = True
        if self._thread.has_many_logs:
            self._close_file()
        self._thread.wake()

    @property
    def is_stored(self) -> bool:
        """True if the store has all rows."""
        writer = self._writer
        is_moved = writer is None or writer.size == self._stored
        return is_moved and not self._unwritten and self._removed is None

    def unstored_rows(self) -> list[Row]:
        """Return the rows that the store may lack, oldest first."""
        with self._lock:
            writer, unwritten = self._writer, list(self._unwritten)
            if writer is None or self._stored == writer.size:
                return unwritten
            return _read_rows(writer, self._stored)[0] + unwritten

    def sample(self, metrics: Mapping[str, float]) -> None:
        """Append system metrics, which count their own steps, unless the run has ended."""
        if not self._is_closed and self._run.status is RunStatus.RUNNING:
            self.append(Row(self._sample, time.time(), metrics))
            self._sample += 1

    def _close_file(self) -> None:
        """Close the file before its rows are stored, unless the thread is moving them."""
        with self._lock:
            if self._writer is not None and self._writer.is_open and not self._is_moving:
                with suppress(OSError):
                    self._writer.sync()
                self._writer.close()

    # In the thread

    def move(self, store: Store) -> bool:
        """Move rows to the store; return whether the log is closed and has no more rows."""
        with self._lock:
            self._is_moving = True
        try:
            return self._move(store)
        finally:
            self._is_moving = False

    def _move(self, store: Store) -> bool:
        writer = self._writer
        if writer is not None and writer.is_open and not writer.is_intact():
            self._replace(writer)
        while self._write_unwritten():
            pass
        if self._writer is not None and self._writer.is_open:
            self._move_rows(self._writer, store)
        elif self._writer is not None:
            self._move_closed(self._writer, store)
        with self._lock:
            is_over = self._is_closed and self._writer is None and not self._unwritten
        if self._removed is not None:
            store.finish(self._removed, self._run, is_over=is_over)
            self._removed = None
        return is_over

    def _move_rows(self, writer: SpoolWriter, store: Store) -> None:
        size = writer.size
        if self._synced != size:
            with suppress(OSError):
                writer.sync()
            self._synced = size
        if self._stored != size:
            with SpoolReader(writer.path) as reader:
                self._stored = store.append(reader, self._run)
            if self._stored < size:
                self._replace(writer)
                return
        with self._lock:  # never while the store is used
            is_done = writer.size == self._stored and not self._unwritten
            if not is_done or not (self._is_closed or size > _MAX_SPOOL):
                return
            writer.close(remove=True)
            self._writer, self._removed = None, writer.id
            if not self._is_closed:
                self._open()

    def _move_closed(self, writer: SpoolWriter, store: Store) -> None:
        """Move the rows of a file that is closed, unless another process stores them."""
        try:
            reader = SpoolReader(writer.path)
        except (FileNotFoundError, InvalidData):  # another process has stored it, or it is damaged
            pass
        else:
            with reader:
                if not reader.is_abandoned():
                    return
                store.append(reader, self._run)
                reader.remove()  # while it is locked
        with self._lock:
            self._writer, self._removed = None, writer.id

    def _replace(self, writer: SpoolWriter) -> None:
        """Continue in another file, because another program removed or changed this one."""
        with self._lock:
            rows, end = _read_rows(writer, self._stored)
            self._unwritten = deque([*rows, *self._unwritten], _MAX_UNWRITTEN)
            is_complete = end == writer.size
            writer.close(remove=True)
            self._writer, self._removed = None, writer.id
            self._open()
        if not is_complete:
            self._thread.warn_once(
                "damage", f"logged values were lost, since another program changed {writer.path}"
            )

    def _open(self) -> None:
        failure: OSError | None = None
        for folder in self._folders:
            try:
                self._writer = SpoolWriter(folder, self._header)
            except OSError as error:
                failure = failure or error
                continue
            self._stored = self._synced = self._writer.size
            if failure is not None:
                self._thread.warn_once(
                    "folder",
                    f"logged values are written to {folder}, since they cannot be written to "
                    f"{self._folders[0]}: {failure.strerror}",
                )
            return
        if failure is not None:
            self._warn_of_disk(failure)

    def _write_unwritten(self) -> bool:
        """Write some of the rows that could not be written before; return whether more are left."""
        with self._lock:
            if self._writer is None and self._unwritten:
                self._open()
            elif self._writer is not None and not self._writer.is_open:
                return False
            for _ in range(min(len(self._unwritten), _WRITTEN_AT_ONCE)):
                if self._writer is None:
                    return False
                try:
                    self._writer.append(self._unwritten[0])
                except OSError:
                    return False
                except InvalidData as error:
                    self._thread.warn_once("row", f"values are not logged: {error}")
                self._unwritten.popleft()
            return bool(self._unwritten)

    def _warn_of_disk(self, error: OSError) -> None:
        self._thread.warn_once(
            "disk",
            f"logged values cannot be written to {error.filename or self._folders[0]}: "
            f"{error.strerror}. Training continues, and the last {_MAX_UNWRITTEN:,} rows stay in "
            "memory until they can be written",
        )

    def release(self) -> None:
        """Close the file, which others may then store."""
        with self._lock:
            self._is_released = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def close_in_child(self) -> None:
        """Release the file in a forked process, whose parent writes it."""
        if self._writer is not None:
            self._writer.close_in_child()


def _read_rows(writer: SpoolWriter, offset: int) -> tuple[list[Row], int]:
    """Return the rows of a file from an offset on, and the offset after them."""
    rows: list[Row] = []
    with suppress(OSError, InvalidData), writer.open_reader() as reader:
        while True:
            found, offset = reader.read(offset, _READ_AT_ONCE)
            if not found:
                break
            rows += found
    return rows, offset


class LogThread:
    """The thread that moves the rows of all logs of this process to the store.

    It is started by the first log, and ends with the process.

    Parameters
    ----------
    store : Store
        Where rows are stored; its methods raise if it is unavailable.
    warn : callable
        Warns the user.
    """

    def __init__(self, store: Store, warn: Warn) -> None:
        self._store = store
        self._warn = warn
        self._warned: set[str] = set()
        self._logs: list[RunLog] = []
        self._wake = threading.Event()
        self._passed = threading.Condition()
        self._waiting = 0  # threads that flush
        self._thread: threading.Thread | None = None
        self._has_samples = False
        self._sampler: SystemSampler | None = None
        self._ending = threading.Event()
        self._failures = 0
        self._pid = os.getpid()

    def open(
        self,
        folders: Sequence[Path],
        run: TrainingRun,
        header: Mapping[str, Any],
        *,
        with_system: bool,
    ) -> RunLog:
        """Begin the log of a run, with samples of system metrics if wanted."""
        log = RunLog(self, folders, run, header)
        self._logs.append(log)
        self._has_samples = self._has_samples or with_system
        if self._thread is None:
            self._ending = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._ending,), name="axon-log", daemon=True
            )
            with suppress(RuntimeError):  # the process ends: others store the rows
                self._thread.start()
            atexit.register(self.finish)
            if hasattr(os, "register_at_fork"):
                _close_at_fork(self)
        return log

    @property
    def has_many_logs(self) -> bool:
        """True if the files of further logs should be closed at the end of their runs."""
        return len(self._logs) > _MAX_OPEN

    def wake(self) -> None:
        """Have the thread look for rows."""
        if not self._wake.is_set():
            self._wake.set()

    def warn_once(self, kind: str, text: str) -> None:
        """Warn the user once of one kind of failure."""
        if kind not in self._warned:
            self._warned.add(kind)
            try:
                self._warn(text)
            except Warning:  # turned into an error, which would end the thread
                print_message(text)

    def flush(self, timeout: float) -> bool:
        """Wait until the store has all rows; return False if it does not in this time."""
        end = time.monotonic() + timeout
        with self._passed:
            self._waiting += 1
            try:
                while not all(log.is_stored for log in list(self._logs)):
                    rest = end - time.monotonic()
                    if rest <= 0 or self._failures:
                        return False
                    self._wake.set()
                    self._passed.wait(min(rest, 0.05))
            finally:
                self._waiting -= 1
        return True

    def finish(self) -> None:
        """Store the last rows as the process ends, if that takes no more than a few seconds."""
        if os.getpid() != self._pid:
            return  # forked: its parent's thread stores the rows
        for log in list(self._logs):
            log.close()
        is_first, thread = not self._ending.is_set(), self._thread
        self._ending.set()
        self._wake.set()
        if thread is not None and thread.is_alive():
            if is_first:
                thread.join(_EXIT_TIMEOUT)
            if thread.is_alive():
                return  # it is storing rows, and releases the files afterwards
        self._thread = None
        self._release()

    def _release(self) -> None:
        for log in self._logs:
            log.release()
        self._logs.clear()

    def _run(self, ending: threading.Event) -> None:
        """Move rows until the process ends."""
        next_sample = time.monotonic()
        while not ending.is_set():
            if all(log.is_stored for log in list(self._logs)):
                timeout = _SAMPLE_INTERVAL if self._has_samples and self._logs else None
                self._wake.wait(timeout)
            self._wake.clear()
            if self._has_samples and time.monotonic() >= next_sample:
                next_sample = time.monotonic() + _SAMPLE_INTERVAL
                self._take_samples()
            self._pass()
            delay = _INTERVAL
            if self._failures:
                delay = min(_RETRY * 2 ** (self._failures - 1), _MAX_RETRY)
            end = time.monotonic() + delay
            while (rest := end - time.monotonic()) > 0 and not ending.wait(min(rest, 0.05)):
                if self._waiting and not self._failures:
                    break
        self._pass()
        self._store.close()
        self._release()  # here, as others must not store rows that this thread is storing

    def _take_samples(self) -> None:
        try:
            if self._sampler is None:  # not where values are logged: finding GPUs takes a while
                self._sampler = SystemSampler()
            metrics = self._sampler.sample()
        except Exception as error:  # noqa: BLE001 - no error of tracking may stop a training
            self._has_samples = False
            self.warn_once("system", f"system metrics are not logged: {error}")
            return
        for log in list(self._logs):
            log.sample(metrics)

    def _pass(self) -> None:
        failed = False
        for log in list(self._logs):
            try:
                if log.move(self._store):
                    self._logs.remove(log)
            except Exception as error:  # noqa: BLE001 - no error of tracking may stop a training
                failed = True
                self.warn_once(
                    "store",
                    f"logged values are not being stored: {error}. Training continues; they are on "
                    "disk and are stored as soon as the store is available again. After the "
                    "training, run `jupyter axon recover`",
                )
        self._failures = self._failures + 1 if failed else 0
        if not failed:
            self._warned.discard("store")
        with self._passed:
            self._passed.notify_all()

    def close_in_child(self) -> None:
        """Release the files in a forked process."""
        for log in self._logs:
            log.close_in_child()
        self._logs.clear()


def _close_at_fork(thread: LogThread) -> None:
    # Otherwise a child that outlives its parent would keep the files locked.
    reference = weakref.ref(thread)

    def close() -> None:
        if (found := reference()) is not None:
            found.close_in_child()

    os.register_at_fork(after_in_child=close)
