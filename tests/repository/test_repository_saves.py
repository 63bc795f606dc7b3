"""Saves of notebook files, small and large, and what changes during them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import nbformat
import pytest
from support import corpus
from support.factories import (
    check_contents,
    code,
    count_rows,
    new_checkpoint,
    new_notebook,
    new_save,
    new_save_from,
    read_contents,
    to_json_text,
)

from jupyter_axon_notebooks.errors import Conflict, NotFound, Stale, StoreBusy
from jupyter_axon_notebooks.mapping import export_notebook, read_notebook
from jupyter_axon_notebooks.records import (
    NotebookCell,
    NotebookMetadata,
    NotebookStatus,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository import versions as repository_versions
from jupyter_axon_notebooks.store import Store

CORPUS = corpus.notebooks()
FILE = {"size": 10, "mtime": 20}


# Fields of the record and of the file


def test_a_saved_file_becomes_a_record(repository: NotebookRepository, store: Store) -> None:
    cells = [code("a", "import torch", "x", count=1)]
    save = new_save(*cells, tags=["t"], status=NotebookStatus.COMPLETED, embedded_id="e", file=FILE)
    created = repository.create(new_notebook(id="nb", origin="o", path="/p"), save)
    assert to_json_text(created) == to_json_text(repository.find_by_id("nb"))
    assert (created.cells, created.status) == (cells, NotebookStatus.COMPLETED)
    assert created.synced_at == save.synced_at
    assert (created.metadata.kernel, created.metadata.tags) == ("python3", ["t"])
    (stored,) = store.notebooks.all()
    assert (stored["embedded_id"], stored["file"]) == ("e", FILE)
    repository.save("nb", new_save(file={"size": 1}))
    (stored,) = store.notebooks.all()
    assert (stored["embedded_id"], stored["file"]) == ("e", {"size": 1})


def test_a_saved_file_without_cells_gets_no_starter_cells(repository: NotebookRepository) -> None:
    assert repository.create(new_notebook(), new_save()).cells == []


def test_a_save_keeps_values_set_on_the_record(repository: NotebookRepository) -> None:
    created = repository.create(
        new_notebook(id="nb", origin="o", path="/p", name="file"), new_save(code("a"))
    )
    set_fields = {"name": "mine", "description": "d", "model_id": "m", "dataset_id": "ds"}
    repository.update("nb", UpdateNotebook(**set_fields, tags=["mine"]))
    save = new_save(code("b", "new"), status=NotebookStatus.FAILED)
    summary = repository.save("nb", save)
    after = repository.find_by_id("nb")
    assert {name: getattr(after, name) for name in set_fields} == set_fields
    assert after.metadata.tags == ["mine"]
    assert (after.created_at, after.user_id, after.path) == (created.created_at, "ada", "/p")
    assert (after.cells, after.status) == (save.cells, NotebookStatus.FAILED)
    assert summary == repository.find_summary("nb")


def test_a_record_updated_from_the_file_is_not_overwritten_by_an_older_save(
    repository: NotebookRepository,
) -> None:
    """Two servers save a file at once, and both read it after the second save."""

    def save(source: str, mtime: int, **options: Any) -> None:
        file = {"size": 100, "mtime": mtime}
        repository.save("nb", new_save(code("a", source), file=file), **options)

    repository.create(
        new_notebook(id="nb"), new_save(code("a", "theirs"), file={"size": 100, "mtime": 1})
    )
    theirs = {"size": 100, "mtime": 1}
    for mtime in (1, 0):  # both saves left this file, or ours was replaced by theirs
        with pytest.raises(Conflict, match="updated from this state of its file"):
            save("ours", mtime, unless_read=[{"size": 100, "mtime": mtime}, theirs])
    assert repository.find_by_id("nb").cells[0].source == "theirs"
    save("ours, later", 2, unless_read=[{"size": 100, "mtime": 2}])
    save("as read", 2)
    assert repository.find_by_id("nb").cells[0].source == "as read"


def test_a_save_replaces_the_tags_of_the_file_and_keeps_others(
    repository: NotebookRepository,
) -> None:
    repository.create(new_notebook(id="nb"), new_save(tags=["file", "both"]))
    repository.update("nb", UpdateNotebook(tags=["file", "both", "mine"]))
    for tags, expected in (
        (["file", "both"], ["file", "both", "mine"]),
        (["both", "new"], ["both", "new", "mine"]),
        (["mine"], ["mine"]),
        ([], []),
    ):
        assert repository.save("nb", new_save(tags=tags)).metadata.tags == expected


def test_a_save_replaces_the_notes_on_the_file(repository: NotebookRepository) -> None:
    def save(id: str, **axon: Any) -> dict[str, Any]:
        metadata = NotebookMetadata(extra={"axon": axon} if axon else {})
        return repository.save(id, new_save(metadata=metadata)).metadata.extra

    metadata = NotebookMetadata(extra={"axon": {"copied_from": "x"}})
    repository.create(new_notebook(id="copy", metadata=metadata))
    assert save("copy", notes=["bad"]) == {"axon": {"copied_from": "x", "notes": ["bad"]}}
    assert save("copy") == {"axon": {"copied_from": "x"}}
    repository.create(new_notebook(id="other"))
    assert save("other", notes=["bad"]) == {"axon": {"notes": ["bad"]}}
    assert save("other") == {}


def test_the_update_time_changes_only_with_the_content(repository: NotebookRepository) -> None:
    cells = [code("a", "1", "x", count=1)]
    before = repository.create(new_notebook(id="nb"), new_save(*cells))
    again = repository.save("nb", new_save(*cells, file={"size": 1, "mtime": 2}))
    assert (again.updated_at, again.version_id) == (before.updated_at, before.version_id)
    assert again.synced_at > before.synced_at
    cell = code("a", "1", "y", count=2)
    previous = again.updated_at
    for save in (
        new_save(*cells, status=NotebookStatus.COMPLETED),
        new_save(code("a", "1", "y", count=1)),
        new_save(cell),
        new_save(cell, tags=["t"]),
        new_save(cell, metadata=NotebookMetadata(kernel="julia")),
        new_save(cell, metadata=NotebookMetadata(extra={"nbformat": {"minor": 5}})),
    ):
        after = repository.save("nb", save)
        assert after.updated_at > previous
        assert after.synced_at == save.synced_at
        previous = repository.save("nb", save).updated_at
        assert previous == after.updated_at


# Large notebooks


def large_cells(
    kilobytes: int, text: str = "x", source: str = "1", cells: int = 10
) -> list[NotebookCell]:
    repeats = kilobytes * 1000 // cells // (len(text) + 1)
    return [code(f"c{n}", source, f"{n}{text}" * repeats, count=1) for n in range(cells)]


def test_a_large_notebook_is_recorded_like_a_small_one(
    repository: NotebookRepository, store: Store
) -> None:
    first = large_cells(10_000)
    created = repository.create(new_notebook(id="nb"), new_save(*first))
    assert created.cells == repository.find_by_id("nb").cells == first
    repository.create_checkpoint(new_checkpoint("nb"))
    second = large_cells(10_000, "yz", "2")
    repository.save("nb", new_save(*second))
    third = large_cells(10_000, "abc", "2")
    repository.save("nb", new_save(*third))
    check_contents(store)
    assert repository.find_by_id("nb").cells == third
    newest, oldest = repository.versions.list("nb")
    assert repository.versions.get("nb", oldest.id).cells == first
    assert newest.id == repository.find_by_id("nb").version_id
    repository.delete("nb")
    assert not any(count_rows(store).values())


def test_long_texts_are_distinguished(repository: NotebookRepository) -> None:
    long, other = "é" * 5000, "\ud800" * 5000
    texts = [long, other, "sha256:" + "0" * 64, long + "x", "sha256:", ""]
    cells = [
        code(f"{n}-{m}", one, two) for n, one in enumerate(texts) for m, two in enumerate(texts)
    ]
    created = repository.create(new_notebook(id="nb"), new_save(*cells))
    assert repository.find_by_id("nb").cells == cells
    for cell in cells:
        cell.outputs[0].text, cell.source = cell.source, cell.outputs[0].text or ""
    assert repository.save("nb", new_save(*cells)).version_id != created.version_id
    assert repository.find_by_id("nb").cells == cells


class PausedSave:
    """Pauses a large save after its contents are staged, before the version is stored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def run(self, save: Callable[[], object], during: Callable[[], object]) -> BaseException | None:
        """Run ``save`` with ``during`` in the pause; return the error of ``save``, if any."""
        staged, resumed, first = threading.Event(), threading.Event(), threading.Lock()
        stage = repository_versions.VersionRepository.stage

        def stage_and_pause(*args: Any) -> None:
            stage(*args)
            if first.acquire(blocking=False):
                staged.set()
                assert resumed.wait(30)

        self._monkeypatch.setattr(repository_versions.VersionRepository, "stage", stage_and_pause)
        self._monkeypatch.setattr(repository_versions, "_BATCH_LENGTH", 40_000)
        with ThreadPoolExecutor(1) as pool:
            saving = pool.submit(save)
            try:
                assert staged.wait(30)
                during()
            finally:
                resumed.set()
            return saving.exception(30)


