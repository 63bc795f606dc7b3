"""Positions of runs, and which runs are alive."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest

from jupyter_axon_notebooks.records import MAX_STEP, RunProcess, RunStatus, TrainingRun, now
from jupyter_axon_notebooks.training.processes import (
    is_alive,
    is_this_process,
    is_unfinished,
    this_process,
)
from jupyter_axon_notebooks.training.run import RunPosition

CELL, NEXT_CELL = "execution 1", "execution 2"


def position_after(*checkpoints: tuple[int, int]) -> RunPosition:
    position = RunPosition()
    for epoch, step in checkpoints:
        position.advance(epoch, step, CELL)
    return position


@pytest.mark.parametrize(
    ("last", "epoch", "step", "execution", "relation"),
    [
        (None, 5, None, CELL, "after"),
        ((3, 3), None, None, CELL, "after"),
        ((3, 3), None, None, NEXT_CELL, "after"),
        ((3, 3), 4, None, NEXT_CELL, "after"),
        ((3, 3), 3, None, CELL, "after"),  # twice an epoch
        ((3, 3), 3, None, NEXT_CELL, "before"),  # the cell was run again
        ((3, 3), 2, None, CELL, "before"),
        ((3, 3), None, 4, CELL, "after"),
        ((3, 3), None, 3, CELL, "same"),
        ((3, 3), None, 3, NEXT_CELL, "before"),
        ((3, 3), None, 2, CELL, "before"),
        ((3, 3), 3, 4, CELL, "after"),
        ((3, 3), 4, 0, CELL, "after"),
        ((3, 3), 3, 3, CELL, "same"),
        ((3, 3), 3, 3, NEXT_CELL, "before"),
        ((3, 3), 2, 9, CELL, "before"),
    ],
)
def test_a_position_is_compared_with_the_last_one(last, epoch, step, execution, relation):
    position = position_after(last) if last else position_after()
    assert position.compare(epoch, step, execution) == relation


def test_a_run_resumes_in_the_middle_of_an_epoch():
    position = RunPosition()
    position.resume(3, 40)
    assert position.compare(3, None, NEXT_CELL) == "after"
    assert position.next(3, None) == (3, 41)
    assert position.compare(3, 40, NEXT_CELL) == "same"
    assert position.compare(2, None, CELL) == "before"
    position.advance(3, 41, CELL)
    assert position.compare(3, None, NEXT_CELL) == "before"


def test_omitted_values_follow_from_the_position():
    assert position_after().next(None, None) == (0, 0)
    assert position_after().next(7, None) == (7, 0)
    assert position_after((2, 5)).next(None, None) == (2, 6)
    assert position_after((2, 5)).next(3, None) == (3, 6)
    assert position_after((2, 5)).next(None, 9) == (2, 9)


def test_no_step_follows_the_largest():
    last = position_after((1, MAX_STEP - 1))
    assert last.next(None, None) == (1, MAX_STEP)
    last.advance(1, MAX_STEP, CELL)
    for overwrite in (False, True):
        for epoch in (None, 2):
            with pytest.raises(ValueError, match=rf"No step follows {MAX_STEP}.*Give a step"):
                last.next(epoch, None, overwrite=overwrite)
    assert last.next(2, 3) == (2, 3)
    assert last.next(1, None, overwrite=True) == (1, MAX_STEP)


def test_an_overwriting_checkpoint_has_the_step_of_its_epoch():
    position = position_after((0, 0), (1, 1), (1, 2), (2, 3))
    assert position.next(1, None, overwrite=True) == (1, 2)
    assert position.next(3, None, overwrite=True) == (3, 4)
    assert position.next(1, 1, overwrite=True) == (1, 1)


def run(status: RunStatus = RunStatus.RUNNING, **fields: object) -> TrainingRun:
    return TrainingRun(id="r", notebook_id="n", started_at=now(), status=status, **fields)


def test_a_run_of_this_process_is_alive():
    assert is_this_process(this_process())
    assert is_alive(run(process=this_process(), lease_until=now() + timedelta(minutes=1)))
    assert not is_unfinished(run(process=this_process()))


def test_a_run_whose_process_has_ended_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ours = this_process()
    process = RunProcess(host=ours.host, pid=child.pid, started_at=now())
    alive = run(process=process, lease_until=now() + timedelta(hours=1))
    assert is_alive(alive)
    child.communicate()
    assert not is_alive(alive)
    assert is_unfinished(alive)


def test_another_process_with_the_same_id_is_not_the_same_process():
    ours = this_process()
    before = RunProcess(
        host=ours.host, pid=os.getpid(), started_at=ours.started_at - timedelta(hours=1)
    )
    assert not is_this_process(before)
    assert not is_alive(run(process=before))


def test_a_living_process_keeps_its_run_after_the_lease_has_lapsed():
    lapsed = now() - timedelta(seconds=1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = RunProcess(host=this_process().host, pid=child.pid, started_at=now())
        lapsed_run = run(RunStatus.STOPPED, process=process, lease_until=lapsed, ended_at=lapsed)
        assert is_alive(lapsed_run)
        assert not is_unfinished(lapsed_run)
        assert is_alive(run(process=process, lease_until=lapsed))
        ended = run(RunStatus.STOPPED, process=process, lease_until=lapsed, ended_at=now())
        assert not is_alive(ended)
        assert is_unfinished(ended)
        child.communicate()
    assert is_unfinished(lapsed_run)


def test_a_lapsed_run_of_this_process_may_be_resumed():
    lapsed = now() - timedelta(seconds=1)
    lapsed_run = run(RunStatus.STOPPED, process=this_process(), lease_until=lapsed, ended_at=lapsed)
    assert is_unfinished(lapsed_run)


def test_the_lease_decides_for_runs_on_other_hosts():
    remote = RunProcess(host="elsewhere", pid=1, started_at=now())
    assert is_alive(run(process=remote, lease_until=now() + timedelta(minutes=1)))
    assert not is_alive(run(process=remote, lease_until=now() - timedelta(seconds=1)))


@pytest.mark.parametrize(
    ("status", "unfinished"),
    [(RunStatus.COMPLETED, False), (RunStatus.FAILED, True), (RunStatus.STOPPED, True)],
)
def test_failed_and_stopped_runs_are_unfinished(status, unfinished):
    assert is_unfinished(run(status)) is unfinished
