"""The logged series of a run as a member of an archive.

A member is a sequence of frames: the length of a MessagePack object, and the object. The first
frame has the summaries of the run's metrics and the offsets of its spool files; each further one
has the chunks of a series, as the store has them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, Final

import msgspec
import sqlalchemy as sa

from ..errors import InvalidData
from ..repository.runs import RunRepository
from ..store import Store
from ..store.codec import column_text, plain_text

_LENGTH: Final = struct.Struct("<Q")
_encode = msgspec.msgpack.encode


class SeriesHeader(msgspec.Struct):
    """The summaries of a run's metrics as rows of their table, and the offsets of spool files."""

    summaries: list[dict[str, float | int | str | None]]
    offsets: dict[str, int]


class ArchivedSeries(msgspec.Struct):
    """A series: the number of rows and the content of each chunk."""

    name: str
    chunks: list[tuple[int, bytes]]


_decode_header = msgspec.msgpack.Decoder(SeriesHeader).decode
_decode_series = msgspec.msgpack.Decoder(ArchivedSeries).decode


def write_series(store: Store, run_key: str, notebook_id: str) -> Iterator[bytes]:
    """Yield the content of a run's member, in an open snapshot; nothing if it logged nothing.

    Parameters
    ----------
    run_key : str
        The id of the run's document.
    """
    index, table = store.run_index, store.logged_series
    with store.snapshot() as connection:
        run = index.row_of(connection, run_key)
        names = table.names(connection, run, notebook_id)
        offsets = table.offsets(connection, run, notebook_id)
        if not names and not offsets:
            return
        summaries = index.summary_rows(connection, run, notebook_id)
        # Names may contain lone surrogates, which MessagePack rejects.
        yield _frame(SeriesHeader(summaries, {column_text(k): v for k, v in offsets.items()}))
        for name in names:
            chunks = table.chunks_of(connection, run, notebook_id, name)
            yield _frame(ArchivedSeries(column_text(name), chunks))


def _frame(content: Any) -> bytes:
    data = _encode(content)
    return _LENGTH.pack(len(data)) + data


def read_header(file: IO[bytes]) -> SeriesHeader:
    """Return the first frame of a member; raises InvalidData."""
    header: SeriesHeader | None = _read(file, _decode_header)
    if header is None:
        raise InvalidData("$.series", "its series are empty")
    return header


def read_all_series(file: IO[bytes]) -> Iterator[ArchivedSeries]:
    """Yield the series that follow the header, after a check of their rows; raises InvalidData."""
    from ..series import decode_series

    while True:
        found = _read(file, _decode_series)
        if found is None:
            return
        found.name = plain_text(found.name)
        for count, content in found.chunks:
            try:
                is_valid = len(decode_series(content)) == count
            except ValueError as error:
                raise InvalidData("$.series", str(error)) from None
            if not is_valid:
                raise InvalidData("$.series", f"a chunk has other than {count} rows")
        yield found


def _read(file: IO[bytes], decode: Any) -> Any:
    """Return the next frame, or None at the end."""
    start = file.read(_LENGTH.size)
    if not start:
        return None
    try:
        (length,) = _LENGTH.unpack(start)
        return decode(file.read(length))
    except (struct.error, msgspec.MsgspecError, OverflowError) as error:
        raise InvalidData("$.series", f"its series are damaged: {error}") from None


def has_all_rows(store: Store, run_key: str, notebook_id: str, file: IO[bytes] | None) -> bool:
    """Return whether a member has all the rows that a run has; False if it is damaged."""
    from ..series import concatenate, decode_series

    table = store.logged_series
    with store.snapshot() as connection, suppress(InvalidData):
        run = store.run_index.row_of(connection, run_key)
        missing = set(table.names(connection, run, notebook_id))
        if file is None or not missing:
            return not missing
        read_header(file)
        for one in read_all_series(file):
            stored = table.read(connection, run, notebook_id, one.name)
            archived = concatenate(decode_series(content) for _, content in one.chunks)
            if archived.begins_with(stored):
                missing.discard(one.name)
        return not missing
    return False


def add_series(store: Store, run_key: str, notebook_id: str, run_id: str, file: IO[bytes]) -> bool:
    """Add the series of a member to a run without any, in an open transaction.

    The summaries of other metrics are those of the checkpoints in the store.

    Returns
    -------
    bool
        False if the run has other series. They are not changed.

    Raises
    ------
    InvalidData
        If the member is damaged.
    """
    index, table = store.run_index, store.logged_series
    with store.transaction() as connection:
        run = index.row_of(connection, run_key)
        names = table.names(connection, run, notebook_id)
        header = read_header(file)
        if names:
            archived = {one.name: one.chunks for one in read_all_series(file)}
            return archived.keys() == set(names) and all(
                table.chunks_of(connection, run, notebook_id, name) == archived[name]
                for name in names
            )
        store.mark_written()
        logged = set[str]()
        for one in read_all_series(file):
            table.add_chunks(connection, run, notebook_id, one.name, one.chunks)
            logged.add(column_text(one.name))
        for spool, offset in header.offsets.items():
            table.set_offset(connection, run, notebook_id, plain_text(spool), offset)
        try:
            summaries = [row for row in header.summaries if row["name"] in logged]
            index.replace_summaries(connection, run, notebook_id, summaries)
        except (KeyError, sa.exc.StatementError) as error:
            raise InvalidData("$.series", f"its summaries are damaged: {error}") from None
        RunRepository(store).summarize(notebook_id, run_id)
    return True
