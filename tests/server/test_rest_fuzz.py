"""Property tests of the REST API against its specification."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.rest_client import SPEC
from support.server_processes import TOKEN, Server

HEADERS = {"Authorization": f"token {TOKEN}"}
EXAMPLES = 30
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    (path, verb) for path, item in SPEC["paths"].items() for verb in item if verb != "parameters"
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running server's extension."""
    with Server(tmp_path_factory.mktemp("server")).running() as server:
        yield f"http://127.0.0.1:{server.port}/axon"


def known(url: str) -> dict[str, str]:
    """The ids of a notebook with a cell, a version and a checkpoint."""

    def created(path: str, body: Any) -> Any:
        reply = requests.post(url + path, json=body, headers=HEADERS, timeout=20)
        assert reply.status_code == 201, reply.text
        return reply.json()

    notebook = created("/notebooks", {"name": "n"})
    state = {"epoch": 0, "step": 0, "metrics": {"loss": 1}, "model_state_base64": "AAAA"}
    checkpoint = created(f"/notebooks/{notebook['id']}/checkpoints", state)
    return {
        "notebook_id": notebook["id"],
        "cell_id": notebook["cells"][0]["id"],
        "version_id": notebook["version_id"],
        "checkpoint_id": checkpoint["id"],
    }


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "verb"), OPERATIONS)
def test_any_request_gets_a_specified_response(
    path: str, verb: str, mode: GenerationMode, url: str
) -> None:
    operation = schemathesis.openapi.from_dict(SPEC)[path][verb]
    ids = {name: id for name, id in known(url).items() if f"{{{name}}}" in path}
    cases = operation.as_strategy(generation_mode=mode)
    if ids:
        cases |= operation.as_strategy(generation_mode=mode, path_parameters=ids)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def answered(case: schemathesis.Case) -> None:
        assume(
            all(str(value).isprintable() for value in case.headers.values())
        )  # else it is no HTTP
        reply = case.call(base_url=url, headers=HEADERS)
        case.validate_response(reply, checks=CHECKS)

    answered()
