"""Writing a state file so that it is complete or absent."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from ..atomic_files import flush, lock, temporary_name
from ..errors import NotFound
from .folders import Folder, convert_os_errors
from .layout import MARK, MARKS, PART_MARKS, Part, other_names, state_name

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

#: Bytes per system call: few, so that a write can be interrupted, and the bytes are still in the
#: processor's caches when they are hashed.
_CHUNK: Final = 1 << 20
#: The largest number of chunks that wait to be hashed.
_MAX_PENDING: Final = 32
#: Bytes after which they are synced in the background, so that the final sync is short.
_SYNC_INTERVAL: Final = 256 << 20


class StoredState(NamedTuple):
    """A complete and durable state file.

    ``path`` is absolute, ``digest`` the SHA-256 in hex, ``size`` in bytes.
    """

    path: str
    digest: str
    size: int


class _Digest:
    """The SHA-256 of the written bytes, computed in a second thread while the disk writes."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._executor = _start_executor()
        self._pending: collections.deque[Future[None]] = collections.deque()

    def add(self, chunk: memoryview) -> memoryview:
        """Add a copy of ``chunk``, and return the copy.

        The copy must be what is written: other threads may change the original meanwhile.
        """
        copy = bytes(chunk)
        if len(self._pending) >= _MAX_PENDING:
            self._pending.popleft().result()
        if self._executor is not None:
            try:
                self._pending.append(self._executor.submit(self._hash.update, copy))
                return memoryview(copy)
            except RuntimeError:  # no thread can be started, as at interpreter exit
                self.wait()
                self.close()
        self._hash.update(copy)
        return memoryview(copy)

    def wait(self) -> None:
        """Wait until all chunks are hashed."""
        while self._pending:
            self._pending.popleft().result()

    def hexdigest(self) -> str:
        """Return the digest of all chunks so far."""
        self.wait()
        return self._hash.hexdigest()

    def close(self) -> None:
        """End the thread, discarding pending chunks."""
        self._pending.clear()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)


def _start_executor() -> ThreadPoolExecutor | None:
    """Return an executor with one thread, or None if the interpreter is shutting down."""
    try:
        # The first import raises RuntimeError once the main thread has ended.
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(1, "axon-state-digest")
    except RuntimeError:
        return None


