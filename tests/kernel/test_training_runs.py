"""Interrupted trainings in kernels have the same result as uninterrupted ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.engines import eventually
from support.kernel import Kernel
from support.training_script import EPOCHS, SET_UP, assert_equals_uninterrupted, list_runs, train

from jupyter_axon_notebooks.records import RunStatus, TrainingRun
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store

StartKernel = Callable[..., Kernel]
Uninterrupted = tuple[list[float], bytes]


def train_until(kernel: Kernel, tmp_path: Path, stops_at: int) -> str:
    """Train until before an epoch, where the cell waits; return the id of its message."""
    message = kernel.send(train(stops_at=stops_at))
    eventually((tmp_path / "stopped").exists)
    (tmp_path / "stopped").unlink()
    return message


def list_epochs(records: NotebookRepository, run: TrainingRun) -> list[int]:
    checkpoints = records.list_checkpoints(run.notebook_id, run_id=run.id)
    return [checkpoint.epoch for checkpoint in checkpoints][::-1]


def test_a_killed_training_ends_with_the_same_weights(
    start_kernel: StartKernel,
    records: NotebookRepository,
    tmp_path: Path,
    uninterrupted: Uninterrupted,
) -> None:
    for stops_at in (3, 6):
        kernel = start_kernel()
        train_until(kernel, tmp_path, stops_at)
        kernel.kill()
    output = start_kernel().execute(train()).text
    assert "Resumed from checkpoint" in output
    assert "epoch 5" in output
    assert_equals_uninterrupted(records, uninterrupted)
    assert list_runs(records)[-1].status is RunStatus.COMPLETED


def test_a_training_resumes_in_a_moved_data_folder(
    start_kernel: StartKernel, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    kernel = start_kernel()
    train_until(kernel, tmp_path, 3)
    kernel.kill()
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    kernel = start_kernel(JUPYTER_DATA_DIR=str(moved))
    assert "Resumed from checkpoint" in kernel.execute(train()).text
    folder = moved / "axon_notebooks"
    with closing(open_store(f"sqlite:///{folder}/axon.db")) as store:
        records = NotebookRepository(store, states=StateStorage(folder / "states"))
        assert_equals_uninterrupted(records, uninterrupted)
    assert not (tmp_path / "data" / "axon_notebooks").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [("KeyboardInterrupt", RunStatus.STOPPED), ("MemoryError", RunStatus.FAILED)],
)
def test_a_training_resumes_in_the_same_kernel(
    start_kernel: StartKernel,
    records: NotebookRepository,
    tmp_path: Path,
    uninterrupted: Uninterrupted,
    error: str,
    status: RunStatus,
) -> None:
    kernel = start_kernel()
    if error == "KeyboardInterrupt":
        message = train_until(kernel, tmp_path, 4)
        kernel.interrupt()
    else:
        message = kernel.send(train(stops_at=4, stops=f"raise {error}"))
    assert str(kernel.wait_for_output(message).error).startswith(error)
    assert list_runs(records)[-1].status is status
    kernel.execute(train())
    assert_equals_uninterrupted(records, uninterrupted)


def test_run_all_twice_trains_twice(start_kernel: StartKernel, records: NotebookRepository) -> None:
    kernel = start_kernel()
    for _ in range(2):
        kernel.execute(SET_UP)
        kernel.execute(train())
    runs = list_runs(records)
    assert [run.status for run in runs] == [RunStatus.COMPLETED] * 2
    assert [list_epochs(records, run) for run in runs] == [list(range(EPOCHS))] * 2
    assert runs[1].parent_checkpoint_id is None


def test_each_execution_of_a_loop_is_a_run(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    for _ in range(3):
        kernel.execute("for epoch in range(2): axon.checkpoint(model, epoch=epoch)")
    assert len(list_runs(records)) == 3


def test_cells_with_one_epoch_each_are_one_run(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    for epoch in range(3):
        kernel.execute(f"axon.checkpoint(model, epoch={epoch})")
        assert [run.status for run in list_runs(records)] == [RunStatus.COMPLETED]
    kernel.execute("axon.checkpoint(model, epoch=2)")
    assert len(list_runs(records)) == 2


def test_resuming_an_earlier_checkpoint_keeps_both_branches(
    start_kernel: StartKernel, records: NotebookRepository, uninterrupted: Uninterrupted
) -> None:
    kernel = start_kernel()
    kernel.wait_for_reply(kernel.send(train(stops_at=6, stops="raise MemoryError")))
    (failed,) = list_runs(records)
    checkpoints = records.list_checkpoints(failed.notebook_id)
    parent = next(checkpoint for checkpoint in checkpoints if checkpoint.epoch == 2)
    resume = f"axon.resume(model, optimizer, checkpoint={parent.id!r})"
    kernel.execute(train().replace("axon.resume(model, optimizer)", resume))
    assert_equals_uninterrupted(records, uninterrupted)
    resumed = list_runs(records)[-1]
    assert resumed.parent_checkpoint_id == parent.id
    assert list_epochs(records, failed) == [0, 1, 2, 3, 4, 5]
    assert list_epochs(records, resumed) == [3, 4, 5, 6, 7]


def test_a_run_that_is_still_training_is_not_resumed(
    start_kernel: StartKernel, records: NotebookRepository, tmp_path: Path
) -> None:
    train_until(start_kernel(), tmp_path, 3)
    output = start_kernel().execute(train()).text
    assert "still training" in output
    running, new = list_runs(records)
    assert (running.status, new.status) == (RunStatus.RUNNING, RunStatus.COMPLETED)
    assert new.parent_checkpoint_id is None
    assert list_epochs(records, running) == [0, 1, 2]


def test_a_run_with_rules_keeps_few_states_and_resumes(
    start_kernel: StartKernel, records: NotebookRepository, tmp_path: Path
) -> None:
    keep = 'axon.start_run(keep="last:2, best:loss:max")\n'
    kernel = start_kernel()
    code = train(stops_at=5).replace(
        "resumed = axon.resume(model, optimizer)", f"{keep}resumed = 0"
    )
    kernel.send(code)
    eventually((tmp_path / "stopped").exists)
    assert list_epochs_with_state(records) == [0, 3, 4]
    kernel.kill()
    output = start_kernel().execute(train()).text
    assert "Resumed from checkpoint" in output
    resumed = list_runs(records)[-1]
    assert (resumed.keep, resumed.status) == ("last:2, best:loss:max", RunStatus.COMPLETED)
    assert list_epochs(records, resumed) == [5, 6, 7]
    assert {0, 3, 4, 6, 7} <= {*list_epochs_with_state(records)}


def list_epochs_with_state(records: NotebookRepository) -> list[int]:
    (notebook,) = records.list_all()
    checkpoints = records.list_checkpoints(notebook.id)
    return sorted(one.epoch for one in checkpoints if Path(one.model_state_path or "-").is_file())
