"""A training that is broken off goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from support.engines import eventually
from support.kernel import Kernel
from support.training_script import EPOCHS, SET_UP, assert_as_undisturbed, runs, train

from jupyter_axon_notebooks.records import RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store


def test_a_killed_training_resumes_to_the_same_weights(
    training: Callable[..., Kernel],
    notebook_file: Path,
    records: NotebookRepository,
    undisturbed: tuple[list[float], bytes],
) -> None:
    for stops_at in (3, 6):
        kernel = training()
        kernel.do(SET_UP)
        kernel.send(train(stops_at=stops_at))
        eventually((notebook_file.parent / "stopped").exists)
        kernel.kill()
        (notebook_file.parent / "stopped").unlink()
    kernel = training()
    kernel.do(SET_UP)
    said = kernel.do(train()).text
    assert "Resumed from checkpoint" in said
    assert "epoch 5" in said
    assert_as_undisturbed(records, undisturbed)
    assert [run.status for run in runs(records)][-1] is RunStatus.COMPLETED


def test_a_training_resumes_in_a_data_folder_that_was_moved(
    training: Callable[..., Kernel],
    notebook_file: Path,
    tmp_path: Path,
    undisturbed: tuple[list[float], bytes],
) -> None:
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
        assert_as_undisturbed(
            NotebookRepository(store, states=StateStorage(folder / "states")), undisturbed
        )
    assert not (tmp_path / "data" / "axon_notebooks").exists()


def test_an_interrupted_training_resumes_in_the_same_kernel(
    training: Callable[..., Kernel],
    notebook_file: Path,
    records: NotebookRepository,
    undisturbed: tuple[list[float], bytes],
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    begun = kernel.send(train(stops_at=4))
    eventually((notebook_file.parent / "stopped").exists)
    kernel.interrupt()
    assert str(kernel.output(begun).error).startswith("KeyboardInterrupt")
    assert runs(records)[-1].status is RunStatus.STOPPED
    kernel.do(train())
    assert_as_undisturbed(records, undisturbed)


def test_a_training_that_raised_resumes(
    training: Callable[..., Kernel],
    notebook_file: Path,
    records: NotebookRepository,
    undisturbed: tuple[list[float], bytes],
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    failed = kernel.output(kernel.send(train(stops_at=2, stops="raise MemoryError")))
    assert str(failed.error).startswith("MemoryError")
    assert runs(records)[-1].status is RunStatus.FAILED
    kernel.do(train())
    assert_as_undisturbed(records, undisturbed)


def test_to_run_all_twice_trains_twice(
    training: Callable[..., Kernel], notebook_file: Path, records: NotebookRepository
) -> None:
    kernel = training()
    for _ in range(2):
        kernel.do(SET_UP)
        kernel.do(train())
    first, second = runs(records)
    assert first.status is second.status is RunStatus.COMPLETED
    assert second.parent_checkpoint_id is None
    for run in (first, second):
        assert records.checkpoints.count(run.notebook_id, run_id=run.id) == EPOCHS


def test_running_the_loop_again_begins_a_run(
    training: Callable[..., Kernel], notebook_file: Path, records: NotebookRepository
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    for _ in range(3):
        kernel.do("for epoch in range(2): axon.checkpoint(model, epoch=epoch)")
    assert len(runs(records)) == 3


def test_an_epoch_a_cell_is_one_run(
    training: Callable[..., Kernel], notebook_file: Path, records: NotebookRepository
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    for epoch in range(3):
        kernel.do(f"axon.checkpoint(model, epoch={epoch})")
        assert [run.status for run in runs(records)] == [RunStatus.COMPLETED]
    kernel.do("axon.checkpoint(model, epoch=2)")
    assert len(runs(records)) == 2


def test_resuming_before_the_last_checkpoint_keeps_both_branches(
    training: Callable[..., Kernel],
    notebook_file: Path,
    records: NotebookRepository,
    undisturbed: tuple[list[float], bytes],
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    failed = kernel.output(kernel.send(train(stops_at=6, stops="raise MemoryError")))
    assert failed.error is not None
    (crashed,) = runs(records)
    at_2 = next(c for c in records.list_checkpoints(crashed.notebook_id) if c.epoch == 2)
    kernel.do(
        train().replace(
            "axon.resume(model, optimizer)",
            f"axon.resume(model, optimizer, checkpoint={at_2.id!r})",
        )
    )
    assert_as_undisturbed(records, undisturbed)
    assert [c.epoch for c in records.list_checkpoints(crashed.notebook_id, run_id=crashed.id)] == [
        5,
        4,
        3,
        2,
        1,
        0,
    ]
    resumed = runs(records)[-1]
    assert resumed.parent_checkpoint_id == at_2.id
    assert [c.epoch for c in records.list_checkpoints(crashed.notebook_id, run_id=resumed.id)] == [
        7,
        6,
        5,
        4,
        3,
    ]


def test_a_run_that_is_alive_elsewhere_is_left_alone(
    training: Callable[..., Kernel], notebook_file: Path, records: NotebookRepository
) -> None:
    one, other = training(), training()
    one.do(SET_UP)
    one.send(train(stops_at=3))
    eventually((notebook_file.parent / "stopped").exists)
    other.do(SET_UP)
    said = other.do(train()).text
    assert "still training" in said
    alive, anew = runs(records)
    assert (alive.status, anew.status) == (RunStatus.RUNNING, RunStatus.COMPLETED)
    assert anew.parent_checkpoint_id is None
    assert records.checkpoints.count(alive.notebook_id, run_id=alive.id) == 3


def test_any_run_can_be_gone_on_with(
    training: Callable[..., Kernel], notebook_file: Path, records: NotebookRepository
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    kernel.do(train(epochs=4))
    assert "Resumed" not in kernel.do("assert axon.resume(model, optimizer) is None").text
    kernel.do(
        train().replace(
            "axon.resume(model, optimizer)", "axon.resume(model, optimizer, force=True)"
        )
    )
    first, second = runs(records)
    assert [c.epoch for c in records.list_checkpoints(first.notebook_id, run_id=second.id)] == [
        7,
        6,
        5,
        4,
    ]
    assert second.parent_checkpoint_id is not None
