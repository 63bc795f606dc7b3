"""Series: the logged values of one metric over the steps of a run, in columns.

A series is stored in chunks of three columns: steps, values and times. Of steps and times the
differences are stored, as the smallest integers that hold them; values are stored bit for bit.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .metrics import format_number

#: Version of the encoding, number of rows, and the length of each column in bytes.
_HEADER: Final = struct.Struct("<BIIII")
_VERSION: Final = 1
_RAW, _COMPRESSED = b"\0", b"\1"
#: The types of differences between integers, smallest first.
_INTEGERS: Final = ("i1", "i2", "i4", "i8")


@dataclass(frozen=True, eq=False, repr=False)
class Series:
    """The rows of one metric, or some of them.

    Attributes
    ----------
    steps : numpy.ndarray of int64
    values : numpy.ndarray of float64
        They may be infinite or not a number.
    times : numpy.ndarray of float64
        Seconds since the epoch, with a resolution of a microsecond.
    """

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]

    @classmethod
    def of(cls, steps: Sequence[int], values: Sequence[float], times: Sequence[float]) -> Series:
        """Return a series of three columns of the same length."""
        return cls(
            np.asarray(steps, np.int64),
            np.asarray(values, np.float64),
            np.asarray(times, np.float64),
        )

    def __len__(self) -> int:
        return len(self.steps)

    def begins_with(self, other: Series) -> bool:
        """Return whether the first rows are those of another series."""
        first = self.take(slice(len(other)))
        columns = zip(vars(first).values(), vars(other).values(), strict=True)
        return all(np.array_equal(mine, its, equal_nan=True) for mine, its in columns)

    def __repr__(self) -> str:
        if not len(self):
            return "<series without rows>"
        steps, last = f"steps {self.steps[0]} to {self.steps[-1]}", format_number(self.values[-1])
        return f"<series of {len(self):,} rows: {steps}, last value {last}>"

    def take(self, rows: Any) -> Series:
        """Return the rows that an index, a slice or a mask selects."""
        return Series(self.steps[rows], self.values[rows], self.times[rows])

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with an index of steps; pandas must be installed."""
        import pandas as pd

        index = pd.Index(self.steps, name="step")
        times = pd.to_datetime(self.times, unit="s", utc=True)
        return pd.DataFrame({"value": self.values, "time": times}, index=index)


EMPTY: Final = Series.of([], [], [])


def concatenate(parts: Iterable[Series]) -> Series:
    """Return the rows of several series, in the given order."""
    listed = [part for part in parts if len(part)]
    if len(listed) < 2:
        return listed[0] if listed else EMPTY
    return Series(
        np.concatenate([part.steps for part in listed]),
        np.concatenate([part.values for part in listed]),
        np.concatenate([part.times for part in listed]),
    )


def is_ascending(series: Series) -> bool:
    """Return whether each step is greater than the one before."""
    return bool((series.steps[1:] > series.steps[:-1]).all())


def merge_steps(series: Series) -> Series:
    """Return a series sorted by step; of several rows of one step, the last one stays."""
    if is_ascending(series):
        return series
    ordered = series.take(np.argsort(series.steps, kind="stable"))
    is_last = np.append(ordered.steps[1:] != ordered.steps[:-1], True)
    return ordered.take(is_last)


