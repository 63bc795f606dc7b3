"""Tests of several servers and users on one store."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.server_processes import Server, notebook, write

Servers = Callable[..., Server]


@pytest.fixture
def shared(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """The configuration of a user's server on a shared store."""
    url = f"sqlite:///{tmp_path}/shared/axon.db"
    return lambda user: {"AxonNotebooks": {"store_url": url, "user_id": user}}


def test_two_users_with_the_same_path_have_a_record_each(
    servers: Servers, shared: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    ada = servers("ada", config=shared("ada"), root=tmp_path / "work")
    bob = servers("bob", config=shared("bob"), root=tmp_path / "work")
    assert ada.save("a.ipynb", notebook("ada")).status == 201
    hers = ada.assert_recorded("a.ipynb")
    his = bob.sync("a.ipynb")
    assert (hers["user_id"], his["user_id"]) == ("ada", "bob")
    assert hers["id"] != his["id"]
    assert bob.save("a.ipynb", notebook("bob")).status == 200
    assert bob.assert_recorded("a.ipynb")["id"] == his["id"]
    assert bob.axon("GET", f"/notebooks/{hers['id']}").status == 403


def test_two_servers_of_one_user_share_records_and_lose_no_save(
    servers: Servers, shared: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    given = {"config": shared("ada"), "root": tmp_path / "work", "data": tmp_path / "data"}
    pair = [servers("one", **given), servers("two", **given)]
    paths = [f"{number}.ipynb" for number in range(10)]

    def save(server: Server, path: str, source: str) -> int:
        # Jupyter writes through a backup file, `.~<name>`. Two servers can collide there, with or
        # without the extension; the user then saves again.
        while (answer := server.save(path, notebook(path, source))).status == 500:
            assert f".~{path}" in answer.json["message"]
        return answer.status

    def save_all(server: Server) -> list[int]:
        return [save(server, path, str(number)) for number in range(5) for path in paths]

    with ThreadPoolExecutor(2) as pool:
        statuses = [status for saved in pool.map(save_all, pair) for status in saved]
    assert set(statuses) <= {200, 201}
    for path in paths:
        assert len({server.assert_recorded(path)["id"] for server in pair}) == 1
    assert len(pair[0].records()) == len(paths)
    pair[0].rename("0.ipynb", "renamed.ipynb")
    pair[1].save("renamed.ipynb", notebook("by the other"))
    assert (
        pair[0].assert_recorded("renamed.ipynb")["id"]
        == pair[1].assert_recorded("renamed.ipynb")["id"]
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_changes_while_no_server_ran_are_recorded_at_the_start(
    servers: Servers, how: signal.Signals
) -> None:
    server = servers()
    for name in "abc":
        server.save(f"{name}.ipynb", notebook(name))
    ids = {name: server.assert_recorded(f"{name}.ipynb")["id"] for name in "abc"}
    content = server.contents("GET", "a.ipynb").json["content"]
    server.stop(how)
    content["cells"][0]["source"] = "from a shell"
    write(server.root / "a.ipynb", content)
    (server.root / "b.ipynb").rename(server.root / "moved.ipynb")
    server.start()
    listed = {record["path"]: record for record in server.records()}
    assert listed["a.ipynb"]["id"] == ids["a"]
    assert server.assert_recorded("a.ipynb")["id"] == ids["a"]
    assert server.sync("moved.ipynb")["id"] == ids["b"]
    assert server.assert_recorded("c.ipynb")["id"] == ids["c"]


def test_a_save_just_before_the_stop_is_recorded(servers: Servers) -> None:
    server = servers()
    server.save("a.ipynb", notebook("1"))
    server.stop()
    (server.root / "a.ipynb").unlink()
    server.start()
    [record] = server.records()
    assert record["cell_count"] == 1


IDENTITIES = """
from jupyter_server.auth import IdentityProvider, User

class ByHeader(IdentityProvider):
    def get_user(self, handler):
        name = handler.request.headers.get("X-User")
        return User(username=name) if name else None

    def is_token_authenticated(self, handler):
        return True

c.ServerApp.identity_provider_class = ByHeader
"""


def test_a_record_belongs_to_the_first_user_who_saved_it(servers: Servers) -> None:
    server = servers(config={"AxonNotebooks": {"identity_from_request": True}}, python=IDENTITIES)
    ada, bob = {"X-User": "ada"}, {"X-User": "bob"}
    assert server.save("a.ipynb", notebook("1"), headers=ada).status == 201
    assert server.save("b.ipynb", notebook("2"), headers=bob).status == 201
    assert server.save("a.ipynb", notebook("3"), headers=bob).status == 200
    assert [(r["path"], r["user_id"]) for r in server.got("/notebooks", headers=ada)] == [
        ("a.ipynb", "ada")
    ]
    assert [(r["path"], r["user_id"]) for r in server.got("/notebooks", headers=bob)] == [
        ("b.ipynb", "bob")
    ]
