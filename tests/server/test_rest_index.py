"""Tests of the index, and of requests that count as activity."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support.rest_client import SPEC, Client

from jupyter_axon_notebooks import __version__


@pytest.mark.parametrize("path", ["/axon", "/axon/"])
async def test_the_index_has_links(path: str, axon: Client, jp_base_url: str) -> None:
    reply = await axon.raw("GET", path)
    assert reply.status == 200
    index = reply.json
    assert (index["name"], index["version"]) == ("jupyter-axon-notebooks", __version__)
    for named in ("openapi", "notebooks"):
        found = await axon.raw("GET", "/" + index[named].removeprefix(jp_base_url))
        assert found.status == 200
    assert (await axon.get("/")).json == index


async def test_the_specification_is_served(axon: Client) -> None:
    reply = await axon.get("/openapi.yaml")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/yaml")
    assert yaml.safe_load(reply.body) == SPEC


@pytest.mark.parametrize("path", ["/axon", "/axon/", "/axon/openapi.yaml"])
async def test_the_index_needs_a_token(path: str, axon: Client) -> None:
    assert (await axon.acting_as().raw("GET", path)).status == 403
    refused = await axon.raw("PUT", path, body="{}")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, OPTIONS")


@pytest.mark.parametrize(
    "path", ["/axon/openapi.yml", "/axon/openapiXyaml", "/axon/openapi.yaml/", "/axon//"]
)
async def test_similar_paths_are_404(path: str, axon: Client) -> None:
    assert (await axon.raw("GET", path)).status == 404


async def test_polls_do_not_count_as_activity(axon: Client, jp_serverapp: Any) -> None:
    notebook = await axon.created("/notebooks", {"name": "n"})
    path = f"/notebooks/{notebook['id']}"
    state = {"epoch": 0, "step": 0, "metrics": {"loss": 1}, "model_state_base64": "AAAA"}
    checkpoint = (await axon.created(f"{path}/checkpoints", state))["id"]
    polls = [
        "/notebooks?limit=1",
        f"{path}?outputs=false",
        f"{path}/versions?limit=1",
        f"{path}/checkpoints?limit=1",
        f"{path}/checkpoints/best?metric=loss",
        f"{path}/checkpoints/{checkpoint}/provenance?x=",
        f"{path}/checkpoints/{checkpoint}/states/model?x=",
        f"{path}/runs?limit=1",
        f"{path}/metrics?key=loss",
        "/notebooks/nowhere?x=",
        "/nowhere?x=",
        "/notebooks?limit=x",
    ]
    tag = (await axon.get(f"{path}/runs")).headers["ETag"]
    web_app = jp_serverapp.web_app
    before = web_app.last_activity()
    for poll in polls:
        assert (await axon.raw("GET", f"/axon{poll}&no_track_activity=1")).status < 500
    known = await axon.get(f"{path}/runs?no_track_activity=1", headers={"If-None-Match": tag})
    assert known.status == 304
    assert web_app.last_activity() == before
    await axon.get("/notebooks")
    read = web_app.last_activity()
    assert read > before
    await axon.put(path, {"name": "m"})
    assert web_app.last_activity() > read
