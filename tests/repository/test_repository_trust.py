"""Claims about marks of trust in stored documents: whoever wrote them, no record, version or export has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.archives import archive_store, load_file, unpack_records
from support.factories import new_notebook, saved

from jupyter_axon_notebooks.mapping import export_notebook
from jupyter_axon_notebooks.records import (
    CellOutput,
    CellType,
    NotebookCell,
    NotebookMetadata,
    TrainingNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, document, open_store

MARKS: list[Any] = [True, 1, "True", [0]]


def marked_metadata(name: str, mark: Any) -> dict[str, Any]:
    return {name: mark, "jupyter": {name: mark}, "tags": ["t"]}


def marked_cells(mark: Any) -> list[NotebookCell]:
    """Cells that say of themselves that they are trusted, under a name that says nothing."""
    metadata = marked_metadata("MARK", mark)
    output = CellOutput(
        output_type="display_data", data={"text/html": "<script>"}, metadata=metadata
    )
    return [
        NotebookCell(id="a", source="x", outputs=[output], metadata=metadata),
        NotebookCell(id="b", source="y", cell_type=CellType.MARKDOWN, metadata=metadata),
    ]


def marked_extra(mark: Any) -> dict[str, Any]:
    metadata = marked_metadata("MARK", mark)
    frame = {
        "cell_type": "code",
        "metadata": metadata,
        "source": "x",
        "outputs": [],
        "execution_count": None,
    }
    output = {
        "output_type": "display_data",
        "data": {"text/html": "<script>"},
        "metadata": metadata,
    }
    kept = {"cells": {"a": frame}, "outputs": {"a": {"0": output}}}
    return {"nbformat": {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, **kept}}


def forge(store: Store, mark: Any) -> str:
    """A record with two versions as an older release stored it, which dropped no marks; its id."""
    repository = NotebookRepository(store)
    metadata = NotebookMetadata(extra=marked_extra(mark))
    id = repository.create(new_notebook(), saved(*marked_cells(mark), metadata=metadata)).id
    repository.save(id, saved(*marked_cells(mark)[:1], metadata=metadata))
    for content in store.contents.all():
        text = json.dumps(content).replace("MARK", "trusted")
        store.contents.replace(document(str(content.doc_id), json.loads(text)))
    assert any("trusted" in text for _, text in store.contents.iterate_json())
    return id


def told(repository: NotebookRepository, id: str) -> str:
    """All that anybody is told of a record: itself, its versions, and the files they make."""
    record = repository.find_by_id(id)
    assert record is not None
    versions = [repository.versions.get(id, listed.id) for listed in repository.versions.list(id)]
    assert len(versions) >= 2
    forms: list[TrainingNotebook | Any] = [record, *versions]
    exported = [export_notebook(form.cells, form.metadata) for form in forms]
    return json.dumps([[form.to_json() for form in forms], exported])


@pytest.mark.parametrize("mark", MARKS)
def test_records_of_older_releases_are_not_trusted(mark: Any, store: Store) -> None:
    id = forge(store, mark)
    shown = told(NotebookRepository(store), id)
    assert "trusted" not in shown
    assert "<script>" in shown
    assert '"tags": ["t"]' in shown


@pytest.mark.parametrize("edited", ["archive", "cells", "plain"])
def test_loaded_records_are_not_trusted(edited: str, store: Store, tmp_path: Path) -> None:
    origin, file = open_store("memory://"), tmp_path / "archive.zip"
    id = forge(origin, mark=True)
    archive_store(origin, file)
    if edited != "archive":
        unpack_records(file, manifest=False)
    if edited == "cells":
        file.write_text(file.read_text().replace('"tags": ["t"]', '"trusted": true, "tags": ["t"]'))
    assert load_file(store, file).problems == []
    repository = NotebookRepository(store)
    record = repository.find_by_id(id)
    assert record is not None
    assert "trusted" not in json.dumps(
        [record.to_json(), export_notebook(record.cells, record.metadata)]
    )
    assert [cell.metadata["tags"] for cell in record.cells] == [["t"]]
    if edited == "archive":
        assert "trusted" not in told(repository, id)


def test_a_record_without_trust_marks_is_not_copied() -> None:
    metadata = {"tags": ["t"], "jupyter": {"source_hidden": True}}
    cell = NotebookCell(source="x", metadata=metadata)
    assert cell.metadata is metadata
    bundle = {"application/json": {"metadata": {"trusted": True}}}
    output = CellOutput(output_type="display_data", data=bundle, metadata=metadata)
    exported = export_notebook(
        [NotebookCell(id="a", source="x", outputs=[output])], NotebookMetadata()
    )
    assert exported["cells"][0]["outputs"][0]["data"] == bundle
