"""`provenance`, `diff` and `export --checkpoint`."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from support.factories import new_checkpoint, new_notebook

from jupyter_axon_notebooks.provenance import Environment, ExecutedCell, GitState
from jupyter_axon_notebooks.records import NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository

from .conftest import Axon


@pytest.fixture
def checkpoints(records: NotebookRepository) -> NotebookRepository:
    """Two checkpoints that differ in a cell, a package and the loss, and one over REST."""
    records.create(new_notebook(NotebookCell(id="a", source="?"), id="nb", name="train"))
    for id, rate, loss, commit in (("aaaa-1", 1, 0.5, "c1"), ("aabb-2", 2, 0.25, "c2")):
        source = f"import math\nrate = {rate}\n"
        records.update("nb", UpdateNotebook(cells=[NotebookCell(id="a", source=source)]))
        executed = [
            ExecutedCell(source=source, execution_count=1, cell_id="a"),
            ExecutedCell(source="%time math.sqrt(rate)", execution_count=2),
        ]
        environment = Environment(
            python="3.11", packages={"torch": f"2.{rate}"}, git=GitState(commit=commit, dirty=False)
        )
        records.create_checkpoint(
            new_checkpoint(
                "nb",
                {"val": {"loss": loss}},
                id=id,
                epoch=rate,
                provenance_id=records.provenance.add("nb", executed, environment),
            )
        )
    records.create_checkpoint(new_checkpoint("nb", id="rest"))
    return records


def test_two_checkpoints_are_compared(axon: Axon, checkpoints: NotebookRepository) -> None:
    ran = axon("diff", "aaaa", "aabb")
    assert ran.exit_code == 0
    said = [" ".join(line.split()) for line in ran.stdout.splitlines()]
    assert "Code (executed cells)" in said
    start = said.index("cell a: changed")
    assert said[start + 1 : start + 5] == [
        "@@ -1,2 +1,2 @@",
        "import math",
        "-rate = 1",
        "+rate = 2",
    ]
    assert "val.loss 0.5 0.25 -0.25" in said
    assert "git commit c1 c2" in said
    assert "torch 2.1 2.2" in said


def test_where_a_checkpoint_came_from(axon: Axon, checkpoints: NotebookRepository) -> None:
    said = [" ".join(line.split()) for line in axon("provenance", "aaaa").stdout.splitlines()]
    assert "git c1" in said
    assert "1 import math" in said
    assert any(line.startswith("drifted") for line in said)
    told = axon("provenance", "aaaa", "--json").json
    expected = checkpoints.provenance.get("aaaa-1").to_json()
    assert expected.pop("version")
    assert told == expected
    assert "The executed code is not known" in axon("provenance", "rest").stdout


def resume(
    records: NotebookRepository,
    parent: str,
    run_id: str,
    *trained: tuple[str, list[ExecutedCell] | None],
) -> None:
    """Create a run that was resumed from ``parent``, with checkpoints and executed code."""
    records.runs.start("nb", id=run_id, parent_checkpoint_id=parent)
    for epoch, (id, executed) in enumerate(trained, start=5):
        new = new_checkpoint("nb", id=id, run_id=run_id, epoch=epoch)
        if executed is not None:
            new.provenance_id = records.provenance.add("nb", executed, Environment(python="3.11"))
        records.create_checkpoint(new)


def cell(source: str, cell_id: str = "a", count: int = 1) -> ExecutedCell:
    return ExecutedCell(source=source, execution_count=count, cell_id=cell_id)


def test_a_resumed_run_says_from_where(axon: Axon, checkpoints: NotebookRepository) -> None:
    same = cell("import math\nrate = 1\n")
    resume(checkpoints, "aaaa-1", "first", ("f1", [same, cell("plot()", "new", 2)]))
    resume(checkpoints, "f1", "second", ("s1", [same]), ("s2", [same]))
    assert "resumed from checkpoint aaaa-1 (epoch 1)\n" in axon("provenance", "f1").stdout
    for id in ("s1", "s2"):
        said = axon("provenance", id).stdout
        assert "resumed from checkpoint f1 of run first (epoch 5)\n" in said
        assert "the code was changed" not in said
        assert axon("provenance", id, "--json").json["resumed_from"] == {
            "checkpoint_id": "f1",
            "epoch": 5,
            "run_id": "first",
            "last_checkpoint_id": "s2",
            "code_changed": False,
        }
    assert "resumed" not in axon("provenance", "aaaa").stdout
    assert "resumed_from" not in axon("provenance", "aaaa", "--json").json


def test_code_that_was_changed_before_a_run_was_resumed_is_told(
    axon: Axon, checkpoints: NotebookRepository
) -> None:
    same, changed = cell("import math\nrate = 1\n"), cell("import math\nrate = 3\n")
    resume(checkpoints, "aaaa-1", "first", ("f1", [same]), ("f2", [same, changed]))
    for id in ("f1", "f2"):
        said = axon("provenance", id).stdout
        assert (
            "the code was changed in between: `jupyter axon diff aaaa-1 f2` shows the changes\n"
            in said
        )
        assert axon("provenance", id, "--json").json["resumed_from"]["code_changed"] is True
    assert "cell a: changed" in axon("diff", "aaaa-1", "f2").stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("provenance", "zz"), 3, "checkpoint zz not found"),
        (("diff", "aa", "rest"), 3, "aa could be any of 2 checkpoints: aaaa-1, aabb-2"),
        (("export", "--checkpoint", "rest", "--script"), 3, "code of checkpoint rest not found"),
        (("export",), 2, "name either a record or"),
        (("export", "nb", "--checkpoint", "rest"), 2, "name either a record or"),
        (("export", "nb", "--script"), 2, "--script needs --checkpoint"),
        (("export", "--checkpoint", "rest", "--version", "v"), 2, "cannot be used together"),
    ],
)
def test_what_cannot_be_done_says_why(
    axon: Axon,
    checkpoints: NotebookRepository,
    arguments: tuple[str, ...],
    exit_code: int,
    said: str,
) -> None:
    ran = axon(*arguments)
    assert ran.exit_code == exit_code
    assert said in ran.stderr


def test_the_notebook_of_a_checkpoint_is_exported(
    axon: Axon, checkpoints: NotebookRepository
) -> None:
    assert axon("export", "--checkpoint", "aaaa").stdout == "train.ipynb\n"
    [cell] = json.loads(Path("train.ipynb").read_text())["cells"]
    assert cell["source"] == ["import math\n", "rate = 1\n"]


def test_the_script_of_a_checkpoint_runs(axon: Axon, checkpoints: NotebookRepository) -> None:
    assert axon("export", "--checkpoint", "aaaa", "--script").stdout == "train.py\n"
    assert runpy.run_path("train.py")["rate"] == 1
    assert Path("train.py").read_text() == (
        "# Checkpoint aaaa-1\n\n# In [1]\nimport math\nrate = 1\n\n# In [2]\nmath.sqrt(rate)  "
        "# %time\n"
    )


def test_the_script_of_a_checkpoint_needs_no_version_of_the_notebook(
    axon: Axon, checkpoints: NotebookRepository
) -> None:
    versions = checkpoints.store.table("axonml_versions")
    versions.remove(doc_ids=[document.doc_id for document in versions.all()])
    assert axon("export", "nb").exit_code != 0
    assert axon("export", "--checkpoint", "aaaa", "--script").stdout == "train.py\n"
