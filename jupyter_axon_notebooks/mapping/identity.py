"""The ids of a notebook's cells in its record: the file's where it has usable ones, else stable made ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from hashlib import blake2b
from typing import Any, TypeGuard

from ..records import NotebookCell

_VALID = re.compile(r"[a-zA-Z0-9-_]{1,64}")
#: Cells named in one note; a notebook of thousands without ids must not make a note of thousands.
_NAMED_IN_NOTE = 5

#: What a cell is known by: its id if the file gives it one, ``(id,)``, else ``(type, source)``.
_Key = tuple[str, ...]


def is_valid_id(value: Any) -> TypeGuard[str]:
    """Whether nbformat allows ``value`` as a cell's id."""
    return isinstance(value, str) and _VALID.fullmatch(value) is not None


def derived_id(taken: Iterable[str], *parts: str) -> str:
    """A valid id made from ``parts`` alone, and none of ``taken``."""
    names = taken if isinstance(taken, (set, frozenset, dict)) else set(taken)
    attempt = 0
    while True:
        digest = blake2b(digest_size=8)
        for part in (*parts, *([str(attempt)] if attempt else [])):
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        if (made := digest.hexdigest()) not in names:
            return made
        attempt += 1


def cell_ids(
    cells: Sequence[Any], previous: Sequence[NotebookCell], *, required: bool, notes: list[str]
) -> list[str]:
    """An id for each of a notebook's ``cells`` (as content): unique, and valid for nbformat.

    A cell's own id is kept if it is valid and no earlier cell has it. The others take the ids of the cells
    they were in ``previous``: first those that did not change, then by position between the same neighbours. What
    is left gets ids derived from type and source. ``required`` is whether the format asks for ids; if so, what is
    wrong with them goes into ``notes``.
    """
    own = [cell.get("id") if isinstance(cell, dict) else None for cell in cells]
    first: dict[str, int] = {}
    for index, given in enumerate(own):
        if is_valid_id(given):
            first.setdefault(given, index)
    kept: list[str | None] = [
        given if is_valid_id(given) and first[given] == index else None for index, given in enumerate(own)
    ]
    if None in kept:
        ids = _completed(kept, [_key(cell) for cell in cells], previous)
    else:
        ids = [given for given in kept if given is not None]
    if required:
        notes.extend(_notes(own, first, ids))
    return ids


def _completed(
    kept: Sequence[str | None], keys: Sequence[_Key], previous: Sequence[NotebookCell]
) -> list[str]:
    named = {given for given in kept if given is not None}
    before: list[_Key] = [
        (cell.id,) if cell.id in named else (cell.nbformat_type or cell.cell_type.value, cell.source)
        for cell in previous
    ]
    after: list[_Key] = [
        (given,) if given is not None else key for given, key in zip(kept, keys, strict=True)
    ]
    carried: dict[int, str] = {}
    for then, now in _matches(before, after):
        if kept[now] is None and is_valid_id(old := previous[then].id) and old not in named:
            carried[now] = old
            named.add(old)
    taken = named.union(cell.id for cell in previous)
    seen: Counter[_Key] = Counter()
    ids: list[str] = []
    for index, (given, key) in enumerate(zip(kept, keys, strict=True)):
        if (cell_id := given or carried.get(index)) is None:
            cell_id = derived_id(taken, *key, str(seen[key]))
            taken.add(cell_id)
        seen[key] += 1
        ids.append(cell_id)
    return ids


def _key(cell: Any) -> _Key:
    if not isinstance(cell, dict):
        return "raw", cell if isinstance(cell, str) else ""
    kind, source = cell.get("cell_type"), cell.get("source")
    return kind if isinstance(kind, str) else "raw", source if isinstance(source, str) else ""


def _matches(before: Sequence[_Key], after: Sequence[_Key]) -> Iterator[tuple[int, int]]:
    """Pairs of places that hold the same cell, each place in one pair at most."""
    # Almost every save changes one stretch, and matching is quadratic where many cells are alike.
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        yield start, start
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        yield len(before) - 1 - end, len(after) - 1 - end
        end += 1
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from zip(range(start + i1, start + i2), range(start + j1, start + j2), strict=True)
        elif tag == "replace":
            yield from _by_position(
                before, after, range(start + i1, start + i2), range(start + j1, start + j2)
            )


def _by_position(
    before: Sequence[_Key], after: Sequence[_Key], then: Iterable[int], now: Iterable[int]
) -> Iterator[tuple[int, int]]:
    """Pairs in order, those of one type first: a text put in above an edited code cell is not that cell."""
    old = [index for index in then if len(before[index]) == 2]
    new = [index for index in now if len(after[index]) == 2]
    left = []
    for index in new:
        match = next((other for other in old if before[other][0] == after[index][0]), None)
        if match is None:
            left.append(index)
        else:
            old.remove(match)
            yield match, index
    yield from zip(old, left)  # noqa: B905  # one of them may be longer


def _notes(own: Sequence[Any], first: dict[str, int], ids: Sequence[str]) -> Iterator[str]:
    missing = [index for index, given in enumerate(own) if given is None]
    if missing:
        named = ", ".join(map(str, missing[:_NAMED_IN_NOTE]))
        more = f" and {len(missing) - _NAMED_IN_NOTE} more" if len(missing) > _NAMED_IN_NOTE else ""
        yield f"$.cells: no id in cell {named}{more}; recorded with made ids"
    for index, (given, recorded) in enumerate(zip(own, ids, strict=True)):
        if given is not None and given != recorded:
            reason = f"already the id of cell {first[given]}" if is_valid_id(given) else "not a valid cell id"
            yield f"$.cells[{index}].id: {str(given)[:80]!r} is {reason}; recorded as {recorded!r}"
