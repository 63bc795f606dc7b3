"""The commands on a PostgreSQL database: the same answers as on a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import new_url

from jupyter_axon_notebooks.records import NewNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import has_tables, open_store

from .conftest import USER, Axon


@pytest.fixture
def url(tmp_path: Path) -> str:
    return new_url("postgresql", tmp_path)


def test_records_are_listed_and_shown(axon: Axon, url: str) -> None:
    store = open_store(url)
    id = NotebookRepository(store).create(NewNotebook(user_id=USER, name="train")).id
    store.close()
    assert [record["id"] for record in axon("list", "--json", "--store-url", url).json] == [id]
    assert axon("show", id, "--json", "--store-url", url).json["name"] == "train"


@pytest.mark.parametrize("command", [("list",), ("show", "abc"), ("export", "abc")])
def test_a_store_that_is_not_there_is_said_so_and_not_made(axon: Axon, url: str, command: tuple[str]) -> None:
    ran = axon(*command, "--store-url", url)
    assert (ran.exit_code, ran.stdout) == (3, "")
    assert f"there is no store at {url} yet" in ran.stderr
    assert not has_tables(url)


def test_a_password_in_the_url_is_refused_and_not_shown(axon: Axon) -> None:
    ran = axon("list", "--store-url", "postgresql+psycopg://ada:geheim@localhost/db")
    assert ran.exit_code != 0
    assert "has a password in it" in ran.stderr
    assert "geheim" not in ran.stderr + ran.stdout


def test_doctor_gets_by(axon: Axon, url: str) -> None:
    ran = axon("doctor", "--json", "--store-url", url)
    assert ran.exit_code == 0
    assert url in ran.stdout
