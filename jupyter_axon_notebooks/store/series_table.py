"""The SQL tables of logged series, and how far each spool file was stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ..errors import RecordDamaged
from .codec import column_text, plain_text

if TYPE_CHECKING:
    from ..series import Series

#: Steps, values and times of logged rows, by the name of the metric.
Columns = dict[str, tuple[list[int], list[float], list[float]]]

#: The largest number of rows that one chunk has after it was merged with others.
MAX_CHUNK_ROWS: Final = 8_192
#: Chunks that are read at once, and the least number of rows that stay of each in a sample.
_STREAMED, _LEAST = 8, 8
#: The largest number of names in one statement.
_BATCH: Final = 500
#: The most chunks that are merged at once. Each is larger than the next, so no more ever are.
_MERGED: Final = 16


class SeriesTable:
    """The tables ``axonml_series`` and ``axonml_spools``.

    A series has chunks in the order of their numbers. New rows become a chunk, which is merged with
    earlier ones as long as these are not much larger. So a row is rewritten only a few times,
    however many are appended one by one.
    """

    def __init__(self, metadata: sa.MetaData, text: sa.types.TypeEngine[str]) -> None:
        self.chunks = sa.Table(
            "axonml_series",
            metadata,
            sa.Column("notebook_id", text, primary_key=True),
            sa.Column("run", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("name", text, primary_key=True),
            sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("count", sa.Integer, nullable=False),
            sa.Column("content", sa.LargeBinary, nullable=False),
        )
        self.spools = sa.Table(
            "axonml_spools",
            metadata,
            sa.Column("notebook_id", text, primary_key=True),
            sa.Column("run", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("spool", text, primary_key=True),
            sa.Column("offset", sa.BigInteger, nullable=False),
        )
        self.tables = (self.chunks, self.spools)

    def append(self, connection: sa.Connection, run: int, notebook_id: str, rows: Columns) -> None:
        """Append rows to the series of a run."""
        from ..series import Series, concatenate, encode_series

        key = {"notebook_id": column_text(notebook_id), "run": run}
        ends = self._last_chunks(connection, run, notebook_id, rows)
        firsts: dict[str, int] = {}
        merged: list[tuple[str, int]] = []
        for name, (steps, _, _) in rows.items():
            chunks = ends.get(name, [])
            count, first = len(steps), chunks[-1].number + 1 if chunks else 0
            for chunk in reversed(chunks):
                if chunk.count > 2 * count or chunk.count + count > MAX_CHUNK_ROWS:
                    break
                count, first = count + chunk.count, chunk.number
                merged.append((column_text(name), first))
            firsts[name] = first
        parts = self._remove_chunks(connection, run, notebook_id, merged)
        added = []
        for name, lists in rows.items():
            earlier = [_decode(name, content) for content in parts.get(name, [])]
            series = concatenate([*earlier, Series.of(*lists)])
            starts = range(0, len(series), MAX_CHUNK_ROWS)
            for number, start in enumerate(starts, firsts[name]):
                chunk = series.take(slice(start, start + MAX_CHUNK_ROWS))
                added.append(
                    {
                        **key,
                        "name": column_text(name),
                        "number": number,
                        "count": len(chunk),
                        "content": encode_series(chunk),
                    }
                )
        if added:
            connection.execute(sa.insert(self.chunks), added)

    def _last_chunks(
        self, connection: sa.Connection, run: int, notebook_id: str, names: Iterable[str]
    ) -> dict[str, list[Any]]:
        """Return the numbers and the counts of the last chunks of each series, in order."""
        c, of_run = self.chunks.c, self._of(self.chunks, run, notebook_id)
        found: dict[str, list[Any]] = {}
        listed = [column_text(name) for name in names]
        for start in range(0, len(listed), _BATCH):
            in_batch = c.name.in_(listed[start : start + _BATCH])
            last = (
                sa.select(c.name, sa.func.max(c.number).label("number"))
                .where(of_run, in_batch)
                .group_by(c.name)
                .subquery()
            )
            query = (
                sa.select(c.name, c.number, c.count)
                .join(last, sa.and_(c.name == last.c.name, c.number > last.c.number - _MERGED))
                .where(of_run, in_batch)
                .order_by(c.name, c.number)
            )
            for chunk in connection.execute(query):
                found.setdefault(plain_text(chunk.name), []).append(chunk)
        return found

    def _remove_chunks(
        self, connection: sa.Connection, run: int, notebook_id: str, keys: list[tuple[str, int]]
    ) -> dict[str, list[bytes]]:
        """Remove chunks by name and number; return their contents by name, in order."""
        c = self.chunks.c
        found: dict[str, list[bytes]] = {}
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            among = sa.and_(
                self._of(self.chunks, run, notebook_id), sa.tuple_(c.name, c.number).in_(batch)
            )
            query = sa.select(c.name, c.number, c.content).where(among)
            # A batch may end within a series; its keys are in descending order.
            for name, _, content in sorted(connection.execute(query), key=lambda row: -row.number):
                found.setdefault(plain_text(name), []).insert(0, content)
            connection.execute(sa.delete(self.chunks).where(among))
        return found

    def read(self, connection: sa.Connection, run: int, notebook_id: str, name: str) -> Series:
        """Return a series; empty if nothing was logged.

        Raises
        ------
        RecordDamaged
            If a chunk is damaged.
        """
        from ..series import EMPTY, concatenate

        c = self.chunks.c
        query = (
            sa.select(c.content)
            .where(self._of(self.chunks, run, notebook_id), c.name == column_text(name))
            .order_by(c.number)
        )
        parts = [_decode(name, content) for content in connection.scalars(query)]
        return concatenate(parts) if parts else EMPTY

    def sample(
        self, connection: sa.Connection, run: int, notebook_id: str, name: str, points: int
    ) -> Series | None:
        """Return some rows of a series, chunk by chunk, so that it is never in memory as a whole.

        Of each chunk, the rows that :func:`.series.downsample` keeps stay: in all, about four
        times ``points``.

        Returns
        -------
        Series or None
            None if steps do not ascend. Then rows have to be merged before some are left out.

        Raises
        ------
        RecordDamaged
            If a chunk is damaged.
        """
        from ..series import concatenate, downsample, is_ascending

        c = self.chunks.c
        of_series = sa.and_(self._of(self.chunks, run, notebook_id), c.name == column_text(name))
        total = connection.scalar(sa.select(sa.func.sum(c.count)).where(of_series)) or 0
        query = sa.select(c.content).where(of_series).order_by(c.number)
        kept: list[Series] = []
        with connection.execution_options(yield_per=_STREAMED).scalars(query) as contents:
            for content in contents:
                part = _decode(name, content)
                is_later = not kept or bool(part.steps[0] > kept[-1].steps[-1])
                if not is_later or not is_ascending(part):
                    return None
                kept.append(downsample(part, max(_LEAST, 4 * points * len(part) // int(total))))
        return concatenate(kept)

    def names(self, connection: sa.Connection, run: int, notebook_id: str) -> list[str]:
        """Return the names of a run's series."""
        name = self.chunks.c.name
        query = sa.select(name).where(self._of(self.chunks, run, notebook_id)).distinct()
        return sorted(plain_text(each) for each in connection.scalars(query))

    def chunks_of(
        self, connection: sa.Connection, run: int, notebook_id: str, name: str
    ) -> list[tuple[int, bytes]]:
        """Return the number of rows and the content of each chunk of a series, in order."""
        c = self.chunks.c
        query = (
            sa.select(c.count, c.content)
            .where(self._of(self.chunks, run, notebook_id), c.name == column_text(name))
            .order_by(c.number)
        )
        return [(count, bytes(content)) for count, content in connection.execute(query)]

    def add_chunks(
        self,
        connection: sa.Connection,
        run: int,
        notebook_id: str,
        name: str,
        chunks: Iterable[tuple[int, bytes]],
    ) -> None:
        """Store the chunks of a series that has none."""
        key = {"notebook_id": column_text(notebook_id), "run": run, "name": column_text(name)}
        rows = [
            {**key, "number": number, "count": count, "content": content}
            for number, (count, content) in enumerate(chunks)
        ]
        if rows:
            connection.execute(sa.insert(self.chunks), rows)

    def offsets(self, connection: sa.Connection, run: int, notebook_id: str) -> dict[str, int]:
        """Return the offsets up to which the spool files of a run were stored."""
        c = self.spools.c
        query = sa.select(c.spool, c.offset).where(self._of(self.spools, run, notebook_id))
        return {plain_text(spool): offset for spool, offset in connection.execute(query)}

    def offset(self, connection: sa.Connection, run: int, notebook_id: str, spool: str) -> int:
        """Return the offset up to which a spool file was stored."""
        query = sa.select(self.spools.c.offset).where(
            self._of(self.spools, run, notebook_id), self.spools.c.spool == column_text(spool)
        )
        return int(connection.scalar(query) or 0)

    def set_offset(
        self, connection: sa.Connection, run: int, notebook_id: str, spool: str, offset: int | None
    ) -> None:
        """Set the offset up to which a spool file was stored; None forgets the file."""
        is_row = sa.and_(
            self._of(self.spools, run, notebook_id), self.spools.c.spool == column_text(spool)
        )
        connection.execute(sa.delete(self.spools).where(is_row))
        if offset is not None:
            row = {
                "notebook_id": column_text(notebook_id),
                "run": run,
                "spool": column_text(spool),
                "offset": offset,
            }
            connection.execute(sa.insert(self.spools), [row])

    def _of(self, table: sa.Table, run: int, notebook_id: str) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.notebook_id == column_text(notebook_id), table.c.run == run)


def _decode(name: str, content: bytes) -> Series:
    from ..series import decode_series

    try:
        return decode_series(content)
    except ValueError as error:
        raise RecordDamaged(f"the series {name!r} is damaged: {error}") from None


def columns(rows: Iterable[tuple[int, float, Mapping[str, float]]]) -> Columns:
    """Return logged rows as columns."""
    found: Columns = {}
    for step, time, metrics in rows:
        for name, value in metrics.items():
            steps, values, times = found.setdefault(name, ([], [], []))
            steps.append(step)
            values.append(value)
            times.append(time)
    return found