@pytest.fixture
def paused_save(monkeypatch: pytest.MonkeyPatch) -> PausedSave:
    return PausedSave(monkeypatch)


CHANGES: dict[str, Callable[[NotebookRepository], object]] = {
    "nothing": lambda repository: None,
    "a checkpoint": lambda repository: repository.create_checkpoint(new_checkpoint("nb")),
    "an output": lambda repository: repository.update_cell("nb", code("c0", "1", "other")),
    "an edit": lambda repository: repository.update(
        "nb", UpdateNotebook(cells=[code("z", "z")], tags=["mine"])
    ),
    "an edit to the saved cells": lambda repository: repository.update(
        "nb", UpdateNotebook(cells=large_cells(100, "q", "2")[:5])
    ),
    "an equal save": lambda repository: repository.save(
        "nb", new_save(*large_cells(100, "q", "2"))
    ),
    "an equal save, then outputs": lambda repository: [
        repository.save("nb", new_save(*large_cells(100, text, "2"))) for text in "qr"
    ],
}


@pytest.mark.parametrize("source", ["1", "2"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_during_a_large_save_is_not_lost(
    repository: NotebookRepository, store: Store, paused_save: PausedSave, change: str, source: str
) -> None:
    repository.create(new_notebook(id="nb"), new_save(*large_cells(10, "p", "1")))
    cells = large_cells(100, "q", source)
    error = paused_save.run(
        lambda: repository.save("nb", new_save(*cells)), lambda: CHANGES[change](repository)
    )
    assert error is None
    assert repository.find_by_id("nb").cells == cells
    assert repository.find_by_id("nb").metadata.tags == (["mine"] if change == "an edit" else [])
    repository.save("nb", new_save(code("end")))
    check_contents(store)
    for version in repository.versions.list("nb"):
        assert repository.versions.get("nb", version.id) is not None


def test_staged_contents_of_a_deleted_notebook_are_removed(
    repository: NotebookRepository, store: Store, paused_save: PausedSave
) -> None:
    repository.create(new_notebook(id="nb"), new_save(code("a")))
    error = paused_save.run(
        lambda: repository.save("nb", new_save(*large_cells(100))), lambda: repository.delete("nb")
    )
    assert isinstance(error, NotFound)
    assert not any(count_rows(store).values())
    with pytest.raises(NotFound):
        repository.save("nb", new_save(*large_cells(100)))
    assert not any(count_rows(store).values())


@pytest.mark.parametrize("existing", [{"id": "nb"}, {"origin": "o", "path": "/p"}])
def test_a_rejected_large_notebook_leaves_nothing_behind(
    repository: NotebookRepository, store: Store, paused_save: PausedSave, existing: dict[str, str]
) -> None:
    new = new_notebook(id="nb", origin="o", path="/p")
    error = paused_save.run(
        lambda: repository.create(new, new_save(*large_cells(100))),
        lambda: repository.create(new_notebook(code("a"), **existing)),
    )
    assert isinstance(error, Conflict)
    assert len(read_contents(store)) == 1
    with pytest.raises(Conflict):
        repository.create(new, new_save(*large_cells(100)))
    check_contents(store)


def test_a_failed_creation_of_a_large_notebook_leaves_nothing_behind(
    repository: NotebookRepository, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_versions, "_BATCH_LENGTH", 40_000)
    unstorable = NotebookMetadata(extra={"handle": object()})
    with pytest.raises(TypeError):
        repository.create(new_notebook(*large_cells(100), metadata=unstorable))
    assert not any(count_rows(store).values())


@pytest.mark.parametrize("kilobytes", [1, 100])
def test_creation_waits_for_a_locked_store_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kilobytes: int
) -> None:
    monkeypatch.setattr(repository_versions, "_BATCH_LENGTH", 40_000)
    url = f"sqlite:///{tmp_path}/axon.db"
    with closing(Store(url, busy_timeout=0.05)) as store, closing(Store(url)) as other:
        transactions = Mock(wraps=store.transaction)
        monkeypatch.setattr(store, "transaction", transactions)
        with other.transaction(), pytest.raises(StoreBusy):
            NotebookRepository(store).create(new_notebook(*large_cells(kilobytes)))
        assert transactions.call_count == 1


def test_unused_staged_contents_are_removed_by_the_next_version(
    repository: NotebookRepository, store: Store, paused_save: PausedSave
) -> None:
    first = repository.create(new_notebook(id="nb"), new_save(code("a"))).version_id
    error = paused_save.run(
        lambda: repository.update(
            "nb", UpdateNotebook(cells=large_cells(100)), expected_version=first
        ),
        lambda: repository.update_cell("nb", code("a", "", "printed")),
    )
    assert isinstance(error, Stale)
    repository.update_cell("nb", code("a", "", "printed again"))
    check_contents(store)
    assert repository.find_by_id("nb").cells == [code("a", "", "printed again")]


# Round trips and edits


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_is_read_from_the_store_unchanged(store_url: str, name: str) -> None:
    text = CORPUS[name].read_text(encoding="utf-8")
    content = read_notebook(text)
    save = new_save_from(content)
    with closing(Store(store_url)) as store:
        repository = NotebookRepository(store)
        repository.create(new_notebook(id="nb"), save)
        notebook = repository.find_by_id("nb")
        exported = export_notebook(notebook.cells, notebook.metadata)
        assert exported == export_notebook(save.cells, save.metadata)
        if json.loads(text).get("nbformat") == 4 and nbformat.validator.isvalid(content):
            expected = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
            assert exported == json.loads(json.dumps(expected))
        version = repository.versions.get("nb", notebook.version_id)
        assert export_notebook(version.cells, version.metadata) == exported
        assert repository.save("nb", save).version_id == notebook.version_id
        check_contents(store)


def test_an_edit_of_the_record_marks_the_file_as_outdated(repository: NotebookRepository) -> None:
    def recorded_file() -> dict[str, Any]:
        [binding] = repository.bindings.get_many(["nb"])
        return binding.file

    new = new_notebook(id="nb", path="/nb/a.ipynb", origin="here")
    repository.create(new, new_save(code("a", "1"), file=FILE))
    repository.update_status("nb", NotebookStatus.RUNNING)
    assert recorded_file() == FILE
    repository.update_cell("nb", code("a", "2"))
    assert recorded_file() == {}
    repository.save("nb", new_save(code("a", "1"), file=FILE))
    repository.delete_cell("nb", "a")
    assert recorded_file() == {}
