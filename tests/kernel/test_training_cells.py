"""Which run a cell of a notebook resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
from support.kernel import Kernel
from support.training_script import list_runs

from jupyter_axon_notebooks.records import RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository

StartKernel = Callable[..., Kernel]
COMPLETED, FAILED = RunStatus.COMPLETED, RunStatus.FAILED

TRAIN = """
model = {"w": np.full(2, float(BASE))}
resumed = axon.resume(model)
print("first epoch", resumed.epoch + 1 if resumed else 0, "weights", model["w"][0])
for epoch in range(resumed.epoch + 1 if resumed else 0, 4):
    if epoch == STOPS_AT:
        raise MemoryError
    model["w"] += 1
    axon.checkpoint(model, epoch=epoch)
"""
FOLDS = """
for fold in range(3):
    model = {"w": np.full(2, 100.0 * fold)}
    resumed = axon.resume(model, KEY)
    print("fold", fold, "first epoch", resumed.epoch + 1 if resumed else 0)
    for epoch in range(resumed.epoch + 1 if resumed else 0, 4):
        if (fold, epoch) == STOPS_AT:
            raise MemoryError
        model["w"] += 1
        axon.checkpoint(model, epoch=epoch)
    assert model["w"][0] == 100.0 * fold + 4
"""
#: A cell that resumes, and a loop for the next cell.
RESUME = """
model = {"w": np.zeros(2)}
resumed = axon.resume(model)
print(resumed and resumed.epoch)
"""
LOOP = """
for epoch in range(resumed.epoch + 1 if resumed else 0, 4):
    if epoch == STOPS_AT:
        raise MemoryError
    axon.checkpoint(model, epoch=epoch)
