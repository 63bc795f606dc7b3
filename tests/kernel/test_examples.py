"""The examples have the same result when they are killed and run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.engines import eventually
from support.kernel import Kernel, running_kernel

from jupyter_axon_notebooks.records import NotebookCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository

EXAMPLES = Path(__file__).parents[2] / "examples"
#: The line with the number of epochs of each example, as published and in this test.
LENGTHS = {
    "train_digits.ipynb": ("epochs, batches = 30, 50", "epochs, batches = 6, 10"),
    "train_digits_pytorch.ipynb": ("epochs = 20", "epochs = 6"),
}


@pytest.fixture(params=LENGTHS)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An example in its own folder, with fewer epochs."""
    file = tmp_path / str(request.param)
    text = (EXAMPLES / file.name).read_text()
    published, shorter = LENGTHS[file.name]
    assert text.count(published) == 1
    file.write_text(text.replace(published, shorter))
    return file


@pytest.fixture
def kernels(example: Path, environment: dict[str, str]) -> Iterator[Callable[[str], Kernel]]:
    """Start kernels of copies of the example."""
    with ExitStack() as stack:

        def start(name: str) -> Kernel:
            file = example.with_name(name)
            file.write_text(example.read_text())
            variables = {**environment, "AXON_NOTEBOOK": str(file)}
            return stack.enter_context(running_kernel(example.parent, variables))

        yield start


def cells(example: Path) -> list[Any]:
    return [cell for cell in nbformat.read(example, as_version=4).cells if cell.cell_type == "code"]


def run_all(kernel: Kernel, example: Path) -> str:
    """Execute all cells; return what they print."""
    return "".join(kernel.execute(cell.source, cell.id).text for cell in cells(example))


def last_checkpoints(records: NotebookRepository, name: str) -> list[NotebookCheckpoint]:
    """Return the last checkpoint of each epoch of a notebook."""
    (notebook,) = [one for one in records.list_all() if str(one.path).endswith(f"/{name}")]
    last = {one.epoch: one for one in reversed(records.list_checkpoints(notebook.id))}
    return [last[epoch] for epoch in sorted(last)]


@pytest.mark.timeout(400)  # three kernels that import PyTorch
def test_an_example_that_is_killed_and_run_again_ends_the_same(
    example: Path, kernels: Callable[[str], Kernel], records: NotebookRepository
) -> None:
    run_all(kernels("uninterrupted.ipynb"), example)
    uninterrupted = last_checkpoints(records, "uninterrupted.ipynb")
    assert [one.epoch for one in uninterrupted] == list(range(6))

    kernel = kernels("killed.ipynb")
    code = cells(example)
    train = next(cell for cell in code if cell.id == "train")
    for cell in code[: code.index(train)]:
        kernel.execute(cell.source, cell.id)
    kernel.send(train.source, train.id)
    eventually(lambda: _count(records, "killed.ipynb") >= 2, within=60)
    kernel.kill()
    assert "Resumed from checkpoint" in run_all(kernels("killed.ipynb"), example)

    killed = last_checkpoints(records, "killed.ipynb")
    assert [one.metrics for one in killed] == [one.metrics for one in uninterrupted]
    weights = [
        Path(checkpoints[-1].model_state_path).read_bytes()
        for checkpoints in (killed, uninterrupted)
    ]
    assert weights[0] == weights[1]


def _count(records: NotebookRepository, name: str) -> int:
    try:
        return len(last_checkpoints(records, name))
    except ValueError:
        return 0
