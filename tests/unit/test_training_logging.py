"""Logged values and runs in a training process."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from support.factories import new_checkpoint, new_notebook

from jupyter_axon_notebooks import spool
from jupyter_axon_notebooks.errors import NotFound
from jupyter_axon_notebooks.records import ConfigSource, RunStatus
from jupyter_axon_notebooks.run_filters import InvalidFilter
from jupyter_axon_notebooks.spool import Row, SpoolReader, SpoolWriter, list_spools
from jupyter_axon_notebooks.stores import find_settings, open_store_at
from jupyter_axon_notebooks.training.messages import AxonWarning
from jupyter_axon_notebooks.training.run import LogPosition
from jupyter_axon_notebooks.training.spooled import recover_spools, spool_folders, store_rows


def list_runs(records):
    (notebook,) = records.list_all()
    return records.runs.list(notebook.id)[::-1]


def recover(opened, folder, *, store_url=None, user="ada"):
    url = store_url or find_settings().store_url
    return list(recover_spools(opened.repository, opened.origin, [folder], url, user))


def values(records, run, name):
    series = records.series.read(run.notebook_id, run.id, name)
    return dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def test_values_are_stored_by_step(axon, restart, records):
    for step in range(100):
        axon.log({"loss": 1 / (step + 1), "val": {"acc": np.float32(0.5)}}, step=step)
    axon.log({"lr": 0.1})
    restart()
    [run] = list_runs(records)
    assert values(records, run, "loss") == {step: 1 / (step + 1) for step in range(100)}
    assert values(records, run, "val.acc")[99] == 0.5
    assert values(records, run, "lr") == {100: 0.1}
    assert (run.number, run.step_count, run.status) == (1, 101, RunStatus.RUNNING)


def test_a_checkpoint_has_what_was_logged_since_the_last_one(axon, restart, records):
    for step in range(3):
        axon.log({"loss": float(step), "lr": 0.1}, step=10 * step)
    first = axon.checkpoint(None, epoch=0, metrics={"val_acc": 0.5})
    assert (first.step, first.metrics) == (20, {"loss": 2.0, "lr": 0.1, "val_acc": 0.5})
    axon.log({"loss": 9.0}, step=30)
    second = axon.checkpoint(None, epoch=1, step=30, metrics={"loss": 7.0})
    assert second.metrics == {"loss": 7.0}
    assert axon.checkpoint(None, epoch=2).metrics == {}
    restart()
    [run] = list_runs(records)
    assert values(records, run, "val_acc") == {20: 0.5}
    assert values(records, run, "loss")[30] == 7.0


def test_the_metrics_of_checkpoints_before_the_first_value_are_logged_with_it(
    axon, restart, records
):
    for epoch in range(3):
        axon.checkpoint(None, epoch=epoch, metrics={"val": float(epoch)})
        axon.log({"loss": 1.0}, step=epoch)
    restart()
    [run] = list_runs(records)
    assert values(records, run, "val") == {0: 0.0, 1: 1.0, 2: 2.0}
    assert (run.metrics["val"].min, run.metrics["val"].last) == (0.0, 2.0)


class GrowingFile(SpoolReader):
    """A spool file whose writer appends a row after every read."""

    def __init__(self, writer):
        super().__init__(writer.path)
        self.writer = writer

    def read(self, offset, limit):
        rows = super().read(offset, limit)
        self.writer.append(Row(100, 0.0, {"loss": 9.0}))
        return rows


def test_rows_that_are_logged_while_others_are_stored_wait_for_the_next_time(
    axon, records, restart, tmp_path
):
    axon.log({"other": 1.0})
    restart()
    [run] = list_runs(records)
    writer = SpoolWriter(tmp_path, {})
    writer.append(Row(0, 0.0, {"loss": 1.0}))
    with GrowingFile(writer) as reader:
        offset = store_rows(records, reader, run.notebook_id, run.id)
        assert values(records, run, "loss") == {0: 1.0}
        assert store_rows(records, reader, run.notebook_id, run.id) > offset
        assert values(records, run, "loss") == {0: 1.0, 100: 9.0}
    writer.close()


def test_values_that_are_no_numbers_cost_a_warning(axon, records, restart):
    with pytest.warns(AxonWarning, match="text is no number"):
        axon.log({"loss": math.nan, "text": "x", "big": math.inf}, step=0)
    restart()
    [run] = list_runs(records)
    assert sorted(run.metrics) == ["big", "loss"]
    assert run.metrics["loss"].last == "NaN"


def test_values_that_are_too_large_cost_a_warning(axon, records, restart, monkeypatch):
    monkeypatch.setattr(spool, "_MAX_FRAME", 1 << 16)
    axon.log({"loss": 1.0}, step=0)
    with pytest.warns(AxonWarning, match="values are not logged"):
        axon.log({f"layer.{number}": 1.0 for number in range(10_000)}, step=1)
    axon.log({"loss": 2.0}, step=2)
    restart()
    [run] = list_runs(records)
    assert values(records, run, "loss") == {0: 1.0, 2: 2.0}
    assert [name for name in run.metrics if not name.startswith("system/")] == ["loss"]


def test_going_back_begins_a_run(axon, records, restart, capsys):
    for _ in range(2):
        for step in range(3):
            axon.log({"loss": float(step)}, step=step)
    assert "before the last ones of run 1. To decide" in capsys.readouterr().out
    axon.log({"other": 1.0}, step=0)  # another metric has its own steps
    restart()
    assert [values(records, run, "loss") for run in list_runs(records)] == [
        {0: 0.0, 1: 1.0, 2: 2.0}
    ] * 2


def test_runs_have_what_was_just_logged(axon, records):
    for step in range(3):
        axon.log({"loss": float(step)}, step=step)
        [run] = axon.runs()
        assert run.metrics["loss"] == step


def test_steps_that_begin_again_in_each_epoch_are_counted_on(axon, records, restart):
    for epoch in range(3):
        for step in range(2):
            axon.log({"loss": float(epoch)}, step=step, epoch=epoch)
    restart()
    [run] = list_runs(records)
    assert list(values(records, run, "loss")) == [0, 1, 2, 3, 4, 5]
    assert values(records, run, "epoch")[5] == 2.0


def test_epochs_that_go_back_begin_a_run(axon, records, restart, capsys):
    for _ in range(2):
        for epoch in range(3):
            axon.log({"loss": float(epoch)}, epoch=epoch)
    assert capsys.readouterr().out.count("the logged epoch comes before") == 1
    restart()
    assert [values(records, run, "loss") for run in list_runs(records)] == [
        {0: 0.0, 1: 1.0, 2: 2.0}
    ] * 2


@pytest.mark.parametrize("batch_step", ["per epoch", "overall"])
def test_a_metric_may_count_epochs_while_another_counts_batches(
    axon, records, restart, capsys, batch_step
):
    for epoch in range(3):
        for batch in range(4):
            step = batch if batch_step == "per epoch" else 4 * epoch + batch
            axon.log({"loss": float(batch)}, step=step, epoch=epoch)
        axon.log({"val_loss": float(epoch)}, step=epoch, epoch=epoch)
    assert "A new run begins" not in capsys.readouterr().out
    restart()
    [run] = list_runs(records)
    assert list(values(records, run, "loss")) == list(range(12))
    assert list(values(records, run, "val_loss").values()) == [0.0, 1.0, 2.0]
    assert list(values(records, run, "epoch").values()) == [0.0] * 4 + [1.0] * 4 + [2.0] * 4


def test_a_value_that_replaces_another_one_costs_a_warning(axon, records, restart):
    axon.log({"acc": 0.1, "nan": math.nan}, step=100, epoch=1)
    with pytest.warns(AxonWarning, match="acc is logged again at the same step"):
        axon.log({"acc": 0.2, "nan": math.nan}, step=100, epoch=1)
    axon.log({"acc": 0.3, "nan": math.nan}, step=100, epoch=1)  # warnings are errors in tests
    restart()
    [run] = list_runs(records)
    assert values(records, run, "acc") == {100: 0.3}


@pytest.mark.parametrize("step", [-1, 2**53, "7", math.inf])
def test_a_step_that_is_none_costs_a_warning(axon, records, restart, step):
    axon.log({"loss": 1.0}, step=5)
    with pytest.warns(AxonWarning, match="It is treated as omitted"):
        axon.log({"loss": 2.0}, step=step)
    restart()
    [run] = list_runs(records)
    assert values(records, run, "loss") == {5: 1.0, 6: 2.0}


def test_a_chosen_run_continues_in_an_earlier_epoch(axon, records, restart):
    run = axon.start_run({"lr": 1})
    for epoch in (3, 0):
        run.log({"loss": float(epoch)}, epoch=epoch)
    restart()
    [found] = list_runs(records)
    assert values(records, found, "loss") == {0: 3.0, 1: 0.0}


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (2**70, 2), (None, 2)])
def test_the_number_of_runs_is_limited(axon, limit, count):
    axon.start_run()
    axon.start_run()
    assert len(axon.runs(limit=limit)) == count
    with pytest.raises(ValueError, match="limit is -1"):
        axon.runs(limit=-1)


def test_runs_that_are_trained_in_turn_have_their_own_checkpoints(axon, restart, records):
    started = [axon.start_run({"model": name}) for name in "ab"]
    models = [{"w": np.zeros(2)} for _ in started]
    for epoch in range(2):
        for run, model in zip(started, models, strict=True):
            run.checkpoint(model, epoch=epoch, metrics={"val": float(epoch)})
    with pytest.warns(AxonWarning, match="saved at the next step"):
        started[0].checkpoint(models[0], epoch=0, step=0)
    restart()
    first, second = list_runs(records)
    found = records.list_checkpoints(first.notebook_id)
    positions = {run.id: [] for run in (first, second)}
    for one in found[::-1]:
        positions[one.run_id].append((one.epoch, one.step))
    assert positions == {first.id: [(0, 0), (1, 1), (0, 2)], second.id: [(0, 0), (1, 1)]}
    assert values(records, first, "val") == {0: 0.0, 1: 1.0}


def test_runs_have_the_values_that_were_just_logged(axon):
    for lr in (0.3, 0.1):
        with axon.start_run({"lr": lr}):
            axon.log({"val_loss": lr})
    assert [run.metrics["val_loss"] for run in axon.runs(sort="val_loss.min")] == [0.1, 0.3]


def test_an_unknown_series_is_an_error_with_similar_names(axon):
    run = axon.start_run({"lr": 0.1})
    axon.log({"loss": 1.0})
    with pytest.raises(NotFound, match="did you mean loss"):
        run.series("los")


def test_a_run_in_a_generator_that_is_closed_early_is_completed(axon, records, restart):
    def steps():
        with axon.start_run({"lr": 0.1}):
            for step in range(10):
                axon.log({"loss": 1.0}, step=step)
                yield step

    generator = steps()
    next(generator)
    generator.close()
    restart()
    [run] = list_runs(records)
    assert run.status is RunStatus.COMPLETED


@pytest.mark.parametrize("order", ["start_run first", "resume first"])
@pytest.mark.parametrize("key", [None, "wide"])
def test_start_run_and_resume_are_about_one_run(axon, records, restart, order, key):
    def train():
        model = {"w": np.zeros(2)}
        if order == "start_run first":
            axon.start_run({"lr": 0.1}, tags="a")
        resumed = axon.resume(model, key=key)
        if order == "resume first":
            axon.start_run({"lr": 0.1}, tags="a")
        axon.log({"loss": 1.0})
        axon.checkpoint(model, epoch=resumed.epoch + 1 if resumed else 0)
        restart(RunStatus.STOPPED)

    train()
    train()
    first, second = list_runs(records)
    assert [(run.config, run.tags, run.key) for run in (first, second)] == [
        ({"lr": 0.1}, ["a"], key)
    ] * 2
    newest, oldest = records.list_checkpoints(first.notebook_id)
    assert [oldest.run_id, newest.run_id] == [first.id, second.id]
    assert second.parent_checkpoint_id == oldest.id


def test_a_resumed_run_can_be_given_an_empty_configuration(axon, restart, records):
    model = {"w": np.zeros(1)}
    axon.checkpoint(model, epoch=0)
    restart(RunStatus.STOPPED)
    assert axon.resume(model) is not None
    run = axon.start_run({"lr": 0.1})
    axon.start_run({})
    assert run.config == {}
    assert list_runs(records)[1].config == {}


def test_a_search_has_a_run_for_each_configuration(axon, records, restart):
    for lr in (0.1, 0.01):
        with axon.start_run({"lr": lr}, name=f"lr {lr}", group="search", tags="a") as run:
            axon.log({"loss": lr})
            run.log({"loss": lr / 2})
            assert run.series("loss").values.tolist() == [lr, lr / 2]
    with pytest.raises(ZeroDivisionError), axon.start_run({"lr": 1}):
        axon.log({"loss": 1 / 0})
    with pytest.raises(KeyboardInterrupt), axon.start_run():
        raise KeyboardInterrupt
    restart()
    found = list_runs(records)
    assert [run.name for run in found] == ["lr 0.1", "lr 0.01", None, None]
    assert [run.config for run in found[:3]] == [{"lr": 0.1}, {"lr": 0.01}, {"lr": 1}]
    assert found[0].config_source is ConfigSource.GIVEN
    assert [run.status.value for run in found] == ["completed", "completed", "failed", "stopped"]
    table = axon.runs("group == 'search'", sort="loss").table()
    assert [(row["name"], row["lr"], row["loss"]) for row in table] == [
        ("lr 0.01", 0.01, 0.005),
        ("lr 0.1", 0.1, 0.05),
    ]
    with pytest.raises(InvalidFilter):
        axon.runs("los < 1")


def test_the_best_checkpoint_of_all_notebooks_is_found(axon, records, restart):
    axon.checkpoint(None, epoch=1, metrics={"acc": 0.5})
    restart()
    other = records.create(new_notebook(user_id=axon.notebook().user_id))
    records.create_checkpoint(new_checkpoint(other.id, epoch=2, metrics={"acc": 0.9}))
    assert axon.best("acc").epoch == 1
    assert axon.best("acc", all=True).epoch == 2
    assert axon.best("acc", "min", all=True).epoch == 1
    with pytest.raises(NotFound, match="did you mean acc"):
        axon.best("ac", "max", all=True)
    with pytest.raises(ValueError, match="all=True"):
        axon.best("acc", run="1", all=True)


def test_a_configuration_can_be_changed(axon, records, restart):
    run = axon.start_run({"lr": 0.1, "model": {"depth": 2}})
    run.config.update(batch=32)
    run.config.update({"lr": 0.2})
    assert dict(run.config) == {"lr": 0.2, "model": {"depth": 2}, "batch": 32}
    assert run.config["model.depth"] == 2
    with pytest.raises(NotFound):
        run.series("loss")
    restart()
    assert list_runs(records)[0].config == {"lr": 0.2, "model": {"depth": 2}, "batch": 32}


def test_a_run_can_be_renamed_and_tagged(axon, records):
    run = axon.start_run(name="first", tags=["a"], notes="why", group="search")
    run.update(name="second", notes="")
    assert (run.name, run.tags) == ("second", ["a"])
    [found] = axon.runs()
    found.update(name="", tags="b", group="other")
    [record] = list_runs(records)
    assert (record.display_name, record.tags, record.notes) == ("run 1", ["b"], None)
    assert record.group == "other"


def test_a_run_that_ended_can_be_changed(axon, records):
    with axon.start_run({"lr": 0.1}) as run:
        run.log({"loss": 1.0})
    run.update(notes="late")
    run.config.update(lr=0.2)
    [record] = list_runs(records)
    assert (record.notes, record.config) == ("late", {"lr": 0.2})
    assert record.status is RunStatus.COMPLETED


def test_a_run_that_trains_is_changed_later_without_a_store(axon, unavailable_store, restart):
    with pytest.warns(AxonWarning):
        run = axon.start_run({"lr": 0.1})
    run.config.update(lr=0.2)
    run.update(name="wide")
    unavailable_store()
    axon.checkpoint({"w": np.zeros(1)})
    run.finish()
    restart()
    with open_store_at(find_settings()) as opened:
        [record] = list_runs(opened.repository)
    assert (record.name, record.config) == ("wide", {"lr": 0.2})


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "x" * 256},
        {"name": 1},
        {"notes": b"x"},
        {"group": "x" * 256},
        {"tags": ["y" * 256]},
    ],
)
def test_what_cannot_be_recorded_is_refused_before_a_run_begins(axon, records, wrong):
    run = axon.start_run(name="kept")
    for call in (axon.start_run, run.update):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            call(**wrong)
    assert [record.name for record in list_runs(records)] == ["kept"]
    assert axon.runs()[0].status is RunStatus.RUNNING


def test_logging_goes_on_without_a_store(axon, unavailable_store, restart, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(10):
            axon.log({"loss": float(step)}, step=step)
        restart()
        folder = spool_folders(tmp_path / "data/axon_notebooks")[0]
        assert len(list_spools(folder)) == 1
        unavailable_store()
        settings = find_settings()
        with open_store_at(settings) as opened:
            found = list(recover(opened, folder))
            assert [error for _, error in found] == [None]
            assert list_spools(folder) == []
            [run] = list_runs(opened.repository)
            assert len(values(opened.repository, run, "loss")) == 10
            assert run.status is RunStatus.STOPPED or run.process.pid == os.getpid()


KILLED = """
import jupyter_axon_notebooks as axon
for step in range(10**9):
    axon.log({"loss": 1 / (step + 1)}, step=step)
    print(step, flush=True)
