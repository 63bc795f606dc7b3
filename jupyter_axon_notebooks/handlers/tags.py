"""The entity tags of answers, for as long as the answers would be the same."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from typing import Final, NamedTuple

from ..records import now

#: Answers whose tags are kept.
_MOST: Final = 1000


class _Kept(NamedTuple):
    marker: str
    tag: str
    until: datetime | None


class Tags:
    """The tags of the answers that were given last, by what was asked. Safe to use from any thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, asked: str, marker: str) -> str | None:
        """Return the tag that an answer would have, if nothing has changed since it was given; else None."""
        with self._lock:
            kept = self._kept.get(asked)
        is_true = (
            kept is not None
            and kept.marker == marker
            and (kept.until is None or now() < kept.until)
        )
        return kept.tag if kept is not None and is_true else None

    def keep(self, asked: str, marker: str, tag: str, until: datetime | None) -> None:
        """Keep the tag of an answer, made of what the store held when its change marker was ``marker``.

        From ``until`` on the answer may be another, although nothing is committed.
        """
        with self._lock:
            self._kept[asked] = _Kept(marker, tag, until)
            self._kept.move_to_end(asked)
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
