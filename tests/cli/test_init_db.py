"""Claims about ``init-db``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from engines import new_url, postgresql
from sqlalchemy import make_url
from wire import Wire

from jupyter_axon_notebooks.records import NewNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store

from .conftest import USER, Axon


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
    database = make_url(url).database
    old, new = f"old_{database}", f"new_{database}"
    axon("init-db", "--store-url", url, "--user", old, "--passfiles", folder)
    before = (folder / f"{old}.pgpass").read_text()
    again = axon("init-db", "--store-url", url, "--user", old, "--user", new, "--passfiles", folder, "--json")
    assert again.exit_code == 0, again.stderr
    assert [(found["role"], found["user_id"], found["admin"]) for found in again.json] == [
        (new, new, False),
        (old, old, False),
    ]
    assert (folder / f"{old}.pgpass").read_text() == before
    assert (folder / f"{new}.pgpass").exists()


def test_a_role_that_is_given_to_another_user_is_said_to_be_and_doctor_tells_the_one_who_had_it(
    axon: Axon, url: str
) -> None:
    as_role = str(make_url(url).set(username="shared_out").render_as_string())
    axon("init-db", "--store-url", url, "--user", f"{USER}=shared_out")
    assert axon("doctor", "--store-url", as_role).exit_code == 0
    moved = axon("init-db", "--store-url", url, "--user", "mallory=shared_out")
    assert f"The role shared_out stood for the user {USER} and stands for mallory now" in moved.stderr
    told = axon("doctor", "--json", "--store-url", as_role)
    [problem] = told.json["problems"]
    assert problem["code"] == "another-users-role"
    assert f"stands for the user mallory, and this server's user is {USER}" in problem["what"]
    with closing(postgresql().connect(str(make_url(url).database))) as connection:
        connection.execute("DELETE FROM axon_roles")
    told = axon("doctor", "--json", "--store-url", as_role)
    assert [problem["code"] for problem in told.json["problems"]] == ["role-of-nobody"]


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


@pytest.mark.parametrize(
    "given",
    [
        ("--user", "gus", "--user", "heidi=gus"),
        ("--user", "gus", "--admin", "gus"),
        ("--admin", "admin=gus", "--user", "gus"),
    ],
)
def test_a_role_of_two_users_is_a_usage_error(axon: Axon, url: str, given: tuple[str, ...]) -> None:
    refused = axon("init-db", "--store-url", url, *given)
    assert refused.exit_code == 2
    assert "gus is given more than once" in " ".join(refused.stderr.split())
    assert axon("init-db", "--store-url", url, "--json").json == []


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    """The way to the database of a role that is gone once the answer to its COMMIT is lost."""
    server = postgresql()
    database = make_url(url).database
    deployer = f"deployer_{database}"

    def rename() -> None:
        with closing(server.connect()) as owner:
            owner.execute(f"ALTER ROLE {deployer} RENAME TO gone_{database}")

    with closing(server.connect()) as owner:
        owner.execute(f"CREATE ROLE {deployer} LOGIN SUPERUSER")
    wire = Wire(f"{url.split('host=')[1]}/.s.PGSQL.5432", delivered=True, at_cut=rename)
    yield wire
    wire.close()


def test_passfiles_stay_where_nobody_knows_whether_the_database_has_the_passwords(
    axon: Axon, url: str, wire: Wire, tmp_path: Path
) -> None:
    database = make_url(url).database
    through = f"postgresql+psycopg://deployer_{database}@127.0.0.1:{wire.port}/{database}"
    axon("init-db", "--store-url", url)
    wire.armed = True
    ran = axon("init-db", "--store-url", through, "--user", "olga", "--passfiles", tmp_path)
    assert ran.exit_code == 4
    said = " ".join(ran.stderr.split())
    assert "whether the last change was stored could not be found out" in said
    file = tmp_path / "olga.pgpass"
    assert f"{file} was kept" in said
    with closing(postgresql().connect()) as owner:
        kept = owner.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'olga'").fetchone()
        assert kept is not None
        assert kept[0].startswith("SCRAM-SHA-256$")
