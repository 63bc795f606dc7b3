"""The sample notebooks: killed in the middle, and run again, they end as if uninterrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.engines import eventually
from support.kernel import Kernel, started

from jupyter_axon_notebooks.records import NotebookCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository

EXAMPLES = Path(__file__).parents[2] / "examples"
#: The samples, and the line with their length, as published and in this test.
LENGTHS = {
    "train_digits.ipynb": ("epochs, batches = 30, 50", "epochs, batches = 6, 10"),
    "train_digits_pytorch.ipynb": ("epochs = 20", "epochs = 6"),
}


@pytest.fixture(params=LENGTHS)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A sample in its own folder, with fewer epochs."""
    file = tmp_path / str(request.param)
    text = (EXAMPLES / file.name).read_text()
    there, here = LENGTHS[file.name]
    assert text.count(there) == 1
    file.write_text(text.replace(there, here))
    return file


@pytest.fixture
def kernels(sample: Path, environment: dict[str, str]) -> Iterator[Callable[[str], Kernel]]:
    """Start kernels of copies of the sample."""
    with ExitStack() as stack:

        def start(name: str) -> Kernel:
            file = sample.with_name(name)
            file.write_text(sample.read_text())
            told = {**environment, "AXON_NOTEBOOK": str(file)}
            return stack.enter_context(started(sample.parent, told))

        yield start


def cells(sample: Path) -> list[Any]:
    return [cell for cell in nbformat.read(sample, as_version=4).cells if cell.cell_type == "code"]


def run_all(kernel: Kernel, sample: Path) -> str:
    """Return what all cells print."""
    return "".join(kernel.do(cell.source, cell.id).text for cell in cells(sample))


def last_checkpoints(records: NotebookRepository, name: str) -> list[NotebookCheckpoint]:
    """Return the last checkpoint of each epoch of a notebook."""
    (notebook,) = [one for one in records.list_all() if str(one.path).endswith(f"/{name}")]
    made = {one.epoch: one for one in reversed(records.list_checkpoints(notebook.id))}
    return [made[epoch] for epoch in sorted(made)]


@pytest.mark.timeout(400)  # three kernels that import PyTorch
def test_a_sample_that_is_killed_and_run_again_ends_the_same(
    sample: Path, kernels: Callable[[str], Kernel], records: NotebookRepository
) -> None:
    run_all(kernels("whole.ipynb"), sample)
    whole = last_checkpoints(records, "whole.ipynb")
    assert [one.epoch for one in whole] == list(range(6))

    kernel = kernels("killed.ipynb")
    code = cells(sample)
    train = next(cell for cell in code if cell.id == "train")
    for cell in code[: code.index(train)]:
        kernel.do(cell.source, cell.id)
    kernel.send(train.source, train.id)
    eventually(lambda: _count(records, "killed.ipynb") >= 2, within=60)
    kernel.kill()
    assert "Resumed from checkpoint" in run_all(kernels("killed.ipynb"), sample)

    killed = last_checkpoints(records, "killed.ipynb")
    assert [one.metrics for one in killed] == [one.metrics for one in whole]
    weights = [Path(made[-1].model_state_path).read_bytes() for made in (killed, whole)]
    assert weights[0] == weights[1]


def _count(records: NotebookRepository, name: str) -> int:
    try:
        return len(last_checkpoints(records, name))
    except ValueError:
        return 0