class StateWriter(contextlib.AbstractContextManager["StateWriter"]):
    """Writes one state file; created by :meth:`StateStorage.open_writer`.

    The bytes are written to a temporary file in the final folder::

        with states.open_writer(notebook_id, checkpoint_id, "model", format="torch") as writer:
            for chunk in chunks:
                writer.write(chunk)
            writer.prepare()  # slow: waits for the disk
            with store.transaction():
                state = writer.commit()  # fast: a rename
                ...

    Leaving the block without :meth:`commit` removes the temporary file, as does an error of any
    method. Not safe for use by several threads at once.
    """

    def __init__(
        self,
        root: Folder,
        folder: Folder,
        part: Part,
        format: str | None,
        expected: int,
        store_id: str,
    ) -> None:
        self._root = root
        self._folder = folder
        self._mark = PART_MARKS[part]
        self._store_id = store_id
        self._name = state_name(part, format)
        self._temporary = temporary_name(part)
        self._expected = expected
        self._size = 0
        self._digest = _Digest()
        self._prepared = False
        self._unsynced = 0
        self._syncing: threading.Thread | None = None
        self._sync_error: OSError | None = None
        self._stored: StoredState | None = None
        self._fd: int | None = folder.create(self._temporary)
        # Garbage collection keeps files of writers that are alive, which it recognizes by the lock.
        lock(self._fd, wait=False)

    def __exit__(self, *_: object) -> None:
        self.abort()

    @property
    def size(self) -> int:
        """The number of bytes written so far."""
        return self._size

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes written so far, in hex."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append a contiguous buffer, which may be reused as soon as this returns.

        If another thread changes the buffer meanwhile, the digest is still that of the file. Raises
        NoSpace or StateError if the disk is full, or the file cannot be written for another reason.
        """
        fd = self._open_fd()
        view = memoryview(chunk)
        if not view.nbytes:
            return
        self._prepared = False
        needed = max(self._expected - self._size, view.nbytes)
        with view.cast("B") as octets, self._abort_on_error(needed):
            for start in range(0, len(octets), _CHUNK):
                self._write_chunk(fd, self._digest.add(octets[start : start + _CHUNK]))
        self._size += view.nbytes

    def _write_chunk(self, fd: int, chunk: memoryview) -> None:
        while chunk:
            count = os.write(fd, chunk)
            chunk = chunk[count:]
            self._unsynced += count
        is_syncing = self._syncing is not None and self._syncing.is_alive()
        if self._unsynced >= _SYNC_INTERVAL and not is_syncing:
            self._unsynced = 0
            thread = threading.Thread(target=self._sync, args=(fd,), name="axon-state-sync")
            with contextlib.suppress(RuntimeError):  # at interpreter exit: prepare() syncs it all
                thread.start()
                self._syncing = thread

    def _sync(self, fd: int) -> None:
        try:
            os.fsync(fd)
        except OSError as error:
            self._sync_error = error

    def prepare(self) -> None:
        """Wait until all bytes are on the disk. This is slow: do it outside of transactions.

        Raises the errors of :meth:`write`: some file systems detect only now that they are full.
        """
        fd = self._open_fd()
        if not self._prepared:
            with self._abort_on_error(self._size):
                self._wait_for_sync()
                if self._sync_error is not None:  # the system reports a failure only once
                    raise self._sync_error
                flush(fd)
                self._digest.wait()
            self._prepared = True

    def commit(self) -> StoredState:
        """Give the file its final name, replacing the file of the same part in any format.

        A second call returns the same result.

        Raises
        ------
        NotFound
            If the checkpoint's folder was removed meanwhile.
        NoSpace, StateError
            See :meth:`write`.
        """
        if self._stored is not None:
            return self._stored
        self.prepare()
        with self._abort_on_error(0):
            self._close_fd()  # Windows cannot rename open files
            try:
                # Without the lock, writers of two formats could remove each other's file.
                with self._folder.locked():
                    present = set(self._folder.names())
                    if present.isdisjoint((MARK, self._name, *other_names(self._name))):
                        write_mark(self._folder, self._store_id, self._mark)
                    self._folder.replace(self._temporary, self._name)
                    for name in present.intersection(other_names(self._name)):
                        self._folder.unlink(name)
            except FileNotFoundError:
                raise NotFound("checkpoint", os.path.basename(self._folder.path)) from None
            self._folder.sync()
        path = os.path.join(self._folder.path, self._name)
        self._stored = StoredState(path, self.digest, self._size)
        self._close()
        return self._stored

    def abort(self) -> None:
        """Remove the temporary file, and the folder if empty; do nothing after a commit."""
        if self._stored is not None or self._folder.closed:
            return
        # Errors are suppressed: garbage collection removes the rest.
        try:
            self._close_fd()
            with contextlib.suppress(OSError):
                self._folder.unlink(self._temporary)
            with contextlib.suppress(OSError):
                notebook_path, checkpoint_id = os.path.split(self._folder.path)
                remove_if_empty(self._root, os.path.basename(notebook_path), checkpoint_id)
        finally:
            self._close()

    @contextlib.contextmanager
    def _abort_on_error(self, needed: int) -> Iterator[None]:
        try:
            with convert_os_errors("write", self._folder.path, needed=needed):
                yield
        except BaseException:
            self.abort()
            raise

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError("this state file was already committed or aborted")
        return self._fd

    def _wait_for_sync(self) -> None:
        if self._syncing is not None:
            self._syncing.join()

    def _close_fd(self) -> None:
        self._wait_for_sync()  # the descriptor may be reused once it is closed
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _close(self) -> None:
        self._close_fd()
        self._digest.close()
        self._folder.close()
        self._root.close()


def write_mark(folder: Folder, store_id: str, name: str = MARK) -> None:
    """Mark the files in a folder as unrecorded by the store ``store_id``; keep an existing mark.

    The mark is not synced: files without a mark are kept, which is safe.
    """
    with contextlib.suppress(FileExistsError), os.fdopen(folder.create(name), "wb") as file:
        file.write(f"{store_id}\n".encode())


def read_mark(folder: Folder, name: str = MARK) -> str:
    """Return the store id in a mark."""
    with os.fdopen(folder.open(name), "rb") as file:
        return file.read(4096).decode(errors="replace").removesuffix("\n")


def remove_if_empty(root: Folder, notebook_id: str, checkpoint_id: str) -> bool:
    """Remove a checkpoint's folder if it has only marks, and then its notebook's if empty.

    Returns whether the folder was removed. Holds its lock, as writers do when they mark it.
    """
    with root.enter(notebook_id) as notebook:
        with notebook.enter(checkpoint_id) as folder, folder.locked():
            present = set(folder.names())
            if not present <= MARKS:
                return False
            for name in present:
                folder.unlink(name)
            removed = notebook.rmdir(checkpoint_id)
        root.rmdir(notebook_id)
        return removed
