"""The matching of two sequences by equal elements. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence


def pair_equal(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return the positions of equal elements as pairs, wherever they are.

    If an element occurs several times, its first occurrences are a pair, then the second ones.
    """
    positions: dict[Hashable, list[int]] = {}
    for position in reversed(range(len(before))):
        positions.setdefault(before[position], []).append(position)
    return [(positions[one].pop(), at) for at, one in enumerate(after) if positions.get(one)]


def longest_increasing(numbers: Sequence[int]) -> list[int]:
    """Return the positions of the first longest strictly ascending subsequence."""
    # For each length, the ascending subsequence with the greatest start: that start, negated, and
    # its position.
    ends: list[int] = []
    begins: list[int] = []
    after: list[int | None] = [None] * len(numbers)
    for index in reversed(range(len(numbers))):
        length = bisect_left(ends, -numbers[index])
        after[index] = begins[length - 1] if length else None
        ends[length : length + 1] = [-numbers[index]]
        begins[length : length + 1] = [index]
    increasing: list[int] = []
    at = begins[-1] if begins else None
    while at is not None:
        increasing.append(at)
        at = after[at]
    return increasing
