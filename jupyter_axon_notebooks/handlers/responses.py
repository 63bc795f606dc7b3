"""Responses: encoding, entity tags, and the mapping of errors to HTTP statuses."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from tornado.web import HTTPError

from ..errors import (
    ArchiveRefused,
    AxonError,
    Conflict,
    Forbidden,
    InvalidData,
    NoSpace,
    NotFound,
    RecordDamaged,
    Stale,
    StateCorrupt,
    StateError,
    StoreBusy,
    StoreError,
    TooLarge,
)
from ..records import now

_STATUSES: Final[dict[type, HTTPStatus]] = {
    NotFound: HTTPStatus.NOT_FOUND,
    InvalidData: HTTPStatus.BAD_REQUEST,
    ArchiveRefused: HTTPStatus.BAD_REQUEST,
    Conflict: HTTPStatus.CONFLICT,
    Stale: HTTPStatus.PRECONDITION_FAILED,
    Forbidden: HTTPStatus.FORBIDDEN,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NoSpace: HTTPStatus.INSUFFICIENT_STORAGE,
    RecordDamaged: HTTPStatus.INTERNAL_SERVER_ERROR,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    StateError: HTTPStatus.SERVICE_UNAVAILABLE,
    StateCorrupt: HTTPStatus.INTERNAL_SERVER_ERROR,
    AxonError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
#: Seconds after which a client may retry while the store is busy.
_RETRY_AFTER: Final = "1"
#: The longest message, in characters; some quote what they refuse.
_MAX_MESSAGE: Final = 1000
#: Responses whose entity tags are cached.
_MAX_TAGS: Final = 1000


class Response(NamedTuple):
    """A response; ``body`` is a JSON value, which is not sent with 204 and 304."""

    body: Any = None
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = {}


NO_CONTENT: Final = Response(status=HTTPStatus.NO_CONTENT)


def list_response(items: list[Any], total: int) -> Response:
    """Return one page of a list of records, with the total count in a header."""
    return Response([item.to_json() for item in items], headers={"X-Total-Count": str(total)})


def error_response(error: BaseException | None, status: int) -> Response:
    """Return the response to an error; ``status`` is used for one that has no status of its own."""
    headers = {}
    reason = None
    if isinstance(error, AxonError):
        status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
        message = str(error)
        if isinstance(error, StoreBusy):
            headers["Retry-After"] = _RETRY_AFTER
    elif isinstance(error, HTTPError):
        status, reason = error.status_code, error.reason
        template = error.log_message or ""
        message = template % error.args if error.args else template.replace("%%", "%")
    elif error is not None:
        message = "Unhandled error; see the server's log for details"
    else:
        message = ""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
    message = message or phrase
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "…"
    return Response({"message": message, "reason": reason or phrase}, status, headers)


def encode(value: Any) -> bytes:
    """Return JSON for any client: non-finite floats become null, half surrogate pairs escapes."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):  # surrogates, or an integer of over 64 bits
        return json.dumps(_finite(value)).encode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value


def entity_tag(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the entity tag of a response, without quotes.

    An ``ETag`` among ``headers``, the version of a record, becomes the part before the dot.
    """
    hashed = hashlib.sha256(body)
    hashed.update(repr(sorted(headers.items())).encode())
    version = headers.get("ETag", "").strip('"')
    return f"{version}.{hashed.hexdigest()[:32]}" if version else hashed.hexdigest()[:32]


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
