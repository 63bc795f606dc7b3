"""The columns of series: encoding, merging and downsampling."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_axon_notebooks.series import (
    EMPTY,
    Series,
    concatenate,
    decode_series,
    downsample,
    encode_series,
    merge_steps,
)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**53 - 1),
        st.floats(width=64),
        st.floats(0, 4e9).map(lambda time: round(time, 6)),
    )
)


def make(rows):
    return Series.of(*(list(column) for column in zip(*rows, strict=True))) if rows else EMPTY


@given(ROWS)
def test_a_chunk_holds_its_rows_bit_for_bit(rows):
    series = make(rows)
    decoded = decode_series(encode_series(series))
    assert decoded.steps.tolist() == series.steps.tolist()
    assert decoded.values.tobytes() == series.values.tobytes()
    assert np.abs(decoded.times - series.times).max(initial=0) < 1e-6


@given(ROWS)
def test_the_last_row_of_a_step_stays(rows):
    merged = merge_steps(make(rows))
    last = {step: value for step, value, _ in rows}
    assert merged.steps.tolist() == sorted(last)
    assert all(
        value == last[step] or math.isnan(value)
        for step, value in zip(merged.steps.tolist(), merged.values.tolist(), strict=True)
    )


@given(st.lists(st.floats(), max_size=300), st.integers(2, 100))
def test_downsampling_keeps_extremes_and_ends(values, points):
    series = Series.of(range(len(values)), values, range(len(values)))
    sampled = downsample(series, points)
    assert len(sampled) <= max(points, 0)
    if len(values) <= points:
        assert sampled is series
        return
    assert sampled.steps.tolist() == sorted(set(sampled.steps.tolist()))
    assert {0, len(values) - 1} <= set(sampled.steps.tolist())
    numbers = series.values[~np.isnan(series.values)]
    if points >= 8 and len(numbers):
        kept = sampled.values[~np.isnan(sampled.values)]
        assert kept.min() == numbers.min()
        assert kept.max() == numbers.max()
        assert bool(np.isnan(sampled.values).any()) == (len(numbers) < len(values))


def test_series_are_concatenated_in_order():
    first, second = Series.of([1], [2], [3]), Series.of([0], [5], [6])
    assert concatenate([EMPTY, first, second]).steps.tolist() == [1, 0]
    assert concatenate([]) is EMPTY


@pytest.mark.parametrize(
    "content", [b"", b"\2" + b"\0" * 20, encode_series(Series.of([1], [2], [3]))[:-1]]
)
def test_a_damaged_chunk_is_refused(content):
    with pytest.raises(ValueError, match="damaged"):
        decode_series(content)


def test_the_count_of_a_chunk_is_checked_before_memory_is_allocated():
    content = bytearray(encode_series(Series.of(range(50), range(50), range(50))))
    content[1:5] = b"\xff" * 4
    with pytest.raises(ValueError, match="damaged"):
        decode_series(bytes(content))


@given(st.binary(max_size=60), st.integers(0, 60))
def test_a_changed_chunk_is_decoded_or_refused(junk, position):
    content = encode_series(Series.of(range(50), range(50), range(50)))
    changed = content[:position] + junk + content[position + len(junk) :]
    with contextlib.suppress(ValueError):
        assert len(decode_series(changed)) == 50 or position < 8


def test_a_million_rows_take_less_than_25_megabytes_per_metric():
    rng = np.random.default_rng(0)
    size = 100_000
    series = Series(
        np.arange(size), rng.standard_normal(size), 1.7e9 + np.cumsum(rng.random(size) / 100)
    )
    chunks = [encode_series(series.take(slice(i, i + 4096))) for i in range(0, size, 4096)]
    assert sum(map(len, chunks)) * 10 < 25e6
