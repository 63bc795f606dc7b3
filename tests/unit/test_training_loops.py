"""Runs in loops, threads and tasks, and the run that a training resumes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta

import numpy as np
import pytest

from jupyter_axon_notebooks.errors import NotFound
from jupyter_axon_notebooks.records import RunProcess, RunStatus, now
from jupyter_axon_notebooks.training import session
from jupyter_axon_notebooks.training.messages import AxonWarning


def make_model(value=0.0):
    return {"w": np.full(3, float(value))}


class Net:
    """A model that is identified by its object, as PyTorch modules are."""

    def __init__(self):
        self.w = np.zeros(3)

    def state_dict(self):
        return {"w": self.w}

    def load_state_dict(self, state):
        self.w = state["w"]


def list_runs(records):
    """List the runs of the only notebook, oldest first."""
    (notebook,) = records.list_all()
    return records.runs.list(notebook.id)[::-1]


def list_epochs(records, run):
    return [one.epoch for one in records.list_checkpoints(run.notebook_id, run_id=run.id)][::-1]


def list_values(records, run, metric):
    checkpoints = records.list_checkpoints(run.notebook_id, run_id=run.id)
    return {one.metrics[metric] for one in checkpoints}


def train(axon, fold, key=None, stops_at=None, last=3):
    """Train one fold as the documentation does, and return the first epoch that was trained."""
    model = make_model(100 * fold)
    resumed = axon.resume(model, key=key)
    first = resumed.epoch + 1 if resumed else 0
    if resumed is None:
        assert model["w"][0] == 100 * fold
    for epoch in range(first, last):
        if epoch == stops_at:
            raise MemoryError
        model["w"] += 1
        axon.checkpoint(model, epoch=epoch, metrics={"loss": fold + 1 / (1 + epoch)})
    assert model["w"][0] == 100 * fold + last
    return first


@contextmanager
def locked(tmp_path):
    """Lock the store against writing."""
    file = tmp_path / "data/axon_notebooks/axon.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.parametrize("key", [None, "fold {}"])
def test_each_iteration_with_resume_is_a_run(axon, records, capsys, key):
    for fold in range(3):
        assert train(axon, fold, key and key.format(fold)) == 0
    runs = list_runs(records)
    assert [list_epochs(records, run) for run in runs] == [[0, 1, 2]] * 3
    assert [run.status for run in runs[:2]] == [RunStatus.COMPLETED] * 2
    assert [run.parent_checkpoint_id for run in runs] == [None] * 3
    assert [run.ordinal for run in runs] == [0, 1, 2]
    assert "Resumed" not in capsys.readouterr().out


@pytest.mark.parametrize("force", [False, True])
def test_a_run_of_the_same_execution_is_not_resumed(axon, force):
    train(axon, 0)
    assert axon.resume(make_model(), force=force) is None
    assert axon.resume(make_model(), force=force, key="a") is None
    train(axon, 1, "a")
    assert axon.resume(make_model(), force=force, key="a") is None


def test_after_a_crash_each_training_with_a_key_resumes_its_own_run(axon, restart, records):
    for fold in range(2):
        train(axon, fold, f"fold {fold}")
    with pytest.raises(MemoryError):
        train(axon, 2, "fold 2", stops_at=2)
    restart(RunStatus.FAILED)
    assert [train(axon, fold, f"fold {fold}") for fold in range(3)] == [0, 0, 2]
    last = list_runs(records)[-1]
    assert (last.key, last.parent_checkpoint_id is not None) == ("fold 2", True)


def test_after_a_crash_a_loop_without_keys_resumes_nothing(axon, restart, capsys):
    for fold in range(2):
        train(axon, fold)
    with pytest.raises(MemoryError):
        train(axon, 2, stops_at=2)
    crashed = axon.runs()[0].number
    restart(RunStatus.FAILED)
    capsys.readouterr()
    assert [train(axon, fold) for fold in range(3)] == [0, 0, 0]
    output = capsys.readouterr().out
    assert f"Run {crashed} is unfinished." in output
    assert "resume(…, key=…)" in output
    assert "Resumed" not in output


def test_a_run_is_resumed_by_key_or_id(axon, restart):
    for fold in range(3):
        train(axon, fold, f"fold {fold}")
    restart(RunStatus.FAILED)
    ids = list(dict.fromkeys(one.run_id for one in reversed(axon.checkpoints())))
    for name in ("fold 1", ids[1], ids[1][:12], 2, "run 2"):
        model = make_model()
        resumed = axon.resume(model, run=name)
        assert (resumed.epoch, model["w"][0]) == (2, 103)
    axon.checkpoint(model, epoch=3)
    with pytest.raises(NotFound, match="no run fold 7; did you mean fold 2"):
        axon.resume(make_model(), run="fold 7")
    with pytest.raises(ValueError, match="not both"):
        axon.resume(make_model(), run="fold 1", checkpoint=resumed)
    with pytest.raises(TypeError, match="key is"):
        axon.resume(make_model(), key="")


def test_queries_can_be_limited_to_one_run(axon):
    for fold in range(3):
        train(axon, fold, f"fold {fold}")
    assert axon.best("loss").metrics["loss"] == pytest.approx(1 / 3)
    best = axon.best("loss", run="fold 1")
    assert best.metrics["loss"] == pytest.approx(1 + 1 / 3)
    assert axon.best("loss", "max", run=best.run_id[:10]).epoch == 0
    assert [one.epoch for one in axon.checkpoints(run="fold 2")] == [2, 1, 0]
    assert [one.epoch for one in axon.checkpoints(1, run="fold 2")] == [2]
    with pytest.raises(NotFound, match="no run nothing"):
        axon.best("loss", run="nothing")


def test_a_completed_training_is_resumed_only_by_force(axon, restart, capsys):
    train(axon, 0)
    restart(RunStatus.COMPLETED)
    assert axon.resume(make_model()) is None
    assert "use resume(force=True)" in capsys.readouterr().out
    restart()
    assert axon.resume(make_model(), force=True).epoch == 2


# Positions


def test_calls_with_the_same_step_are_one_checkpoint(axon, records):
    net = Net()
    for epoch in range(3):
        for batch in range(4):
            net.w += 1
            step = 4 * epoch + batch
            axon.checkpoint(None, epoch=epoch, step=step, metrics={"loss": float(batch)})
        metrics = {"val": {"loss": 1.0 - epoch}}
        saved = axon.checkpoint(net, epoch=epoch, step=step, metrics=metrics, tags="epoch")
        assert saved.has_state
        assert (saved.metrics, saved.tags) == ({"loss": 3.0, **metrics}, ["epoch"])
        assert records.get_checkpoint(saved.id) == saved.record
    (run,) = list_runs(records)
    assert len(list_epochs(records, run)) == 12
    best = axon.best("val.loss")
    assert best.step == 11
    restored = Net()
    best.restore(restored)
    assert (restored.w == 12).all()


def test_a_state_is_replaced_only_with_overwrite(axon, records, capsys):
    net = Net()
    axon.checkpoint(net, epoch=0, step=5, metrics={"a": 1})
    again = axon.checkpoint(net, epoch=0, step=5, metrics={"b": 2})
    assert "The state that was saved first" not in capsys.readouterr().out
    net.w += 1
    merged = axon.checkpoint(net, epoch=0, step=5, metrics={"c": 3})
    assert "The state that was saved first" in capsys.readouterr().out
    assert again.id == merged.id
    assert merged.metrics == {"a": 1, "b": 2, "c": 3}
    merged.restore(net)
    assert (net.w == 0).all()
    replaced = axon.checkpoint(Net(), epoch=0, step=5, overwrite=True)
    assert [one.id for one in axon.checkpoints()] == [replaced.id]
    assert len(list_runs(records)) == 1


def test_another_model_at_the_same_step_begins_a_run(axon, records, capsys):
    for value in range(3):  # as a search that saves each of its models once
        axon.checkpoint(make_model(value), epoch=9, step=90, metrics={"loss": 3.0 - value})
    axon.checkpoint(make_model(2), epoch=9, step=90, metrics={"f1": 0.5})
    assert [list_epochs(records, run) for run in list_runs(records)] == [[9]] * 3
    assert axon.best("loss").restore()[0]["w"][0] == 2
    assert axon.best("f1").metrics == {"loss": 1.0, "f1": 0.5}
    assert "A new run begins" in capsys.readouterr().out


def test_each_configuration_of_a_search_in_one_cell_is_a_run(axon, records, capsys):
    for _ in range(6):
        net = Net()
        for epoch in range(3):
            axon.checkpoint(None, epoch=epoch, step=epoch, metrics={"loss": 1.0})
            axon.checkpoint(net, epoch=epoch, step=epoch, metrics={"val_loss": 1.0})
    assert [list_epochs(records, run) for run in list_runs(records)] == [[0, 1, 2]] * 6
    output = capsys.readouterr().out
    assert output.count("A new run begins") == 5
    assert output.count("To decide where runs begin") == 1


def test_other_values_of_a_metric_at_the_same_step_begin_a_run(axon):
    for rate in (0.1, 0.2, 0.3):
        axon.checkpoint(None, epoch=9, step=100, metrics={"rate": rate})
    assert [one.metrics["rate"] for one in axon.checkpoints()] == [0.3, 0.2, 0.1]
    net = Net()
    for rate in (0.1, 0.2):  # one model that is trained anew each time
        net.w += 1
        axon.checkpoint(net, epoch=9, step=101, metrics={"rate": rate})
    axon.best("rate", "max", run=axon.latest().run_id).restore(net)
    assert (net.w == 2).all()


def test_each_of_two_alternating_models_has_its_own_run(axon, records):
    generator, critic = Net(), Net()
    critic.w += 100
    for step in range(4):
        for net, tag in ((generator, "generator"), (critic, "critic")):
            net.w += 1
            axon.checkpoint(net, epoch=0, step=step, tags=tag)
    runs = list_runs(records)
    assert [list_epochs(records, run) for run in runs] == [[0] * 4] * 2
    for run in runs:
        found = records.list_checkpoints(run.notebook_id, run_id=run.id)
        assert len({tuple(one.tags) for one in found}) == 1


def test_a_checkpoint_at_the_resumed_step_belongs_to_the_new_run(axon, restart, records):
    axon.checkpoint(make_model(1), epoch=1, step=10)
    restart(RunStatus.FAILED)
    model = make_model()
    assert axon.resume(model).step == 10
    axon.checkpoint(model, epoch=1, step=10)
    assert [list_epochs(records, run) for run in list_runs(records)] == [[1], [1]]


def test_a_deleted_checkpoint_is_saved_again(axon, records):
    saved = axon.checkpoint(None, epoch=1, step=1, metrics={"loss": 1})
    records.delete_checkpoint(saved.id)
    again = axon.checkpoint(make_model(), epoch=1, step=1, metrics={"loss": 2})
    assert again.id != saved.id
    assert again.has_state
    assert again.is_recorded


def test_a_model_is_added_to_a_checkpoint_of_other_states(axon, restart):
    net, counter = Net(), {"batches": 0}
    for step in range(3):
        counter["batches"] += 1
        axon.checkpoint(None, extra=counter, epoch=0, step=step, metrics={"loss": 1.0 / (1 + step)})
    net.w += 5
    axon.checkpoint(net, extra=counter, epoch=0, step=2, metrics={"val_loss": 0.5})
    assert axon.latest().metrics == {"loss": pytest.approx(1 / 3), "val_loss": 0.5}
    restart(RunStatus.FAILED)
    restored, counted = Net(), {"batches": 0}
    assert axon.resume(restored, extra=counted).step == 2
    assert (restored.w == 5).all()
    assert counted == {"batches": 3}


# Resuming


def test_a_run_that_follows_another_has_its_key(axon, restart, records):
    axon.resume(make_model(), key="a")
    for epoch in (0, 1, 0, 1, 2):
        axon.checkpoint(make_model(epoch), epoch=epoch)
    assert [run.key for run in list_runs(records)] == ["a", "a"]
    restart(RunStatus.FAILED)
    assert axon.resume(make_model(), key="a").epoch == 2


def test_a_training_that_resumed_an_earlier_checkpoint_resumes_its_new_branch(axon, restart):
    model = make_model()
    assert axon.resume(model) is None
    for epoch in range(4):
        model["w"] += 1
        axon.checkpoint(model, epoch=epoch)
    axon.resume(model, checkpoint=axon.checkpoints()[2])
    for epoch in (2, 3):
        model["w"] += 10
        axon.checkpoint(model, epoch=epoch)
    restart(RunStatus.FAILED)
    assert axon.resume(model).epoch == 3
    assert (model["w"] == 22).all()


def test_a_second_resume_before_training_has_the_same_result(axon, restart):
    train(axon, 0)
    restart(RunStatus.FAILED)
    assert axon.resume().epoch == 2
    model = make_model()
    assert axon.resume(model).epoch == 2
    assert (model["w"] == 3).all()


def test_metrics_without_a_model_are_not_resumed(axon, restart):
    axon.checkpoint(None, epoch=0, metrics={"baseline": 1.0})
    with pytest.raises(MemoryError):
        train(axon, 0, stops_at=2)
    restart(RunStatus.FAILED)
    axon.checkpoint(None, epoch=0, metrics={"baseline": 1.0})
    assert train(axon, 0) == 2


def test_a_nested_training_has_its_own_run(axon, records):
    outer = Net()
    axon.resume(outer, key="outer")
    for generation in range(3):
        train(axon, generation, key=f"inner {generation}")
        axon.checkpoint(outer, epoch=generation)
    found = {run.key: list_epochs(records, run) for run in list_runs(records)}
    assert found == {key: [0, 1, 2] for key in ("outer", "inner 0", "inner 1", "inner 2")}


def test_a_key_covers_all_runs_that_were_resumed_under_it(axon, restart):
    model = make_model()
    axon.resume(model, key=0)
    for epoch, loss in enumerate((0.5, 0.1, 0.7)):
        axon.checkpoint(model, epoch=epoch, metrics={"val_loss": loss})
    restart(RunStatus.FAILED)
    assert axon.resume(model, run=0).epoch == 2
    assert axon.best("val_loss", run=0).epoch == 1
    axon.checkpoint(model, epoch=3, metrics={"val_loss": 0.8})
    assert axon.best("val_loss", run=0).epoch == 1
    assert [one.epoch for one in axon.checkpoints(run=0)] == [3, 2, 1, 0]
    restart(RunStatus.FAILED)
    assert axon.resume(model, key=0).epoch == 3


# An unavailable store


def test_metrics_are_merged_without_a_store(axon, unavailable_store):
    with pytest.warns(AxonWarning, match="not being recorded"):
        axon.checkpoint(None, epoch=0, step=1, metrics={"loss": 1.0})
    saved = axon.checkpoint(make_model(4), epoch=0, step=1, metrics={"val_loss": 2.0})
    assert not saved.is_recorded
    assert saved.has_state
    unavailable_store()
    (found,) = axon.checkpoints()
    assert found.is_recorded
    assert found.metrics == {"loss": 1.0, "val_loss": 2.0}
    assert found.restore()[0]["w"][0] == 4


def test_metrics_are_added_after_the_store_was_locked(axon, tmp_path, records):
    saved = axon.checkpoint(Net(), epoch=0, step=3, metrics={"loss": 1.0})
    with locked(tmp_path), pytest.warns(AxonWarning, match="not being recorded"):
        added = axon.checkpoint(None, epoch=0, step=3, metrics={"val_loss": 2.0})
    assert (added.id, added.step) == (saved.id, 3)
    assert axon.best("val_loss").id == saved.id
    assert records.get_checkpoint(saved.id).metrics == {"loss": 1.0, "val_loss": 2.0}


def test_a_state_is_added_after_the_store_was_locked(axon, tmp_path):
    net = Net()
    axon.checkpoint(None, epoch=0, step=3, metrics={"loss": 1.0})
    with locked(tmp_path):
        net.w += 3
        with pytest.warns(AxonWarning, match="not being recorded"):
            saved = [axon.checkpoint(net, epoch=0, step=3, metrics={"val_loss": 2.0})]
        net.w += 1
        saved.append(axon.checkpoint(net, epoch=0, step=4))
    found = [(one.step, one.is_recorded, one.has_state) for one in saved]
    assert found == [(3, False, True), (4, False, True)]
    recorded = {one.step: one for one in axon.checkpoints()}
    assert recorded[3].metrics == {"loss": 1.0, "val_loss": 2.0}
    assert [recorded[step].restore(net)[0].w[0] for step in (3, 4)] == [3, 4]


def test_a_restart_without_a_store_does_not_hide_a_longer_run(axon, restart, tmp_path, capsys):
    store = tmp_path / "data/axon_notebooks/axon.db"
    train(axon, 0, last=6)
    restart(RunStatus.FAILED)
    store.rename(tmp_path / "hidden.db")
    store.mkdir()
    with pytest.warns(AxonWarning, match="Training starts from the beginning"):
        assert axon.resume(make_model()) is None
    with pytest.warns(AxonWarning, match="not being recorded"):
        axon.checkpoint(make_model(), epoch=0)
    restart(RunStatus.FAILED)
    store.rmdir()
    (tmp_path / "hidden.db").rename(store)
    assert axon.resume(make_model()).epoch == 5
    assert "takes precedence over" in capsys.readouterr().out


def test_a_half_written_notebook_does_not_stop_a_training(axon, notebook, restart):
    content = notebook.read_text()
    notebook.write_text("{half")
    assert axon.resume(make_model()) is None
    notebook.write_text(content)
    train(axon, 0)
    restart(RunStatus.FAILED)
    notebook.write_text("{half")
    assert axon.resume(make_model()).epoch == 2


# Threads and tasks


@pytest.mark.parametrize("resumes", [True, False])
def test_each_future_that_trains_has_its_own_run(axon, records, resumes):
    barrier = threading.Barrier(2)

    def objective(trial):
        model = make_model(trial)
        if resumes:
            assert axon.resume(model, key=f"trial {trial}") is None
        for epoch in range(3):
            barrier.wait(30)
            axon.checkpoint(model if resumes else None, epoch=epoch, metrics={"trial": trial})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(objective, range(4)))
    runs = list_runs(records)
    assert [list_epochs(records, run) for run in runs] == [[0, 1, 2]] * 4
    values = [list_values(records, run, "trial") for run in runs]
    assert sorted(map(list, values)) == [[0], [1], [2], [3]]
    if resumes:
        assert [{run.key} for run in runs] == [{f"trial {trial}"} for (trial,) in values]


def test_a_thread_continues_what_was_resumed_for_it(axon, restart, records):
    train(axon, 0)
    restart(RunStatus.FAILED)
    model = make_model()
    resumed = axon.resume(model)

    def continue_training():
        for epoch in range(resumed.epoch + 1, 6):
            axon.checkpoint(model, epoch=epoch)

    thread = threading.Thread(target=continue_training)
    thread.start()
    thread.join()
    first, second = list_runs(records)
    assert (list_epochs(records, first), list_epochs(records, second)) == ([0, 1, 2], [3, 4, 5])
    assert second.parent_checkpoint_id == resumed.id


def test_futures_that_resume_at_the_same_time_keep_their_runs(axon, restart, records):
    for key in "ab":
        train(axon, ord(key), key=key)
        restart(RunStatus.FAILED)
    barrier = threading.Barrier(2)

    def continue_training(key):
        model = make_model()
        resumed = axon.resume(model, key=key)
        barrier.wait(30)
        for epoch in range(resumed.epoch + 1, 5):
            axon.checkpoint(model, epoch=epoch, metrics={"key": ord(key)})
            barrier.wait(30)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(continue_training, "ab"))
    for run in list_runs(records)[-2:]:
        assert list_epochs(records, run) == [3, 4]
        assert list_values(records, run, "key") == {ord(run.key)}


def test_an_older_thread_does_not_continue_the_run_of_a_resumed_training(axon, records):
    started, resumed, done = threading.Event(), threading.Event(), threading.Event()

    def evaluate():
        started.set()
        assert resumed.wait(30)
        axon.checkpoint(None, epoch=7, metrics={"accuracy": 0.5})
        done.set()

    evaluator = threading.Thread(target=evaluate)
    evaluator.start()
    assert started.wait(30)
    axon.resume(make_model(), key="main")
    resumed.set()
    assert done.wait(30)
    evaluator.join()
    run_ids = [axon.checkpoint(make_model(epoch), epoch=epoch).run_id for epoch in range(2)]
    (main,) = [run for run in list_runs(records) if run.key == "main"]
    assert run_ids == [main.id] * 2
    assert list_epochs(records, main) == [0, 1]


@pytest.mark.parametrize("is_direct", [True, False])
def test_a_training_that_saves_through_an_executor_is_one_run(axon, records, is_direct):
    net = Net()

    def save(model, epoch):
        axon.checkpoint(model, epoch=epoch)

    with ThreadPoolExecutor(3) as pool:
        for epoch in range(6):
            pool.submit(axon.checkpoint if is_direct else save, net, epoch=epoch).result()
    assert [list_epochs(records, run) for run in list_runs(records)] == [[0, 1, 2, 3, 4, 5]]


def test_each_future_that_saves_once_has_its_own_run(axon, records):
    def save(trial):
        axon.checkpoint(None, epoch=0, metrics={"trial": trial})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(save, range(4)))
    assert [list_epochs(records, run) for run in list_runs(records)] == [[0]] * 4


def test_each_asyncio_task_has_its_own_run(axon, records):
    async def objective(rate):
        model = make_model(rate)
        axon.resume(model, key=f"{rate}")
        for epoch in range(3):
            await asyncio.sleep(0)
            axon.checkpoint(model, epoch=epoch, metrics={"rate": rate})

    async def search():
        await asyncio.gather(objective(1), objective(2))

    asyncio.run(search())
    for run in list_runs(records):
        assert list_epochs(records, run) == [0, 1, 2]
        assert list_values(records, run, "rate") == {int(run.key)}


# Other hosts


@pytest.fixture
def remote_run(axon, restart, records, monkeypatch):
    """The id of a run on another host whose lease has not ended; leases last two seconds here."""
    monkeypatch.setattr(session, "LEASE", timedelta(seconds=2))
    model = make_model()
    for epoch in range(5):
        axon.checkpoint(model, epoch=epoch)
    run = list_runs(records)[-1]
    restart()
    runs = records.store.runs
    with records.store.transaction():
        document = runs.all()[0]
        document["process"] = RunProcess(host="node1/boot/1", pid=7, started_at=now()).to_json()
        document["lease_until"] = (now() + timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        runs.replace(document)
    return run.id


def test_a_run_on_another_host_is_resumed_when_its_lease_is_not_renewed(
    axon, remote_run, records, capsys
):
    assert axon.resume(make_model()).epoch == 4
    output = capsys.readouterr().out
    assert "process 7 on node1" in output
    assert "Waiting" in output
    assert [run.status for run in list_runs(records)] == [RunStatus.STOPPED, RunStatus.RUNNING]


def test_a_run_that_is_alive_on_another_host_is_resumed_after_its_end(
    axon, restart, remote_run, records, capsys
):
    (notebook,) = records.list_all()
    stop = threading.Event()

    def renew():
        while not stop.wait(0.2):
            records.runs.renew(notebook.id, remote_run, now() + timedelta(minutes=2))

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        assert axon.resume(make_model()) is None
    finally:
        stop.set()
        thread.join()
    assert "so it is not resumed" in capsys.readouterr().out
    axon.checkpoint(make_model(), epoch=0)
    assert list_runs(records)[-1].skipped_run_id == remote_run
    restart(RunStatus.FAILED)
    records.runs.update_status(notebook.id, remote_run, RunStatus.STOPPED)
    assert axon.resume(make_model()).epoch == 4
    assert "takes precedence over" in capsys.readouterr().out


def test_a_run_on_another_host_that_ended_is_resumed_at_once(axon, remote_run, records, capsys):
    (notebook,) = records.list_all()
    records.runs.update_status(notebook.id, remote_run, RunStatus.STOPPED)
    assert axon.resume(make_model()).epoch == 4
    assert "Waiting" not in capsys.readouterr().out
