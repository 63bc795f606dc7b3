"""Trainings in loops and threads, and which run a training resumes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jupyter_axon_notebooks.errors import NotFound
from jupyter_axon_notebooks.records import RunProcess, RunStatus, TrainingRun, now
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.training import session as session_module

Anew = Callable[[], None]


def model(value: float = 0.0) -> dict[str, Any]:
    return {"w": np.full(3, float(value))}


class Net:
    """A model whose object can be told from others, as a module can."""

    def __init__(self) -> None:
        self.w = np.zeros(3)

    def state_dict(self) -> dict[str, Any]:
        return {"w": self.w}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.w = state["w"]


def runs(records: NotebookRepository) -> list[TrainingRun]:
    (notebook,) = records.list_all()
    return records.runs.list(notebook.id)[::-1]


def epochs(records: NotebookRepository, run: TrainingRun) -> list[int]:
    return [one.epoch for one in records.list_checkpoints(run.notebook_id, run_id=run.id)][::-1]


def train(
    axon: Any, fold: int, key: str | None = None, stops_at: int | None = None, last: int = 3
) -> int:
    """The loop body of the README; the first epoch that was trained."""
    weights = model(100 * fold)
    resumed = axon.resume(weights, key=key)
    first = resumed.epoch + 1 if resumed else 0
    if resumed is None:
        assert weights["w"][0] == 100 * fold
    for epoch in range(first, last):
        if epoch == stops_at:
            raise MemoryError
        weights["w"] += 1
        axon.checkpoint(weights, epoch=epoch, metrics={"loss": fold + 1 / (1 + epoch)})
    assert weights["w"][0] == 100 * fold + last
    return first


@pytest.mark.parametrize("key", [None, "fold {}"])
def test_each_pass_of_a_loop_is_a_run_of_its_own(
    axon: Any, records: NotebookRepository, capsys: Any, key: str | None
) -> None:
    for fold in range(3):
        assert train(axon, fold, key and key.format(fold)) == 0
    made = runs(records)
    assert [epochs(records, run) for run in made] == [[0, 1, 2]] * 3
    assert [run.status for run in made[:2]] == [RunStatus.COMPLETED] * 2
    assert [run.parent_checkpoint_id for run in made] == [None] * 3
    assert [run.ordinal for run in made] == [0, 1, 2]
    assert "Resumed" not in capsys.readouterr().out


@pytest.mark.parametrize("force", [False, True])
def test_a_run_of_this_execution_is_never_resumed(axon: Any, force: bool) -> None:
    train(axon, 0)
    assert axon.resume(model(), force=force) is None
    assert axon.resume(model(), force=force, key="a") is None
    train(axon, 1, "a")
    assert axon.resume(model(), force=force, key="a") is None


def test_after_a_crash_each_training_with_a_key_continues_itself(
    axon: Any, anew: Anew, records: NotebookRepository
) -> None:
    for fold in range(2):
        train(axon, fold, f"fold {fold}")
    with pytest.raises(MemoryError):
        train(axon, 2, "fold 2", stops_at=2)
    anew(RunStatus.FAILED)
    assert [train(axon, fold, f"fold {fold}") for fold in range(3)] == [0, 0, 2]
    last = runs(records)[-1]
    assert (last.key, last.parent_checkpoint_id is not None) == ("fold 2", True)


def test_after_a_crash_a_loop_without_keys_mixes_nothing_up(
    axon: Any, anew: Anew, capsys: Any
) -> None:
    for fold in range(2):
        train(axon, fold)
    with pytest.raises(MemoryError):
        train(axon, 2, stops_at=2)
    crashed = axon.latest().run_id
    anew(RunStatus.FAILED)
    capsys.readouterr()
    assert [train(axon, fold) for fold in range(3)] == [0, 0, 0]
    said = capsys.readouterr().out
    assert f"Run {crashed[:8]} is unfinished." in said
    assert "resume(…, key=…)" in said
    assert "Resumed" not in said


def test_a_run_is_resumed_by_name(axon: Any, anew: Anew) -> None:
    for fold in range(3):
        train(axon, fold, f"fold {fold}")
    anew(RunStatus.FAILED)
    ids = dict.fromkeys(one.run_id for one in reversed(axon.checkpoints()))
    for name in ("fold 1", list(ids)[1], list(ids)[1][:12]):
        weights = model()
        resumed = axon.resume(weights, run=name)
        assert (resumed.epoch, weights["w"][0]) == (2, 103)
    axon.checkpoint(weights, epoch=3)
    with pytest.raises(NotFound, match="no run fold 7; keys of its runs: fold 1, fold 2, fold 0"):
        axon.resume(model(), run="fold 7")
    with pytest.raises(ValueError, match="not both"):
        axon.resume(model(), run="fold 1", checkpoint=resumed)
    with pytest.raises(TypeError, match="key is"):
        axon.resume(model(), key="")


def test_the_best_of_one_run(axon: Any) -> None:
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


def test_a_training_that_completed_says_how_it_can_be_continued(
    axon: Any, anew: Anew, capsys: Any
) -> None:
    train(axon, 0)
    anew(RunStatus.COMPLETED)
    assert axon.resume(model()) is None
    assert "resume(force=True) continues it" in capsys.readouterr().out
    anew()
    assert axon.resume(model(), force=True).epoch == 2


# Positions


def test_calls_that_share_a_step_are_one_checkpoint(axon: Any, records: NotebookRepository) -> None:
    net = Net()
    for epoch in range(3):
        for batch in range(4):
            net.w += 1
            axon.checkpoint(
                None, epoch=epoch, step=4 * epoch + batch, metrics={"loss": float(batch)}
            )
        made = axon.checkpoint(
            net,
            epoch=epoch,
            step=4 * epoch + 3,
            metrics={"val": {"loss": 1.0 - epoch}},
            tags="epoch",
        )
        assert made.has_state
        assert (made.metrics, made.tags) == ({"loss": 3.0, "val": {"loss": 1.0 - epoch}}, ["epoch"])
        assert records.get_checkpoint(made.id) == made.record
    (run,) = runs(records)
    assert len(epochs(records, run)) == 12
    best = axon.best("val.loss")
    assert best.step == 11
    restored = Net()
    best.restore(restored)
    assert (restored.w == 12).all()


def test_a_state_at_the_same_place_replaces_nothing(
    axon: Any, records: NotebookRepository, capsys: Any
) -> None:
    net = Net()
    axon.checkpoint(net, epoch=0, step=5, metrics={"a": 1})
    again = axon.checkpoint(net, epoch=0, step=5, metrics={"b": 2})
    assert "stays as it was saved first" not in capsys.readouterr().out
    net.w += 1
    merged = axon.checkpoint(net, epoch=0, step=5, metrics={"c": 3})
    assert "stays as it was saved first" in capsys.readouterr().out
    assert again.id == merged.id
    assert merged.metrics == {"a": 1, "b": 2, "c": 3}
    merged.restore(net)
    assert (net.w == 0).all()
    replaced = axon.checkpoint(Net(), epoch=0, step=5, overwrite=True)
    assert [one.id for one in axon.checkpoints()] == [replaced.id]
    assert len(runs(records)) == 1


def test_another_model_at_the_same_place_is_another_run(
    axon: Any, records: NotebookRepository, capsys: Any
) -> None:
    """As in a search that saves each of its models once."""
    for value in range(3):
        axon.checkpoint(model(value), epoch=9, step=90, metrics={"loss": 3.0 - value})
    axon.checkpoint(model(2), epoch=9, step=90, metrics={"f1": 0.5})
    assert [epochs(records, run) for run in runs(records)] == [[9]] * 3
    assert axon.best("loss").restore()[0]["w"][0] == 2
    assert axon.best("f1").metrics == {"loss": 1.0, "f1": 0.5}
    assert "A new run begins" in capsys.readouterr().out


def test_a_search_in_one_cell_is_a_run_each(
    axon: Any, records: NotebookRepository, capsys: Any
) -> None:
    for _ in range(6):
        net = Net()
        for epoch in range(3):
            axon.checkpoint(None, epoch=epoch, step=epoch, metrics={"loss": 1.0})
            axon.checkpoint(net, epoch=epoch, step=epoch, metrics={"val_loss": 1.0})
    assert [epochs(records, run) for run in runs(records)] == [[0, 1, 2]] * 6
    assert capsys.readouterr().out.count("A new run begins") == 5


def test_a_checkpoint_at_the_place_that_was_resumed_belongs_to_the_new_run(
    axon: Any, anew: Anew, records: NotebookRepository
) -> None:
    axon.checkpoint(model(1), epoch=1, step=10)
    anew(RunStatus.FAILED)
    weights = model()
    assert axon.resume(weights).step == 10
    axon.checkpoint(weights, epoch=1, step=10)
    first, second = runs(records)
    assert epochs(records, first) == epochs(records, second) == [1]


def test_what_cannot_be_added_to_a_checkpoint_that_is_gone_is_a_new_one(
    axon: Any, records: NotebookRepository
) -> None:
    made = axon.checkpoint(None, epoch=1, step=1, metrics={"loss": 1})
    records.delete_checkpoint(made.id)
    again = axon.checkpoint(model(), epoch=1, step=1, metrics={"loss": 2})
    assert again.id != made.id
    assert again.has_state
    assert again.is_recorded


def test_calls_that_share_a_step_are_one_checkpoint_without_a_store_too(
    axon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "stores"
    place.touch()
    monkeypatch.setenv("AXON_STORE_URL", f"sqlite:///{place}/axon.db")
    with pytest.warns(UserWarning, match="not being recorded"):
        axon.checkpoint(None, epoch=0, step=1, metrics={"loss": 1.0})
    made = axon.checkpoint(model(4), epoch=0, step=1, metrics={"val_loss": 2.0})
    assert not made.is_recorded
    assert made.has_state
    place.unlink()
    place.mkdir()
    (found,) = axon.checkpoints()
    assert found.is_recorded
    assert found.metrics == {"loss": 1.0, "val_loss": 2.0}
    assert found.restore()[0]["w"][0] == 4


def test_points_that_measure_something_else_are_kept_apart(
    axon: Any, records: NotebookRepository
) -> None:
    """As in a search that saves metrics alone, or one model that is trained anew each time."""
    for rate in (0.1, 0.2, 0.3):
        axon.checkpoint(None, epoch=9, step=100, metrics={"rate": rate})
    assert [one.metrics for one in axon.checkpoints()] == [
        {"rate": rate} for rate in (0.3, 0.2, 0.1)
    ]
    net = Net()
    for rate in (0.1, 0.2):
        net.w += 1
        axon.checkpoint(net, epoch=9, step=101, metrics={"rate": rate})
    axon.best("rate", "max", run=axon.latest().run_id).restore(net)
    assert (net.w == 2).all()


def test_two_models_side_by_side_are_a_run_each(axon: Any, records: NotebookRepository) -> None:
    generator, critic = Net(), Net()
    critic.w += 100
    for step in range(4):
        for net, tag in ((generator, "generator"), (critic, "critic")):
            net.w += 1
            axon.checkpoint(net, epoch=0, step=step, tags=tag)
    made = runs(records)
    assert [epochs(records, run) for run in made] == [[0] * 4] * 2
    for run in made:
        tags = {tuple(one.tags) for one in records.list_checkpoints(run.notebook_id, run_id=run.id)}
        assert len(tags) == 1


def test_a_model_joins_what_was_saved_of_other_things_at_its_step(axon: Any, anew: Anew) -> None:
    net, counter = Net(), {"batches": 0}
    for step in range(3):
        counter["batches"] += 1
        axon.checkpoint(None, extra=counter, epoch=0, step=step, metrics={"loss": 1.0 / (1 + step)})
    net.w += 5
    axon.checkpoint(net, extra=counter, epoch=0, step=2, metrics={"val_loss": 0.5})
    assert axon.latest().metrics == {"loss": pytest.approx(1 / 3), "val_loss": 0.5}
    anew(RunStatus.FAILED)
    restored, counted = Net(), {"batches": 0}
    assert axon.resume(restored, extra=counted).step == 2
    assert (restored.w == 5).all()
    assert counted == {"batches": 3}


def test_a_run_that_begins_by_itself_has_the_key_of_the_one_before(
    axon: Any, anew: Anew, records: NotebookRepository
) -> None:
    axon.resume(model(), key="a")
    for epoch in (0, 1, 0, 1, 2):
        axon.checkpoint(model(epoch), epoch=epoch)
    assert [run.key for run in runs(records)] == ["a", "a"]
    anew(RunStatus.FAILED)
    assert axon.resume(model(), key="a").epoch == 2


def test_who_goes_back_and_is_killed_resumes_where_that_led(axon: Any, anew: Anew) -> None:
    weights = model()
    assert axon.resume(weights) is None
    for epoch in range(4):
        weights["w"] += 1
        axon.checkpoint(weights, epoch=epoch)
    axon.resume(weights, checkpoint=axon.checkpoints()[2])
    for epoch in (2, 3):
        weights["w"] += 10
        axon.checkpoint(weights, epoch=epoch)
    anew(RunStatus.FAILED)
    assert axon.resume(weights).epoch == 3
    assert (weights["w"] == 22).all()


def test_a_look_at_what_would_be_resumed_takes_nothing_away(axon: Any, anew: Anew) -> None:
    train(axon, 0)
    anew(RunStatus.FAILED)
    assert axon.resume().epoch == 2
    weights = model()
    assert axon.resume(weights).epoch == 2
    assert (weights["w"] == 3).all()


def test_a_baseline_before_the_training_is_not_a_training(axon: Any, anew: Anew) -> None:
    axon.checkpoint(None, epoch=0, metrics={"baseline": 1.0})
    with pytest.raises(MemoryError):
        train(axon, 0, stops_at=2)
    anew(RunStatus.FAILED)
    axon.checkpoint(None, epoch=0, metrics={"baseline": 1.0})
    assert train(axon, 0) == 2


def test_a_training_inside_of_another_has_a_run_of_its_own(
    axon: Any, records: NotebookRepository
) -> None:
    outer = Net()
    axon.resume(outer, key="outer")
    for generation in range(3):
        train(axon, generation, key=f"inner {generation}")
        axon.checkpoint(outer, epoch=generation)
    found = {run.key: epochs(records, run) for run in runs(records)}
    assert found == {"outer": [0, 1, 2]} | {
        f"inner {generation}": [0, 1, 2] for generation in range(3)
    }


def test_a_name_leads_to_all_that_was_trained_under_it(axon: Any, anew: Anew) -> None:
    weights = model()
    for epoch, loss in enumerate((0.5, 0.1, 0.7)):
        axon.resume(weights, key=0) if epoch == 0 else None
        axon.checkpoint(weights, epoch=epoch, metrics={"val_loss": loss})
    anew(RunStatus.FAILED)
    assert axon.resume(weights, run=0).epoch == 2
    assert axon.best("val_loss", run=0).epoch == 1  # nothing was trained since
    axon.checkpoint(weights, epoch=3, metrics={"val_loss": 0.8})
    assert axon.best("val_loss", run=0).epoch == 1
    assert [one.epoch for one in axon.checkpoints(run=0)] == [3, 2, 1, 0]
    anew(RunStatus.FAILED)
    assert axon.resume(weights, key=0).epoch == 3  # the run that was resumed by name has its key


def test_metrics_are_added_later_where_the_store_does_not_take_them(
    axon: Any, tmp_path: Path, records: NotebookRepository
) -> None:
    net = Net()
    made = axon.checkpoint(net, epoch=0, step=3, metrics={"loss": 1.0})
    with closing(
        sqlite3.connect(tmp_path / "data/axon_notebooks/axon.db", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.warns(UserWarning, match="not being recorded"):
            added = axon.checkpoint(None, epoch=0, step=3, metrics={"val_loss": 2.0})
    assert (added.id, added.step) == (made.id, 3)
    assert axon.best("val_loss").id == made.id
    assert records.get_checkpoint(made.id).metrics == {"loss": 1.0, "val_loss": 2.0}


def test_a_state_joins_metrics_at_its_step_where_the_store_does_not_take_it(
    axon: Any, tmp_path: Path, records: NotebookRepository
) -> None:
    net = Net()
    axon.checkpoint(None, epoch=0, step=3, metrics={"loss": 1.0})
    with closing(
        sqlite3.connect(tmp_path / "data/axon_notebooks/axon.db", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        net.w += 3
        with pytest.warns(UserWarning, match="not being recorded"):
            third = axon.checkpoint(net, epoch=0, step=3, metrics={"val_loss": 2.0})
        net.w += 1
        fourth = axon.checkpoint(net, epoch=0, step=4)
    assert [(one.step, one.is_recorded, one.has_state) for one in (third, fourth)] == [
        (3, False, True),
        (4, False, True),
    ]
    found = {one.step: one for one in axon.checkpoints()}
    assert found[3].metrics == {"loss": 1.0, "val_loss": 2.0}
    assert [found[step].restore(net)[0].w[0] for step in (3, 4)] == [3, 4]


def test_a_restart_while_the_store_is_unavailable_buries_nothing(
    axon: Any, anew: Anew, tmp_path: Path, capsys: Any
) -> None:
    store = tmp_path / "data/axon_notebooks/axon.db"
    train(axon, 0, last=6)
    anew(RunStatus.FAILED)
    store.rename(tmp_path / "away.db")
    store.mkdir()
    with pytest.warns(UserWarning, match="Training begins anew"):
        assert axon.resume(model()) is None
    with pytest.warns(UserWarning, match="not being recorded"):
        axon.checkpoint(model(), epoch=0)
    anew(RunStatus.FAILED)
    store.rmdir()
    (tmp_path / "away.db").rename(store)
    assert axon.resume(model()).epoch == 5
    assert "came further" in capsys.readouterr().out


def test_a_notebook_that_is_half_written_stops_no_training(
    axon: Any, notebook: Path, anew: Anew
) -> None:
    content = notebook.read_text()
    notebook.write_text("{half")
    assert axon.resume(model()) is None
    notebook.write_text(content)
    train(axon, 0)
    anew(RunStatus.FAILED)
    notebook.write_text("{half")
    assert axon.resume(model()).epoch == 2


# Threads


def test_each_thread_trains_in_a_run_of_its_own(axon: Any, records: NotebookRepository) -> None:
    together = threading.Barrier(2)

    def objective(trial: int) -> None:
        weights = model(trial)
        assert axon.resume(weights, key=f"trial {trial}") is None
        for epoch in range(3):
            together.wait(30)
            axon.checkpoint(weights, epoch=epoch, metrics={"trial": float(trial)})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(objective, range(4)))
    made = runs(records)
    assert sorted(str(run.key) for run in made) == [f"trial {trial}" for trial in range(4)]
    for run in made:
        assert epochs(records, run) == [0, 1, 2]
        values = {
            one.metrics["trial"] for one in records.list_checkpoints(run.notebook_id, run_id=run.id)
        }
        assert values == {float(str(run.key)[-1])}


def test_threads_without_resume_have_runs_of_their_own(
    axon: Any, records: NotebookRepository
) -> None:
    together = threading.Barrier(2)

    def objective(trial: int) -> None:
        for epoch in range(3):
            together.wait(30)
            axon.checkpoint(None, epoch=epoch, metrics={"trial": float(trial)})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(objective, range(4)))
    assert [epochs(records, run) for run in runs(records)] == [[0, 1, 2]] * 4


def test_a_thread_continues_what_was_resumed_for_it(
    axon: Any, anew: Anew, records: NotebookRepository
) -> None:
    train(axon, 0, stops_at=None)
    anew(RunStatus.FAILED)
    weights = model()
    resumed = axon.resume(weights)

    def go_on() -> None:
        for epoch in range(resumed.epoch + 1, 6):
            axon.checkpoint(weights, epoch=epoch)

    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join()
    first, second = runs(records)
    assert (epochs(records, first), epochs(records, second)) == ([0, 1, 2], [3, 4, 5])
    assert second.parent_checkpoint_id == resumed.id


# Other hosts


@pytest.fixture
def elsewhere(
    axon: Any, anew: Anew, records: NotebookRepository, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The id of a run of another host, whose lease has not ended; leases last two seconds here."""
    monkeypatch.setattr(session_module, "LEASE", timedelta(seconds=2))
    weights = model()
    for epoch in range(5):
        axon.checkpoint(weights, epoch=epoch)
    run = runs(records)[-1]
    anew()
    with records._store.transaction():  # as the other host would have stored it
        document = records._store.runs.all()[0]
        document["process"] = RunProcess(host="node1/boot/1", pid=7, started_at=now()).to_json()
        document["lease_until"] = (now() + timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        records._store.runs.replace(document)
    return run.id


def test_a_run_of_another_host_that_is_gone_is_waited_for_and_resumed(
    axon: Any, elsewhere: str, records: NotebookRepository, capsys: Any
) -> None:
    assert axon.resume(model()).epoch == 4
    said = capsys.readouterr().out
    assert "process 7 on node1" in said
    assert "waiting" in said
    assert [run.status for run in runs(records)] == [RunStatus.STOPPED, RunStatus.RUNNING]


def test_a_run_of_another_host_that_lives_is_left_alone_and_not_forgotten(
    axon: Any, anew: Anew, elsewhere: str, records: NotebookRepository, capsys: Any
) -> None:
    (notebook,) = records.list_all()
    is_over = threading.Event()

    def live() -> None:
        while not is_over.wait(0.2):
            records.runs.renew(notebook.id, elsewhere, now() + timedelta(minutes=2))

    thread = threading.Thread(target=live)
    thread.start()
    try:
        assert axon.resume(model()) is None
    finally:
        is_over.set()
        thread.join()
    assert "left alone" in capsys.readouterr().out
    axon.checkpoint(model(), epoch=0)
    assert runs(records)[-1].skipped_run_id == elsewhere
    anew(RunStatus.FAILED)
    records.runs.update_status(notebook.id, elsewhere, RunStatus.STOPPED)
    assert axon.resume(model()).epoch == 4
    assert "came further" in capsys.readouterr().out


def test_a_run_that_ended_itself_is_resumed_at_once(
    axon: Any, elsewhere: str, records: NotebookRepository, capsys: Any
) -> None:
    (notebook,) = records.list_all()
    records.runs.update_status(notebook.id, elsewhere, RunStatus.STOPPED)
    assert axon.resume(model()).epoch == 4
    assert "waiting" not in capsys.readouterr().out


# Units of one thread


def test_each_asyncio_task_trains_in_a_run_of_its_own(
    axon: Any, records: NotebookRepository
) -> None:
    async def objective(rate: int) -> None:
        weights = model(rate)
        axon.resume(weights, key=f"rate {rate}")
        for epoch in range(3):
            await asyncio.sleep(0)
            axon.checkpoint(weights, epoch=epoch, metrics={"rate": float(rate)})

    async def search() -> None:
        await asyncio.gather(objective(1), objective(2))

    asyncio.run(search())
    made = runs(records)
    assert {run.key: epochs(records, run) for run in made} == {
        "rate 1": [0, 1, 2],
        "rate 2": [0, 1, 2],
    }
    for run in made:
        found = records.list_checkpoints(run.notebook_id, run_id=run.id)
        assert {one.metrics["rate"] for one in found} == {float(str(run.key)[-1])}


def test_threads_that_all_resume_keep_what_they_resumed(
    axon: Any, anew: Anew, records: NotebookRepository
) -> None:
    for key in "ab":
        train(axon, ord(key), key=key)
        anew(RunStatus.FAILED)
    together = threading.Barrier(2)

    def go_on(key: str) -> None:
        weights = model()
        resumed = axon.resume(weights, key=key)
        together.wait(30)
        for epoch in range(resumed.epoch + 1, 5):
            axon.checkpoint(weights, epoch=epoch, metrics={"of": float(ord(key))})
            together.wait(30)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(go_on, "ab"))
    for run in runs(records)[-2:]:
        found = records.list_checkpoints(run.notebook_id, run_id=run.id)
        assert [(one.epoch, one.metrics["of"]) for one in found] == [
            (epoch, float(ord(str(run.key)))) for epoch in (4, 3)
        ]


