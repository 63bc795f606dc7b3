"""What a file that was edited on purpose may have wrong is made right, or named: saves and sweeps rely on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.dumps import counts, dump, everything, is_clean, load
from support.factories import check_contents, code, history, new_checkpoint, new_notebook
from test_repository_load import Tables, edited, file

from jupyter_axon_notebooks.records import UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, open_store

__all__ = ["file"]  # a fixture


def unverified(file: Path, edit: Callable[[Tables], object]) -> None:
    """Edit a dump as whoever does it on purpose."""
    edited(file, lambda tables: (tables.pop("axonml_dump"), edit(tables)))


def everything_saved_and_swept(repository: NotebookRepository, id: str) -> None:
    """Save a notebook twice, and remove all that nobody lists."""
    for source in ("new", "newer"):
        repository.update(id, UpdateNotebook(cells=[code("a", source)]))
        list(repository.garbage.remove_versions(id, 100))
        list(repository.garbage.remove_staged(id))


@pytest.mark.parametrize("gap", [False, True])
def test_a_record_that_was_taken_back_to_an_older_version_is_loaded_with_a_newer_one(
    store: Store, file: Path, gap: bool
) -> None:
    origin = open_store("memory://")
    source = NotebookRepository(origin)
    versions = history(source, 5)
    dump(origin, file)

    def take_back(tables: Tables) -> None:
        (record,) = tables["axonml_notebooks"].values()
        record["version_id"] = versions[2]
        record["cells"] = [cell.to_json() for cell in source.versions.get("nb", versions[2]).cells]
        if gap:
            stored = tables["axonml_versions"]
            stored.pop(next(key for key, one in stored.items() if one["id"] == versions[3]))
            versions.pop(3)

    unverified(file, take_back)
    assert is_clean(load(store, file))
    repository = NotebookRepository(store)
    before = [source.versions.get("nb", id) for id in versions]
    assert repository.find_by_id("nb").cells == source.versions.get("nb", versions[2]).cells
    assert counts(load(store, file))["notebooks"] == (0, 1, 0)
    everything_saved_and_swept(repository, "nb")
    assert [repository.versions.get("nb", id) for id in versions] == before
    assert len(repository.versions.list("nb")) == len(versions) + 3


def test_a_record_of_an_older_version_and_without_cells_is_named(store: Store, file: Path) -> None:
    origin = open_store("memory://")
    source = NotebookRepository(origin)
    versions = history(source, 3)
    dump(origin, file)

    def take_back(tables: Tables) -> None:
        (record,) = tables["axonml_notebooks"].values()
        record["version_id"] = versions[1]
        del record["cells"]

    unverified(file, take_back)
    (fault,) = load(store, file).damaged
    assert (fault.table, fault.id) == ("axonml_notebooks", "nb")
    assert "$.version_id: the file has a newer version" in fault.reason
    assert not any(everything(store).values())


@pytest.mark.parametrize("shift", [-3, 100])
@pytest.mark.parametrize("made", [False, True])
def test_contents_that_are_still_listed_stay_whatever_the_numbers_in_the_file_were(
    store: Store, file: Path, shift: int, made: bool
) -> None:
    origin = open_store("memory://")
    source = NotebookRepository(origin)
    versions = history(source, 4)
    whole = [source.versions.get("nb", id) for id in versions]
    dump(origin, file)

    def renumber(tables: Tables) -> None:
        contents = tables["axonml_contents"]
        for content in contents.values():
            content["ordinal"] = max(content["ordinal"] + shift, 0)
        if made:  # what the newest version lists follows from the cells as well
            newest = origin.versions.get(doc_id=versions[-1])
            of_it = {
                f"nb/{digest}" for _, *parts, _ in newest["cells"] for digest in parts if digest
            }
            for key in [key for key, one in contents.items() if one["axon_id"] in of_it]:
                del contents[key]

    unverified(file, renumber)
    assert is_clean(load(store, file))
    repository = NotebookRepository(store)
    assert not repository.garbage.list_staged()
    assert counts(load(store, file))["notebooks"] == (0, 1, 0)
    everything_saved_and_swept(repository, "nb")
    assert [repository.versions.get("nb", id) for id in versions] == whole
    check_contents(store)


def test_a_number_that_none_can_follow_is_named(store: Store, file: Path) -> None:
    origin = open_store("memory://")
    source = NotebookRepository(origin)
    newest = history(source, 2)[1]
    dump(origin, file)

    def number(tables: Tables) -> None:
        next(one for one in tables["axonml_versions"].values() if one["id"] == newest)[
            "ordinal"
        ] = 2**63 - 1

    unverified(file, number)
    loaded = load(store, file)
    assert [(one.table, one.id) for one in loaded.damaged] == [("axonml_versions", newest)]
    everything_saved_and_swept(NotebookRepository(store), "nb")


def test_a_content_under_the_name_of_another_notebook_is_named_and_the_rest_is_loaded(
    store: Store, file: Path
) -> None:
    origin = open_store("memory://")
    source = NotebookRepository(origin)
    source.create(new_notebook(code("a", "mine"), id="nb"))
    source.create(new_notebook(code("a", "other"), id="other"))
    dump(origin, file)

    def rename(tables: Tables) -> None:
        extra = next(iter(tables["axonml_contents"].values()))
        tables["axonml_contents"]["x"] = {**extra, "notebook_id": "nb", "axon_id": "other/abc"}

    unverified(file, rename)
    loaded = load(store, file)
    (fault,) = loaded.damaged
    assert (fault.table, fault.id) == ("axonml_contents", "other/abc")
    assert "$.id: expected the id of its notebook" in fault.reason
    assert counts(loaded)["notebooks"] == (2, 0, 0)


def test_a_version_that_a_stored_checkpoint_refers_to_is_never_replaced_by_none(
    store: Store, file: Path
) -> None:
    repository = NotebookRepository(store)
    first = history(repository, 3)[0]
    trained = repository.create_checkpoint(new_checkpoint("nb", {}, version_id=first))
    dump(store, file)

    def as_upstream_has_it(tables: Tables) -> None:
        del tables["axonml_versions"], tables["axonml_contents"]
        tables["axonml_notebooks"]["1"]["name"] = "renamed"

    unverified(file, as_upstream_has_it)
    before = everything(store)
    (conflict,) = load(store, file, overwrite=True).conflicts
    assert (conflict.table, conflict.id) == ("axonml_versions", first)
    assert (
        f"checkpoint {trained.id} in the store refers to it, and the file lacks it"
        in conflict.reason
    )
    assert everything(store) == before
    repository.delete_checkpoint(trained.id)
    edited(file, lambda tables: tables.pop("axonml_checkpoints"))
    assert is_clean(load(store, file, overwrite=True))
    assert repository.find_by_id("nb").name == "renamed"
    check_contents(store)


def test_of_two_documents_of_one_id_the_first_counts(store: Store, file: Path) -> None:
    repository = NotebookRepository(store)
    history(repository, 2)
    checkpoint = repository.create_checkpoint(
        new_checkpoint("nb", {}, model_state_path="/states/model.bin")
    )
    dump(store, file)

    def precede(tables: Tables) -> None:
        tables["axonml_notebooks"]["1"]["name"] = "renamed"
        (whole,) = tables["axonml_checkpoints"].values()
        first = {**whole, "model_state_path": "/states/other.bin"}
        tables["axonml_checkpoints"] = {"1": first, "2": whole}

    unverified(file, precede)
    (conflict,) = load(store, file, overwrite=True).conflicts
    assert conflict.id == checkpoint.id
    assert repository.get_checkpoint(checkpoint.id) == checkpoint
