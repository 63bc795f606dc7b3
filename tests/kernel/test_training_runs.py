"""Interrupted trainings in kernels have the same result as uninterrupted ones."""

from __future__ import annotations

from contextlib import closing

from support.engines import eventually
from support.training_script import EPOCHS, SET_UP, assert_equals_uninterrupted, list_runs, train

from jupyter_axon_notebooks.records import RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store


def test_a_killed_training_ends_with_the_same_weights(
    training, notebook_file, records, uninterrupted
):
    for stops_at in (3, 6):
        kernel = training()
        kernel.do(SET_UP)
        kernel.send(train(stops_at=stops_at))
        eventually((notebook_file.parent / "stopped").exists)
        kernel.kill()
        (notebook_file.parent / "stopped").unlink()
    kernel = training()
    kernel.do(SET_UP)
    output = kernel.do(train()).text
    assert "Resumed from checkpoint" in output
    assert "epoch 5" in output
    assert_equals_uninterrupted(records, uninterrupted)
    assert [run.status for run in list_runs(records)][-1] is RunStatus.COMPLETED


def test_a_training_resumes_in_a_moved_data_folder(
    training, notebook_file, tmp_path, uninterrupted
):
    kernel = training()
    kernel.do(SET_UP)
    kernel.send(train(stops_at=3))
    eventually((notebook_file.parent / "stopped").exists)
    kernel.kill()
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    kernel = training(JUPYTER_DATA_DIR=str(moved))
    kernel.do(SET_UP)
    assert "Resumed from checkpoint" in kernel.do(train()).text
    folder = moved / "axon_notebooks"
    with closing(open_store(f"sqlite:///{folder}/axon.db")) as store:
        assert_equals_uninterrupted(
            NotebookRepository(store, states=StateStorage(folder / "states")), uninterrupted
        )
    assert not (tmp_path / "data" / "axon_notebooks").exists()


def test_an_interrupted_training_resumes_in_the_same_kernel(
    training, notebook_file, records, uninterrupted
):
    kernel = training()
    kernel.do(SET_UP)
    begun = kernel.send(train(stops_at=4))
    eventually((notebook_file.parent / "stopped").exists)
    kernel.interrupt()
    assert str(kernel.output(begun).error).startswith("KeyboardInterrupt")
    assert list_runs(records)[-1].status is RunStatus.STOPPED
    kernel.do(train())
    assert_equals_uninterrupted(records, uninterrupted)


def test_a_failed_training_resumes_in_the_same_kernel(
    training, notebook_file, records, uninterrupted
):
    kernel = training()
    kernel.do(SET_UP)
    failed = kernel.output(kernel.send(train(stops_at=2, stops="raise MemoryError")))
    assert str(failed.error).startswith("MemoryError")
    assert list_runs(records)[-1].status is RunStatus.FAILED
    kernel.do(train())
    assert_equals_uninterrupted(records, uninterrupted)


def test_run_all_twice_trains_twice(training, notebook_file, records):
    kernel = training()
    for _ in range(2):
        kernel.do(SET_UP)
        kernel.do(train())
    first, second = list_runs(records)
    assert first.status is second.status is RunStatus.COMPLETED
    assert second.parent_checkpoint_id is None
    for run in (first, second):
        assert records.checkpoints.count(run.notebook_id, run_id=run.id) == EPOCHS


def test_each_execution_of_a_loop_is_a_run(training, notebook_file, records):
    kernel = training()
    kernel.do(SET_UP)
    for _ in range(3):
        kernel.do("for epoch in range(2): axon.checkpoint(model, epoch=epoch)")
    assert len(list_runs(records)) == 3


def test_cells_with_one_epoch_each_are_one_run(training, notebook_file, records):
    kernel = training()
    kernel.do(SET_UP)
    for epoch in range(3):
        kernel.do(f"axon.checkpoint(model, epoch={epoch})")
        assert [run.status for run in list_runs(records)] == [RunStatus.COMPLETED]
    kernel.do("axon.checkpoint(model, epoch=2)")
    assert len(list_runs(records)) == 2


def test_resuming_an_earlier_checkpoint_keeps_both_branches(
    training, notebook_file, records, uninterrupted
):
    kernel = training()
    kernel.do(SET_UP)
    failed = kernel.output(kernel.send(train(stops_at=6, stops="raise MemoryError")))
    assert failed.error is not None
    (crashed,) = list_runs(records)
    at_2 = next(one for one in records.list_checkpoints(crashed.notebook_id) if one.epoch == 2)
    kernel.do(
        train().replace(
            "axon.resume(model, optimizer)",
            f"axon.resume(model, optimizer, checkpoint={at_2.id!r})",
        )
    )
    assert_equals_uninterrupted(records, uninterrupted)
    assert [
        one.epoch for one in records.list_checkpoints(crashed.notebook_id, run_id=crashed.id)
    ] == [
        5,
        4,
        3,
        2,
        1,
        0,
    ]
    resumed = list_runs(records)[-1]
    assert resumed.parent_checkpoint_id == at_2.id
    assert [
        one.epoch for one in records.list_checkpoints(crashed.notebook_id, run_id=resumed.id)
    ] == [
        7,
        6,
        5,
        4,
        3,
    ]


def test_a_run_in_another_kernel_is_left_alone(training, notebook_file, records):
    one, other = training(), training()
    one.do(SET_UP)
    one.send(train(stops_at=3))
    eventually((notebook_file.parent / "stopped").exists)
    other.do(SET_UP)
    output = other.do(train()).text
    assert "still training" in output
    alive, anew = list_runs(records)
    assert (alive.status, anew.status) == (RunStatus.RUNNING, RunStatus.COMPLETED)
    assert anew.parent_checkpoint_id is None
    assert records.checkpoints.count(alive.notebook_id, run_id=alive.id) == 3