def test_another_thread_takes_nothing_from_a_training_that_was_resumed(
    axon: Any, records: NotebookRepository
) -> None:
    begun, resumed, done = threading.Event(), threading.Event(), threading.Event()

    def evaluate() -> None:
        begun.set()
        assert resumed.wait(30)
        axon.checkpoint(None, epoch=7, metrics={"accuracy": 0.5})
        done.set()

    evaluator = threading.Thread(target=evaluate)
    evaluator.start()
    assert begun.wait(30)
    axon.resume(model(), key="main")
    resumed.set()
    assert done.wait(30)
    evaluator.join()
    train_epochs = [axon.checkpoint(model(epoch), epoch=epoch).run_id for epoch in range(2)]
    (main,) = [run for run in runs(records) if run.key == "main"]
    assert train_epochs == [main.id] * 2
    assert epochs(records, main) == [0, 1]


@pytest.mark.parametrize("saves", ["by itself", "in a function"])
def test_a_training_that_saves_through_an_executor_is_one_run(
    axon: Any, records: NotebookRepository, saves: str
) -> None:
    net = Net()

    def save(epoch: int) -> None:
        axon.checkpoint(net, epoch=epoch)

    with ThreadPoolExecutor(3) as pool:
        for epoch in range(6):
            if saves == "by itself":
                pool.submit(axon.checkpoint, net, epoch=epoch).result()
            else:
                pool.submit(save, epoch).result()
    assert [epochs(records, run) for run in runs(records)] == [[0, 1, 2, 3, 4, 5]]


def test_trials_of_a_pool_are_a_run_each(axon: Any, records: NotebookRepository) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda trial: axon.checkpoint(None, epoch=0, metrics={"trial": trial}), range(4)
            )
        )
    assert [epochs(records, run) for run in runs(records)] == [[0]] * 4