"""


def train(base: int, stops_at: int | None = None) -> str:
    return TRAIN.replace("BASE", str(base)).replace("STOPS_AT", str(stops_at))


def train_folds(key: str = "", stops_at: tuple[int, int] | None = None) -> str:
    return FOLDS.replace(", KEY", key).replace("STOPS_AT", str(stops_at))


def loop(stops_at: int | None = None) -> str:
    return LOOP.replace("STOPS_AT", str(stops_at))


def execute_failing(kernel: Kernel, source: str, cell_id: str | None) -> None:
    """Execute a cell that must fail with a MemoryError."""
    output = kernel.wait_for_output(kernel.send(source, cell_id))
    assert str(output.error).startswith("MemoryError"), output


def list_statuses(records: NotebookRepository) -> list[RunStatus]:
    return [run.status for run in list_runs(records)]


def save_cells(file: Path, **sources: str) -> None:
    """Save cells with these ids into a notebook."""
    cells = [nbformat.v4.new_code_cell(source, id=id) for id, source in sources.items()]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)


def test_each_of_two_trainings_resumes_its_own_run(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    kernel.execute(train(0), "a")
    execute_failing(kernel, train(1000, stops_at=2), "b")
    kernel.kill()
    kernel = start_kernel()
    assert "first epoch 0 weights 0.0" in kernel.execute(train(0), "a").text
    assert "first epoch 2 weights 1002.0" in kernel.execute(train(1000), "b").text


def test_without_cell_ids_a_cell_is_identified_by_its_source(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    kernel.execute(train(0))
    kernel.execute(
        "checkpoint = axon.checkpoint\n"
        "def fail_at_2(model, epoch):\n"
        "    if epoch == 2: raise MemoryError\n"
        "    checkpoint(model, epoch=epoch)\n"
        "axon.checkpoint = fail_at_2"
    )
    execute_failing(kernel, train(1000), None)
    kernel.kill()
    kernel = start_kernel()
    assert "first epoch 0 weights 0.0" in kernel.execute(train(0)).text
    assert "first epoch 2 weights 1002.0" in kernel.execute(train(1000)).text


def test_a_new_cell_resumes_the_run_of_another_cell(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    execute_failing(kernel, train(0, stops_at=1), "x")
    execute_failing(kernel, train(0, stops_at=3), "y")
    assert "first epoch 3 weights 3.0" in kernel.execute(train(0), "x").text
    assert list_statuses(records) == [FAILED, FAILED, COMPLETED]
    assert "first epoch 0" in kernel.execute(train(0), "y").text


def test_resume_and_its_loop_may_be_in_two_cells(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    assert kernel.execute(RESUME, "resume").text == "None\n"
    kernel.execute(loop(), "loop")
    execute_failing(kernel, loop(stops_at=3), "loop")  # the loop alone is executed again
    kernel.kill()
    kernel = start_kernel()
    assert kernel.execute(RESUME, "resume").text.splitlines()[-1] == "2"
    kernel.execute(loop(), "loop")
    assert list_statuses(records) == [COMPLETED, FAILED, COMPLETED]


def test_a_run_that_stops_before_its_first_checkpoint_is_skipped(
    start_kernel: StartKernel,
) -> None:
    kernel = start_kernel()
    assert kernel.execute(RESUME, "resume").text == "None\n"
    for _ in range(3):
        execute_failing(kernel, loop(stops_at=2), "loop")
        assert kernel.execute(RESUME, "resume").text.splitlines()[-1] == "1"
    kernel.execute(loop(), "loop")
    assert kernel.execute(RESUME, "resume").text.splitlines()[-1] == "None"


def test_folds_with_keys_resume_their_runs(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    key = ', key=f"fold {fold}"'
    kernel = start_kernel()
    execute_failing(kernel, train_folds(key, stops_at=(2, 1)), "cv")
    assert list_statuses(records) == [COMPLETED, COMPLETED, FAILED]
    kernel.kill()
    kernel = start_kernel()
    output = kernel.execute(train_folds(key), "cv").text
    assert [line for line in output.splitlines() if line.startswith("fold")] == [
        "fold 0 first epoch 0",
        "fold 1 first epoch 0",
        "fold 2 first epoch 1",
    ]


def test_folds_without_keys_begin_new_runs(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    for _ in range(2):
        execute_failing(kernel, train_folds(stops_at=(2, 1)), "cv")
    output = kernel.execute(train_folds(), "cv").text
    assert "To resume it, name the run" in output
    assert "Resumed" not in output
    completed = [status is COMPLETED for status in list_statuses(records)]
    assert completed == [True, True, False] * 2 + [True] * 3


def test_an_interrupt_that_the_cell_catches_completes_the_run(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    kernel.execute(
        "try:\n    for epoch in range(3):\n        axon.checkpoint(model, epoch=epoch)\n"
        "        if epoch == 1: raise KeyboardInterrupt\n"
        "except KeyboardInterrupt:\n    print('stopped early')"
    )
    output = kernel.execute("assert axon.resume(model, optimizer) is None").text
    assert "completed" in output
    assert "use resume(force=True)" in output


def test_a_cell_does_not_resume_the_run_of_an_existing_cell(
    start_kernel: StartKernel, notebook_file: Path
) -> None:
    save_cells(notebook_file, first=train(0, stops_at=2), second=train(1000))
    kernel = start_kernel()
    execute_failing(kernel, train(0, stops_at=2), "first")
    assert "first epoch 0 weights 1000.0" in kernel.execute(train(1000), "second").text
    assert "first epoch 2 weights 2.0" in kernel.execute(train(0), "first").text


def test_an_edited_cell_without_an_id_resumes_its_run(
    start_kernel: StartKernel, notebook_file: Path
) -> None:
    save_cells(notebook_file, a=train(0), b=train(1000, stops_at=2))
    kernel = start_kernel()
    kernel.execute(train(0))
    execute_failing(kernel, train(1000, stops_at=2), None)
    save_cells(notebook_file, a=train(0), b=train(1000))
    kernel.kill()
    kernel = start_kernel()
    assert "first epoch 0 weights 0.0" in kernel.execute(train(0)).text
    assert "first epoch 2 weights 1002.0" in kernel.execute(train(1000)).text


def test_a_cell_that_failed_after_its_training_resumes_it_once(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    execute_failing(kernel, train(0) + "\nraise MemoryError", "a")
    assert "first epoch 4" in kernel.execute(train(0), "a").text  # nothing is left to train
    assert "first epoch 0" in kernel.execute(train(0), "a").text


def test_a_callback_of_the_event_loop_resumes_its_run(start_kernel: StartKernel) -> None:
    """As the callbacks of widgets, which the kernel calls outside of cells."""
    kernel = start_kernel()
    kernel.execute(
        "import asyncio\nresumed_epochs = []\n"
        "def train(stops_at):\n"
        "    model = {'w': np.zeros(2)}\n"
        "    resumed = axon.resume(model)\n"
        "    resumed_epochs.append(resumed and resumed.epoch)\n"
        "    for epoch in range(resumed.epoch + 1 if resumed else 0, 6):\n"
        "        if epoch == stops_at: raise MemoryError\n"
        "        axon.checkpoint(model, epoch=epoch)\n"
        "ended = asyncio.Event()\n"
        "def callback(stops_at):\n"
        "    try: train(stops_at)\n"
        "    finally: ended.set()\n"
    )
    for stops_at in (3, 9):
        kernel.execute(f"asyncio.get_event_loop().call_soon(callback, {stops_at})")
        kernel.execute("await ended.wait(); ended.clear()")
    assert kernel.evaluate("resumed_epochs") == [None, 2]
