"""The commands on a PostgreSQL database: the same answers as on a file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url
from support.engines import new_url, postgresql
from support.factories import new_notebook

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.store.postgresql.roles import Role

from .conftest import CORPUS, USER, Axon


@pytest.fixture
def url(tmp_path: Path) -> str:
    return new_url("postgresql", tmp_path)


def test_a_store_is_dumped_loaded_and_verified(axon: Axon, url: str, tmp_path: Path) -> None:
    with closing(open_store(url)) as store:
        repository = NotebookRepository(store)
        ids = [repository.create(new_notebook(name=name)).id for name in "ab"]
    dumped = axon("dump", "all.zip", "--json", "--store-url", url).json
    some = axon("dump", "some.zip", "--json", "--notebook", ids[0][:9], "--store-url", url).json
    assert (dumped["tables"]["axonml_notebooks"]["count"], some["notebooks"]) == (2, ids[:1])
    other = new_url("postgresql", tmp_path)
    for added, unchanged in ((2, 0), (0, 2)):
        loaded = axon("load", "all.zip", "--json", "--store-url", other).json
        notebooks = loaded["tables"]["axonml_notebooks"]
        assert (notebooks["added"], notebooks["unchanged"]) == (added, unchanged)
    shown = [axon("show", ids[0], "--json", "--store-url", where).json for where in (url, other)]
    assert shown[0] == shown[1]


def test_a_user_is_told_which_records_of_a_dump_are_of_others(
    axon: Axon, records: NotebookRepository
) -> None:
    mine, of_bob = (
        records.create(new_notebook(user_id=user, name="n")).id for user in (USER, "bob")
    )
    axon("dump", "all.zip")
    server = postgresql()
    database = server.new_database()
    with closing(open_store(server.url(database))) as store:
        store.separate_users([Role("loads_from_a_shell", USER)])
    url = server.url(database, user="loads_from_a_shell")
    ran = axon("load", "all.zip", "--store-url", url)
    assert ran.exit_code == 1
    problem, advice = ran.stderr.splitlines()
    assert advice.startswith("Records of other users were not loaded. Log in as an administrator")
    assert problem.startswith(f"axonml_notebooks {of_bob}: ")
    [told] = axon("load", "all.zip", "--json", "--store-url", url).json["foreign"]
    assert told["id"] == of_bob
    assert [record["id"] for record in axon("list", "--json", "--store-url", url).json] == [mine]


@pytest.fixture
def as_bob(url: str) -> str:
    """The URL of a role that stands for bob, in a store that has a record of bob's."""
    role = f"bobs_{make_url(url).database}"
    with closing(open_store(url)) as store:
        store.separate_users([Role(role, "bob")])
        NotebookRepository(store).create(new_notebook(id="of-bob", user_id="bob", name="his"))
    return make_url(url).set(username=role).render_as_string()


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("list", "--user", "carol"),
        ("show", "of-bob"),
        ("dump", "all.zip"),
        ("prune", "--all", "--keep-newest", "1"),
        ("recover",),
        ("import", str(CORPUS / "nbformat" / "test2.ipynb")),
    ],
)
def test_a_role_of_another_user_is_refused_by_both_names(
    axon: Axon, as_bob: str, command: tuple[str, ...]
) -> None:
    ran = axon(*command, "--store-url", as_bob)
    assert (ran.exit_code, ran.stdout) == (4, "")
    acting = command[2] if "--user" in command else USER
    assert f"stands for the user bob there, but the user here is {acting}" in ran.stderr


def test_who_acts_as_the_user_of_the_role_or_asks_for_what_it_is_shown_is_let_in(
    axon: Axon, as_bob: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for asked in (("--all-users",), ("--user", "bob")):
        listed = axon("list", *asked, "--json", "--store-url", as_bob).json
        assert [record["id"] for record in listed] == ["of-bob"]
    assert (
        axon("list", "--json", "--store-url", url).json == []
    )  # as the owner, who is shown everybody's
    monkeypatch.setenv("AXON_USER", "bob")
    assert axon("show", "of-bob", "--store-url", as_bob).exit_code == 0


def test_doctor_names_a_passfile_that_is_ignored(axon: Axon, url: str, tmp_path: Path) -> None:
    passfile = tmp_path / "passfile"
    passfile.touch(0o644)
    own = make_url(url).update_query_dict({"passfile": str(passfile)}).render_as_string()
    [problem] = axon("doctor", "--json", "--store-url", own).json["problems"]
    assert problem["code"] == "passfile-ignored"
    assert "other users may read or write it (mode 0644)" in problem["message"]
    assert problem["advice"] == f"run `chmod 600 {passfile}`"
    passfile.chmod(0o600)
    assert axon("doctor", "--json", "--store-url", own).json["problems"] == []
