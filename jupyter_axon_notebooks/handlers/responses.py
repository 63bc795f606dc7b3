"""Answers, and the one place where errors become status codes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
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
    StoreDamaged,
    StoreError,
    TooLarge,
)

_STATUSES: Final[dict[type, HTTPStatus]] = {
    NotFound: HTTPStatus.NOT_FOUND,
    InvalidData: HTTPStatus.BAD_REQUEST,
    ArchiveRefused: HTTPStatus.BAD_REQUEST,
    Conflict: HTTPStatus.CONFLICT,
    Stale: HTTPStatus.PRECONDITION_FAILED,
    Forbidden: HTTPStatus.FORBIDDEN,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NoSpace: HTTPStatus.INSUFFICIENT_STORAGE,
    StoreBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreDamaged: HTTPStatus.SERVICE_UNAVAILABLE,
    RecordDamaged: HTTPStatus.INTERNAL_SERVER_ERROR,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    StateError: HTTPStatus.SERVICE_UNAVAILABLE,
    StateCorrupt: HTTPStatus.INTERNAL_SERVER_ERROR,
    AxonError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
#: Seconds after which a client may ask a busy store again.
_RETRY_AFTER: Final = "1"
#: Characters of a message; some quote what they refuse.
_LONGEST_MESSAGE: Final = 1000


class Answer(NamedTuple):
    """What a request is answered with; ``body`` is a JSON value, and nothing is sent with 204."""

    body: Any = None
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = {}


NO_CONTENT: Final = Answer(status=HTTPStatus.NO_CONTENT)


def error_answer(error: BaseException | None, status: int) -> Answer:
    """What an error is answered with, as Jupyter words its errors; ``status`` is for one that names none."""
    headers = {}
    if isinstance(error, AxonError):
        status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
        message = str(error)
        if isinstance(error, StoreBusy):
            headers["Retry-After"] = _RETRY_AFTER
    elif isinstance(error, HTTPError):
        status = error.status_code
        message = _http_message(error) or _phrase(status)
    elif error is not None:
        message = "Unhandled error; the server's log has the details"
    else:
        message = _phrase(status)
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + "…"
    reason = error.reason if isinstance(error, HTTPError) and error.reason else _phrase(status)
    return Answer({"message": message, "reason": reason}, status, headers)


def _http_message(error: HTTPError) -> str:
    template = error.log_message or ""
    return template % error.args if error.args else template.replace("%%", "%")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def encode(value: Any) -> bytes:
    """``value`` as JSON that every client can read: non-finite floats are null, half surrogate pairs escaped."""
    try:
        return msgspec.json.encode(value)
    except (
        UnicodeEncodeError,
        OverflowError,
    ):  # half a surrogate pair, or an integer of more than 64 bits
        return json.dumps(_finite(value)).encode("ascii")


def tag_of(answer: Answer, body: bytes) -> str:
    """The entity tag of an answer whose body is encoded: its digest, headers included."""
    digest = hashlib.sha256(body)
    digest.update(repr(sorted(answer.headers.items())).encode())
    return f'"{digest.hexdigest()[:32]}"'


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value
