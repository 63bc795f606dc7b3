"""Claims about ``init-db``."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url
from support.engines import eventually, new_url, postgresql
from support.factories import new_notebook
from support.tcp_proxy import TcpProxy

from jupyter_axon_notebooks.cli.passfiles import Passfiles
from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, has_tables

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
    assert "their own" in ran.stdout
    assert "everybody's records" in ran.stdout
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


def test_a_role_that_is_given_to_another_user_is_said_to_be_and_doctor_tells_the_one_who_had_it(
    axon: Axon, url: str
) -> None:
    as_role = str(make_url(url).set(username="shared_out").render_as_string())
    axon("init-db", "--store-url", url, "--user", f"{USER}=shared_out")
    assert axon("doctor", "--store-url", as_role).exit_code == 0
    moved = axon("init-db", "--store-url", url, "--user", "mallory=shared_out")
    assert (
        f"The role shared_out belonged to the user {USER} and belongs to mallory now"
        in moved.stderr
    )
    told = axon("doctor", "--json", "--store-url", as_role)
    [problem] = told.json["problems"]
    assert problem["code"] == "another-users-role"
    assert f"belongs to the user mallory, and this server's user is {USER}" in problem["message"]
    with closing(postgresql().connect(str(make_url(url).database))) as connection:
        connection.execute("DELETE FROM axon_roles")
    told = axon("doctor", "--json", "--store-url", as_role)
    assert [problem["code"] for problem in told.json["problems"]] == ["role-of-nobody"]


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
    assert "ida was created without a password" in first.stderr
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
def wire(url: str) -> Iterator[TcpProxy]:
    """The way to the database of a role that is gone once the answer to its COMMIT is lost."""
    server = postgresql()
    database = make_url(url).database
    deployer = f"deployer_{database}"

    def rename() -> None:
        with closing(server.connect()) as owner:
            owner.execute(f"ALTER ROLE {deployer} RENAME TO gone_{database}")

    with closing(server.connect()) as owner:
        owner.execute(f"CREATE ROLE {deployer} LOGIN SUPERUSER")
    wire = TcpProxy(f"{url.split('host=')[1]}/.s.PGSQL.5432", delivered=True, at_cut=rename)
    yield wire
    wire.close()


def test_passfiles_stay_where_nobody_knows_whether_the_database_has_the_passwords(
    axon: Axon, url: str, wire: TcpProxy, tmp_path: Path
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


def test_in_another_folder_no_password_changes_and_the_file_that_was_looked_for_is_named(
    axon: Axon, url: str, needs_password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = needs_password
    given = ("init-db", "--store-url", url, "--user", f"{USER}={role}", "--passfiles", "passfiles")
    axon(*given)
    own = as_role(url, role, Path("passfiles", f"{role}.pgpass").absolute())
    assert axon("list", "--store-url", own).exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = axon(*given)
    assert again.exit_code == 0
    looked_for = tmp_path / "elsewhere" / "passfiles" / f"{role}.pgpass"
    assert f"{role} existed and keeps its password, but its passfile {looked_for} is missing" in (
        again.stderr
    )
    assert f"--rotate {role}" in again.stderr
    assert list(looked_for.parent.iterdir()) == []
    assert axon("list", "--store-url", own).exit_code == 0


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("*:*:*:*:outdated\n", "has a password that the database does not accept"),
        ("db.example:*:other:*:x\n", "has no line for"),
        ("", "has no line for"),
    ],
)
def test_a_passfile_that_no_longer_lets_in_is_said_to_be_useless_and_left(
    axon: Axon, url: str, needs_password: str, tmp_path: Path, text: str, said: str
) -> None:
    role, folder = needs_password, tmp_path / "passfiles"
    given = ("init-db", "--store-url", url, "--user", role, "--passfiles", folder)
    axon(*given)
    file = folder / f"{role}.pgpass"
    file.write_text(text)
    ran = axon(*given)
    assert ran.exit_code == 1
    assert f"The passfile {file} {said}" in ran.stderr
    assert file.read_text() == text
    assert axon(*given, "--rotate", role).exit_code == 0
    assert axon(*given).stderr == ""


def test_of_two_rotations_at_once_the_passfile_has_the_password_that_was_set_last(
    axon: Axon, process: Axon, url: str, needs_password: str, tmp_path: Path
) -> None:
    role, folder = needs_password, tmp_path / "passfiles"
    given = ("init-db", "--store-url", url, "--passfiles", folder)
    axon(*given, "--user", role)
    first = Passfiles(folder, url, [role])
    with ThreadPoolExecutor(1) as pool:
        with closing(Store(url)) as store, first.locked():
            store.separate_users([], first)
            second = pool.submit(process, *given, "--rotate", role)
            eventually(lambda: second.done() or is_waited_for(folder), within=60)
            first.publish()
        assert second.result().exit_code == 0
    assert axon(*given, "--user", role).stderr == ""


def is_waited_for(folder: Path) -> bool:
    """Return whether a process waits for the lock of this folder."""
    waiting = [
        line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line
    ]
    return any(fields[6].endswith(f":{folder.stat().st_ino}") for fields in waiting)


def test_a_role_of_another_database_keeps_its_password(
    axon: Axon, url: str, needs_password: str, tmp_path: Path
) -> None:
    role, folder = needs_password, tmp_path / "passfiles"
    axon("init-db", "--store-url", url, "--user", role, "--passfiles", folder)
    other = new_url("postgresql", tmp_path)
    ran = axon("init-db", "--store-url", other, "--user", role, "--passfiles", tmp_path / "others")
    assert "keeps its password" in ran.stderr
    file = folder / f"{role}.pgpass"
    assert axon("list", "--all-users", "--store-url", as_role(url, role, file)).exit_code == 0


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
            "is dropped",
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


@pytest.mark.parametrize(
    ("tied", "why"),
    [
        ("CREATE SCHEMA AUTHORIZATION {role}", "it owns 1 object"),
        ("GRANT CONNECT ON DATABASE {other} TO {role}", "it has rights in other databases: axon_"),
        ("GRANT CONNECT ON DATABASE {own} TO {role}; GRANT SELECT ON axonml_runs TO {role}", None),
        (
            "CREATE ROLE group_{role}; GRANT group_{role} TO {role}",
            "it is a member of other roles: group_",
        ),
    ],
)
def test_a_role_that_is_used_for_something_else_is_kept_without_its_rights(
    axon: Axon, url: str, name: str, tmp_path: Path, tied: str, why: str | None
) -> None:
    axon("init-db", "--store-url", url, "--user", f"{USER}={name}")
    own, other = make_url(url).database, make_url(new_url("postgresql", tmp_path)).database
    with closing(postgresql().connect(str(own))) as owner:
        owner.execute(tied.format(role=name, own=own, other=other))
        axon("init-db", "--store-url", url, "--remove", name, "--yes")
        [shown] = axon("init-db", "--store-url", url, "--user", f"{USER}={name}", "--json").json
        assert shown["made"] is (why is None)
        [removed] = axon("init-db", "--store-url", url, "--remove", name, "--yes", "--json").json
        if why is not None:
            assert why in removed["kept_because"]
            ran = axon("list", "--store-url", make_url(url).set(username=name).render_as_string())
            assert ran.exit_code == 4
            assert "lacks rights" in ran.stderr
        assert owner.execute("SELECT count(*) FROM axon_roles").fetchone() == (0,)


def test_a_mapping_of_a_role_that_was_dropped_is_told_and_can_be_removed(
    axon: Axon, url: str, name: str
) -> None:
    axon("init-db", "--store-url", url, "--user", name)
    with closing(postgresql().connect()) as owner:
        owner.execute(f"DROP ROLE {name}")
    assert (
        f"The role {name} is no longer in the database"
        in axon("init-db", "--store-url", url).stderr
    )
    assert axon("init-db", "--store-url", url, "--remove", name, "--yes").exit_code == 0
    assert axon("init-db", "--store-url", url, "--json").json == []


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


def test_to_remove_somebody_makes_no_store(axon: Axon, url: str) -> None:
    assert axon("init-db", "--store-url", url, "--remove", "eve").exit_code == 3
    assert not has_tables(url)


def test_an_owner_needs_neither_to_be_a_superuser_nor_to_make_databases(
    axon: Axon, url: str, name: str, tmp_path: Path
) -> None:
    database = f"of_{name}"
    with closing(postgresql().connect()) as superuser:
        superuser.execute(f"CREATE ROLE {name}_owner LOGIN CREATEROLE")
        superuser.execute(
            f"CREATE DATABASE {database} OWNER {name}_owner ENCODING 'UTF8' TEMPLATE template0"
        )
    as_owner = make_url(url).set(username=f"{name}_owner", database=database).render_as_string()
    given = ("--store-url", as_owner, "--passfiles", tmp_path / "passfiles")
    assert axon("init-db", *given, "--user", name).exit_code == 0
    assert axon("init-db", *given, "--rotate").exit_code == 0
    assert axon("init-db", *given, "--remove", name, "--yes").exit_code == 0
    assert axon("init-db", "--store-url", as_owner, "--json").json == []
