"""A client of a real server that checks every response against ``openapi.yaml``."""

from __future__ import annotations

import json
import re
import sqlite3
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from openapi_schema_validator import OAS31Validator
from tornado.httpclient import HTTPResponse

SPEC: dict[str, Any] = yaml.safe_load(
    resources.files("jupyter_axon_notebooks.handlers").joinpath("openapi.yaml").read_text()
)


class Reply:
    """A response with its body."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.code
        self.headers = response.headers
        self.body = response.body or b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


class Client:
    """Sends requests with the identity in its headers."""

    def __init__(self, http: Any, base_url: str, headers: dict[str, str]) -> None:
        self._http = http
        self._base = base_url.rstrip("/")
        self.headers = headers

    def acting_as(self, **headers: str) -> Client:
        return Client(self._http, self._base, headers)

    async def raw(self, method: str, url: str, **given: Any) -> Reply:
        headers = {**self.headers, **given.pop("headers", {})}
        response = await self._http.fetch(
            f"{self._base}{url}",
            method=method,
            headers=headers,
            raise_error=False,
            allow_nonstandard_methods=True,
            request_timeout=60,
            **given,
        )
        return Reply(response)

    async def __call__(self, method: str, path: str, json_body: Any = ..., **given: Any) -> Reply:
        """Send a request to a path under /axon."""
        if json_body is not ...:
            given["body"] = json.dumps(json_body)
        reply = await self.raw(method, f"/axon{path}", **given)
        check_specification(method, path, reply)
        return reply

    async def get(self, path: str, **given: Any) -> Reply:
        return await self("GET", path, **given)

    async def post(self, path: str, json_body: Any = ..., **given: Any) -> Reply:
        return await self("POST", path, json_body, **given)

    async def put(self, path: str, json_body: Any = ..., **given: Any) -> Reply:
        return await self("PUT", path, json_body, **given)

    async def delete(self, path: str, **given: Any) -> Reply:
        return await self("DELETE", path, **given)

    async def created(self, path: str, json_body: Any) -> Any:
        """Send a POST and return what it created."""
        reply = await self.post(path, json_body)
        assert reply.status == 201, reply
        return reply.json


def check_specification(method: str, path: str, reply: Reply) -> None:
    """Check a response against the specification, and errors against Jupyter's format."""
    if reply.status >= 400 and method != "HEAD":
        assert reply.headers["Content-Type"] == "application/json", reply
        _check({"$ref": "#/components/schemas/Error"}, reply.json)
        return
    operation = _operation(method, path.partition("?")[0])
    answer = operation["responses"][str(reply.status)]
    if "$ref" in answer:
        answer = SPEC["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    if "content" not in answer:
        assert not reply.body
        return
    kind = reply.headers["Content-Type"].partition(";")[0]
    schema = answer["content"][kind].get("schema")
    if schema is not None:
        _check(schema, reply.json)


def _operation(method: str, path: str) -> Any:
    for literal_first in sorted(SPEC["paths"], key=lambda template: template.count("{")):
        if re.fullmatch(re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(literal_first)), path):
            return SPEC["paths"][literal_first][method.lower()]
    raise AssertionError(f"{path} is not in the specification")


def _check(schema: Any, value: Any) -> None:
    errors = list(OAS31Validator({**schema, "components": SPEC["components"]}).iter_errors(value))
    assert not errors, errors


def dump(data: Path, *folders: Path) -> list[str]:
    """Return all rows of the store, and all files below ``folders`` with their contents."""
    connection = sqlite3.connect(data / "axon_notebooks" / "axon.db")
    try:
        rows = list(connection.iterdump())
    finally:
        connection.close()
    files = [
        f"{file}: {file.read_bytes()!r}"
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    ]
    return rows + files
