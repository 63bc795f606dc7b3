"""A write-ahead log that is broken, in its header or in its middle.

SQLite takes a log for what it is up to the first frame whose checksum is wrong. After a crash that is right: what follows
was never acknowledged. But a frame that was on the disk once can go bad, and then what was committed after it is passed
over without a word, and written over. So a log is read before it is used, and one like that is copied.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import StoreDamaged
from ..records import now
from ..userfiles import read_regular
from .files import beside

#: Bytes of a log that is looked at: SQLite keeps it at about 4 MiB, and each takes 0.03 s.
_LOOKED_AT = 16 * 1024 * 1024
#: Bytes of a broken log that are copied: it may have grown since it was looked at.
_COPIED = 64 * _LOOKED_AT
_HEADER, _FRAME = 32, 24
_MAGIC = (0x377F0682, 0x377F0683)


@dataclass(frozen=True)
class LogKept:
    """A log that is broken and was copied before SQLite goes on without the rest of it.

    Attributes
    ----------
    path, file : Path
        The store, and the copy.
    count : int
        How many transactions at least are only there.
    """

    path: Path
    file: Path
    count: int

    def __str__(self) -> str:
        return (
            f"the log of the store {self.path} is broken: {self.count} or more of the last changes are not "
            f"in the store. The log as it was is kept as {self.file}"
        )

    def files(self, _origin: str) -> dict[str, str]:
        """No notebook files: the store still has them."""
        return {}


def keep_log(path: Path) -> LogKept | None:
    """Copy the log of the store in the file ``path`` if it is broken; None for a sound one.

    Raises
    ------
    StoreDamaged
        When it cannot be copied.
    """
    log = beside(path, "-wal")
    count = passed_over(log)
    if not count:
        return None
    for attempt in range(1, 1000):
        copy = log.with_name(
            f"{log.name}.damaged-{now():%Y-%m-%dT%H-%M-%SZ}{f'-{attempt}' if attempt > 1 else ''}"
        )
        try:
            descriptor = os.open(
                copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(read_regular(log, _COPIED))
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            continue
        except OSError as error:
            copy.unlink(missing_ok=True)
            raise StoreDamaged(
                f"the log of the store {path} is broken, and cannot be copied: {error.strerror}: {error.filename}"
            ) from error
        return LogKept(path, copy, count)
    return None


def passed_over(log: Path) -> int:
    """How many transactions SQLite would not find in a log, since a frame before them is broken; 0 for a sound one."""
    found = _look(log)
    # Another process may have written to the log, or begun it anew, while it was read. Then a second look differs.
    if found is None or (again := _look(log)) is None or again[:2] != found[:2]:
        return 0
    return again.passed_over


class _Break(NamedTuple):
    """Where a log is broken."""

    header: bytes
    at: int
    passed_over: int


def _look(log: Path) -> _Break | None:
    try:
        content = read_regular(log, _LOOKED_AT)
    except OSError:
        return None
    return _find_break(content) if len(content) > _HEADER else None


def _find_break(content: bytes) -> _Break | None:
    magic, _, page_size = struct.unpack_from(">3I", content)
    if not 512 <= page_size <= 65536:
        return None
    words = f"{'>' if magic & 1 else '<'}%dI"
    sums = _checksum(struct.unpack_from(words % 6, content), 0, 0)
    broken = magic not in _MAGIC or sums != struct.unpack_from(">2I", content, 24)
    # Frames of the log that was here before have other salts. Those of a header that is broken may be wrong.
    first = _HEADER + 8 if broken else 16
    salts = content[first : first + 8]
    length, commits, place = _FRAME + page_size, 0, _HEADER
    for at in range(_HEADER, len(content) - length + 1, length):
        if not broken:
            place = at
        if content[at + 8 : at + 16] != salts:
            broken = True
        elif not broken:
            given = content[at : at + 8] + content[at + _FRAME : at + length]
            sums = _checksum(struct.unpack(words % (len(given) // 4), given), *sums)
            broken = sums != struct.unpack_from(">2I", content, at + 16)
        # Of a frame that is broken it is not known what it was; a later one that ends a transaction was written after.
        elif struct.unpack_from(">I", content, at + 4)[0]:
            commits += 1
    # The last one may have been cut short by a crash, and then nobody was told that it was kept.
    return _Break(content[:_HEADER], place, commits - 1) if commits > 1 else None


def _checksum(words: tuple[int, ...], one: int, two: int) -> tuple[int, int]:
    pairs = iter(words)
    for first, second in zip(pairs, pairs, strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
