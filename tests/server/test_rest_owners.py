"""Tests of ownership on a server that several users share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from jupyter_server.auth import IdentityProvider, User
from nbformat.sign import MemorySignatureStore
from support.rest_client import Client


class FromHeader(IdentityProvider):
    """Takes the user from a header, as a proxy in front of the server would set it."""

    def get_user(self, handler: Any) -> User | None:
        name = handler.request.headers.get("X-User")
        handler._token_authenticated = True
        return User(name) if name else None


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {
        "ServerApp": {
            "jpserver_extensions": {"jupyter_axon_notebooks": True},
            "identity_provider_class": FromHeader,
        },
        "AxonNotebooks": {
            "identity_from_request": True,
            "admin_users": ["root"],
            "user_id": "nobody",
        },
        "NotebookNotary": {
            "store_factory": MemorySignatureStore
        },  # the other one leaves its database open
    }


@pytest.fixture
def ada(axon: Client) -> Client:
    return axon.acting_as(**{"X-User": "ada"})


@pytest.fixture
def bob(axon: Client) -> Client:
    return axon.acting_as(**{"X-User": "bob"})


@pytest.fixture
def root(axon: Client) -> Client:
    return axon.acting_as(**{"X-User": "root"})


async def test_records_of_other_users_are_forbidden(
    ada: Client, bob: Client, stored: Callable[[], list[str]]
) -> None:
    notebook = await ada.created("/notebooks", {"name": "hers"})
    assert notebook["user_id"] == "ada"
    path = f"/notebooks/{notebook['id']}"
    state = {"epoch": 0, "step": 0, "metrics": {}, "model_state_base64": "AAAA"}
    checkpoint = f"{path}/checkpoints/{(await ada.created(f'{path}/checkpoints', state))['id']}"
    cell = f"{path}/cells/{notebook['cells'][0]['id']}"
    version = notebook["version_id"]
    before = stored()
    for verb, url, body in [
        ("GET", path, None),
        ("PUT", path, b"{}"),
        ("DELETE", path, None),
        ("GET", f"{path}/export", None),
        ("GET", f"{path}/export?download=1", None),
        ("POST", f"{path}/cells", b'{"source": ""}'),
        ("PUT", cell, b"{}"),
        ("DELETE", cell, None),
        ("GET", f"{path}/versions", None),
        ("GET", f"{path}/versions/{version}", None),
        ("GET", f"{path}/diff?from={version}&to={version}", None),
        ("GET", f"{path}/checkpoints", None),
        ("POST", f"{path}/checkpoints", b'{"epoch": 0, "step": 0, "metrics": {}}'),
        ("GET", f"{path}/checkpoints/best", None),
        ("GET", checkpoint, None),
        ("PUT", checkpoint, b"{}"),
        ("DELETE", checkpoint, None),
        ("GET", f"{checkpoint}/states/model", None),
        ("PUT", f"{checkpoint}/states/optimizer", b"x"),
    ]:
        reply = await bob(verb, url, body=body)
        assert (reply.status, reply.message) == (
            403,
            f"notebook {notebook['id']} belongs to another user",
        )
    assert (await bob("HEAD", f"{checkpoint}/states/model")).status == 403
    assert stored() == before


async def test_two_users_may_use_the_same_run_id(ada: Client, bob: Client) -> None:
    body = {"epoch": 0, "step": 0, "metrics": {"loss": 1}, "run_id": "baseline"}
    paths = []
    for who in (ada, bob):
        path = f"/notebooks/{(await who.created('/notebooks', {'name': 'n'}))['id']}"
        await who.created(f"{path}/checkpoints", body)
        paths.append(path)
    for who, path in zip((ada, bob), paths, strict=True):
        assert [run["id"] for run in (await who.get(f"{path}/runs")).json] == ["baseline"]
    await ada.delete(paths[0])
    assert [run["status"] for run in (await bob.get(f"{paths[1]}/runs")).json] == ["running"]


async def create_run(who: Client, name: str) -> tuple[str, str]:
    """Create a run and return the ids of its notebook and its own."""
    notebook = (await who.created("/notebooks", {"name": f"notebook of {name}"}))["id"]
    body = {"epoch": 0, "step": 0, "metrics": {f"of {name}": 1.0}, "run_id": f"run-of-{name}"}
    await who.created(f"/notebooks/{notebook}/checkpoints", body)
    renamed = {"name": f"name of {name}", "config": {f"key of {name}": 1}}
    assert (await who.put(f"/runs/{body['run_id']}", renamed)).status == 200
    return notebook, str(body["run_id"])


async def test_runs_of_other_users_leave_no_trace(
    ada: Client, bob: Client, root: Client, stored: Callable[[], list[str]]
) -> None:
    of_ada, hers = await create_run(ada, "ada")
    _, his = await create_run(bob, "bob")
    before = stored()
    for id in (hers, hers[:-1], quote("name of ada"), f"{hers}?notebook_id={of_ada}"):
        path, _, query = id.partition("?")
        for verb, url, body in [
            ("GET", f"/runs/{path}?{query}", None),
            ("GET", f"/runs/{path}/series?{query}", None),
            ("PUT", f"/runs/{path}?{query}", b'{"name": "mine"}'),
            ("DELETE", f"/runs/{path}?{query}", None),
            ("GET", f"/runs/compare?ids={his},{path}", None),
        ]:
            reply = await bob(verb, url, body=body)
            assert reply.status == 404, url
            assert "ada" not in reply.message.partition("did you mean")[2]
    listed = await bob.get("/runs")
    assert [one["run"]["id"] for one in listed.json] == [his]
    assert listed.headers["X-Total-Count"] == "1"
    named = quote('name == "name of ada"')
    for query in (f"notebook_id={of_ada}", f"where={named}"):
        empty = await bob.get(f"/runs?{query}")
        assert (empty.status, empty.json, empty.headers["X-Total-Count"]) == (200, [], "0")
    own = {"config": ["key of bob"], "metrics": ["of bob"]}
    assert (await bob.get("/runs/columns")).json == own
    assert (await bob.get(f"/runs/columns?notebook_id={of_ada}")).json == {
        "config": [],
        "metrics": [],
    }
    for unknown in ('config["key of ada"] == 1', 'metrics["of ada"] > 0'):
        reply = await bob.get(f"/runs?where={quote(unknown)}")
        assert reply.status == 400
        assert "ada" not in str(reply.json["suggestions"])
    assert stored() == before
    assert (await root.get("/runs")).headers["X-Total-Count"] == "2"
    assert (await root.get(f"/runs/{hers}")).status == 200


async def test_lists_have_only_own_records(ada: Client, bob: Client, root: Client) -> None:
    await ada.created("/notebooks", {"name": "hers"})
    await bob.created("/notebooks", {"name": "his"})
    for who, names in [(ada, ["hers"]), (bob, ["his"]), (root, ["his", "hers"])]:
        listed = await who.get("/notebooks")
        assert [item["name"] for item in listed.json] == names
        assert listed.headers["X-Total-Count"] == str(len(names))


async def test_an_administrator_may_see_and_change_everything(ada: Client, root: Client) -> None:
    path = f"/notebooks/{(await ada.created('/notebooks', {'name': 'hers'}))['id']}"
    changed = (await root.put(path, {"name": "ours"})).json
    assert (changed["name"], changed["user_id"]) == ("ours", "ada")
    assert (await root.delete(path)).status == 204


async def test_a_new_file_belongs_to_its_creator(ada: Client, bob: Client) -> None:
    made = await ada.created("/notebooks", {"path": "hers.ipynb"})
    assert made["user_id"] == "ada"
    assert (await bob.post("/notebooks", {"path": "hers.ipynb"})).status == 409
    assert (await bob.post(f"/notebooks/{made['id']}/cells", {"source": ""})).status == 403


async def test_only_an_administrator_may_name_another_owner(ada: Client, root: Client) -> None:
    given = {"name": "n", "user_id": "bob"}
    assert (await ada.post("/notebooks", given)).status == 403
    assert (await ada.created("/notebooks", {**given, "user_id": "ada"}))["user_id"] == "ada"
    assert (await root.created("/notebooks", given))["user_id"] == "bob"
    assert (await root.post("/notebooks", {**given, "path": "n.ipynb"})).status == 400


async def test_files_of_other_users_are_not_synced(
    ada: Client, bob: Client, write_notebook: Callable[..., Path]
) -> None:
    write_notebook("shared.ipynb", "one")
    assert (await ada.post("/notebooks/sync", {"path": "shared.ipynb"})).json["user_id"] == "ada"
    assert (await bob.post("/notebooks/sync", {"path": "shared.ipynb"})).status == 403
