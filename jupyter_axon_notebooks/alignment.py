"""The alignment of two sequences: the elements that they share in the same order. Pure.

The time is near-linear, and the alignments are good but not the longest ones. :mod:`difflib` takes
at least quadratic time if elements repeat or have another order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence

#: The maximum depth of the recursion into gaps between aligned elements.
_MAX_ROUNDS = 12

Pair = tuple[int, int]


def align(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[Pair]:
    """Return the positions of equal elements as pairs, ascending on both sides.

    Like a patience diff, it aligns common ends first and then elements that occur once on both
    sides, and repeats this in each gap between them. In a gap without such elements, it pairs the
    first occurrences of each element, then the second ones, and so on.
    """
    codes: dict[Hashable, int] = {}
    old = [codes.setdefault(element, len(codes)) for element in before]
    new = [codes.setdefault(element, len(codes)) for element in after]
    pairs: list[Pair] = []
    stack = [(0, len(old), 0, len(new), 0)]
    while stack:
        i1, i2, j1, j2, depth = stack.pop()
        while i1 < i2 and j1 < j2 and old[i1] == new[j1]:
            pairs.append((i1, j1))
            i1, j1 = i1 + 1, j1 + 1
        while i1 < i2 and j1 < j2 and old[i2 - 1] == new[j2 - 1]:
            i2, j2 = i2 - 1, j2 - 1
            pairs.append((i2, j2))
        if i1 == i2 or j1 == j2 or depth > _MAX_ROUNDS:
            continue
        anchors = _anchors(old, new, range(i1, i2), range(j1, j2))
        pairs.extend(anchors)
        for i, j in [*anchors, (i2, j2)] if anchors else []:
            stack.append((i1, i, j1, j, depth + 1))
            i1, j1 = i + 1, j + 1
    return sorted(pairs)


def pair_equal(
    before: Sequence[Hashable],
    after: Sequence[Hashable],
    old_range: Sequence[int],
    new_range: Sequence[int],
) -> list[Pair]:
    """Return pairs of equal elements at the given positions, in any order."""
    unpaired: dict[Hashable, Iterator[int]] = {
        element: iter(positions) for element, positions in _positions(before, old_range).items()
    }
    return [
        (i, j) for j in new_range if (i := next(unpaired.get(after[j], iter(())), None)) is not None
    ]


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


def _anchors(
    old: Sequence[int], new: Sequence[int], old_range: range, new_range: range
) -> list[Pair]:
    there, here = _positions(old, old_range), _positions(new, new_range)
    shared = [(there[code], here[code]) for code in here if code in there]
    once = [pair for pair in shared if len(pair[0]) == len(pair[1]) == 1]
    found = [pair for positions in once or shared for pair in zip(*positions)]  # noqa: B905 - one may be longer
    found.sort(key=lambda pair: pair[1])
    return [found[index] for index in longest_increasing([i for i, _ in found])]


def _positions(elements: Sequence[Hashable], positions: Sequence[int]) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = {}
    for position in positions:
        found.setdefault(elements[position], []).append(position)
    return found
