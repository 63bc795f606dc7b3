"""The numbers that the contents of an unverified file get. Pure.

Saves and sweeps rely on what :mod:`.versions` says of numbers, and whoever edited a file may not have known of it. A
content of a higher number than a version that lists it would be taken for one that nobody else lists, and removed. A
lower one than need be does no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .parts import content_ids


class Numbering:
    """Which number each content of a notebook may have at most.

    Parameters
    ----------
    versions : iterable of mapping
        All versions of it that are going to be there.
    contents : collection of str
        The ids of all contents likewise.
    """

    def __init__(self, versions: Iterable[Mapping[str, Any]], contents: Collection[str]) -> None:
        self._contents = contents
        self._first: dict[str, int] = {}
        self._next = 0
        for version in sorted(versions, key=lambda one: int(one["ordinal"])):
            self._next = version["ordinal"] + 1
            for content_id in content_ids(version):
                self._first.setdefault(content_id, version["ordinal"])

    def numbered(self, content_id: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """A content with a number that no version that lists it is below.

        What none lists is at most as new as what is written ahead of the next one.
        """
        return {
            **content,
            "ordinal": min(content["ordinal"], self._first.get(content_id, self._next)),
        }

    def known(self, content_ids: set[str]) -> set[str]:
        """Those of ``content_ids`` that are numbered by this."""
        return content_ids.intersection(self._contents)
