"""How a state file comes to be: whole, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple

from ..atomic_files import flush, lock, temporary_name
from ..errors import NotFound
from .folders import Folder, convert_os_errors
from .layout import MARK, MARKS, PART_MARKS, Part, other_names, state_name

#: Bytes from which hashing in a second thread beside the writing is worth it.
_SIDE_BY_SIDE: Final = 1 << 20
#: Pieces that hashing may be behind the writing, each of them in memory.
_PIECES_BEHIND: Final = 32
#: Bytes given to the system at once, so that an interrupt is heard in the middle of a large tensor, and the digest finds
#: in the processor's caches what was just written: with 16 MB writing took nearly twice as long.
_PIECE: Final = 1 << 20
#: Bytes after which the disk is set to work on them while more come, so that the wait at the end is short.
_BEHIND: Final = 256 << 20


class StoredState(NamedTuple):
    """A state file that is whole and durable.

    ``path`` is absolute, ``digest`` the SHA-256 in hex, ``size`` in bytes.
    """

    path: str
    digest: str
    size: int


class _Digest:
    """The SHA-256 of what is written, taken in a second thread: both let go of the interpreter, and of each other's time.

    Where no thread can be started, as when the interpreter shuts down, it is taken at once.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread: threading.Thread | None = None
        self._behind: queue.Queue[tuple[bytearray, int] | None] = queue.Queue()
        #: Copies are made into the same memory again and again, which is fast; the one used last first.
        self._free: queue.LifoQueue[bytearray] = queue.LifoQueue()
        self._buffers = 0
        self._closed = False

    def follow(self, octets: memoryview) -> memoryview:
        """Take in a copy of ``octets``, a piece at most; the copy, to be written before the next call.

        A copy, since weights that others train on at the same time change between the writing and the hashing.
        """
        if self._free.empty() and self._buffers < _PIECES_BEHIND:
            self._buffers += 1
            self._free.put(bytearray(_PIECE))
        buffer, size = self._free.get(), len(octets)
        piece = memoryview(buffer)[:size]
        piece[:] = octets
        if self._thread is None and (size < _SIDE_BY_SIDE or not self._start()):
            self._take(buffer, size)
        else:
            self._behind.put((buffer, size))
        return piece

    def _take(self, buffer: bytearray, size: int) -> None:
        self._hash.update(memoryview(buffer)[:size])
        self._free.put(buffer)

    def _start(self) -> bool:
        # A daemon, since it is the writing that the interpreter is to wait for, not this.
        thread = threading.Thread(target=self._work, name="axon-state-digest", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def _work(self) -> None:
        while (piece := self._behind.get()) is not None and not self._closed:
            self._take(*piece)
            self._behind.task_done()

    def wait(self) -> None:
        """Return when all that was given is taken in."""
        if not self._closed:
            self._behind.join()

    def hex(self) -> str:
        """Of what was given so far."""
        self.wait()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Let go of the thread, and of what it has not come to."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is not None:
            self._behind.put(None)
            thread.join()


class StateWriter:
    """Writes one state file; made by :meth:`StateStorage.writer`.

    The bytes go to a temporary name that no other writer has, in the folder they will stay in::

        with files.open_writer(notebook_id, checkpoint_id, "model", format="safetensors") as writer:
            for chunk in chunks:
                writer.write(chunk)
            writer.prepare()  # slow: waits for the disk
            with store.transaction():
                state = writer.commit()  # quick: a rename
                ...

    Leaving the block without :meth:`commit` removes what was written. One thread at a time may use it. After an
    error of its own it is closed and has cleaned up.
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
        # Held as long as this process lives and writes: how the sweep tells a slow writer from a dead one.
        lock(self._fd, wait=False)

    def __enter__(self) -> StateWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def digest(self) -> str:
        """The SHA-256 of what was written so far, in hex."""
        return self._digest.hex()

    def is_beside(self, other: StateWriter) -> bool:
        """Whether both write into one folder, which neither has let go of."""
        folders = (self._folder, other._folder)
        return not any(folder.closed for folder in folders) and os.path.samestat(
            *(folder.stat() for folder in folders)
        )

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append ``chunk``, a contiguous buffer, which may be reused at once.

        Another thread or process may change it meanwhile: the digest is that of what came into the file all the same.

        Raises
        ------
        NoSpace
            If the disk is full.
        StateError
            If it cannot be written for another reason.
        """
        fd = self._open_fd()
        view = memoryview(chunk)
        if not view.nbytes:
            return
        self._prepared = False
        with (
            view.cast("B") as octets,
            self._aborting(max(self._expected - self._size, view.nbytes)),
        ):
            self._write_all(fd, octets)
        self._size += view.nbytes

    def prepare(self) -> None:
        """Return when all that was written is on the disk: the slow part, for outside any transaction.

        Raises as :meth:`write` does: some file systems find out only here that they are full.
        """
        fd = self._open_fd()
        if not self._prepared:
            with self._aborting(self._size):
                self._wait_for_sync()
                if self._sync_error is not None:  # the system tells of a failure once only
                    raise self._sync_error
                flush(fd)
                self._digest.wait()
            self._prepared = True

    def commit(self, *, durable: bool = True) -> StoredState:
        """Give the file its name, durably, in place of any earlier one of its part, in whatever format.

        A second call returns what the first did.

        Parameters
        ----------
        durable : bool
            False if a writer beside this one is committed next: then its commit makes both names durable.

        Raises
        ------
        NotFound
            If the checkpoint's folder was removed meanwhile.
        NoSpace, StateError
            As :meth:`write` does.
        """
        if self._stored is not None:
            return self._stored
        self.prepare()
        with self._aborting(0):
            self._close_fd()  # Windows renames no open file
            try:
                # Locked, or two writers of different formats could each remove the other's file.
                with self._folder.locked():
                    present = set(self._folder.names())
                    if present.isdisjoint((MARK, self._name, *other_names(self._name))):
                        mark(self._folder, self._store_id, self._mark)
                    self._folder.replace(self._temporary, self._name)
                    for name in other_names(self._name):
                        if name in present:
                            self._folder.unlink(name)
            except FileNotFoundError:
                raise NotFound("checkpoint", os.path.basename(self._folder.path)) from None
            if durable:
                self._folder.sync()
        self._stored = StoredState(
            os.path.join(self._folder.path, self._name), self.digest, self._size
        )
        self._close()
        return self._stored

    def abort(self) -> None:
        """Remove what was written, and the folder if that leaves it empty. Nothing to do after a commit."""
        if self._stored is not None or self._folder.closed:
            return
        # What stays because it cannot be removed now, the sweep takes; it must not hide why we are here.
        try:
            self._close_fd()
            with contextlib.suppress(OSError):
                self._folder.unlink(self._temporary)
            with contextlib.suppress(OSError):
                notebook_path, checkpoint_id = os.path.split(self._folder.path)
                drop_if_empty(self._root, os.path.basename(notebook_path), checkpoint_id)
        finally:
            self._close()

    @contextlib.contextmanager
    def _aborting(self, needed: int) -> Iterator[None]:
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

    def _write_all(self, fd: int, octets: memoryview) -> None:
        at = 0
        while at < len(octets):
            piece = self._digest.follow(octets[at : at + _PIECE])
            while piece:
                count = os.write(fd, piece)
                piece = piece[count:]
                self._unsynced += count
            at += _PIECE
            if self._unsynced >= _BEHIND and (
                self._syncing is None or not self._syncing.is_alive()
            ):
                self._unsynced = 0
                syncing = threading.Thread(target=self._sync, args=(fd,), name="axon-state-sync")
                with contextlib.suppress(
                    RuntimeError
                ):  # at the interpreter's end: all of it waits until then
                    syncing.start()
                    self._syncing = syncing

    def _sync(self, fd: int) -> None:
        try:
            os.fsync(fd)
        except OSError as error:
            self._sync_error = error

    def _wait_for_sync(self) -> None:
        if self._syncing is not None:
            self._syncing.join()

    def _close_fd(self) -> None:
        self._wait_for_sync()  # or it might sync another file that gets this number
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _close(self) -> None:
        self._close_fd()
        self._digest.close()
        self._folder.close()
        self._root.close()


def mark(folder: Folder, store_id: str, name: str = MARK) -> None:
    """Note in a folder that no record vouches for what is in it, and whose would; what is noted already stays.

    Not synced: a mark that power loss takes leaves files that no sweep removes, which is the safe side.
    """
    with contextlib.suppress(FileExistsError), os.fdopen(folder.create(name), "wb") as file:
        file.write(f"{store_id}\n".encode())


def read_mark(folder: Folder, name: str = MARK) -> str:
    """The store a folder was written under, as :func:`mark` notes it; of any other text, that text."""
    with os.fdopen(folder.open(name), "rb") as file:
        return file.read(4096).decode(errors="replace").removesuffix("\n")


def drop_if_empty(root: Folder, notebook_id: str, checkpoint_id: str) -> bool:
    """Remove a checkpoint's folder that holds nothing but marks, and its notebook's after it; whether it went.

    Locked, as :func:`mark` must be, so that no writer finds itself in a folder that loses its mark.
    """
    with root.enter(notebook_id) as home:
        with home.enter(checkpoint_id) as folder, folder.locked():
            present = set(folder.names())
            if not present <= MARKS:
                return False
            for name in present:
                folder.unlink(name)
            gone = home.rmdir(checkpoint_id)
        root.rmdir(notebook_id)
        return gone
