"""The reproducibility flags of notebooks that a real kernel executes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.factories import code, markdown, new_checkpoint, new_notebook, new_save
from support.kernel import Kernel, running_kernel

from jupyter_axon_notebooks.provenance import ExecutedCell, Flag
from jupyter_axon_notebooks.records import NotebookCell
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.training.execution.environment import collect_environment

CELLS = [
    markdown("title", "# A training"),
    code("imports", "from jupyter_axon_notebooks.training import execution\nimport math\n"),
    code("note", "# nothing to see here"),
    code("data", "data = [1, 2, 3]"),
    code("model", "weights = [0.0]"),
    code("empty", "  \n"),
    code(
        "train",
        "weights[0] += sum(data)\n"
        "collected = [cell.to_json() for cell in execution.executed_cells()]",
    ),
    code("plot", "len(weights)"),
]
IN_ORDER = ("imports", "note", "data", "model", "empty", "train")


class Notebook:
    """A notebook in an editor, with a kernel and a file."""

    def __init__(self, kernel: Kernel, repository: NotebookRepository) -> None:
        self.kernel = kernel
        self._repository = repository
        self.cells = {cell.id: cell for cell in CELLS}
        self.sends_ids = True
        repository.create(new_notebook(id="nb"), new_save(*CELLS, file=file_state()))

    def run(self, *ids: str) -> None:
        for id in ids:
            reply = self.kernel.run(self.cells[id].source, id if self.sends_ids else None)
            assert reply["status"] == "ok", reply

    def edit(self, id: str, source: str) -> None:
        self.cells[id] = code(id, source)

    def insert(self, cell: NotebookCell, before: str) -> None:
        others = [one for one in self.cells.values() if one.id != cell.id]
        index = next(index for index, one in enumerate(others) if one.id == before)
        self.cells = {one.id: one for one in [*others[:index], cell, *others[index:]]}

    def save(self) -> None:
        self._repository.save("nb", new_save(*self.cells.values(), file=file_state()))

    def checkpoint(self) -> str:
        """Create the checkpoint that the training cell would have created."""
        executed = [ExecutedCell.from_json(cell) for cell in self.kernel.evaluate("collected")]
        provenance_id = self._repository.provenance.add("nb", executed, collect_environment())
        checkpoint = new_checkpoint("nb", provenance_id=provenance_id)
        return self._repository.create_checkpoint(checkpoint).id

    def flags(self, checkpoint_id: str | None = None) -> list[tuple[str, str | None, list[int]]]:
        """Return kind, cell and counts of the flags of a checkpoint, by default a new one."""
        return [
            (flag.kind.value, flag.cell_id, flag.execution_counts)
            for flag in self.full_flags(checkpoint_id)
        ]

    def full_flags(self, checkpoint_id: str | None = None) -> list[Flag]:
        return self._repository.provenance.get(checkpoint_id or self.checkpoint()).flags


def file_state() -> dict[str, int]:
    return {"size": 1, "mtime": time.time_ns()}


@pytest.fixture(params=[True, False], ids=["with ids", "without ids"])
def notebook(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Notebook]:
    """A notebook whose front end sends the ids of cells, or does not."""
    store = open_store("memory://")
    with running_kernel(tmp_path) as kernel:
        notebook = Notebook(kernel, NotebookRepository(store))
        notebook.sends_ids = request.param
        yield notebook
    store.close()


def test_a_notebook_that_ran_once_from_top_to_bottom_has_no_flag(notebook: Notebook) -> None:
    notebook.run(*IN_ORDER)
    checkpoint = notebook.checkpoint()
    assert notebook.flags(checkpoint) == []
    notebook.run("plot")
    notebook.save()
    assert notebook.flags(checkpoint) == []


def test_cells_that_are_written_and_run_one_by_one_have_no_flag(notebook: Notebook) -> None:
    # As in an editor that has not yet saved the cells that run.
    notebook.edit("data", "data = [4]")
    notebook.run("imports", "data")
    notebook.insert(code("more", "data += [5]"), before="model")
    notebook.run("more", "model", "train")
    checkpoint = notebook.checkpoint()
    unsaved = notebook.flags(checkpoint)
    notebook.save()
    assert notebook.flags(checkpoint) == []
    if notebook.sends_ids:
        assert unsaved == []


def test_white_space_is_not_a_change(notebook: Notebook) -> None:
    notebook.run(*IN_ORDER)
    notebook.edit("data", "\ndata = [1, 2, 3]  \n\n")
    notebook.save()
    assert notebook.flags() == []


def test_imports_and_definitions_may_run_again(notebook: Notebook) -> None:
    notebook.edit("note", "%load_ext autoreload\n'''Helpers.'''\ndef double(x):\n    return 2 * x")
    notebook.save()
    notebook.run("imports", "note", "imports", "data", "note", "model", "imports", "train")
    assert notebook.flags() == []


def test_a_second_pass_from_top_to_bottom_is_in_order(notebook: Notebook) -> None:
    notebook.insert(code("define", "def area(r):\n    return math.pi * r**2"), before="model")
    notebook.save()
    twice = ("imports", "data", "define", "model", "train") * 2
    notebook.run(*twice)
    assert notebook.flags() == []
    notebook.run("train")
    assert [(kind, cell) for kind, cell, _ in notebook.flags()] == [
        ("rerun", "data"),
        ("rerun", "model"),
        ("rerun", "train"),
    ]


def test_a_cell_that_changes_after_the_checkpoint_has_drifted(notebook: Notebook) -> None:
    notebook.run(*IN_ORDER)
    checkpoint = notebook.checkpoint()
    notebook.edit("data", "data = []")
    notebook.save()
    [flag] = notebook.full_flags(checkpoint)
    assert flag.to_json() == {
        "kind": "drifted",
        "message": "Cell 4 (In [3]) has changed since it ran for the checkpoint. Open the version "
        "that ran, or train again.",
        "cell_id": "data",
        "cell_number": 4,
        "executed": "data = [1, 2, 3]",
        "source": "data = []",
        "execution_counts": [3],
    }
    notebook.edit("data", "data = [1, 2, 3]")
    notebook.save()
    assert notebook.flags(checkpoint) == []


def test_a_cell_that_was_edited_but_not_run_is_flagged(notebook: Notebook) -> None:
    notebook.run("imports", "data", "model")
    notebook.edit("data", "data = [100]")
    notebook.save()
    notebook.run("train")
    flags = notebook.flags()
    if notebook.sends_ids:
        assert flags == [("edited", "data", [2])]
    else:
        assert flags == [("deleted", None, [2]), ("not_run", "data", [])]


def test_a_cell_below_that_ran_earlier_counts_if_it_changed_what_the_training_uses(
    notebook: Notebook,
) -> None:
    notebook.run("imports", "data", "model", "plot", "train")
    assert notebook.flags() == []
    notebook.edit("plot", "weights[0] = 7.0")
    notebook.save()
    notebook.run("imports", "data", "model", "plot", "train")
    assert notebook.flags() == [("out_of_order", "plot", [9])]


def test_cells_above_that_ran_in_reverse_are_out_of_order(notebook: Notebook) -> None:
    notebook.run("imports", "model", "data", "train")
    assert notebook.flags() == [("out_of_order", "data", [3])]


def test_a_cell_that_was_moved_is_out_of_order(notebook: Notebook) -> None:
    notebook.run("imports", "data", "model")
    notebook.insert(notebook.cells["data"], before="train")
    notebook.save()
    notebook.run("train")
    assert notebook.flags() == [("out_of_order", "model", [3])]


def test_a_training_cell_that_ran_twice_is_flagged(notebook: Notebook) -> None:
    notebook.run("imports", "data", "model", "train", "train")
    assert notebook.flags() == [("rerun", "train", [4, 5])]


def test_a_cell_that_ran_with_another_source_is_flagged_if_it_is_used(notebook: Notebook) -> None:
    notebook.edit("data", "data = [7]; extra = 1")
    notebook.run("imports", "data")
    notebook.edit("data", "data = [1, 2, 3]")
    notebook.run("data", "model", "train")
    notebook.save()
    assert notebook.flags() == []
    notebook.edit("train", "weights[0] += extra\n" + notebook.cells["train"].source)
    notebook.save()
    notebook.run("data", "model", "train")
    expected = ("rerun", "data", [2, 6]) if notebook.sends_ids else ("deleted", None, [2])
    assert notebook.flags() == [expected]


def test_code_that_was_deleted_is_flagged(notebook: Notebook) -> None:
    notebook.insert(code("secret", "data = [42]"), before="model")
    notebook.run("imports", "data", "secret", "model")
    del notebook.cells["secret"]
    notebook.save()
    notebook.run("train")
    [flag] = notebook.full_flags()
    assert (flag.kind.value, flag.executed, flag.execution_counts) == (
        "deleted",
        "data = [42]",
        [3],
    )


def test_a_cell_that_was_cut_and_pasted_is_not_deleted(notebook: Notebook) -> None:
    notebook.run("imports", "data", "model")
    del notebook.cells["model"]
    notebook.insert(code("pasted", CELLS[4].source), before="train")
    notebook.save()
    notebook.run("train")
    assert notebook.flags() == []


def test_a_cell_above_that_did_not_run_is_flagged(notebook: Notebook) -> None:
    notebook.insert(code("unrun", "%time data.clear()"), before="train")
    notebook.save()
    notebook.run("imports", "data", "model", "train")
    [flag] = notebook.full_flags()
    assert (flag.kind.value, flag.cell_id, flag.source) == (
        "not_run",
        "unrun",
        "%time data.clear()",
    )


def test_equal_cells_are_distinguished(notebook: Notebook) -> None:
    notebook.insert(code("again", CELLS[4].source), before="train")
    notebook.save()
    notebook.run("imports", "data", "model", "again", "train")
    assert notebook.flags() == []


def test_the_ids_of_vs_code_are_ignored(notebook: Notebook) -> None:
    kernel = notebook.kernel
    for id in ("imports", "data", "model"):
        kernel.run(notebook.cells[id].source, f"vscode:{id}")
    kernel.run("data = []", "vscode:data")
    kernel.run(notebook.cells["train"].source, "vscode:train")
    notebook.save()
    assert notebook.flags() == [
        ("drifted", "data", [4]),
        ("out_of_order", "data", [4]),
        ("rerun", "data", [2, 4]),
    ]


@pytest.mark.parametrize(
    ("seed", "draw", "is_clean"),
    [
        ("random.seed(1)", "random.random()", True),
        ("np.random.seed(1)", "np.random.rand()", True),
        ("fix(1)", "random.random() + np.random.rand()", True),
        ("rng = np.random.default_rng(1)", "rng.normal()", True),
        ("rng = random.Random(); rng.seed(1)", "rng.random()", True),
        ("np.random.seed(1); state = np.random.get_state()", "np.random.rand()", True),
        ("rng = np.random.default_rng()", "rng.normal()", False),
        ("np.random.seed(1); np.random.seed()", "np.random.rand()", False),
        (
            "state = random.getstate(); random.seed(1); random.setstate(state)",
            "random.random()",
            False,
        ),
        ("pass", "np.random.rand()", False),
        ("random.seed(1)", "random.random() + np.random.rand()", False),
    ],
)
def test_running_all_again_has_the_same_result_or_a_flag(
    notebook: Notebook, seed: str, draw: str, is_clean: bool
) -> None:
    notebook.edit(
        "note",
        "import random\nimport numpy as np\n"
        "def fix(seed):\n    random.seed(seed)\n    np.random.seed(seed)",
    )
    notebook.edit("model", f"{seed}\nweights = [0.0]")
    notebook.edit("train", f"weights[0] += {draw}\n{notebook.cells['train'].source}")
    notebook.save()
    notebook.run(*IN_ORDER, "plot")
    first, flags = notebook.kernel.evaluate("weights"), notebook.flags()
    assert flags == []
    notebook.run(*IN_ORDER)
    assert (notebook.kernel.evaluate("weights") == first) is is_clean
    assert [kind for kind, _, _ in notebook.flags()] == ([] if is_clean else ["unseeded"])
