"""Spool files: logged rows on disk until the store has them.

A training process appends rows to a file of its own, with one ``write`` each, so that they survive
the process. Others read the file from an offset that the store keeps. The file consists of frames:
the length and the CRC-32 of a MessagePack object, and the object. The first is a text: the header
as JSON. A frame that is cut off at the end of the file is ignored.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from .atomic_files import lock, temporary_name
from .errors import InvalidData
from .printable import printable

SUFFIX: Final = ".spool"
_FRAME: Final = struct.Struct("<II")
#: The largest frame, in bytes.
_MAX_FRAME: Final = 16 << 20
#: Bytes that are read at once, and those after which no further row is.
_READ_SIZE: Final = 4 << 20
_MAX_READ: Final = 16 << 20

#: Whether open files can be renamed and deleted.
_IS_POSIX: Final = os.name == "posix"

_encode = msgspec.msgpack.encode


class Row(NamedTuple):
    """The values that one call logged.

    Attributes
    ----------
    step : int
    time : float
        Seconds since the epoch.
    metrics : mapping of str to float
        They may be infinite or not a number.
    """

    step: int
    time: float
    metrics: Mapping[str, float]


_decode_row = msgspec.msgpack.Decoder(tuple[int, float, dict[str, float]]).decode
_decode_header = msgspec.msgpack.Decoder(str).decode


class SpoolWriter:
    """A new spool file, which this process locks and appends to.

    Parameters
    ----------
    folder : Path
        Created if it is missing.
    header : mapping
        What a reader needs besides the rows.

    Raises
    ------
    OSError
        If the file cannot be created, or the folder belongs to another user.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_own(folder):
            raise PermissionError(errno.EPERM, "the folder belongs to another user", str(folder))
        self.path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
        # Others find the file once it is locked and has a header. Windows renames no open files.
        draft = folder / temporary_name(self.path.name) if _IS_POSIX else self.path
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._fd = os.open(draft, flags | getattr(os, "O_BINARY", 0), 0o600)
        self._pid = os.getpid()
        #: The end of the last complete frame, in bytes.
        self.size = 0
        self._unfinished = 0  # the length of a frame of which only a part may be written
        try:
            lock(self._fd, wait=False)
            self._write(_frame(json.dumps(header)))  # ASCII, whatever a path consists of
            if _IS_POSIX:
                draft.rename(self.path)
        except BaseException:
            os.close(self._fd)
            draft.unlink(missing_ok=True)
            raise

    @property
    def id(self) -> str:
        """The name by which the store remembers how much of this file it has."""
        return self.path.stem

    @property
    def is_open(self) -> bool:
        """True until it is closed."""
        return self._fd >= 0

    def is_intact(self) -> bool:
        """Return whether no other program removed the file or cut it off."""
        found = os.fstat(self._fd)
        return found.st_nlink > 0 and found.st_size >= self.size

    def open_reader(self) -> SpoolReader:
        """Return a reader, even of a file that was removed since; raises as :class:`SpoolReader`.

        While it reads, no other such reader may, since both have one position.
        """
        return SpoolReader(self.path, os.dup(self._fd) if self.is_open else None)

    def append(self, row: Row) -> None:
        """Append a row, or leave the file as before.

        Raises
        ------
        OSError
            If it cannot be written.
        InvalidData
            If it is too large.
        """
        try:
            frame = _frame(row)
        except UnicodeEncodeError:  # MessagePack has no half surrogate pairs
            names = {printable(name): value for name, value in row.metrics.items()}
            frame = _frame(row._replace(metrics=names))
        self._write(frame)

    def _write(self, frame: bytes) -> None:
        if self._unfinished:
            self._settle()
        try:
            self._unfinished = len(frame)
            if os.write(self._fd, frame) != len(frame):
                # Only a full disk writes less.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self.size += len(frame)
            self._unfinished = 0
        except BaseException:  # KeyboardInterrupt, too
            with contextlib.suppress(OSError):
                self._settle()
            raise

    def _settle(self) -> None:
        """Keep the last frame if it is complete, since a reader may have stored it; else cut it."""
        if os.fstat(self._fd).st_size == self.size + self._unfinished:
            self.size += self._unfinished
        else:
            os.ftruncate(self._fd, self.size)
        self._unfinished = 0

    def sync(self) -> None:
        """Flush what was written to the disk, so that it survives a power failure."""
        getattr(os, "fdatasync", os.fsync)(self._fd)

    def close(self, *, remove: bool = False) -> None:
        """Close the file, and unlock it; ``remove`` deletes it."""
        if remove and _IS_POSIX:  # while it is locked: no other process stores it once more
            self.path.unlink(missing_ok=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if remove and not _IS_POSIX:
            self.path.unlink(missing_ok=True)

    def close_in_child(self) -> None:
        """Close the file in a process that was forked from the one that writes it."""
        if self._pid != os.getpid() and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _frame(content: Any) -> bytes:
    data = _encode(content)
    if len(data) > _MAX_FRAME:
        raise InvalidData("$", f"a row has {len(data):,} bytes; at most {_MAX_FRAME:,} are logged")
    return _FRAME.pack(len(data), zlib.crc32(data)) + data


class SpoolReader:
    """A spool file that is read while it may grow.

    Parameters
    ----------
    path : Path
        Its path.
    descriptor : int, optional
        The file, if it is open. It is closed with the reader.

    Raises
    ------
    OSError
        If it cannot be opened.
    InvalidData
        If it has no header.
    """

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        self.path = path
        if descriptor is None:
            self._file = path.open("rb", buffering=0)
        else:
            self._file = os.fdopen(descriptor, "rb", buffering=0)
        try:
            frames = list(self._frames(0, 1))
            if not frames:
                raise InvalidData(str(path), "it has no header, and so no rows")
            self.header: dict[str, Any] = json.loads(_decode_header(frames[0][0]))
        except (InvalidData, msgspec.MsgspecError, ValueError):
            self.close()
            raise InvalidData(str(path), "it is not a spool file, or has no header") from None
        self._begin = frames[0][1]

    @property
    def id(self) -> str:
        """The name by which the store remembers how much of this file it has."""
        return self.path.stem

    def read(self, offset: int, limit: int) -> tuple[list[Row], int]:
        """Return at most ``limit`` rows from an offset on, and the offset after them.

        An offset of 0 is that of the first row. Damaged frames end the rows. Fewer rows are
        returned if they are long.
        """
        begin = max(offset, self._begin)
        rows, end = [], begin
        with contextlib.suppress(msgspec.MsgspecError):
            for data, after in self._frames(begin, limit):
                rows.append(Row(*_decode_row(data)))
                end = after
                if end - begin >= _MAX_READ:
                    break
        return rows, end

    def _frames(self, offset: int, limit: int) -> Iterator[tuple[bytes, int]]:
        self._file.seek(offset)
        buffer, position = b"", 0
        for _ in range(limit):
            while True:
                rest = len(buffer) - position
                needed = _FRAME.size
                if rest >= needed:
                    length, checksum = _FRAME.unpack_from(buffer, position)
                    if not length or length > _MAX_FRAME:
                        return
                    needed += length
                    if rest >= needed:
                        break
                more = self._file.read(max(_READ_SIZE, needed))
                if not more:
                    return
                buffer, position = buffer[position:] + more, 0
            data = buffer[position + _FRAME.size : position + needed]
            if zlib.crc32(data) != checksum:
                return
            position += needed
            offset += needed
            yield data, offset

    @property
    def size(self) -> int:
        """The present size of the file, in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def is_abandoned(self) -> bool:
        """Return whether the file still exists and no process writes or stores it.

        If so, it is locked until it is closed. Where files have no locks, it is always True.
        """
        descriptor = self._file.fileno()
        return lock(descriptor, wait=False) and os.fstat(descriptor).st_nlink > 0

    def is_locked(self) -> bool:
        """Return whether the file is locked, if only by this reader."""
        with self.path.open("rb") as other:
            return not lock(other.fileno(), wait=False)

    def remove(self) -> None:
        """Delete the file; raises PermissionError on Windows while a process writes it."""
        if not _IS_POSIX:
            self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_own(folder: Path) -> bool:
    """Return whether a folder belongs to this user; True where folders have no owner."""
    return not _IS_POSIX or folder.lstat().st_uid == os.geteuid()


def list_spools(folder: Path) -> list[Path]:
    """Return the spool files in a folder, oldest first."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.suffix == SUFFIX:
                with contextlib.suppress(OSError):
                    found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]
