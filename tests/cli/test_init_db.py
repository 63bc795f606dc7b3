"""Claims about ``init-db``."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import new_url
from sqlalchemy import make_url

from jupyter_axon_notebooks.records import NewNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

from .conftest import Axon


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of an empty PostgreSQL database, as its owner."""
    return new_url("postgresql", tmp_path)


def test_it_makes_the_tables_the_roles_and_their_passfiles(axon: Axon, url: str, tmp_path: Path) -> None:
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
    NotebookRepository(store).create(NewNotebook(user_id="eve@example.org", name="train"))
    store.close()
    listed = axon("list", "--store-url", as_eve, "--all-users", "--json")
    assert [record["user_id"] for record in listed.json] == ["eve@example.org"]


def test_run_again_it_adds_users_and_leaves_what_the_others_have(
    axon: Axon, url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "passfiles"
    axon("init-db", "--store-url", url, "--user", "eve", "--passfiles", folder)
    before = (folder / "eve.pgpass").read_text()
    again = axon(
        "init-db", "--store-url", url, "--user", "eve", "--user", "grace", "--passfiles", folder, "--json"
    )
    assert again.exit_code == 0, again.stderr
    assert [(found["role"], found["user_id"], found["admin"]) for found in again.json] == [
        ("eve", "eve", False),
        ("grace", "grace", False),
    ]
    assert (folder / "eve.pgpass").read_text() == before
    assert (folder / "grace.pgpass").exists()


def test_what_it_refuses_changes_nothing(axon: Axon, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "passfiles"
    refused = axon(
        "init-db", "--store-url", url, "--user", "hugo", "--user", "x=postgres", "--passfiles", folder
    )
    assert refused.exit_code == 1
    assert "role 'postgres': is a superuser" in refused.stderr
    assert list(folder.iterdir()) == []
    assert axon("init-db", "--store-url", url, "--json").json == []


def test_users_of_a_file_are_not_kept_apart(axon: Axon) -> None:
    refused = axon("init-db", "--user", "eve")
    assert refused.exit_code == 4
    assert "init-db is for PostgreSQL" in refused.stderr


def test_a_user_without_a_name_is_a_usage_error(axon: Axon, url: str) -> None:
    refused = axon("init-db", "--store-url", url, "--user", "=role")
    assert refused.exit_code == 2
    assert "expected NAME or NAME=ROLE" in refused.stderr


def test_a_role_of_the_database_that_is_there_already_is_told_apart_from_one_that_was_made(
    axon: Axon, url: str
) -> None:
    first = axon("init-db", "--store-url", url, "--user", "ida", "--json")
    assert "ida was made without a password" in first.stderr
    again = axon("init-db", "--store-url", url, "--user", "ida", "--json")
    assert [found["made"] for found in again.json] == [False]
    assert again.stderr == ""
