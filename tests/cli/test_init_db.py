"""Claims about ``init-db``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url
from support.engines import new_url, postgresql
from support.factories import new_notebook

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

from .conftest import USER, Axon


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of an empty PostgreSQL database, as its owner."""
    return new_url("postgresql", tmp_path)


def test_it_makes_the_tables_the_roles_and_their_passfiles(
    axon: Axon, url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "passfiles"
    ran = axon(
        "init-db",
        "--store-url",
        url,
        "--user",
        "eve@example.org=eve",
        "--admin",
        "frank",
        "--passfiles",
        folder,
    )
    assert ran.exit_code == 0, ran.stderr
    assert [line.split()[:2] for line in ran.stdout.splitlines()[2:]] == [
        ["eve", "eve@example.org"],
        ["frank", "frank"],
    ]
    for role in ("eve", "frank"):
        file = folder / f"{role}.pgpass"
        assert f"Wrote {file}" in ran.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        *_, password = file.read_text().rstrip("\n").split(":")
        assert password
        assert password not in ran.stdout + ran.stderr
    as_eve = str(make_url(url).set(username="eve").render_as_string())
    store = Store(as_eve)
    NotebookRepository(store).create(new_notebook(user_id="eve@example.org", name="train"))
    store.close()
    listed = axon("list", "--store-url", as_eve, "--all-users", "--json")
    assert [record["user_id"] for record in listed.json] == ["eve@example.org"]


def test_run_again_it_adds_users_and_leaves_what_the_others_have(
    axon: Axon, url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "passfiles"
    database = make_url(url).database
    old, new = f"old_{database}", f"new_{database}"
    axon("init-db", "--store-url", url, "--user", old, "--passfiles", folder)
    before = (folder / f"{old}.pgpass").read_text()
    again = axon(
        "init-db", "--store-url", url, "--user", old, "--user", new, "--passfiles", folder, "--json"
    )
    assert again.exit_code == 0, again.stderr
    assert [(found["role"], found["user_id"], found["admin"]) for found in again.json] == [
        (new, new, False),
        (old, old, False),
    ]
    assert (folder / f"{old}.pgpass").read_text() == before
    assert (folder / f"{new}.pgpass").exists()


def test_what_it_refuses_changes_nothing(axon: Axon, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "passfiles"
    refused = axon(
        "init-db",
        "--store-url",
        url,
        "--user",
        "hugo",
        "--user",
        "x=postgres",
        "--passfiles",
        folder,
    )
    assert refused.exit_code == 1
    assert "role 'postgres': is a superuser" in refused.stderr
    assert list(folder.iterdir()) == []
    assert axon("init-db", "--store-url", url, "--json").json == []


@pytest.fixture
def name(url: str) -> str:
    """The name of a user, and of a role, that no other test has: roles belong to the server."""
    return f"u_{make_url(url).database}"


@pytest.fixture
def needs_password(name: str) -> str:
    """The same, and the database lets the role in with its password only."""
    hba = postgresql().folder / "data/pg_hba.conf"
    hba.write_text(f"local all {name} scram-sha-256\n" + hba.read_text())
    with closing(postgresql().connect()) as owner:
        owner.execute("SELECT pg_reload_conf()")
    return name


def as_role(url: str, role: str, passfile: Path) -> str:
    own = make_url(url).set(username=role).update_query_dict({"passfile": str(passfile)})
    return own.render_as_string()


@pytest.mark.parametrize("asked", ["user", "role", "all"])
def test_a_password_is_changed_when_that_is_asked_for(
    axon: Axon, url: str, needs_password: str, tmp_path: Path, asked: str
) -> None:
    role, folder = needs_password, tmp_path / "passfiles"
    axon("init-db", "--store-url", url, "--user", f"{USER}={role}", "--passfiles", folder)
    file = folder / f"{role}.pgpass"
    other_line = "elsewhere:*:axon:me:secret"
    file.write_text(file.read_text() + other_line + "\n")
    before = file.read_text()
    names = {"user": [USER], "role": [role], "all": []}[asked]
    ran = axon("init-db", "--store-url", url, "--passfiles", folder, "--json", "--rotate", *names)
    assert ran.exit_code == 0, ran.stderr
    assert [found["passfile"] for found in ran.json] == [str(file)]
    assert f"The former password of {role} is no longer accepted" in ran.stderr
    assert file.read_text() != before
    assert other_line in file.read_text().splitlines()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in folder.iterdir()] == [file.name]
    assert axon("list", "--store-url", as_role(url, role, file)).exit_code == 0
    file.write_text(before)
    assert axon("list", "--store-url", as_role(url, role, file)).exit_code == 4


def test_a_password_that_nobody_would_know_or_of_nobody_is_not_made(
    axon: Axon, url: str, name: str, tmp_path: Path
) -> None:
    assert axon("init-db", "--store-url", url, "--rotate", name).exit_code == 2
    folder = tmp_path / "passfiles"
    ran = axon(
        "init-db",
        "--store-url",
        url,
        "--user",
        name,
        "--rotate",
        "nobody",
        "--passfiles",
        folder,
        "--json",
    )
    assert ran.exit_code == 3
    assert "--rotate nobody: there is no role for this user; nothing was changed" in ran.stderr
    assert list(folder.iterdir()) == []
    assert axon("init-db", "--store-url", url, "--json").json == []


def test_a_removal_is_shown_first_and_then_takes_all_but_the_records(
    axon: Axon, url: str, needs_password: str, tmp_path: Path
) -> None:
    role, folder = needs_password, tmp_path / "passfiles"
    axon("init-db", "--store-url", url, "--user", f"{USER}={role}", "--passfiles", folder)
    file = folder / f"{role}.pgpass"
    own = as_role(url, role, file)
    with closing(Store(own)) as store:
        made = NotebookRepository(store).create(new_notebook(name="train"))
        shown = axon("init-db", "--store-url", url, "--remove", USER, "--passfiles", folder)
        assert shown.exit_code == 0
        for said in (
            f"1 record of {USER} remain",
            "would be disconnected",
            "Add --yes to remove them",
            str(file),
        ):
            assert said in shown.stdout + shown.stderr
        assert [found.id for found in NotebookRepository(store).list_all()] == [made.id]
        ran = axon(
            "init-db",
            "--store-url",
            url,
            "--remove",
            USER,
            "--passfiles",
            folder,
            "--yes",
            "--json",
        )
        assert ran.exit_code == 0, ran.stderr
        [removed] = ran.json
        assert (removed["role"], removed["dropped"], removed["records"], removed["sessions"]) == (
            role,
            True,
            1,
            0,
        )
        assert not file.exists()
        with pytest.raises(StoreError):
            NotebookRepository(store).list_all()
    assert axon("list", "--store-url", own).exit_code == 4
    again = axon("init-db", "--store-url", url, "--remove", USER, "--yes")
    assert (again.exit_code, again.stdout) == (0, "")
    assert f"There is no role for a user {USER}" in again.stderr
    axon("init-db", "--store-url", url, "--user", f"{USER}={role}", "--passfiles", folder)
    assert [found["id"] for found in axon("list", "--json", "--store-url", own).json] == [made.id]


def test_only_the_owner_removes_users_and_nothing_else_at_the_same_time(
    axon: Axon, url: str, name: str
) -> None:
    axon("init-db", "--store-url", url, "--user", name)
    own = make_url(url).set(username=name).render_as_string()
    refused = axon("init-db", "--store-url", own, "--remove", name, "--yes")
    assert refused.exit_code == 4
    assert f"the role {name} may not remove users" in refused.stderr
    for wrong in (("--user", "x"), ("--rotate", name, "--passfiles", "p")):
        assert axon("init-db", "--store-url", url, "--remove", name, *wrong).exit_code == 2
    assert axon("init-db", "--store-url", url, "--yes").exit_code == 2
