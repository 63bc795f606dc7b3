"""Texts can be long and have any character, and their order does not depend on the locale."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from support.engines import PostgresqlServer
from tinydb import where

from jupyter_axon_notebooks.errors import Conflict
from jupyter_axon_notebooks.store import Document, Store

LONG_PATH = "/" + "ä/é😀" * 490  # about 4,000 bytes, as long as a path may be


def test_paths_can_be_as_long_as_the_system_allows(store: Store) -> None:
    hashed = os.urandom(1980).hex()  # incompressible
    for number, path in enumerate((LONG_PATH, f"{LONG_PATH}x", f"/{hashed}")):
        store.notebooks.insert(Document({"origin": "o", "path": path}, f"n{number}"))
        assert store.notebooks.search(where("path") == path) == [
            Document({"origin": "o", "path": path}, f"n{number}")
        ]
        with pytest.raises(Conflict, match=r"axonml_notebooks\.origin, axonml_notebooks\.path"):
            store.notebooks.insert(Document({"origin": "o", "path": path}, "other"))
        store.notebooks.insert(Document({"origin": "another", "path": path}, f"m{number}"))
    assert store.notebooks.count((where("path") > "/ä/") & (where("path") < "/ä0")) == 4


def test_paths_can_have_any_character(store: Store) -> None:
    paths = ["\\", "\\\\", "\\x41", "A", "\\101", "\x00", "\ud800", "%", "a'b", "", "é"]
    for number, path in enumerate(paths):
        store.notebooks.insert(Document({"origin": "o", "path": path}, f"n{number}"))
    for number, path in enumerate(paths):
        assert [d.doc_id for d in store.notebooks.search(where("path") == path)] == [f"n{number}"]


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresqlServer]:
    """A server with a locale that does not sort by code point."""
    folder = PostgresqlServer.new_folder()
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "UTF-8", folder / "en_US.UTF-8"], check=False
    )
    assert made.returncode == 0, (
        "no sources of locales are installed (Debian and Ubuntu: apt-get install locales)"
    )
    monkeypatch.setenv("LOCPATH", str(folder))
    server = PostgresqlServer()
    yield server
    server.close()
    shutil.rmtree(folder)


def test_texts_are_sorted_by_code_point_in_any_locale(words: PostgresqlServer) -> None:
    with contextlib.closing(words.connect()) as connection:
        connection.execute(
            "CREATE DATABASE words LOCALE 'en_US.UTF-8' LOCALE_PROVIDER libc TEMPLATE template0"
        )
    with contextlib.closing(words.connect("words")) as connection:
        assert connection.execute("SELECT 'a' < 'B', 'a' < 'B' COLLATE \"C\"").fetchone() == (
            True,
            False,
        )
    store = Store(words.url("words"))
    ids = ["B", "a", "_", "Z", "é", "e", "😀", "\uffff", "-", "ab", "a b"]
    store.notebooks.insert(
        *(Document({"user_id": "u", "updated_at": id, "origin": "o", "path": id}, id) for id in ids)
    )
    found = store.notebooks.search(where("user_id") == "u", sort=["updated_at", "id"])
    assert [d.doc_id for d in found] == sorted(ids)
    for bound in ids:
        smaller = store.notebooks.search(where("path") < bound)
        assert {d.doc_id for d in smaller} == {id for id in ids if id < bound}
    store.checkpoints.insert(
        *(
            Document({"notebook_id": "n", "created_at": "2026", "metrics": {"loss": 1}}, id)
            for id in ids
        )
    )
    assert [d.doc_id for d in store.best("n", "loss", minimize=True, limit=99)] == sorted(ids)
    store.close()