def downsample(series: Series, points: int) -> Series:
    """Return at most ``points`` rows that look like the whole series when they are drawn.

    The rows are divided into intervals of the same number of rows. Of each, the rows with the least
    and the greatest value stay, and the first that is not a number. The first and the last row of
    the series always stay.
    """
    count = len(series)
    if count <= points:
        return series
    if points < 2:
        return series.take(slice(count - points, count))
    has_nan = bool(np.isnan(series.values).any())
    per_interval = 3 if has_nan else 2
    intervals = max((points - 2) // per_interval, 0)
    kept = [np.array([0, count - 1])]
    if intervals:
        starts = np.linspace(0, count, intervals + 1).astype(np.int64)
        width = int(np.diff(starts).max())
        # Rows of intervals, padded with the last row of each.
        index = np.minimum(starts[:-1, None] + np.arange(width), starts[1:, None] - 1)
        values = series.values[index]
        rows = np.arange(intervals)
        is_nan = np.isnan(values)
        low = np.where(is_nan, np.inf, values).argmin(axis=1)
        high = np.where(is_nan, -np.inf, values).argmax(axis=1)
        kept += [index[rows, low], index[rows, high]]
        if has_nan:
            nans = is_nan.argmax(axis=1)
            kept.append(index[rows, nans][is_nan[rows, nans]])
    return series.take(np.unique(np.concatenate(kept)))


def encode_series(series: Series) -> bytes:
    """Return a series as the content of a chunk."""
    times = np.round(series.times * 1e6).astype(np.int64)
    columns = [
        _encode_integers(series.steps),
        _encode_floats(series.values),
        _encode_integers(times),
    ]
    return _HEADER.pack(_VERSION, len(series), *map(len, columns)) + b"".join(columns)


def decode_series(content: bytes) -> Series:
    """Return the series in a chunk.

    Raises
    ------
    ValueError
        If the content is damaged, or was written by a newer version.
    """
    try:
        version, count, *lengths = _HEADER.unpack_from(content)
        if version != _VERSION or len(content) != _HEADER.size + sum(lengths):
            raise ValueError("the chunk of a series is damaged or of a newer version")
        ends = np.cumsum([_HEADER.size, *lengths]).tolist()
        steps, values, times = (content[begin:end] for begin, end in pairwise(ends))
        return Series(
            _decode_integers(steps, count),
            _decode_floats(values, count),
            _decode_integers(times, count) / 1e6,
        )
    except (struct.error, zlib.error) as error:
        raise ValueError(f"the chunk of a series is damaged: {error}") from None


def _encode_integers(column: npt.NDArray[np.int64]) -> bytes:
    first = column[:1].astype("<i8").tobytes()
    differences = np.diff(column)
    least, greatest = differences.min(initial=0), differences.max(initial=0)
    for kind in _INTEGERS:
        if np.iinfo(kind).min <= least and greatest <= np.iinfo(kind).max:
            break
    raw = differences.astype(f"<{kind}").tobytes()
    return kind.encode() + first + _compress(raw, np.dtype(kind).itemsize)


def _decode_integers(content: bytes, count: int) -> npt.NDArray[np.int64]:
    kind = content[:2].decode("ascii", "replace")
    if kind not in _INTEGERS:
        raise ValueError("the chunk of a series is damaged")
    if not count:
        return np.zeros(0, np.int64)
    size = np.dtype(kind).itemsize
    if len(content) < 10:
        raise ValueError("the chunk of a series is damaged")
    raw = _decompress(content[10:], (count - 1) * size, size)  # which checks the count
    result = np.empty(count, np.int64)
    result[0] = np.frombuffer(content[2:10], "<i8")[0]
    result[1:] = np.frombuffer(raw, f"<{kind}")
    return np.cumsum(result, out=result)


def _encode_floats(column: npt.NDArray[np.float64]) -> bytes:
    return _compress(column.astype("<f8").tobytes(), 8)


def _decode_floats(content: bytes, count: int) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = np.frombuffer(_decompress(content, 8 * count, 8), "<f8")
    return values


def _compress(raw: bytes, size: int) -> bytes:
    """Compress numbers of ``size`` bytes, if that saves a fifth: it makes reading slower."""
    # Bytes of the same significance beside each other compress better.
    shuffled = np.frombuffer(raw, np.uint8).reshape(-1, size).T.tobytes()
    compressed = zlib.compress(shuffled, 1)
    return _COMPRESSED + compressed if len(compressed) < 0.8 * len(raw) else _RAW + raw


def _decompress(content: bytes, length: int, size: int) -> bytes:
    data = content[1:]
    if content[:1] == _COMPRESSED:
        shuffled = zlib.decompressobj().decompress(data, length + 1)
        if len(shuffled) == length:
            data = np.frombuffer(shuffled, np.uint8).reshape(size, -1).T.tobytes()
    if len(data) != length:
        raise ValueError("the chunk of a series is damaged")
    return data
