"""Runs with rules of their own are pruned while they are trained."""

from __future__ import annotations

import math
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from jupyter_axon_notebooks.errors import NotFound
from jupyter_axon_notebooks.records import RunStatus
from jupyter_axon_notebooks.training.messages import AxonWarning


def train(axon, losses, *, first=0, save=None, **options):
    """Make a checkpoint for each loss; return the checkpoints."""
    save = save or axon.checkpoint
    model = {"w": np.arange(3.0)}
    return [
        save(model, epoch=0, step=step, metrics={"val_loss": loss}, **options)
        for step, loss in enumerate(losses, start=first)
    ]


def steps_with_state(axon):
    return sorted(one.step for one in axon.checkpoints() if one.has_state)


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6]),
        ("last:2", [5, 6]),
        ("best:val_loss:2", [1, 3, 6]),
        ("best:val_loss:max:1", [0, 6]),
        ("every:3", [0, 3, 6]),
        ("last:2, best:val_loss, every:4", [0, 1, 4, 5, 6]),
    ],
)
def test_the_rules_decide_which_states_stay(axon, keep, kept):
    axon.start_run(keep=keep)
    train(axon, [9, 1, 5, 2, 6, 7, 8])
    assert steps_with_state(axon) == kept
    assert [one.metrics["val_loss"] for one in axon.checkpoints()] == [8, 7, 6, 2, 5, 1, 9]


def test_files_and_objects_of_pruned_checkpoints(axon):
    run = axon.start_run(keep="last:1")
    first, second = train(axon, [1, 2], save=run.checkpoint)
    assert not first.has_state
    assert not Path(second.record.model_state_path).parent.with_name(first.id).exists()
    with pytest.raises(NotFound, match="pruned at"):
        first.restore()
    second.restore()


def test_pinned_and_tagged_checkpoints_stay(axon):
    axon.start_run(keep="last:1")
    train(axon, [1], tags="release")
    axon.pin(train(axon, [1], first=1)[0])
    train(axon, [1, 1, 1], first=2)
    assert steps_with_state(axon) == [0, 1, 4]


def test_logged_values_decide_which_are_best(axon):
    axon.start_run(keep="best:val_loss")
    for step, loss in enumerate([3.0, 1.0, 2.0, 4.0]):
        axon.log({"val_loss": loss}, step=step)
        axon.checkpoint({"w": np.zeros(2)}, step=step)
    assert steps_with_state(axon) == [1, 3]


def test_metrics_that_are_added_to_a_checkpoint_count(axon):
    axon.start_run(keep="best:val_loss")
    for step, loss in enumerate([3.0, 1.0, 2.0]):
        axon.checkpoint({"w": np.full(2, loss)}, step=step)
        axon.checkpoint(None, step=step, metrics={"val_loss": loss})
    assert steps_with_state(axon) == [1, 2]


def test_a_replaced_checkpoint_does_not_count(axon):
    axon.start_run(keep="last:2")
    for weight in range(3):
        axon.checkpoint({"w": np.full(2, weight)}, step=0, overwrite=True)
    train(axon, [1], first=1)
    assert steps_with_state(axon) == [0, 1]


@pytest.mark.parametrize("missing", [math.nan, None])
def test_nothing_is_pruned_before_there_is_a_best(axon, capsys, missing):
    axon.start_run(keep="last:1, best:val_loss:2")
    metrics = {} if missing is None else {"val_loss": missing}
    for step in range(5):
        axon.checkpoint({"w": np.zeros(2)}, step=step, metrics=metrics)
    assert steps_with_state(axon) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out.count("a finite number val_loss") == 1
    train(axon, [1, 2], first=5)
    assert steps_with_state(axon) == [5, 6]


@pytest.mark.parametrize("end", [RunStatus.FAILED, None])
def test_other_runs_keep_their_states(axon, end):
    train(axon, [1, 2, 3])
    with axon.start_run(keep="last:1") as run:
        train(axon, [1, 2, 3])
        if end is not None:
            run.finish(end)
    axon.start_run()
    train(axon, [1, 2, 3])
    assert steps_with_state(axon) == [0, 0, 1, 1, 2, 2, 2]


