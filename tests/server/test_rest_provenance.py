"""Tests of the provenance routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.factories import new_checkpoint, new_notebook
from support.rest_client import Client

from jupyter_axon_notebooks.provenance import Environment, ExecutedCell
from jupyter_axon_notebooks.records import NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store

CHECKPOINTS = "/notebooks/nb/checkpoints"


def executed(*sources: str) -> list[ExecutedCell]:
    return [
        ExecutedCell(source=source, execution_count=count, cell_id=cell_id)
        for count, (cell_id, source) in enumerate(zip("ab", sources, strict=True), start=1)
    ]


@pytest.fixture
def records(axon: Client, data: Path) -> Iterator[NotebookRepository]:
    """Two checkpoints of ada's notebook, the second after a change, and one of bob's."""
    store = open_store(f"sqlite:///{data}/axon_notebooks/axon.db")
    repository = NotebookRepository(store)
    cells = [NotebookCell(id="a", source="lr = 1"), NotebookCell(id="b", source="fit(lr)")]
    repository.create(new_notebook(*cells, id="nb", name="a/b"))
    repository.create(new_notebook(id="hers", user_id="bob", name="n"))
    for id, learning_rate, loss, torch in (("one", 1, 0.5, "2.0"), ("two", 2, 0.25, "2.1")):
        repository.update(
            "nb",
            UpdateNotebook(cells=[NotebookCell(id="a", source=f"lr = {learning_rate}"), cells[1]]),
        )
        provenance_id = repository.provenance.add(
            "nb",
            executed(f"lr = {learning_rate}", "fit(lr)"),
            Environment(python="3.11", packages={"torch": torch}),
        )
        new = new_checkpoint("nb", {"loss": loss}, id=id, provenance_id=provenance_id)
        repository.create_checkpoint(new)
    repository.create_checkpoint(new_checkpoint("hers", id="bobs"))
    yield repository
    store.close()


async def test_a_checkpoint_has_provenance(axon: Client, records: NotebookRepository) -> None:
    reply = await axon.get(f"{CHECKPOINTS}/one/provenance")
    assert reply.status == 200
    assert reply.json == {
        "checkpoint_id": "one",
        "executed": [cell.to_json() for cell in executed("lr = 1", "fit(lr)")],
        "environment": Environment(python="3.11", packages={"torch": "2.0"}).to_json(),
        "flags": [
            {
                "kind": "drifted",
                "message": "Cell 1 (In [1]) has changed since it ran for the checkpoint. Open the "
                "version that ran, or train again.",
                "cell_id": "a",
                "cell_number": 1,
                "executed": "lr = 1",
                "source": "lr = 2",
                "execution_counts": [1],
            }
        ],
    }


async def test_a_checkpoint_over_rest_has_no_executed_code(
    axon: Client, records: NotebookRepository
) -> None:
    made = await axon.created(CHECKPOINTS, {"epoch": 0, "step": 0, "metrics": 7})
    reply = await axon.get(f"{CHECKPOINTS}/{made['id']}/provenance")
    assert reply.json == {"checkpoint_id": made["id"], "executed": [], "flags": []}
    refused = await axon.get(f"/notebooks/nb/export?format=py&checkpoint={made['id']}")
    assert (refused.status, refused.message) == (404, f"code of checkpoint {made['id']} not found")
    compared = await axon.get(f"{CHECKPOINTS}/diff?from=one&to={made['id']}")
    assert compared.json["executed"] is False
    assert [change["cell_id"] for change in compared.json["sources"]] == ["a"]


async def test_two_checkpoints_are_compared(axon: Client, records: NotebookRepository) -> None:
    reply = await axon.get(f"{CHECKPOINTS}/diff?from=one&to=two")
    assert reply.json == {
        "from": "one",
        "to": "two",
        "executed": True,
        "sources": [{"cell_id": "a", "change": "changed", "before": "lr = 1", "after": "lr = 2"}],
        "metrics": [{"name": "loss", "before": 0.5, "after": 0.25, "delta": -0.25}],
        "environment": {
            "values": [],
            "packages": [{"name": "torch", "before": "2.0", "after": "2.1"}],
        },
    }


async def test_the_notebook_and_the_script_of_a_checkpoint_are_exported(
    axon: Client, records: NotebookRepository
) -> None:
    notebook = (await axon.get("/notebooks/nb/export?checkpoint=one")).json
    assert "lr = 1" in notebook["content"]
    assert notebook["filename"] == "a_b.ipynb"
    script = (await axon.get("/notebooks/nb/export?checkpoint=one&format=py")).json
    assert script == {
        "content": "# Checkpoint one\n\n# In [1]\nlr = 1\n\n# In [2]\nfit(lr)\n",
        "format": "py",
        "filename": "a_b.py",
    }
    file = await axon.get("/notebooks/nb/export?checkpoint=one&format=py&download=1")
    assert (file.body.decode(), file.headers["Content-Type"]) == (
        script["content"],
        "text/x-python",
    )


async def test_a_version_is_exported(axon: Client, records: NotebookRepository) -> None:
    newest, oldest = (await axon.get("/notebooks/nb/versions")).json
    for version, source in ((newest, "lr = 2"), (oldest, "lr = 1")):
        exported = (await axon.get(f"/notebooks/nb/export?version={version['id']}")).json
        assert source in exported["content"]


async def test_the_script_of_a_checkpoint_needs_no_version_of_the_notebook(
    axon: Client, records: NotebookRepository
) -> None:
    versions = records.store.table("axonml_versions")
    versions.remove(doc_ids=[document.doc_id for document in versions.all()])
    assert (await axon.get("/notebooks/nb/export")).status >= 500
    script = await axon.get("/notebooks/nb/export?checkpoint=one&format=py")
    assert (script.status, script.json["filename"]) == (200, "a_b.py")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (f"{CHECKPOINTS}/nowhere/provenance", 404, "checkpoint nowhere not found"),
        (f"{CHECKPOINTS}/bobs/provenance", 404, "checkpoint bobs not found"),
        (
            "/notebooks/hers/checkpoints/bobs/provenance",
            403,
            "notebook hers belongs to another user",
        ),
        (f"{CHECKPOINTS}/diff?from=one", 400, "$.to: required, but missing"),
        (
            "/notebooks/hers/checkpoints/diff?from=bobs&to=bobs",
            403,
            "notebook hers belongs to another user",
        ),
        ("/notebooks/nb/export?format=py", 400, "format: py requires the argument `checkpoint`"),
        ("/notebooks/nb/export?version=nowhere", 404, "version nowhere not found"),
        (
            "/notebooks/nb/export?version=v&checkpoint=one",
            400,
            "version: cannot be used together with the argument `checkpoint`",
        ),
        ("/notebooks/nb/export?format=pdf", 400, "$.format: invalid enum value 'pdf'"),
    ],
)
async def test_invalid_exports_are_refused(
    axon: Client, records: NotebookRepository, path: str, status: int, message: str
) -> None:
    reply = await axon.get(path)
    assert (reply.status, reply.message) == (status, message)
