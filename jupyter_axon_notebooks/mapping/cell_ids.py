"""The ids of cells in a record: those of the file if valid, else stable derived ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeGuard

from ..alignment import pair_equal
from ..records import NotebookCell

_VALID = re.compile(r"[a-zA-Z0-9-_]{1,64}")


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


def cell_ids(cells: Sequence[Any], previous: Sequence[NotebookCell]) -> list[str]:
    """Return a unique and valid id for the content of each cell.

    A cell keeps its own id, or one derived from it if it is invalid, unless an earlier cell has it.
    The others take the ids of the matching cells in ``previous``: first those of equal cells, then
    those of cells that follow the same cell. The rest get ids derived from type and source.
    """
    own: dict[str, int] = {}
    for index, cell in enumerate(cells):
        given = cell.get("id") if isinstance(cell, dict) else None
        if isinstance(given, str):
            own.setdefault(given if is_valid_id(given) else derived_id((), given), index)
    ids: dict[int, str] = {index: cell_id for cell_id, index in own.items()}
    missing = [index for index in range(len(cells)) if index not in ids]
    free = [
        index for index, cell in enumerate(previous) if cell.id not in own and is_valid_id(cell.id)
    ]
    keys = [_key(cell) for cell in cells]
    former_keys = [(cell.nbformat_type or cell.cell_type.value, cell.source) for cell in previous]
    equal = pair_equal([former_keys[index] for index in free], [keys[index] for index in missing])
    matches = {missing[j]: free[i] for i, j in equal}
    matches |= {own[cell.id]: i for i, cell in enumerate(previous) if cell.id in own}
    edited = set(free) - set(matches.values())
    following = 0
    for index, (kind, _) in enumerate(keys):
        is_missing = index not in matches and index not in ids
        if is_missing and following in edited and former_keys[following][0] == kind:
            matches[index] = following
            edited.remove(following)
        following = matches.get(index, following - 1) + 1
    taken = {*own, *(cell.id for cell in previous)}
    seen: Counter[tuple[str, str]] = Counter()
    for index in missing:
        if index in matches:
            ids[index] = previous[matches[index]].id
        else:
            ids[index] = derived_id(taken, *keys[index], str(seen[keys[index]]))
            taken.add(ids[index])
        seen[keys[index]] += 1
    return [ids[index] for index in range(len(cells))]


def _key(cell: Any) -> tuple[str, str]:
    if not isinstance(cell, dict):
        return "raw", cell if isinstance(cell, str) else ""
    kind, source = cell.get("cell_type"), cell.get("source")
    return kind if isinstance(kind, str) else "raw", source if isinstance(source, str) else ""
