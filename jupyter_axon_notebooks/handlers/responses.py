"""Responses: encoding, entity tags, and the mapping of errors to HTTP statuses."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import quote

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
from .context import RequestContext

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
#: The longest message, in characters; some quote what they refuse.
_MAX_MESSAGE: Final = 1000
#: Changes with every commit to the store: a client that sees the same value has nothing to fetch.
_REVISION_HEADER: Final = "X-Axon-Revision"


class Response(NamedTuple):
    """A response; ``body`` is bytes or a JSON value, which is not sent with 204 and 304."""

    body: Any = None
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = {}
    media_type: str = "application/json"


NO_CONTENT: Final = Response(status=HTTPStatus.NO_CONTENT)


def list_response(items: list[Any], total: int) -> Response:
    """Return one page of a list of records, with the total count in a header."""
    return Response([item.to_json() for item in items], headers={"X-Total-Count": str(total)})


def attachment(filename: str) -> str:
    """Return the header Content-Disposition of a file to be downloaded."""
    return f"attachment; filename*=utf-8''{quote(filename)}"


def polled(work: Callable[[RequestContext, str], Response]) -> Callable[..., Response]:
    """Add an entity tag to the responses about a notebook.

    ``work`` is not called for a client that has the response already. The tag contains the revision
    of the store. A response has none if pending saves are missing from it.
    """

    def build(context: RequestContext, notebook_id: str) -> Response:
        context.check_current(notebook_id)
        # Read before the data, so that a later commit changes it. When a lease ends, the status of
        # a run changes although nothing is written.
        marker = context.repository.store.change_marker()
        lease_end = context.repository.runs.next_lease_end(notebook_id)
        revision = hashlib.sha256(f"{marker} {lease_end}".encode()).hexdigest()[:32]
        headers = {"Cache-Control": "private, no-cache", _REVISION_HEADER: revision}
        client_tags = context.request.headers.get("If-None-Match", "")
        if revision in client_tags and not context.is_stale:
            headers["ETag"] = client_tags
            return Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        response = work(context, notebook_id)
        if context.is_stale:
            return response
        version = response.headers.get("ETag", "").strip('"')
        headers["ETag"] = f'"{version}.{revision}"'
        return response._replace(headers={**response.headers, **headers})

    return build


def error_status(error: AxonError) -> HTTPStatus:
    """Return the HTTP status of an error."""
    return next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)


def error_response(error: BaseException | None, status: int) -> Response:
    """Return the response to an error; ``status`` is used for one that has no status of its own."""
    message, reason = "", None
    if isinstance(error, AxonError):
        status, message = error_status(error), str(error)
    elif isinstance(error, HTTPError):
        status, reason = error.status_code, error.reason
        template = error.log_message or ""
        message = template % error.args if error.args else template.replace("%%", "%")
    elif error is not None:
        message = "Unhandled error; see the server's log for details"
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
    message = (message or phrase)[:_MAX_MESSAGE]
    headers = {"Retry-After": "1"} if isinstance(error, StoreBusy) else {}
    return Response({"message": message, "reason": reason or phrase}, status, headers)


def encode(value: Any) -> bytes:
    """Return JSON for any client: non-finite floats become null, half surrogate pairs escapes."""
    if isinstance(value, bytes):
        return value
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
