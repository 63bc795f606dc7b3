"""Tests of the OpenAPI specification against the routes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openapi_spec_validator import validate
from support.rest_client import SPEC, Client
from tornado.web import RequestHandler

from jupyter_axon_notebooks.handlers import routes

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def test_the_specification_is_valid() -> None:
    validate(SPEC)


def test_routes_match_the_specification() -> None:
    *described, (everything_else, nowhere) = routes()
    assert re.fullmatch(everything_else, "/axon/anything/else")
    assert nowhere.__name__ == "NotFoundHandler"
    specified = set()
    for path, item in SPEC["paths"].items():
        url = "/axon" + path.replace("{part}", "model")
        handler = next(handler for pattern, handler in routes() if re.fullmatch(pattern, url))
        specified |= {(handler, verb.upper()) for verb in item if verb != "parameters"}
    served = {
        (handler, verb)
        for _, handler in described
        for verb in VERBS
        if getattr(handler, verb.lower()) is not RequestHandler._unimplemented_method
    }
    assert specified == served


@pytest.mark.parametrize("jp_argv", [["--ServerApp.allow_unauthenticated_access=False"]])
async def test_every_verb_is_authenticated(
    jp_argv: list[str], jp_serverapp: Any, axon: Client
) -> None:
    assert jp_serverapp.web_app.settings["allow_unauthenticated_access"] is False
    # Jupyter warns of other verbs, and warnings are errors here.
    assert (await axon.get("/notebooks")).status == 200
