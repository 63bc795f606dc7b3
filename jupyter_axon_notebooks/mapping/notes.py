"""Notes on what of a notebook could not be read."""

from __future__ import annotations

#: Places named in one note; a notebook may have the same fault in each of 100,000 outputs.
_MAX_NAMED = 5


class Notes:
    """Notes on a notebook's faults: one of each kind, however often it occurs."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def add(self, place: str, what: str, *, kind: str | None = None) -> None:
        """Note ``what`` is wrong at ``place``, a JSON path; ``kind`` says it of several places, if that differs."""
        found = self._kinds.setdefault(what if kind is None else kind, _Kind(what))
        found.count += 1
        if len(found.places) < _MAX_NAMED:
            found.places.append(place)

    def texts(self) -> list[str]:
        """Return the notes: the first places of each kind, and how many more there are."""
        return [
            f"{found.places[0]}: {found.first}"
            if found.count == 1
            else f"{listed(found.places, found.count)}: {kind}"
            for kind, found in self._kinds.items()
        ]


def listed(names: list[str], count: int) -> str:
    """Return the first of ``count`` names, and how many more there are."""
    named = ", ".join(names[:_MAX_NAMED])
    return f"{named} and {count - _MAX_NAMED} more" if count > _MAX_NAMED else named


class _Kind:
    def __init__(self, first: str) -> None:
        self.first = first
        self.places: list[str] = []
        self.count = 0
