"""Tests of error responses and of JSON encoding."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from support.rest_client import Client
from tornado.web import HTTPError

from jupyter_axon_notebooks import errors
from jupyter_axon_notebooks.handlers.responses import encode, error_response

STATUSES = [
    (errors.NotFound("notebook", "x"), 404, "notebook x not found"),
    (errors.InvalidData("$.epoch", "expected int, got str"), 400, "$.epoch: expected int, got str"),
    (errors.Unreadable("$", "a pipe"), 400, "$: a pipe"),
    (errors.Conflict("clash"), 409, "clash"),
    (errors.Stale("stale"), 412, "stale"),
    (errors.Forbidden("not yours"), 403, "not yours"),
    (errors.TooLarge("too large"), 413, "too large"),
    (errors.ArchiveRefused("no dump"), 400, "no dump"),
    (errors.NoSpace("full"), 507, "full"),
    (errors.StoreBusy("busy"), 503, "busy"),
    (errors.StoreTooNew("too new"), 503, "too new"),
    (errors.StoreDamaged("malformed"), 503, "malformed"),
    (errors.OutcomeUnknown("who knows"), 503, "who knows"),
    (errors.StoreError("broken"), 503, "broken"),
    (errors.WrongUser("another user's"), 503, "another user's"),
    (errors.RecordDamaged("damaged"), 500, "damaged"),
    (errors.StateError("unreadable"), 503, "unreadable"),
    (errors.StateCorrupt("corrupt"), 500, "corrupt"),
    (HTTPError(418, "100%% of %s", "tea"), 418, "100% of tea"),
    (HTTPError(404, "no file 100%"), 404, "no file 100%"),
    (HTTPError(403), 403, "Forbidden"),
    (RuntimeError("secret"), 500, "Unhandled error; see the server's log for details"),
]


@pytest.mark.parametrize(
    ("error", "status", "message"), STATUSES, ids=lambda value: type(value).__name__
)
def test_an_error_has_one_status(error: Exception, status: int, message: str) -> None:
    answer = error_response(error, 500)
    assert (answer.status, answer.body["message"]) == (status, message)
    assert answer.body["reason"]
    assert ("Retry-After" in answer.headers) == isinstance(error, errors.StoreBusy)


def test_every_error_class_is_tested() -> None:
    ours = {kind for kind in vars(errors).values() if isinstance(kind, type)} - {errors.AxonError}
    assert ours == {type(error) for error, _, _ in STATUSES if isinstance(error, errors.AxonError)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": float("nan"), "b": [float("-inf")]}, b'{"a":null,"b":[null]}'),
        (["\ud800", float("inf")], b'["\\ud800", null]'),
        ([2**70], b"[1180591620717411303424]"),
        (None, b"null"),
    ],
)
def test_every_value_becomes_valid_json(value: Any, text: bytes) -> None:
    assert encode(value) == text


async def test_unexpected_errors_are_logged_and_sent_as_json(
    axon: Client, jp_serverapp: Any, caplog: pytest.LogCaptureFixture
) -> None:
    jp_serverapp.web_app.settings["axon_services"].executor._readers.submit = None
    reply = await axon.get("/notebooks")
    assert (reply.status, reply.json["reason"]) == (500, "Internal Server Error")
    assert [
        record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info
    ]
