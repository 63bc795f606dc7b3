"""What a save of a notebook file does to its record, however large, and that nothing is lost on the way."""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support import corpus
from support.factories import (
    check_contents,
    code,
    contents,
    new_checkpoint,
    new_notebook,
    plain,
    rows,
    saved,
    saved_file,
)

from jupyter_axon_notebooks.errors import AxonError, Conflict, NotFound, Stale, StoreBusy
from jupyter_axon_notebooks.mapping import export_notebook, read_notebook
from jupyter_axon_notebooks.records import (
    NotebookCell,
    NotebookMetadata,
    NotebookStatus,
    TrainingNotebook,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository, SavedNotebook
from jupyter_axon_notebooks.repository import versions as repository_versions
from jupyter_axon_notebooks.store import Store

CORPUS = corpus.notebooks()


def found(repository: NotebookRepository, id: str = "nb") -> TrainingNotebook:
    notebook = repository.find_by_id(id)
    assert notebook is not None
    return notebook


# What stays and what follows the file


def test_a_saved_file_becomes_a_record(repository: NotebookRepository, store: Store) -> None:
    cells = [code("a", "import torch", "x", count=1)]
    save = saved(
        *cells,
        tags=["t"],
        status=NotebookStatus.COMPLETED,
        embedded_id="e",
        file={"size": 3, "mtime": 5},
    )
    created = repository.create(new_notebook(id="nb", origin="o", path="/p"), save)
    assert plain(created) == plain(found(repository))
    assert (created.cells, created.status, created.synced_at) == (
        cells,
        NotebookStatus.COMPLETED,
        save.synced_at,
    )
    assert (created.metadata.kernel, created.metadata.tags) == ("python3", ["t"])
    (stored,) = store.notebooks.all()
    assert (stored["embedded_id"], stored["file"]) == ("e", {"size": 3, "mtime": 5})


def test_a_file_without_cells_gets_no_starter_cells(repository: NotebookRepository) -> None:
    assert repository.create(new_notebook(), saved()).cells == []


def test_a_save_keeps_values_set_on_the_record(repository: NotebookRepository) -> None:
    created = repository.create(
        new_notebook(id="nb", origin="o", path="/p", name="file"), saved(code("a"))
    )
    set_fields = {"name": "mine", "description": "d", "model_id": "m", "dataset_id": "ds"}
    repository.update("nb", UpdateNotebook(**set_fields, tags=["mine"]))
    save = saved(code("b", "new"), status=NotebookStatus.FAILED)
    summary = repository.save("nb", save)
    after = found(repository)
    assert {name: getattr(after, name) for name in set_fields} == set_fields
    assert after.metadata.tags == ["mine"]
    assert (after.created_at, after.user_id, after.path) == (created.created_at, "ada", "/p")
    assert (after.cells, after.status) == (save.cells, NotebookStatus.FAILED)
    assert summary == repository.find_summary("nb")


def test_a_record_updated_from_the_file_is_not_overwritten_by_an_older_save(
    repository: NotebookRepository,
) -> None:
    """Two servers write a file at once, and both look at it when the second is done."""
    file = {"size": 100, "mtime": 1}
    repository.create(new_notebook(id="nb"), saved(code("a", "theirs"), file=file))
    with pytest.raises(Conflict, match="updated from this state of its file"):
        repository.save("nb", saved(code("a", "ours"), file=file), unless_read=True)
    assert [cell.source for cell in found(repository).cells] == ["theirs"]
    repository.save(
        "nb", saved(code("a", "ours, later"), file={**file, "mtime": 2}), unless_read=True
    )
    repository.save("nb", saved(code("a", "as read"), file={**file, "mtime": 2}))
    assert [cell.source for cell in found(repository).cells] == ["as read"]


def test_tags_of_the_file_follow_the_file_and_others_stay(repository: NotebookRepository) -> None:
    repository.create(new_notebook(id="nb"), saved(tags=["file", "both"]))
    repository.update("nb", UpdateNotebook(tags=["file", "both", "mine"]))
    assert repository.save("nb", saved(tags=["file", "both"])).metadata.tags == [
        "file",
        "both",
        "mine",
    ]
    assert repository.save("nb", saved(tags=["both", "new"])).metadata.tags == [
        "both",
        "new",
        "mine",
    ]
    assert repository.save("nb", saved(tags=["mine"])).metadata.tags == ["mine"]
    assert repository.save("nb", saved(tags=[])).metadata.tags == []


def test_notes_on_the_file_are_those_of_the_last_save(repository: NotebookRepository) -> None:
    def noted(**axon: Any) -> SavedNotebook:
        return saved(metadata=NotebookMetadata(extra={"axon": axon} if axon else {}))

    new = new_notebook(id="nb", metadata=NotebookMetadata(extra={"axon": {"copied_from": "x"}}))
    repository.create(new)
    assert repository.save("nb", noted(notes=["bad"])).metadata.extra["axon"] == {
        "copied_from": "x",
        "notes": ["bad"],
    }
    assert repository.save("nb", noted()).metadata.extra["axon"] == {"copied_from": "x"}
    repository.create(new_notebook(id="other"), noted(notes=["bad"]))
    assert repository.save("other", noted()).metadata.extra == {}


def test_the_update_time_moves_only_when_something_changed(
    repository: NotebookRepository,
) -> None:
    cells = [code("a", "1", "x", count=1)]
    before = repository.create(new_notebook(id="nb"), saved(*cells))
    again = repository.save("nb", saved(*cells, file={"size": 1, "mtime": 2}))
    assert (again.updated_at, again.version_id) == (before.updated_at, before.version_id)
    assert again.synced_at is not None
    assert before.synced_at is not None
    assert again.synced_at > before.synced_at
    changes = [
        saved(*cells, status=NotebookStatus.COMPLETED),
        saved(code("a", "1", "y", count=1)),
        saved(code("a", "1", "y", count=2)),
        saved(code("a", "1", "y", count=2), tags=["t"]),
        saved(code("a", "1", "y", count=2), metadata=NotebookMetadata(kernel="julia")),
        saved(
            code("a", "1", "y", count=2),
            metadata=NotebookMetadata(extra={"nbformat": {"minor": 5}}),
        ),
    ]
    moved = again.updated_at
    for save in changes:
        after = repository.save("nb", save)
        assert after.updated_at > moved
        assert after.synced_at == save.synced_at
        moved = repository.save("nb", save).updated_at
        assert moved == after.updated_at


def test_an_embedded_id_is_remembered(repository: NotebookRepository, store: Store) -> None:
    repository.create(new_notebook(id="nb"), saved(embedded_id="e"))
    repository.save("nb", saved(file={"size": 1}))
    (stored,) = store.notebooks.all()
    assert (stored["embedded_id"], stored["file"]) == ("e", {"size": 1})


# Large notebooks


def large(
    kilobytes: int, text: str = "x", source: str = "1", cells: int = 10
) -> list[NotebookCell]:
    each = kilobytes * 1000 // cells
    return [
        code(f"c{n}", source, f"{n}{text}" * (each // (len(text) + 1)), count=1)
        for n in range(cells)
    ]


def test_a_large_notebook_is_recorded_like_a_small_one(
    repository: NotebookRepository, store: Store
) -> None:
    first = large(10_000)
    created = repository.create(new_notebook(id="nb"), saved(*first))
    assert created.cells == found(repository).cells == first
    repository.create_checkpoint(new_checkpoint("nb"))
    second = large(10_000, "yz", "2")
    repository.save("nb", saved(*second))
    third = large(10_000, "abc", "2")
    repository.save("nb", saved(*third))
    check_contents(store)
    assert found(repository).cells == third
    newest, oldest = repository.versions.list("nb")
    kept = repository.versions.get("nb", oldest.id)
    assert kept is not None
    assert kept.cells == first
    assert newest.id == found(repository).version_id
    repository.delete("nb")
    assert not any(rows(store).values())


def test_long_texts_are_distinguished_everywhere(repository: NotebookRepository) -> None:
    long, other = "é" * 5000, "\ud800" * 5000
    fake = "sha256:" + "0" * 64
    texts = [long, other, fake, long + "x", "sha256:", ""]
    cells = [
        code(f"{n}-{m}", one, two) for n, one in enumerate(texts) for m, two in enumerate(texts)
    ]
    created = repository.create(new_notebook(id="nb"), saved(*cells))
    assert found(repository).cells == cells
    for cell in cells:
        cell.outputs[0].text, cell.source = cell.source, cell.outputs[0].text or ""
    assert repository.save("nb", saved(*cells)).version_id != created.version_id
    assert found(repository).cells == cells


class _Ahead:
    """Stops a repository's first large save between what is written ahead and the save itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written = threading.Event()
        self.go_on = threading.Event()
        write_ahead = repository_versions.VersionRepository.stage
        first = threading.Lock()

        def stopped(*args: Any) -> None:
            write_ahead(*args)
            if first.acquire(blocking=False):
                self.written.set()
                assert self.go_on.wait(30)

        monkeypatch.setattr(repository_versions.VersionRepository, "stage", stopped)
        monkeypatch.setattr(repository_versions, "_BATCH_LENGTH", 40_000)

    def between(self, attempt: Any, meanwhile: Any) -> BaseException | None:
        """Run ``attempt`` with ``meanwhile`` in its middle; what it raised."""
        raised: list[BaseException] = []

        def run() -> None:
            try:
                attempt()
            except AxonError as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert self.written.wait(30)
        meanwhile()
        self.go_on.set()
        thread.join()
        return raised[0] if raised else None


_BETWEEN: dict[str, Any] = {
    "nothing": lambda repository: None,
    "a checkpoint": lambda repository: repository.create_checkpoint(new_checkpoint("nb")),
    "an output": lambda repository: repository.update_cell("nb", code("c0", "1", "other")),
    "an edit": lambda repository: repository.update(
        "nb", UpdateNotebook(cells=[code("z", "z")], tags=["mine"])
    ),
    "a cell as saved": lambda repository: repository.update(
        "nb", UpdateNotebook(cells=large(100, "q", "2")[:5])
    ),
    "the same": lambda repository: repository.save("nb", saved(*large(100, "q", "2"))),
    "outputs after the same": lambda repository: (
        repository.save("nb", saved(*large(100, "q", "2"))),
        repository.save("nb", saved(*large(100, "r", "2"))),
    ),
}


@pytest.mark.parametrize("source", ["1", "2"])
@pytest.mark.parametrize("between", list(_BETWEEN))
def test_a_change_during_a_large_save_is_not_lost(
    repository: NotebookRepository,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    between: str,
    source: str,
) -> None:
    repository.create(new_notebook(id="nb"), saved(*large(10, "p", "1")))
    cells = large(100, "q", source)
    raised = _Ahead(monkeypatch).between(
        lambda: repository.save("nb", saved(*cells)), lambda: _BETWEEN[between](repository)
    )
    assert raised is None
    assert found(repository).cells == cells
    assert found(repository).metadata.tags == (["mine"] if between == "an edit" else [])
    repository.save("nb", saved(code("end")))
    check_contents(store)
    for version in repository.versions.list("nb"):
        assert repository.versions.get("nb", version.id) is not None


def test_staged_contents_of_a_deleted_notebook_are_removed(
    repository: NotebookRepository, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.create(new_notebook(id="nb"), saved(code("a")))
    raised = _Ahead(monkeypatch).between(
        lambda: repository.save("nb", saved(*large(100))), lambda: repository.delete("nb")
    )
    assert isinstance(raised, NotFound)
    assert not any(rows(store).values())
    with pytest.raises(NotFound):
        repository.save("nb", saved(*large(100)))
    assert not any(rows(store).values())


@pytest.mark.parametrize("taken", [{"id": "nb"}, {"origin": "o", "path": "/p"}])
def test_a_large_notebook_that_cannot_be_created_leaves_nothing(
    repository: NotebookRepository,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    taken: dict[str, str],
) -> None:
    new = new_notebook(id="nb", origin="o", path="/p")
    raised = _Ahead(monkeypatch).between(
        lambda: repository.create(new, saved(*large(100))),
        lambda: repository.create(new_notebook(code("a"), **taken)),
    )
    assert isinstance(raised, Conflict)
    assert len(contents(store)) == 1
    with pytest.raises(Conflict):
        repository.create(new, saved(*large(100)))
    check_contents(store)


def test_a_large_notebook_whose_creation_fails_in_the_middle_leaves_nothing(
    repository: NotebookRepository, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_versions, "_BATCH_LENGTH", 40_000)
    unstorable = NotebookMetadata(extra={"handle": object()})
    with pytest.raises(TypeError):
        repository.create(new_notebook(*large(100), metadata=unstorable))
    assert not any(rows(store).values())


@pytest.mark.parametrize("cells", [1, 100])
def test_creation_waits_for_a_locked_store_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    monkeypatch.setattr(repository_versions, "_BATCH_LENGTH", 40_000)
    url = f"sqlite:///{tmp_path}/axon.db"
    with closing(Store(url, busy_timeout=0.05)) as store, closing(Store(url)) as other:
        begin, begun = store.transaction, itertools.count(1)

        def noted() -> AbstractContextManager[Any]:
            assert next(begun) == 1
            return begin()

        monkeypatch.setattr(store, "transaction", noted)
        with other.transaction(), pytest.raises(StoreBusy):
            NotebookRepository(store).create(new_notebook(*large(cells)))


def test_unused_staged_contents_are_removed_by_the_next_version(
    repository: NotebookRepository, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = repository.create(new_notebook(id="nb"), saved(code("a")))
    raised = _Ahead(monkeypatch).between(
        lambda: repository.update(
            "nb", UpdateNotebook(cells=large(100)), expected_version=first.version_id
        ),
        lambda: repository.update_cell("nb", code("a", "", "printed")),
    )
    assert isinstance(raised, Stale)
    repository.update_cell("nb", code("a", "", "printed again"))
    check_contents(store)
    assert found(repository).cells == [code("a", "", "printed again")]


# Nothing is lost


@pytest.mark.parametrize("name", CORPUS)
def test_a_notebook_comes_back_from_the_store_as_nbformat_reads_it(
    store_url: str, name: str
) -> None:
    text = CORPUS[name].read_text(encoding="utf-8")
    content = read_notebook(text)
    store = Store(store_url)
    try:
        repository = NotebookRepository(store)
        repository.create(new_notebook(id="nb"), saved_file(content))
        once = found(repository)
        exported = export_notebook(once.cells, once.metadata)
        mapped = saved_file(content)
        assert exported == export_notebook(mapped.cells, mapped.metadata)
        if json.loads(text).get("nbformat") == 4 and nbformat.validator.isvalid(content):
            assert exported == json.loads(
                json.dumps(nbformat.reads(text, as_version=nbformat.NO_CONVERT))
            )
        version = repository.versions.get("nb", once.version_id or "")
        assert version is not None
        assert export_notebook(version.cells, version.metadata) == exported
        assert repository.save("nb", mapped).version_id == once.version_id
        check_contents(store)
    finally:
        store.close()


def test_an_edit_that_never_reaches_the_file_is_noticed_by_the_next_who_looks(
    repository: NotebookRepository,
) -> None:
    made = repository.create(
        new_notebook(path="/nb/a.ipynb", origin="here"), saved(code("a", "1"), file=FILE)
    )
    repository.update_status(made.id, NotebookStatus.RUNNING)
    assert [binding.file for binding in repository.bindings.get_many([made.id])] == [FILE]
    repository.update_cell(made.id, code("a", "2"))
    assert [binding.file for binding in repository.bindings.get_many([made.id])] == [{}]
    repository.save(made.id, saved(code("a", "1"), file=FILE))
    repository.delete_cell(made.id, "a")
    assert [binding.file for binding in repository.bindings.get_many([made.id])] == [{}]


FILE = {"size": 10, "mtime": 20}
