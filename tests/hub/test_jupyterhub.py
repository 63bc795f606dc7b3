"""Tests of docs/how-to/jupyterhub.md on a real JupyterHub."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from support.engines import NOT_DURABLE, PostgresqlServer, eventually

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"
PROGRAMS = Path(sys.executable).parent
#: A user name that is a valid role name, and one that is not.
USERS = ("ada", "Zoë=o'Hara@example.org")
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


class Hub(NamedTuple):
    """A running JupyterHub."""

    url: str
    folder: Path
    owner_url: str
    environment: dict[str, str]

    def ask(self, verb: str, path: str, content: Any = None) -> tuple[int, Any]:
        return ask(verb, f"{self.url}/hub/api{path}", content)

    def spawn(self, user: str) -> None:
        self.ask("POST", f"/users/{quote(user)}/server")
        eventually(lambda: self._servers(user).get("", {}).get("ready", False), within=60)

    def stop(self, user: str) -> None:
        self.ask("DELETE", f"/users/{quote(user)}/server")
        eventually(lambda: not self._servers(user), within=60)

    def _servers(self, user: str) -> dict[str, Any]:
        servers: dict[str, Any] = self.ask("GET", f"/users/{quote(user)}")[1]["servers"]
        return servers

    def server(self, user: str, verb: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Send a request to the user's server."""
        _, routes = self.ask("GET", "/proxy")
        [target] = {
            route["target"] for route in routes.values() if route["data"].get("user") == user
        }
        return ask(verb, f"{target}/user/{quote(user, safe='@')}{path}", content)

    def shell(self, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `jupyter axon` in a shell of the user that no server opened."""
        home = str(self.folder / "homes" / user)
        return axon(*arguments, HOME=home, LOGNAME="of the system")

    def init_db(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `jupyter axon init-db` as the administrator."""
        folder = self.environment["AXON_PASSFILES"]
        arguments = ("init-db", "--store-url", self.owner_url, "--passfiles", folder, *options)
        return axon(*arguments, PGPASSFILE=self.environment["PGPASSFILE"], HOME=str(self.folder))


def ask(verb: str, url: str, content: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        url,
        method=verb,
        headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"},
        data=None if content is None else json.dumps(content).encode(),
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            body, status = answer.read(), answer.status
    except urllib.error.HTTPError as error:
        with error:
            body, status = error.read(), error.code
    return status, json.loads(body) if body else None


def axon(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAMS / "jupyter-axon", *arguments],
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresqlServer]:
    """Return a new PostgreSQL server that accepts the roles of the guide only with passwords."""
    server = PostgresqlServer(**NOT_DURABLE)
    hba = server.folder / "data/pg_hba.conf"
    hba.write_text("local axon axon_owner,+axon_users_axon scram-sha-256\n" + hba.read_text())
    with closing(server.connect()) as superuser:
        superuser.execute("SELECT pg_reload_conf()")
    yield server
    server.close()


@pytest.fixture(scope="module")
def owner_url(database: PostgresqlServer) -> str:
    """Create the database with the commands of the guide, and return its URL as the owner."""
    page = (ROOT / "docs/how-to/jupyterhub.md").read_text(encoding="utf-8")
    commands = re.findall(r"^sudo -u postgres (.*)$", page, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["createuser", "createdb"]
    url = database.url("axon", user="axon_owner")
    environment = {
        "PATH": f"{database.programs}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": url.split("host=")[1],
        "PGUSER": "postgres",
    }
    for command in commands:  # without a terminal, what createuser asks for is read from its input
        subprocess.run(
            command.split(),
            env=environment,
            input="secret\n" * 2,
            text=True,
            check=True,
            start_new_session=True,
        )
    return url


@pytest.fixture(scope="module")
def hub(owner_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Start a hub with the configuration of the guide."""
    folder = tmp_path_factory.mktemp("hub")
    passfile = folder / "owner.pgpass"
    passfile.touch(0o600)
    passfile.write_text("*:*:axon:axon_owner:secret\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "RECIPE": str(ROOT / "examples" / "jupyterhub_config.py"),
        "HUB_URL": url,
        "HUB_TOKEN": TOKEN,
        "PGPASSFILE": str(passfile),
        "AXON_OWNER_URL": owner_url,
        "AXON_PASSFILES": str(folder / "passfiles"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterhub",
                "-f",
                Path(__file__).with_name("jupyterhub_config.py"),
            ],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    hub = Hub(url, folder, owner_url, environment)
    try:
        eventually(lambda: process.poll() is not None or _answers(hub), within=60)
        assert process.poll() is None, (folder / "log").read_text()
        yield hub
    finally:
        process.terminate()
        process.wait(60)


def _answers(hub: Hub) -> bool:
    try:
        return hub.ask("GET", "/")[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def spawned(hub: Hub) -> Hub:
    """Return the hub with a running server for each user, in which a notebook was saved."""
    for user in USERS:
        assert hub.ask("POST", f"/users/{quote(user)}")[0] == 201
        hub.spawn(user)
        saved = {"type": "notebook", "content": NOTEBOOK}
        assert hub.server(user, "PUT", "/api/contents/train.ipynb", saved)[0] == 201
    return hub


def records(of: Callable[[], tuple[int, Any]]) -> list[str]:
    status, found = of()
    assert status == 200, found
    return [record["user_id"] for record in found]


def test_each_user_has_a_role_and_sees_their_own_records_only(spawned: Hub) -> None:
    for user in USERS:
        assert records(lambda user=user: spawned.server(user, "GET", "/axon/notebooks")) == [user]
    roles = {
        found["user_id"]: found["role"] for found in json.loads(spawned.init_db("--json").stdout)
    }
    assert roles["ada"] == "hub_ada"
    assert roles[USERS[1]].startswith("hubuser_")
    folder = Path(spawned.environment["AXON_PASSFILES"])
    assert folder.stat().st_mode & 0o777 == 0o711
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == {
        f"{role}.pgpass": 0o600 for role in roles.values()
    }


def test_each_user_sees_their_own_runs_only(spawned: Hub) -> None:
    ids = {}
    for user in USERS:
        [notebook] = spawned.server(user, "GET", "/axon/notebooks")[1]
        ids[user] = f"run-{USERS.index(user)}"
        made = {"epoch": 0, "step": 0, "run_id": ids[user], "metrics": {f"of {user}": 1.0}}
        path = f"/axon/notebooks/{notebook['id']}/checkpoints"
        assert spawned.server(user, "POST", path, made)[0] == 201
    for user in USERS:
        status, found = spawned.server(user, "GET", "/axon/runs")
        assert (status, [one["run"]["id"] for one in found]) == (200, [ids[user]])
        columns = spawned.server(user, "GET", "/axon/runs/columns")[1]
        assert columns == {"config": [], "metrics": [f"of {user}"]}
        for other in set(USERS) - {user}:
            path = f"/axon/runs/{ids[other]}"
            for verb, suffix, body in (
                ("GET", "", None),
                ("GET", "/series", None),
                ("PUT", "", {"name": "mine"}),
                ("DELETE", "", None),
            ):
                assert spawned.server(user, verb, path + suffix, body)[0] == 404
            compare = f"/axon/runs/compare?ids={ids[user]},{ids[other]}"
            assert spawned.server(user, "GET", compare)[0] == 404


def test_commands_in_a_shell_use_the_store_of_the_server(spawned: Hub) -> None:
    for user in USERS:
        ran = spawned.shell(user, "list", "--all-users", "--json")
        assert (ran.returncode, [found["user_id"] for found in json.loads(ran.stdout)]) == (
            0,
            [user],
        ), ran.stderr
        assert spawned.shell(user, "list").stdout.count("train") == 2  # its name, and its path
    refused = axon("list", HOME=str(spawned.folder / "homes" / "ada"), AXON_USER=USERS[1])
    assert refused.returncode == 4
    assert f"stands for the user ada there, but the user here is {USERS[1]}" in refused.stderr


def test_a_respawned_server_keeps_its_records_and_password(
    spawned: Hub,
) -> None:
    passfile = Path(spawned.environment["AXON_PASSFILES"], "hub_ada.pgpass")
    before = passfile.read_bytes()
    spawned.stop("ada")
    spawned.spawn("ada")
    assert passfile.read_bytes() == before
    assert records(lambda: spawned.server("ada", "GET", "/axon/notebooks")) == ["ada"]


def test_a_removed_user_loses_access_and_a_respawned_one_gets_the_records_back(
    spawned: Hub,
) -> None:
    ran = spawned.init_db("--remove", "ada", "--yes")
    assert ran.returncode == 0, ran.stderr
    assert "1 record of ada" in ran.stderr
    assert spawned.server("ada", "GET", "/axon/notebooks")[0] == 503
    assert spawned.shell("ada", "list").returncode == 4
    spawned.stop("ada")
    spawned.spawn("ada")
    assert records(lambda: spawned.server("ada", "GET", "/axon/notebooks")) == ["ada"]