def test_a_resumed_run_has_the_rules_and_keeps_its_beginning(axon, restart, records):
    axon.start_run(keep="last:2")
    train(axon, [1, 2, 3])
    restart(RunStatus.STOPPED)
    resumed = axon.resume({"w": np.zeros(3)}, force=True)
    assert resumed.step == 2
    train(axon, [1, 2, 3, 4], first=3)
    assert steps_with_state(axon) == [1, 2, 5, 6]
    (notebook,) = records.list_all()
    assert [run.keep for run in records.runs.list(notebook.id)] == ["last:2"] * 2


def test_a_run_keeps_a_checkpoint_that_another_one_goes_back_to(axon):
    run = axon.start_run(keep="last:2")
    _, second = train(axon, [1, 2])
    branch = axon.resume({"w": np.zeros(3)}, checkpoint=second)
    assert branch.id == second.id
    train(axon, [5, 5, 5], first=2)
    assert run.status is not RunStatus.RUNNING
    assert steps_with_state(axon) == [0, 1, 3, 4]


def test_nothing_is_pruned_while_the_store_is_unavailable(axon, unavailable_store):
    with pytest.warns(AxonWarning, match="not being recorded"):
        axon.start_run(keep="last:2, best:val_loss")
    made = train(axon, [3, 1, 2, 4, 5])
    assert not any(one.is_recorded for one in made)
    assert all(one.has_state for one in made)
    unavailable_store()
    assert axon.latest().is_recorded
    assert len(steps_with_state(axon)) == 5
    train(axon, [6], first=5)
    assert steps_with_state(axon) == [1, 4, 5]


def test_the_next_checkpoint_prunes_after_the_store_was_locked(axon, records, tmp_path):
    axon.start_run(keep="last:1")
    train(axon, [1])
    with (
        closing(sqlite3.connect(tmp_path / "data" / "axon_notebooks" / "axon.db")) as other,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", AxonWarning)
        other.execute("BEGIN IMMEDIATE")
        train(axon, [2], first=1)
    assert len(steps_with_state(axon)) == 2
    train(axon, [3], first=2)
    assert steps_with_state(axon) == [2]


def test_states_that_cannot_be_removed_cost_one_warning(axon):
    axon.start_run(keep="last:1")

    def train_with_folder(step):
        """Make a checkpoint whose state file is then replaced by a folder."""
        (made,) = train(axon, [1], first=step)
        state = Path(made.record.model_state_path)
        state.unlink()
        (state / "folder").mkdir(parents=True)
        return made

    train_with_folder(0)
    with pytest.warns(AxonWarning, match="state files of run 1 cannot be removed"):
        train_with_folder(1)
    assert train_with_folder(2).is_recorded  # a second warning would be an error


def test_states_that_no_longer_exist_are_left_alone(axon):
    axon.start_run(keep="last:1")
    (first,) = train(axon, [1])
    Path(first.record.model_state_path).unlink()
    train(axon, [1, 1], first=1)
    assert steps_with_state(axon) == [2]


def test_rules_can_be_changed_while_a_run_is_trained(axon):
    run = axon.start_run(keep="last:3")
    train(axon, [1, 2, 3, 4])
    run.update(keep="last:1")
    train(axon, [5], first=4)
    assert steps_with_state(axon) == [4]
    with pytest.raises(ValueError, match="expected last:N"):
        run.update(keep="newest:1")
    assert run.record.keep == "last:1"
    run.update(keep="")
    train(axon, [6, 7], first=5)
    assert steps_with_state(axon) == [4, 5, 6]


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        ("last:2, newest:3", ValueError, r"keep is .*expected last:N, .*\(at position 9, "),
        ("", ValueError, "expected last:N"),
        ("best:gap:3", ValueError, "best:gap:min:3 or best:gap:max:3"),
        (3, TypeError, "keep is 3; expected rules such as"),
        (["last:2"], TypeError, "expected rules such as"),
    ],
)
def test_invalid_rules_change_nothing(axon, records, keep, error, message):
    run = axon.start_run(keep="last:2")
    train(axon, [1])
    with pytest.raises(error, match=message):
        axon.start_run(keep=keep)
    assert run.status is RunStatus.RUNNING
    train(axon, [1, 1], first=1)
    assert steps_with_state(axon) == [1, 2]
    (notebook,) = records.list_all()
    assert len(records.runs.list(notebook.id)) == 1
