"""Marks of trust in stored documents never reach records, versions or exported notebooks."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.archives import archive_store, load_file, unpack_records
from support.factories import new_notebook, new_save

from jupyter_axon_notebooks.mapping import export_notebook
from jupyter_axon_notebooks.records import (
    CellOutput,
    CellType,
    NotebookCell,
    NotebookMetadata,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import Store, document, open_store

MARKS: list[Any] = [True, 1, "True", [0]]


def build_metadata(mark: Any) -> dict[str, Any]:
    return {"MARK": mark, "jupyter": {"MARK": mark}, "tags": ["t"]}


def build_cells(mark: Any) -> list[NotebookCell]:
    """Build cells that are marked under the name ``MARK``, which has no meaning."""
    metadata = build_metadata(mark)
    output = CellOutput(
        output_type="display_data", data={"text/html": "<script>"}, metadata=metadata
    )
    return [
        NotebookCell(id="a", source="x", outputs=[output], metadata=metadata),
        NotebookCell(id="b", source="y", cell_type=CellType.MARKDOWN, metadata=metadata),
    ]


def build_extra(mark: Any) -> dict[str, Any]:
    """Build the parts of a file that are kept verbatim, with marks."""
    metadata = build_metadata(mark)
    cell = {
        "cell_type": "code",
        "metadata": metadata,
        "source": "x",
        "outputs": [],
        "execution_count": None,
    }
    data = {"text/html": "<script>"}
    output = {"output_type": "display_data", "data": data, "metadata": metadata}
    kept = {"cells": {"a": cell}, "outputs": {"a": {"0": output}}}
    return {"nbformat": {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, **kept}}


def create_trusted(store: Store, mark: Any) -> str:
    """Create a notebook as older releases stored it, with marks of trust; return its id."""
    repository = NotebookRepository(store)
    metadata = NotebookMetadata(extra=build_extra(mark))
    id = repository.create(new_notebook(), new_save(*build_cells(mark), metadata=metadata)).id
    repository.save(id, new_save(*build_cells(mark)[:1], metadata=metadata))
    for content in store.contents.all():
        text = json.dumps(content).replace("MARK", "trusted")
        store.contents.replace(document(str(content.doc_id), json.loads(text)))
    assert any("trusted" in text for _, text in store.contents.iterate_json())
    return id


def read_everything(repository: NotebookRepository, id: str) -> str:
    """Return a record, its versions and the notebooks exported from them, as JSON."""
    versions = [repository.versions.get(id, version.id) for version in repository.versions.list(id)]
    assert len(versions) >= 2
    found = [repository.find_by_id(id), *versions]
    exported = [export_notebook(one.cells, one.metadata) for one in found]
    return json.dumps([[one.to_json() for one in found], exported])


@pytest.mark.parametrize("mark", MARKS)
def test_records_of_older_releases_are_not_trusted(mark: Any, store: Store) -> None:
    id = create_trusted(store, mark)
    found = read_everything(NotebookRepository(store), id)
    assert "trusted" not in found
    assert "<script>" in found
    assert '"tags": ["t"]' in found


@pytest.mark.parametrize("edited", ["archive", "cells", "plain"])
def test_loaded_records_are_not_trusted(edited: str, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "archive.zip"
    with closing(open_store("memory://")) as origin:
        id = create_trusted(origin, mark=True)
        archive_store(origin, file)
    if edited != "archive":
        unpack_records(file, manifest=False)
    if edited == "cells":
        file.write_text(file.read_text().replace('"tags": ["t"]', '"trusted": true, "tags": ["t"]'))
    assert load_file(store, file).problems == []
    repository = NotebookRepository(store)
    record = repository.find_by_id(id)
    exported = export_notebook(record.cells, record.metadata)
    assert "trusted" not in json.dumps([record.to_json(), exported])
    assert [cell.metadata["tags"] for cell in record.cells] == [["t"]]
    if edited == "archive":
        assert "trusted" not in read_everything(repository, id)


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
