"""The ids of cells in a record: those of the file if valid, else stable derived ones."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeGuard

from ..alignment import Pair, align, pair_equal
from ..records import NotebookCell
from .cells import Notes, join_names

_VALID = re.compile(r"[a-zA-Z0-9-_]{1,64}")


#: What identifies a cell: ``(id,)`` if the file has its id, else ``(type, source)``.
_Key = tuple[str, ...]


def is_valid_id(value: Any) -> TypeGuard[str]:
    """Return whether nbformat allows ``value`` as the id of a cell."""
    return isinstance(value, str) and _VALID.fullmatch(value) is not None


def has_own_ids(notebook: Mapping[str, Any]) -> bool:
    """Return whether all cells of a notebook have valid, unique ids."""
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        return False
    ids = [cell.get("id") if isinstance(cell, dict) else None for cell in cells]
    return all(map(is_valid_id, ids)) and len(set(ids)) == len(ids)


def derived_id(taken: Iterable[str], *parts: str) -> str:
    """Return a valid id derived from ``parts`` that is not in ``taken``."""
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
    cells: Sequence[Any], previous: Sequence[NotebookCell], *, required: bool, notes: Notes
) -> list[str]:
    """Return a unique and valid id for the content of each cell.

    A cell keeps its own id if that is valid and no earlier cell has it. The others take the ids of
    the matching cells in ``previous``: first unchanged cells, then by position between the same
    neighbours. The rest get ids derived from an invalid id, or from type and source. The time is
    near-linear.

    Parameters
    ----------
    required : bool
        Whether the format requires ids; if so, faults are added to ``notes``.
    """
    own = [cell.get("id") if isinstance(cell, dict) else None for cell in cells]
    first: dict[str, int] = {}
    for index, given in enumerate(own):
        if isinstance(given, str):
            first.setdefault(given, index)
    kept: list[str | None] = [None] * len(own)
    refused: dict[int, str] = {}
    for given, index in first.items():
        if is_valid_id(given):
            kept[index] = given
        else:
            refused[index] = given
    if None in kept:
        ids = _complete_ids(kept, refused, [_key(cell) for cell in cells], previous)
    else:
        ids = [given for given in kept if given is not None]
    if required:
        _note(own, first, ids, notes)
    return ids


def _complete_ids(
    kept: list[str | None],
    refused: Mapping[int, str],
    keys: Sequence[_Key],
    previous: Sequence[NotebookCell],
) -> list[str]:
    named = {given for given in kept if given is not None}
    # An invalid id is not used, but the id derived from it identifies the cell.
    there = {cell.id for cell in previous}
    for index, given in refused.items():
        made = derived_id((), given)
        if made in there and made not in named:
            kept[index] = made
            named.add(made)
    before: list[_Key] = [
        (cell.id,)
        if cell.id in named
        else (cell.nbformat_type or cell.cell_type.value, cell.source)
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
    for index, (usable, key) in enumerate(zip(kept, keys, strict=True)):
        if (cell_id := usable or carried.get(index)) is None:
            cell_id = derived_id(
                taken, *((refused[index],) if index in refused else (*key, str(seen[key])))
            )
            taken.add(cell_id)
        seen[key] += 1
        ids.append(cell_id)
    return ids


def _key(cell: Any) -> _Key:
    if not isinstance(cell, dict):
        return "raw", cell if isinstance(cell, str) else ""
    kind, source = cell.get("cell_type"), cell.get("source")
    return kind if isinstance(kind, str) else "raw", source if isinstance(source, str) else ""


def _matches(before: Sequence[_Key], after: Sequence[_Key]) -> list[Pair]:
    """Return pairs of indexes of the same cell, each index in one pair at most.

    Unchanged cells are paired first, even if they moved; the others by position between unchanged
    ones.
    """
    unchanged = align(before, after)
    then, now = {i for i, _ in unchanged}, {j for _, j in unchanged}
    moved = pair_equal(
        before,
        after,
        [i for i in range(len(before)) if i not in then],
        [j for j in range(len(after)) if j not in now],
    )
    then.update(i for i, _ in moved)
    now.update(j for _, j in moved)
    edited: list[Pair] = []
    last = (-1, -1)
    for i, j in [*unchanged, (len(before), len(after))]:
        olds = [
            index
            for index in range(last[0] + 1, i)
            if index not in then and len(before[index]) == 2
        ]
        news = [
            index for index in range(last[1] + 1, j) if index not in now and len(after[index]) == 2
        ]
        edited.extend(_by_position(before, after, olds, news))
        last = i, j
    return unchanged + moved + edited


def _by_position(
    before: Sequence[_Key], after: Sequence[_Key], olds: Sequence[int], news: Sequence[int]
) -> Iterator[Pair]:
    """Yield pairs in order, cells of equal type first."""
    waiting: dict[str, deque[int]] = {}
    for index in olds:
        waiting.setdefault(before[index][0], deque()).append(index)
    left = []
    for index in news:
        if alike := waiting.get(after[index][0]):
            yield alike.popleft(), index
        else:
            left.append(index)
    rest = sorted(index for indexes in waiting.values() for index in indexes)
    yield from zip(rest, left)  # noqa: B905  # one of them may be longer


def _note(own: Sequence[Any], first: dict[str, int], ids: Sequence[str], notes: Notes) -> None:
    missing = [str(index) for index, given in enumerate(own) if given is None]
    if missing:
        notes.add(
            "$.cells", f"no id in cell {join_names(missing, len(missing))}; recorded with made ids"
        )
    for index, (given, recorded) in enumerate(zip(own, ids, strict=True)):
        if given is None or given == recorded:
            continue
        if is_valid_id(given):
            reason, kind = (
                f"already the id of cell {first[given]}",
                "already the id of an earlier cell",
            )
        else:
            reason = kind = "not a valid cell id"
        shown = (
            repr(given[:80])
            if isinstance(given, str)
            else f"a value of type {type(given).__name__}"
        )
        notes.add(
            f"$.cells[{index}].id",
            f"{shown} is {reason}; recorded as {recorded!r}",
            kind=f"{kind}; recorded with made ids",
        )
