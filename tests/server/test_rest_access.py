"""Tests of authentication, XSRF and unknown paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any

import pytest
from support.rest_client import SPEC, Client
from tornado.httputil import HTTPHeaders

OPERATIONS = [
    (verb.upper(), re.sub(r"\{part\}", "model", re.sub(r"\{(?!part)\w+\}", "id", path)))
    for path, item in SPEC["paths"].items()
    for verb in item
    if verb != "parameters"
]
WRITES = [(verb, path) for verb, path in OPERATIONS if verb not in ("GET", "HEAD")]


def body_of(verb: str) -> bytes | None:
    return b'{"name": "n"}' if verb in ("POST", "PUT") else None


@pytest.fixture
def unchanged(stored: Callable[[], list[str]], jp_serverapp: Any) -> Iterator[None]:
    """Checks that the test leaves the store as it was."""
    before = stored()
    yield
    assert stored() == before


@pytest.mark.usefixtures("unchanged")
async def test_every_request_needs_a_token(axon: Client) -> None:
    for verb, path in [*OPERATIONS, ("GET", "/nowhere")]:
        for headers in ({}, {"Authorization": "token wrong"}):
            reply = await axon.acting_as(**headers)(verb, path, body=body_of(verb))
            assert reply.status == 403, (verb, path)


def login_cookies(headers: HTTPHeaders) -> str:
    cookies = SimpleCookie()
    for line in headers.get_list("Set-Cookie"):
        cookies.load(line)
    return "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())


@pytest.mark.usefixtures("unchanged")
async def test_a_browser_needs_the_xsrf_header_to_write(axon: Client) -> None:
    cookies = login_cookies((await axon.get("/notebooks")).headers)
    assert cookies
    cookies += "; _xsrf=deadbeef"
    for verb, path in WRITES:
        for header in ({}, {"X-XSRFToken": "beefbeef"}):
            reply = await axon.acting_as(Cookie=cookies, **header)(verb, path, body=body_of(verb))
            assert (reply.status, "XSRF" in reply.message or "_xsrf" in reply.message) == (
                403,
                True,
            )
    browser = axon.acting_as(**{"Cookie": cookies, "X-XSRFToken": "deadbeef"})
    assert (await browser.get("/notebooks")).status == 200
    assert (await browser.delete("/notebooks/id")).status == 404


@pytest.mark.usefixtures("unchanged")
async def test_cross_origin_requests_are_refused(axon: Client) -> None:
    cookies = login_cookies((await axon.get("/notebooks")).headers)
    foreign = axon.acting_as(Cookie=cookies, Origin="https://evil.example")
    assert (await foreign.get("/notebooks")).status == 404


async def test_unknown_paths_are_404_in_json(axon: Client) -> None:
    for path in ("/nowhere", "/notebooks/", "/notebooks/id/nothing"):
        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            reply = await axon(verb, path, body=body_of(verb))
            assert (reply.status, "there is nothing at" in reply.message) == (404, True), (
                verb,
                path,
            )
    for later in ("checkpoints/diff?from=a&to=b", "checkpoints/c/provenance"):
        assert (await axon.get(f"/notebooks/id/{later}")).status == 404


async def test_405_lists_the_allowed_verbs(axon: Client) -> None:
    reply = await axon("PATCH", "/notebooks", body=b"{}")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, POST, OPTIONS")
    assert (await axon("BREW", "/notebooks")).status == 405


async def test_responses_are_not_cached(axon: Client) -> None:
    reply = await axon.get("/notebooks")
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
