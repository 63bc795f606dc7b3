"""Responses: encoding, entity tags, and the mapping of errors to HTTP statuses."""

from __future__ import annotations

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
from ..records import Record
from ..run_filters import InvalidFilter
from .context import RequestContext
from .tags import CachedTag, digest, entity_tag

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


def polled(
    kind: type[Record], work: Callable[[RequestContext, str], Response]
) -> Callable[[RequestContext, str], Response]:
    """Add an entity tag to the responses about a notebook, and send 304 to a client that names it.

    While the store does not change, 304 is sent without calling ``work``. A response has no tag if
    pending saves are missing from it.

    Parameters
    ----------
    kind : type
        The query arguments of ``work``. The response may depend on no others, because clients add
        their own.
    work : callable
        Called with the context and the notebook's id, if the user has access to it.
    """

    def build(context: RequestContext, notebook_id: str) -> Response:
        context.check_current(notebook_id)
        return _respond_if_changed(context, kind, lambda: work(context, notebook_id), notebook_id)

    return build


def polled_runs(
    kind: type[Record], work: Callable[[RequestContext], Response]
) -> Callable[[RequestContext], Response]:
    """Do the same as :func:`polled` for responses about the runs of all notebooks of the user."""

    def build(context: RequestContext) -> Response:
        return _respond_if_changed(context, kind, lambda: work(context))

    return build


def _respond_if_changed(
    context: RequestContext,
    kind: type[Record],
    work: Callable[[], Response],
    notebook_id: str | None = None,
) -> Response:
    tags = context.server.tags
    key = digest(context.request.path, context.query(kind), context.user_id)
    # Read before the data, so that a later commit changes it.
    marker = context.repository.store.change_marker()
    response = None
    cached = tags.get(key, marker)
    if cached is None or context.is_stale or not _has_tag(context, cached.tag):
        # When a lease ends, the status of a run changes although nothing is written.
        valid_until = context.repository.runs.next_lease_end(notebook_id)
        response = work()
        response = response._replace(body=encode(response.body))
        if context.is_stale:
            return response
        tag = entity_tag(response.body, response.headers)
        cached = CachedTag(marker, tag, valid_until)
        tags.set(key, cached)
    if response is None or _has_tag(context, cached.tag):
        response = Response(status=HTTPStatus.NOT_MODIFIED)
    headers = {
        **response.headers,
        "Cache-Control": "private, no-cache",
        "ETag": cached.tag,
        _REVISION_HEADER: cached.revision,
    }
    return response._replace(headers=headers)


def _has_tag(context: RequestContext, tag: str) -> bool:
    """Return whether the client has the response with a tag."""
    named = context.request.headers.get("If-None-Match", "")
    return tag in named or named.strip() == "*"


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
    message = message or phrase
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "…"
    headers = {"Retry-After": "1"} if isinstance(error, StoreBusy) else {}
    body: dict[str, Any] = {"message": message, "reason": reason or phrase}
    if isinstance(error, InvalidFilter):
        body |= {"position": error.position, "suggestions": error.suggestions}
    return Response(body, status, headers)


def encode(value: Any) -> bytes:
    """Return JSON for any client: non-finite floats become null, half surrogate pairs escapes."""
    if isinstance(value, bytes):
        return value
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):  # surrogates, or an integer of over 64 bits
        return json.dumps(_finite(msgspec.to_builtins(value))).encode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value
