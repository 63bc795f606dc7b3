"""Which store a command works on, and what happens when it cannot."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from support.factories import new_notebook

from jupyter_axon_notebooks.repository import NotebookRepository

from .conftest import CORPUS, Axon, tree


def listed(axon: Axon, *options: str) -> str:
    return axon("list", "--json", *options).json[0]["name"]


def test_the_configured_user_is_whose_records_are_listed(
    axon: Axon, jupyter: Path, records: NotebookRepository
) -> None:
    records.create(new_notebook(user_id="grace", name="hers"))
    (jupyter / "config" / "jupyter_server_config.py").write_text(
        "c.AxonNotebooks.user_id = 'grace'\n"
    )
    assert listed(axon) == "hers"


@pytest.mark.parametrize(
    "line",
    [
        "c.AxonNotebooks.store_url = 3",
        "c.AxonNotebooks.states_root = 'x'",
        "c.AxonNotebooks.extra_states_roots = ['/x', '']",
        "1/0",
        "((",
    ],
)
def test_a_wrong_configuration_is_a_message(axon: Axon, jupyter: Path, line: str) -> None:
    (jupyter / "config" / "jupyter_server_config.py").write_text(line + "\n")
    ran = axon("list")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "onfiguration" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "mysql://ada:hunter2@db/axon",
        "postgresql+nonsense://db/axon?password=hunter2",
        "nonsense",
    ],
)
def test_a_store_that_cannot_be_used_is_a_message_without_its_password(
    axon: Axon, url: str
) -> None:
    for command in (["list"], ["import", "a.ipynb"]):
        ran = axon(*command, "--store-url", url)
        assert ran.exit_code == 4
        assert ran.stderr.startswith("Error: ")
        assert ran.stderr.count("\n") == 1
        assert "hunter2" not in ran.stderr + ran.stdout


def test_somebody_elses_database_is_left_alone(axon: Axon, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    (tmp_path / "text.db").write_text("no database at all, but long enough to look into")
    (tmp_path / "empty.db").touch()
    (tmp_path / "dump.json").write_text('{"axonml_notebooks": {}, "axonml_checkpoints": {}}')
    before = tree(tmp_path)
    for name, code in (("other.db", 4), ("text.db", 4), ("empty.db", 3)):
        ran = axon("list", "--store-url", f"sqlite:///{tmp_path}/{name}")
        assert (ran.exit_code, ran.stderr.count("\n")) == (code, 1)
    for command in (
        ["load", tmp_path / "dump.json"],
        ["import", CORPUS / "nbformat" / "test2.ipynb"],
    ):
        ran = axon(*command, "--store-url", f"sqlite:///{tmp_path}/other.db")
        assert (ran.exit_code, ran.stderr.count("\n")) == (4, 1)
        assert "is a database, but not a store of jupyter-axon-notebooks" in ran.stderr
    assert tree(tmp_path) == before