"""


@pytest.mark.parametrize("rows", [1, 300, 20_000])
def test_every_acknowledged_row_survives_a_kill(axon, notebook, records, tmp_path, rows):
    environment = {**os.environ, "AXON_NOTEBOOK": str(notebook)}
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        for line in process.stdout:
            if int(line) >= rows:
                process.send_signal(signal.SIGKILL)
                break
        rest = process.stdout.read().split(b"\n")[:-1]
    acknowledged = int(rest[-1]) if rest else int(line)
    settings = find_settings()
    with open_store_at(settings) as opened:
        folder = spool_folders(settings.data_folder)[0]
        assert [
            error
            for _, error in recover_spools(
                opened.repository, opened.origin, [folder], settings.store_url, "ada"
            )
        ] == [None]
        assert list(recover(opened, folder)) == []
    [run] = list_runs(records)
    stored = values(records, run, "loss")
    assert len(stored) >= acknowledged + 1
    assert stored == {step: 1 / (step + 1) for step in range(len(stored))}
    assert run.status is RunStatus.STOPPED


def test_threads_log_to_runs_of_their_own(axon, records, restart):
    def train(lr):
        with axon.start_run({"lr": lr}):
            for step in range(200):
                axon.log({"loss": lr * step}, step=step)

    threads = [threading.Thread(target=train, args=(lr,)) for lr in (1.0, 2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    restart()
    for run in list_runs(records):
        lr = run.config["lr"]
        assert values(records, run, "loss") == {step: lr * step for step in range(200)}


def test_a_thread_logs_new_metrics_while_checkpoints_are_saved(axon, records):
    run, ended = axon.start_run(), threading.Event()

    def log():
        number = 0
        while not ended.is_set():
            run.log({f"new/{number}": 1.0})
            number += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=log)
    thread.start()
    try:
        for epoch in range(10):
            run.log({f"{number}": float(epoch) for number in range(500)})
            assert run.checkpoint(None, epoch=epoch).metrics["499"] == epoch
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_a_forked_process_logs_to_a_run_of_its_own(axon, records, restart):
    axon.log({"loss": 1.0})
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            axon.log({"loss": 2.0})
            restart()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    axon.log({"loss": 3.0})
    restart()
    found = sorted((values(records, run, "loss") for run in list_runs(records)), key=len)
    assert found == [{0: 2.0}, {0: 1.0, 1: 3.0}]


def test_only_rank_0_records(axon, monkeypatch, records):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    axon.log({"loss": 1.0})
    with axon.start_run({"lr": 0.1}, name="wide") as run:
        run.log({"loss": 1.0})
        run.config.update(layers=2)
        run.update(notes="why")
        assert run.checkpoint({"w": [1.0]}, epoch=0) is None
    assert (run.config["lr"], run.name, run.status) == (0.1, "wide", RunStatus.COMPLETED)
    assert records.list_all() == []


@pytest.mark.parametrize(
    ("logged", "place", "expected"),
    [
        ([], ("a", None, None), 0),
        ([("a", 5, None)], ("a", None, None), 6),
        ([("a", 5, None)], ("a", 5, None), 5),
        ([("a", 5, None)], ("a", 4, None), None),
        ([("a", 5, None)], ("b", 4, None), 4),
        ([("a", 5, 0)], ("a", 0, 1), 6),
        ([("a", 5, 0)], ("a", 4, 0), None),
        ([("a", 5, 0), ("a", 6, 1)], ("a", 0, 2), 7),
        ([("a", 0, 0)], ("a", 0, 1), 1),
        ([("a", 5, 1)], ("a", 5, 0), None),
        ([("a", 5, 0), ("b", 1, 1)], ("a", 0, 1), 6),
        ([("a", 5, 1)], ("b", None, 0), 6),
    ],
)
def test_a_step_is_placed_after_those_of_its_metric(logged, place, expected):
    position = LogPosition()
    for name, step, epoch in logged:
        position.advance([name], step, epoch, "cell")
    name, step, epoch = place
    assert position.place([name], step, epoch, "cell") == expected


def test_the_same_step_in_a_later_execution_goes_back():
    position = LogPosition()
    position.advance(["a"], 5, None, "first")
    assert position.place(["a"], 5, None, "second") is None
    assert position.place(["a"], 6, None, "second") == 6


def test_files_of_other_stores_and_users_stay(axon, restart, unavailable_store, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axon.log({"loss": 1.0})
        restart()
    unavailable_store()
    folder = spool_folders(Path(tmp_path / "data/axon_notebooks"))[0]
    (folder / "junk.spool").write_bytes(b"junk")
    with open_store_at(find_settings()) as opened:
        others = [*recover(opened, folder, store_url="sqlite:////other.db")]
        assert [path.name for path, _ in others] == ["junk.spool"]
        assert [path.name for path, _ in recover(opened, folder, user="bob")] == ["junk.spool"]
        assert opened.repository.list_all() == []
    assert len(list_spools(folder)) == 2


def test_a_run_of_another_rank_is_not_recorded(axon, records, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with axon.start_run({"lr": 0.1}, name="wide") as run:
        axon.log({"loss": 1.0})
        run.log({"loss": 1.0})
    assert (run.name, dict(run.config)) == ("wide", {"lr": 0.1})
    assert records.list_all() == []


def test_a_filter_of_runs_is_a_text(axon, records):
    axon.log({"loss": 1.0})
    with pytest.raises(TypeError, match="where is None"):
        axon.runs(None)


def test_the_best_checkpoint_by_a_metric_that_was_only_logged_is_explained(axon, records):
    axon.log({"loss": 1.0})
    axon.runs()  # which waits until the value is stored
    with pytest.raises(NotFound, match=r"axon\.runs\(sort='loss'\) ranks them"):
        axon.best("loss")
