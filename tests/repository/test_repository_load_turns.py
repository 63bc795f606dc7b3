"""A load holds up nobody for long, and where users are apart it stores one's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import tinydb
from support.dumps import MANY, counts, dump, everything, fill, is_clean, large, load
from support.engines import postgresql
from support.factories import check_contents, code, new_checkpoint, new_notebook

from jupyter_axon_notebooks.records import NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.runs import run_key
from jupyter_axon_notebooks.store import Store, document, open_store
from jupyter_axon_notebooks.store.postgresql.roles import Role


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dump.json"


# Where one transaction holds up all others


@contextmanager
def between_turns(action: Any) -> Iterator[None]:
    """Does something once, when this thread is about to begin a transaction and has stored checkpoints before."""
    loading, stored, done = threading.current_thread(), False, False

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal stored, done
        if threading.current_thread() is not loading:
            return
        stored = stored or statement.startswith("INSERT INTO axonml_checkpoints")
        if stored and not done and statement.startswith("BEGIN"):
            done = True
            action()

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_others_write_while_a_large_notebook_is_loaded_into_a_file(
    tmp_path: Path, file: Path
) -> None:
    source = open_store("memory://")
    large(source)
    dump(source, file)
    url = f"sqlite:///{tmp_path}/axon.db"
    seen = []
    with closing(open_store(url)) as store, closing(open_store(url)) as other:
        theirs = NotebookRepository(other)
        mine = theirs.create(new_notebook()).id

        def write() -> None:
            theirs.create_checkpoint(new_checkpoint(mine, {}))
            seen.append((theirs.find_by_id("large"), theirs.checkpoints.count("large")))

        def write_in_another_thread() -> None:
            writer = threading.Thread(target=write)
            writer.start()
            writer.join()

        with between_turns(write_in_another_thread):
            assert is_clean(load(store, file))
        [(found, count)] = seen
        assert found == NotebookRepository(source).find_by_id("large")
        assert 0 < count < MANY
        assert theirs.checkpoints.count("large") == MANY
        assert theirs.checkpoints.count(mine) == 1


def test_no_version_goes_before_its_checkpoints_come(file: Path) -> None:
    source, store = open_store("memory://"), open_store("memory://")
    large(source)
    dump(source, file)
    repository = NotebookRepository(store)

    def save_and_tidy() -> None:
        repository.update("large", UpdateNotebook(cells=[code("a", "newer")]))
        list(repository.garbage.remove_versions("large", 1))

    with between_turns(save_and_tidy):
        assert is_clean(load(store, file))
    assert repository.checkpoints.count("large") == MANY
    check_contents(store)


def test_a_notebook_that_is_deleted_while_it_is_loaded_stays_deleted(file: Path) -> None:
    source, store = open_store("memory://"), open_store("memory://")
    large(source)
    dump(source, file)
    with between_turns(lambda: NotebookRepository(store).delete("large")):
        loaded = load(store, file)
    (conflict,) = loaded.conflicts
    assert (conflict.id, conflict.reason) == (
        "large",
        "it was deleted from the store while it was loaded",
    )
    assert not any(everything(store).values())


def test_a_checkpoint_that_cannot_be_stored_does_not_keep_the_others_of_a_large_notebook_out(
    store: Store, file: Path
) -> None:
    large(store)
    dump(store, file)
    taken = store.checkpoints.get(doc_id="large 650")
    store.checkpoints.remove(tinydb.where("step") > 600)
    store.checkpoints.insert_new(document("another", {**taken, "id": "another"}))
    loaded = load(store, file)
    (conflict,) = loaded.conflicts
    if store.admits_one_writer:
        assert (conflict.table, conflict.id) == ("axonml_checkpoints", "large 650")
        assert store.checkpoints.count(tinydb.where("notebook_id") == "large") == MANY
    else:
        assert (conflict.table, conflict.id) == ("axonml_notebooks", "large")
        assert store.checkpoints.count(tinydb.where("notebook_id") == "large") == 602


def test_a_large_notebook_is_loaded_as_it_was_and_again_and_replaced(
    store: Store, file: Path
) -> None:
    source = open_store("memory://")
    large(source)
    wide = [NotebookCell(id=f"c{number}", source=f"{number} " * 50_000) for number in range(40)]
    NotebookRepository(source).create(new_notebook(*wide, id="wide"))
    dump(source, file)
    for added in (True, False):
        loaded = load(store, file)
        assert is_clean(loaded)
        assert counts(loaded)["checkpoints"] == ((MANY, 0, 0) if added else (0, MANY, 0))
        assert everything(store) == everything(source)
    check_contents(store)
    for id in ("large", "wide"):
        NotebookRepository(store).update(id, UpdateNotebook(name="newer", cells=[code("z")]))
    assert len(load(store, file).conflicts) == 2
    assert is_clean(load(store, file, overwrite=True))
    assert everything(store) == everything(source)


def test_what_was_written_ahead_of_a_large_notebook_that_is_refused_is_removed(
    store: Store, file: Path
) -> None:
    source = open_store("memory://")
    wide = [NotebookCell(id=f"c{number}", source=f"{number} " * 50_000) for number in range(40)]
    id = NotebookRepository(source).create(new_notebook(*wide)).id
    source.contents.remove(doc_ids=[next(iter(source.contents.ids(tinydb.Query().noop())))])
    dump(source, file)
    loaded = load(store, file)
    assert [one.id for one in loaded.damaged if one.table == "axonml_notebooks"] == [id]
    assert not any(everything(store).values())


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/axon.db"])
def test_a_content_of_a_large_notebook_that_cannot_be_stored_is_named(
    tmp_path: Path, file: Path, url: str
) -> None:
    source = open_store("memory://")
    wide = [NotebookCell(id=f"c{number}", source=f"{number} " * 50_000) for number in range(40)]
    id = NotebookRepository(source).create(new_notebook(*wide)).id
    NotebookRepository(source).create(new_notebook(code("a")))
    dump(source, file)
    refused = source.contents.search(tinydb.where("notebook_id") == id)[20].doc_id
    with closing(open_store(url.format(tmp_path))) as store:
        with store.transaction() as connection:
            connection.exec_driver_sql(
                f"CREATE TRIGGER refusal BEFORE INSERT ON axonml_contents WHEN NEW.id = '{refused}' "
                "BEGIN SELECT hex(zeroblob(2147483647)); END"
            )
        loaded = load(store, file)
        assert not loaded.conflicts
        (fault,) = loaded.damaged
        assert (fault.table, fault.id) == ("axonml_contents", refused)
        assert "something in it is larger than SQLite takes" in fault.reason
        assert counts(loaded)["notebooks"] == (1, 0, 0)
        assert not store.contents.count(tinydb.where("notebook_id") == id)


# What was saved meanwhile


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("is_saved", [False, True])
def test_a_load_that_was_interrupted_goes_on_where_the_file_is_loaded_again(
    tmp_path: Path, file: Path, is_saved: bool
) -> None:
    source = open_store("memory://")
    large(source)
    dump(source, file)
    with closing(open_store(f"sqlite:///{tmp_path}/axon.db")) as store:
        repository = NotebookRepository(store)
        with between_turns(interrupt), pytest.raises(KeyboardInterrupt):
            load(store, file)
        assert 0 < repository.checkpoints.count("large") < MANY
        if is_saved:
            repository.update("large", UpdateNotebook(cells=[code("a", "saved since")]))
        kept = repository.find_by_id("large")
        loaded = load(store, file)
        assert [one.id for one in loaded.conflicts] == (["large"] if is_saved else [])
        assert loaded.damaged == []
        assert repository.checkpoints.count("large") == MANY
        assert repository.find_by_id("large") == kept
        check_contents(store)


def test_a_notebook_that_was_saved_since_is_kept_and_gets_the_checkpoints_that_it_lacks(
    store: Store, file: Path
) -> None:
    large(store)
    run_id = NotebookRepository(store).runs.start("large").id
    dump(store, file)
    repository = NotebookRepository(store)
    lost = {one.doc_id for one in store.checkpoints.search(tinydb.where("step") > MANY - 10)}
    store.checkpoints.remove(doc_ids=list(lost))
    store.runs.remove(doc_ids=[run_key("large", run_id)])
    repository.update("large", UpdateNotebook(cells=[code("a", "saved since")]))
    kept = repository.find_by_id("large")
    for added in (True, False):
        loaded = load(store, file)
        (conflict,) = loaded.conflicts
        assert (conflict.table, conflict.id) == ("axonml_notebooks", "large")
        assert ("it is kept, and what it lacked" in conflict.reason) is added
        assert counts(loaded)["checkpoints"] == ((9, MANY - 9, 0) if added else (0, MANY, 0))
        assert repository.find_by_id("large") == kept
        assert store.runs.contains(doc_id=run_key("large", run_id))
    check_contents(store)


def test_another_notebook_of_the_same_id_gets_nothing(store: Store, file: Path) -> None:
    source = open_store("memory://")
    large(source)
    dump(source, file)
    repository = NotebookRepository(store)
    repository.create(new_notebook(code("a", "mine"), id="large"))
    before = everything(store)
    (conflict,) = load(store, file).conflicts
    assert conflict.reason == "the store has it, and it differs"
    # Nor one that lacks a version that the file's checkpoints refer to.
    created_at = source.notebooks.get(doc_id="large")["created_at"]
    store.notebooks.update({"created_at": created_at}, doc_ids=["large"])
    (conflict,) = load(store, file).conflicts
    assert conflict.reason == "the store has it, and it differs"
    before["axonml_notebooks"] = everything(store)["axonml_notebooks"]
    assert everything(store) == before


# Where users are apart


def test_a_user_loads_his_own_records_of_a_dump_and_is_told_of_those_of_others(file: Path) -> None:
    source = open_store("memory://")
    ids = fill(source)
    source.notebooks.update({"user_id": "alice"}, doc_ids=ids)
    of_bob = NotebookRepository(source).create(new_notebook(code("b"), user_id="bob")).id
    dump(source, file)
    server = postgresql()
    name = server.new_database()
    with closing(Store(server.url(name))) as owner:
        owner.separate_users([Role("loads_own", "alice"), Role("loads_all", "boss", admin=True)])
    with closing(Store(server.url(name, user="loads_own"))) as store:
        for loaded in (load(store, file), load(store, file, overwrite=True)):
            (fault,) = loaded.foreign
            assert (fault.id, fault.reason[:18]) == (of_bob, "it belongs to bob,")
            assert loaded.conflicts == loaded.damaged == loaded.differing == []
            assert not loaded.is_whole
        mine = everything(source)
        for name_of_table, documents in mine.items():
            owned = "id" if name_of_table == "axonml_notebooks" else "notebook_id"
            mine[name_of_table] = {
                id: text for id, text in documents.items() if f'"{owned}": "{of_bob}"' not in text
            }
        assert everything(store) == mine
    with closing(Store(server.url(name, user="loads_all"))) as store:
        assert is_clean(load(store, file))
        assert everything(store) == everything(source)


def test_what_the_database_takes_for_anothers_keeps_that_notebook_out_and_no_other(
    file: Path,
) -> None:
    source = open_store("memory://")
    repository = NotebookRepository(source)
    refused, taken = (repository.create(new_notebook(code("a"))).id for _ in range(2))
    checkpoint = repository.create_checkpoint(new_checkpoint(refused, {}))
    dump(source, file)
    server = postgresql()
    name = server.new_database()
    with closing(Store(server.url(name))) as owner:
        owner.separate_users([Role("loads_narrow", "ada")])
    with closing(server.connect(name)) as connection:
        connection.execute(
            "CREATE POLICY narrow ON axonml_checkpoints AS RESTRICTIVE FOR INSERT "
            f"WITH CHECK (id <> '{checkpoint.id}')"
        )
    with closing(Store(server.url(name, user="loads_narrow"))) as store:
        loaded = load(store, file)
        (fault,) = loaded.foreign
        assert (fault.table, fault.id) == ("axonml_notebooks", refused)
        assert "it separates users" in fault.reason
        assert loaded.conflicts == loaded.damaged == []
        assert everything(store)["axonml_notebooks"].keys() == {taken}
