"""Tests of invalid input: it is refused with a message and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.rest_client import Client

DEEP = "[" * 101 + "]" * 101
TOO_DEEP_FOR_PYTHON = "[" * 200_000
LONE = '"\\ud800"'
CHECKPOINT = '{"epoch": 0, "step": 0, "metrics": {}'


def checkpoint(rest: str) -> str:
    return f"{CHECKPOINT}, {rest}}}"


#: Bodies and starts of messages by verb and path; {n}, {c}, {k} are a notebook, cell, checkpoint.
BODIES: dict[str, list[tuple[str | bytes, str]]] = {
    "POST /notebooks": [
        ("", "$: expected object, got an empty body"),
        ("{", "$: not JSON: Expecting property name"),
        (b'{"name": "\xff"}', "$: not UTF-8: invalid byte at position 10"),
        ("null", "$: expected object, got null"),
        ('{"name": "a", "name": "b"}', "$: an object has the name 'name' twice"),
        ('{"name": "n", "x": [{"\\ud800": 1}]}', "$.x[0]: the name of a field has half"),
        ('{"metricsx": NaN}', "$.metricsx: expected a finite number"),
        ("{}", "$.name: required, but missing"),
        ('{"name": 1}', "$.name: expected str, got int"),
        ('{"name": "a\\u0000"}', "$.name: has a NUL character"),
        (f'{{"name": {LONE}}}', "$.name: has half a surrogate pair"),
        (f'{{"name": "n", "x": {DEEP}}}', "$.x[0][0]"),
        (f'{{"x": {TOO_DEEP_FOR_PYTHON}', "$: nested deeper than 100 levels"),
        ('{"name": "n", "x": NaN}', "$.x: expected a finite number"),
        ('{"x": ' + "1" * 5000 + "}", "$: not JSON: Exceeds the limit"),
        ('{"name": "n", "cells": [{}]}', "$.cells[0].source: required, but missing"),
        (
            '{"name": "n", "cells": [{"source": "", "id": "a"}, {"source": "", "id": "a"}]}',
            "$.cells[1].id: a is the id of cell 0",
        ),
        ('{"name": "n", "status": "gone"}', "$.status: invalid enum value"),
        ('{"path": "a.txt"}', "$.path: expected the path of a notebook"),
        ('{"path": "../a.ipynb"}', "$.path: must be relative"),
        ('{"path": "missing/a.ipynb"}', "$.path: there is no folder missing"),
        ('{"path": ".hidden.ipynb"}', "$.path: a hidden file"),
        ('{"path": "' + "a" * 300 + '.ipynb"}', "$.path: is too long"),
        *(
            (
                json.dumps({"path": "a.ipynb", "metadata": {"extra": {"nbformat": kept}}}),
                "$.metadata.extra.nbformat: not a valid notebook: ",
            )
            for kept in (
                {"nbformat": 3, "nbformat_minor": 0},
                {"nbformat": 4, "nbformat_minor": 5, "metadata": "text"},
            )
        ),
    ],
    "POST /notebooks/import": [
        ("{}", "$.content: required, but missing"),
        ('{"content": "{}"}', "$.content: not a valid notebook: "),
        ('{"content": "{}", "name": 1}', "$.name: expected str"),
    ],
    "POST /notebooks/sync": [
        ("{}", "$.path: required, but missing"),
        ('{"path": "../../etc/passwd.ipynb"}', "$.path: must be relative"),
    ],
    "PUT /notebooks/{n}": [
        ('{"status": "gone"}', "$.status"),
        ('{"cells": [{"source": 1}]}', "$.cells[0].source: expected str, got int"),
    ],
    "POST /notebooks/{n}/cells": [
        ("{}", "$.source: required, but missing"),
        ('{"source": "", "position": -1}', "$.position: expected int >= 0"),
        ('{"source": "", "id": "a b"}', "$.id: expected 1 to 64 letters"),
    ],
    "PUT /notebooks/{n}/cells/{c}": [
        ('{"source": null}', "$.source: expected str, got null"),
        ('{"outputs": [{"text": 1}]}', "$.outputs[0]"),
    ],
    "POST /notebooks/{n}/checkpoints": [
        ("{}", "$.metrics: required, but missing"),
        ('{"epoch": "1", "step": 0, "metrics": {}}', "$.epoch: expected int, got str"),
        ('{"epoch": 0, "step": true, "metrics": {}}', "$.step: expected int, got bool"),
        (checkpoint('"tags": "a"'), "$.tags: expected array, got str"),
        (checkpoint('"version_id": "v"'), "$.version_id"),
        (checkpoint('"model_state_base64": "AAA"'), "$.model_state_base64: not base64"),
        (
            checkpoint('"model_state_base64": "AAAA", "model_state_path": "/a"'),
            "$.model_state_base64: remove this field or model_state_path",
        ),
        (checkpoint('"model_state_path": "a.pt"'), "$.model_state_path: expected an abs"),
        (checkpoint('"model_state_path": "/etc/passwd"'), "$.model_state_path: must lie"),
    ],
    "PUT /notebooks/{n}/checkpoints/{k}": [
        ('{"pinned": "yes"}', "$.pinned: expected bool"),
    ],
}

#: Path with its arguments, message's beginning.
ARGUMENTS: list[tuple[str, str]] = [
    ("/notebooks?limit=0", "$.limit: expected int >= 1"),
    ("/notebooks?limit=1001", "$.limit: expected int <= 1000"),
    ("/notebooks?limit=", "$.limit: expected digits, got ''"),
    ("/notebooks?limit=ten", "$.limit: expected digits, got 'ten'"),
    ("/notebooks?limit=%D9%A1", "$.limit: expected digits"),
    ("/notebooks?limit=1e2", "$.limit: expected digits, got '1e2'"),
    ("/notebooks?limit=1.0", "$.limit: expected digits, got '1.0'"),
    ("/notebooks?limit=null", "$.limit: expected digits, got 'null'"),
    ("/notebooks?offset=-1", "$.offset: expected digits, got '-1'"),
    ("/notebooks?offset=9223372036854775808", "$.offset"),
    ("/notebooks?offset=" + "9" * 5000, "$.offset: expected digits"),
    (
        "/notebooks?status=gone",
        "$.status: invalid enum value 'gone'",
    ),
    ("/notebooks?status=null", "$.status: invalid enum value 'null'"),
    ("/notebooks/{n}?outputs=TRUE", "$.outputs: expected true, false, 1 or 0, got 'TRUE'"),
    ("/notebooks/{n}?outputs=", "$.outputs: expected true, false, 1 or 0, got ''"),
    ("/notebooks?tag=%ff", "$.tag: expected UTF-8"),
    ("/notebooks?q=%00", "$.q: has a NUL character"),
    ("/notebooks?path=..%2Fa.ipynb", "path: must be relative"),
    ("/notebooks/{n}/export?format=pdf", "$.format: invalid enum value"),
    ("/notebooks/{n}/export?download=yes", "$.download: expected true, false, 1 or 0"),
    ("/notebooks/{n}/diff", "$.from: required, but missing"),
    ("/notebooks/{n}/checkpoints?since=yesterday", "$.since"),
    ("/notebooks/{n}/checkpoints?since=5", "$.since"),
    ("/notebooks/{n}/checkpoints?since=null", "$.since"),
    ("/notebooks/{n}/checkpoints?since=2026-01-01T00:00:00", "$.since"),
    ("/notebooks/{n}/checkpoints?since=2026-02-30T00:00:00Z", "$.since"),
    (
        "/notebooks/{n}/checkpoints?since=0001-01-01T00:00:00%2B05:00",
        "$.since: a time outside the years 1 to 9999 in UTC",
    ),
    ("/notebooks/{n}/metrics?since=1e9", "$.since"),
    ("/notebooks/{n}/runs?status=null", "$.status: invalid enum value 'null'"),
    (
        "/notebooks/{n}/checkpoints/best?minimize=maybe",
        "$.minimize: expected true, false, 1 or 0, got 'maybe'",
    ),
]

IDS = ["unknown", "..%2f..%2fetc%2fpasswd", "%00", "%ff", "%ed%a0%80", "a" * 3000, "'"]


async def known(axon: Client) -> dict[str, str]:
    notebook = await axon.created("/notebooks", {"name": "n"})
    made = await axon.created(
        f"/notebooks/{notebook['id']}/checkpoints", json.loads(CHECKPOINT + "}")
    )
    return {"{n}": notebook["id"], "{c}": notebook["cells"][0]["id"], "{k}": made["id"]}


def named(path: str, ids: dict[str, str]) -> str:
    for mark, id in ids.items():
        path = path.replace(mark, id)
    return path


async def test_an_invalid_body_is_refused_with_its_field(
    axon: Client, stored: Callable[[], list[str]]
) -> None:
    ids = await known(axon)
    before = stored()
    for route, bodies in BODIES.items():
        verb, _, path = named(route, ids).partition(" ")
        for body, message in bodies:
            reply = await axon(verb, path, body=body)
            assert reply.status == 400, (route, body[:200], reply)
            assert reply.message.startswith(message), (route, body[:200], reply.message)
    assert stored() == before


async def test_an_invalid_argument_is_refused_with_its_name(
    axon: Client, stored: Callable[[], list[str]]
) -> None:
    ids = await known(axon)
    before = stored()
    for path, message in ARGUMENTS:
        reply = await axon.get(named(path, ids))
        assert (reply.status, reply.message[: len(message)]) == (400, message), path
    assert stored() == before


@pytest.mark.parametrize("id", IDS)
async def test_an_unknown_id_is_not_found(
    id: str, axon: Client, stored: Callable[[], list[str]]
) -> None:
    ids = await known(axon)
    before = stored()
    for route, body in [
        ("GET /notebooks/X", None),
        ("PUT /notebooks/X", '{"name": "n"}'),
        ("PUT /notebooks/X", '{"cells": []}'),
        ("DELETE /notebooks/X", None),
        ("GET /notebooks/X/export", None),
        ("POST /notebooks/X/cells", '{"source": ""}'),
        ("PUT /notebooks/{n}/cells/X", '{"source": ""}'),
        ("DELETE /notebooks/{n}/cells/X", None),
        ("GET /notebooks/X/versions", None),
        ("GET /notebooks/{n}/versions/X", None),
        ("GET /notebooks/{n}/diff?from=X&to=X", None),
        ("GET /notebooks/X/checkpoints", None),
        ("POST /notebooks/X/checkpoints", CHECKPOINT + ', "model_state_base64": "AAAA"}'),
        ("GET /notebooks/X/checkpoints/best", None),
        ("GET /notebooks/{n}/checkpoints/X", None),
        ("PUT /notebooks/{n}/checkpoints/X", "{}"),
        ("DELETE /notebooks/{n}/checkpoints/X", None),
        ("GET /notebooks/{n}/checkpoints/X/states/model", None),
        ("PUT /notebooks/{n}/checkpoints/X/states/model", "weights"),
        ("PUT /notebooks/X/checkpoints/{k}/states/model", "weights"),
    ]:
        verb, _, path = named(route, ids).partition(" ")
        reply = await axon(verb, path.replace("X", id), body=body)
        assert reply.status in (404, 400), (route, reply)
        if id == "unknown":
            assert (reply.status, "unknown not found" in reply.message) == (404, True), (
                route,
                reply,
            )
    assert stored() == before


@pytest.mark.parametrize(
    "path",
    [
        "%2e%2e/secret.ipynb",
        "../secret.ipynb",
        "sub/%2e%2e/%2e%2e/secret.ipynb",
        "..%2fsecret.ipynb",
        "..\\secret.ipynb",
    ],
)
async def test_files_outside_the_root_are_not_read(
    path: str, axon: Client, jp_root_dir: Path, stored: Callable[[], list[str]]
) -> None:
    (jp_root_dir / "sub").mkdir()
    secret = jp_root_dir.parent / "secret.ipynb"
    secret.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    before = stored()
    reply = await axon.post("/notebooks/sync", {"path": path})
    assert reply.status in (400, 404)
    assert stored() == before


async def test_hidden_files_need_allow_hidden(
    axon: Client, write_notebook: Callable[..., Path], jp_serverapp: Any
) -> None:
    write_notebook(".hidden/n.ipynb", "one")
    assert (await axon.post("/notebooks/sync", {"path": ".hidden/n.ipynb"})).status == 404
    jp_serverapp.contents_manager.allow_hidden = True
    assert (await axon.post("/notebooks/sync", {"path": ".hidden/n.ipynb"})).status == 200


async def test_only_notebooks_are_synced(axon: Client, jp_root_dir: Path) -> None:
    (jp_root_dir / "text.ipynb").write_text("hello")
    (jp_root_dir / "folder.ipynb").mkdir()
    refused = await axon.post("/notebooks/sync", {"path": "text.ipynb"})
    assert (refused.status, refused.message.partition(":")[0]) == (400, "$.path")
    assert (await axon.post("/notebooks/sync", {"path": "folder.ipynb"})).status == 404
    assert (await axon.post("/notebooks/sync", {"path": "missing.ipynb"})).status == 404


async def test_any_file_content_is_valid_json_in_responses(axon: Client, jp_root_dir: Path) -> None:
    text = (
        '{"cells": [{"cell_type": "raw", "id": "a", "metadata": {"x": NaN, "b": 1%s}, '
        '"source": "\\ud800\\u0000\\u2028"}],'
        ' "metadata": {"deep": %s}, "nbformat": 4, "nbformat_minor": 5}'
    )
    (jp_root_dir / "odd.ipynb").write_text(text % ("0" * 40, "[" * 150 + "]" * 150))
    synced = await axon.post("/notebooks/sync", {"path": "odd.ipynb"})
    shown = json.loads(synced.body, parse_constant=lambda name: pytest.fail(name))
    (cell,) = shown["cells"]
    assert cell["source"] == "\ud800\0\u2028"
    assert cell["metadata"] == {"x": None, "b": 10**40}
    assert (await axon.get(f"/notebooks/{shown['id']}/export")).status == 200
    assert (await axon.get(f"/notebooks/{shown['id']}/export?download=1")).status == 200


@pytest.mark.timeout(30)
async def test_a_large_object_with_a_repeated_name_is_refused_quickly(axon: Client) -> None:
    names = [f'"{number}": 0' for number in range(200_000)]
    reply = await axon.post("/notebooks", body=f"{{{', '.join([*names, names[-1]])}}}")
    assert (reply.status, reply.message) == (400, "$: an object has the name '199999' twice")
