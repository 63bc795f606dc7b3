"""Entity tags of responses, and a cache of them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from ..records import now

#: Responses whose entity tags are cached.
_MAX_TAGS: Final = 1000


def entity_tag(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the entity tag of a response, with quotes.

    An ``ETag`` among ``headers``, the version of a record, becomes the part before the dot.
    """
    hashed = hashlib.sha256(body)
    hashed.update(repr(sorted(headers.items())).encode())
    version = headers.get("ETag", "").strip('"')
    tag = hashed.hexdigest()[:32]
    return f'"{version}.{tag}"' if version else f'"{tag}"'


def digest(*values: object) -> str:
    """Return a text of fixed length that is equal for equal values."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]


class CachedTag(NamedTuple):
    """The entity tag of a response.

    Attributes
    ----------
    marker : str
        The change marker of the store before the response was built.
    valid_until : datetime or None
        When the response may change although the store does not.
    """

    marker: str
    tag: str
    valid_until: datetime | None

    @property
    def revision(self) -> str:
        """A text that changes whenever the response may have changed."""
        return digest(self.marker, self.valid_until)


class EntityTags:
    """A thread-safe cache of the entity tags of recent responses."""

    def __init__(self) -> None:
        self._tags: OrderedDict[str, CachedTag] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, marker: str) -> CachedTag | None:
        """Return the tag of the response to a request, if it still holds."""
        with self._lock:
            cached = self._tags.get(key)
        if cached is None or cached.marker != marker:
            return None
        return cached if cached.valid_until is None or now() < cached.valid_until else None

    def set(self, key: str, cached: CachedTag) -> None:
        """Cache a tag, and drop the least recently cached one if there are too many."""
        with self._lock:
            self._tags[key] = cached
            self._tags.move_to_end(key)
            if len(self._tags) > _MAX_TAGS:
                self._tags.popitem(last=False)
