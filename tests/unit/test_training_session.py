"""Saving, querying, restoring and resuming checkpoints through the notebook API."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from jupyter_axon_notebooks.errors import Conflict, InvalidData, NotFound, StateCorrupt, StoreError
from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook, RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.states.notes import NOTE, Note, write_note
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.sync import read_origin
from jupyter_axon_notebooks.training.checkpoint import Checkpoint
from jupyter_axon_notebooks.training.messages import AxonWarning
from jupyter_axon_notebooks.training.recovery import UnrecordedCheckpoint, find_unrecorded, recover


def make_model(value=0.0):
    layer = {"b": np.full(3, value, dtype=np.float32)}
    return {"w": np.full((2, 3), float(value)), "layers": [layer]}


@pytest.fixture
def states(tmp_path):
    return StateStorage(tmp_path / "data" / "axon_notebooks" / "states")


# Saving


def test_a_checkpoint_has_its_arguments(axon, records, notebook):
    optimizer, metrics = {"m": np.zeros(3)}, {"loss": np.float32(0.5)}
    saved = axon.checkpoint(
        make_model(), optimizer, epoch=2, step=40, metrics=metrics, tags="first"
    )
    assert (saved.epoch, saved.step, saved.metrics, saved.tags) == (2, 40, {"loss": 0.5}, ["first"])
    assert saved.is_recorded
    assert saved.has_state
    stored = records.get_checkpoint(saved.id)
    assert stored == saved.record
    (record,) = records.list_all()
    assert (record.path, record.user_id, record.id) == (str(notebook), "ada", stored.notebook_id)
    assert stored.version_id == record.version_id
    assert stored.provenance_id is not None
    assert set(stored.sizes) == {"model", "optimizer"}
    assert Path(stored.model_state_path).stat().st_size == stored.sizes["model"]
    assert Path(stored.optimizer_state_path).stat().st_size == stored.sizes["optimizer"]


def test_without_a_model_only_metrics_are_saved(axon):
    saved = axon.checkpoint(None, epoch=0, metrics={"loss": 1})
    assert not saved.has_state
    assert saved.record.sizes is None
    with pytest.raises(NotFound, match="state of checkpoint"):
        saved.restore(make_model())


def test_too_many_values_for_one_checkpoint_begin_another(axon):
    first = axon.checkpoint(None, epoch=0, step=5, metrics={"a" * 5000: [math.nan] * 1_500})
    metrics = {"b" * 5000: [math.nan] * 1_500}
    second = axon.checkpoint(make_model(1), epoch=0, step=5, metrics=metrics)
    assert (second.id != first.id, second.has_state, second.is_recorded) == (True, True, True)
    assert [next(iter(one.metrics))[0] for one in axon.checkpoints()] == ["b", "a"]


def test_a_step_of_nan_counts_as_omitted(axon):
    with pytest.warns(AxonWarning, match="step is not a number; it is treated as omitted"):
        saved = axon.checkpoint(make_model(1), epoch=3, step=math.nan)
    assert (saved.epoch, saved.step, saved.has_state) == (3, 0, True)


def test_unusual_numbers_are_converted_or_omitted(axon, records):
    saved = axon.checkpoint(make_model(1), epoch=1.0, step=np.float64(30.0), metrics={"loss": 1})
    assert (saved.epoch, saved.step) == (1, 30)
    with pytest.warns(AxonWarning, match="epoch is not a whole number"):
        assert axon.checkpoint(make_model(), epoch=1.5, step=31).epoch == 1
    metrics = {"loss": 0.5, "confusion": np.eye(3), "x": object(), 3: 0.25}
    omitted = r"some metrics are not recorded: confusion \(is a ndarray.*, x \(is a object\)"
    with pytest.warns(AxonWarning, match=omitted) as warned:
        saved = axon.checkpoint(make_model(2), epoch=2, metrics=metrics)
    assert len(warned) == 1
    assert saved.metrics == {"loss": 0.5, "3": 0.25}
    assert (saved.restore()[0]["w"] == 2).all()
    with pytest.warns(AxonWarning, match="no metrics are recorded"):
        assert axon.checkpoint(make_model(3), metrics=[0.5]).has_state
    assert records.get_checkpoint(saved.id).metrics == saved.metrics


def test_steps_may_exceed_32_bits(axon, restart):
    large = 5_000_000_000
    for number in range(3):
        metrics = {"loss": 3 - number}
        axon.checkpoint(make_model(number), epoch=0, step=large + number, metrics=metrics)
    assert len({one.run_id for one in axon.checkpoints()}) == 1
    assert axon.best("loss").step == large + 2
    assert axon.checkpoint(make_model(), overwrite=True, step=large + 2).step == large + 2
    assert axon.checkpoint(make_model()).step == large + 3
    assert "step 5000000003" in repr(axon.latest())
    assert "5000000001" in repr(axon.checkpoints())
    assert axon.checkpoints().metrics()["step"] == [large + number for number in range(4)]
    restart()
    assert axon.resume(make_model(), force=True).step == large + 3
    assert axon.checkpoint(make_model()).step == large + 4


def test_omitted_epochs_and_steps_follow_from_the_run(axon):
    saved = [axon.checkpoint(None, epoch=epoch) for epoch in (None, None, 4, None)]
    assert [(one.epoch, one.step) for one in saved] == [(0, 0), (0, 1), (4, 2), (4, 3)]
    assert len({one.run_id for one in saved}) == 1
    again = axon.checkpoint(None, epoch=0)
    assert (again.epoch, again.step) == (0, 0)
    assert again.run_id != saved[0].run_id


def test_overwrite_replaces_a_checkpoint(axon):
    first = axon.checkpoint(make_model(1), epoch=0)
    axon.checkpoint(make_model(2), epoch=1)
    replaced = axon.checkpoint(make_model(3), epoch=0, overwrite=True)
    assert (replaced.epoch, replaced.step, replaced.run_id) == (0, 0, first.run_id)
    assert [one.epoch for one in axon.checkpoints()] == [0, 1]
    assert not Path(first.record.model_state_path).exists()
    assert replaced.has_state
    again = axon.checkpoint(make_model(4), epoch=0)  # before the last position, hence a new run
    assert again.run_id != first.run_id
    assert len(axon.checkpoints()) == 3


def test_a_pinned_checkpoint_is_not_replaced(axon, states):
    pinned = axon.pin(axon.checkpoint(make_model(1), epoch=0))
    with pytest.raises(Conflict, match="pinned"):
        axon.checkpoint(make_model(2), epoch=0, overwrite=True)
    assert [one.id for one in axon.checkpoints()] == [pinned.id]
    assert os.listdir(Path(states.root) / pinned.record.notebook_id) == [pinned.id]


def test_a_checkpoint_after_an_interrupted_call_is_saved(axon, records):
    first = axon.checkpoint(make_model(), epoch=0)
    notebook_id = first.record.notebook_id
    recorded = {"notebook_id": notebook_id, "run_id": first.run_id, "metrics": {}}
    records.create_checkpoint(NewCheckpoint(epoch=1, step=1, **recorded))
    again = axon.checkpoint(make_model(1), epoch=1)
    assert again.is_recorded
    assert again.has_state
    assert again.run_id != first.run_id


def test_a_model_that_cannot_be_saved_leaves_no_files(axon, records, states):
    with pytest.raises(TypeError, match="object"):
        axon.checkpoint(object(), epoch=0)
    assert records.list_all() == []
    assert not Path(states.root).exists()


def test_an_optimizer_in_place_of_the_model_is_rejected(axon):
    class SGD:
        param_groups = ()

    with pytest.raises(TypeError, match="model is an optimizer"):
        axon.checkpoint(SGD(), make_model(), epoch=0)


# Queries


def test_the_direction_of_a_metric_follows_from_its_name(axon, capsys):
    for epoch, value in enumerate([1.0, 3.0, 2.0]):
        metrics = {"val_accuracy": value, "val": {"loss": value}, "wobble": value}
        axon.checkpoint(None, epoch=epoch, metrics=metrics)
    for _ in range(2):  # prints the direction once
        assert axon.best("val_accuracy").epoch == 1
    assert capsys.readouterr().out == "The best val_accuracy: higher is better.\n"
    assert axon.best("val.loss", "min").epoch == 0
    assert capsys.readouterr().out == ""
    assert axon.best("val.loss").epoch == 0
    assert "lower is better" in capsys.readouterr().out
    assert axon.best("wobble", "max").epoch == 1
    assert axon.best("val_accuracy", "min").epoch == 0
    with pytest.raises(ValueError, match="lower or higher values of wobble are better"):
        axon.best("wobble")
    with pytest.raises(NotFound, match="finite number as wobbly"):
        axon.best("wobbly")
    with pytest.raises(ValueError, match="mode is 'most'"):
        axon.best("wobble", "most")
    with pytest.raises(NotFound, match=r"as perplexity; there are val\.loss, val_accuracy, wobble"):
        axon.best("perplexity")


def test_a_misspelt_metric_gets_a_suggestion(axon, restart):
    axon.checkpoint(None, epoch=0, metrics={"val_loss": 1.0})
    restart()
    for epoch in range(1, 4):
        axon.checkpoint(None, epoch=epoch, metrics={"loss": 1.0})
    for misspelt, mode in (("val_los", None), ("vall_loss", "min"), ("validloss", None)):
        with pytest.raises(NotFound, match=f"as {misspelt}; did you mean val_loss"):
            axon.best(misspelt, mode)


@pytest.mark.parametrize("kind", ["notebook", "script", "nothing"])
def test_queries_create_no_record(kind, axon, records, tmp_path, monkeypatch):
    if kind == "script":
        script = tmp_path / "train.py"
        script.write_text("train()\n")
        monkeypatch.setenv("AXON_NOTEBOOK", str(script))
    elif kind == "nothing":
        monkeypatch.delenv("AXON_NOTEBOOK")
    assert axon.latest() is None
    assert axon.checkpoints() == []
    assert axon.resume() is None
    with pytest.raises(NotFound, match="as val_loss; no metrics are recorded"):
        axon.best("val_loss")
    with pytest.raises(NotFound, match="checkpoint"):
        axon.get("abc")
    assert records.list_all() == []
    saved = axon.checkpoint(None, metrics={"val_loss": 1.0})
    assert axon.best("val_loss").id == axon.latest().id == saved.id
    assert len(records.list_all()) == 1


def test_queries_find_the_record_of_a_moved_file(axon, restart, notebook, tmp_path, monkeypatch):
    saved = axon.checkpoint(None, metrics={"loss": 1.0})
    content = json.loads(notebook.read_text())
    content["metadata"]["axon"] = {"notebook_id": saved.record.notebook_id}
    notebook.write_text(json.dumps(content))
    axon.notebook()
    restart()
    moved = notebook.rename(tmp_path / "renamed.ipynb")
    monkeypatch.setenv("AXON_NOTEBOOK", str(moved))
    assert axon.latest().id == saved.id


def test_queries_work_while_the_store_is_locked(axon, restart, notebook, tmp_path):
    axon.use(notebook)
    saved = axon.checkpoint(None, epoch=0, metrics={"loss": 1.0})
    content = json.loads(notebook.read_text())
    content["cells"][0]["source"] = "train(1)"
    restart()
    file = tmp_path / "data/axon_notebooks/axon.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        notebook.write_text(json.dumps(content))
        for query in (
            lambda: axon.best("loss"),
            axon.latest,
            lambda: axon.checkpoints()[0],
            lambda: axon.get(saved.id),
        ):
            start = time.monotonic()
            assert query().id == saved.id
            assert time.monotonic() - start < 8  # recording waits for 10 s
        assert [cell.source for cell in axon.notebook().cells] == ["train()"]
    assert [cell.source for cell in axon.notebook().cells] == ["train(1)"]


def test_get_accepts_the_beginning_of_an_id(axon):
    saved = axon.checkpoint(None, epoch=0)
    assert axon.get(saved.id[:6]).id == saved.id
    with pytest.raises(NotFound, match="checkpoint nowhere not found"):
        axon.get("nowhere")
    with pytest.raises(ValueError, match="id is blank"):
        axon.get("")
    with pytest.raises(TypeError):
        axon.get(3)


def test_a_checkpoint_is_pinned_and_unpinned(axon):
    saved = axon.checkpoint(None, epoch=0)
    assert not saved.pinned
    assert axon.pin(saved).pinned
    assert axon.get(saved.id).pinned
    assert not axon.pin(saved.id, pinned=False).pinned


def test_use_selects_another_notebook(axon, tmp_path, notebook):
    axon.checkpoint(None, epoch=0)
    other = tmp_path / "other.ipynb"
    other.write_text(notebook.read_text())
    assert axon.use(other).path == str(other)
    assert axon.checkpoints() == []
    saved = axon.checkpoint(None, epoch=1)
    assert axon.use(notebook).id != saved.record.notebook_id
    with pytest.raises(NotFound, match=r"nothing\.ipynb"):
        axon.use(tmp_path / "nothing.ipynb")
    assert axon.notebook().path == str(notebook)


# Tables


def test_a_list_of_checkpoints_is_a_table(axon):
    for epoch in range(3):
        metrics = {"loss": 1 / (epoch + 1)} | ({"<b>": 1} if epoch else {})
        axon.checkpoint(None, epoch=epoch, metrics=metrics)
    found = axon.checkpoints()
    assert [one.epoch for one in found] == [2, 1, 0]
    assert found.metrics() == {
        "epoch": [0, 1, 2],
        "step": [0, 1, 2],
        "loss": [1.0, 0.5, 1 / 3],
        "<b>": [None, 1, 1],
    }
    assert [one.epoch for one in axon.checkpoints(2)] == [2, 1]
    html = found._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert found[0].id[:8] in repr(found)


def test_metrics_called_epoch_and_step_have_columns_of_their_own(axon):
    metrics = {"epoch": 0.5, "step": 7, "val": {"loss": 1.0, "epoch": 2}, "metrics": {"step": 8}}
    axon.checkpoint(None, epoch=4, step=40, metrics=metrics | {"run": 3})
    assert axon.checkpoints().metrics() == {
        "epoch": [4],
        "step": [40],
        "metrics.epoch": [0.5],
        "metrics.metrics.step": [7],
        "val.loss": [1.0],
        "val.epoch": [2],
        "metrics.step": [8],
        "run": [3],
    }
    heads, row = repr(axon.checkpoints()).splitlines()
    assert heads.split()[1:5] == ["epoch", "step", "metrics.epoch", "metrics.metrics.step"]
    assert row.split()[1:5] == ["4", "40", "0.5", "7"]


def test_a_table_of_several_runs_has_a_column_for_the_run(axon):
    first = axon.checkpoint(None, epoch=0, step=0, metrics={"run": 3})
    heads, _ = repr(axon.checkpoints()).splitlines()
    assert heads.split()[:4] == ["checkpoint", "epoch", "step", "run"]
    axon.resume(key="another")
    second = axon.checkpoint(None, epoch=0, step=0, metrics={"run": 4})
    table = axon.checkpoints()
    heads, *rows = repr(table).splitlines()
    assert heads.split()[:5] == ["checkpoint", "run", "epoch", "step", "metrics.run"]
    runs = [one.run_id[:8] for one in (second, first)]
    assert [row.split()[1] for row in rows] == runs
    assert all(f">{run}<" in table._repr_html_() for run in runs)


# Ranks

RANKS = {
    "torchrun": ("RANK", "WORLD_SIZE"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
    "open mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "mpich": ("PMI_RANK", "PMI_SIZE"),
}


@pytest.mark.parametrize(("rank", "size"), RANKS.values(), ids=RANKS)
def test_only_rank_0_writes(axon, records, monkeypatch, capsys, rank, size):
    monkeypatch.setenv(rank, "1")
    monkeypatch.setenv(size, "2")
    assert [axon.checkpoint(make_model(), epoch=epoch) for epoch in range(2)] == [None, None]
    assert records.list_all() == []
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert f"process 1 of 2 ({rank})" in output


@pytest.mark.parametrize(("rank", "size"), RANKS.values(), ids=RANKS)
@pytest.mark.parametrize("values", [("1", None), ("1", "1"), ("3", "2"), ("1", "many")])
def test_an_inconsistent_rank_is_ignored_with_a_message(
    axon, monkeypatch, capsys, rank, size, values
):
    for name, value in zip((rank, size), values, strict=True):
        if value is not None:
            monkeypatch.setenv(name, value)
    for epoch in range(2):
        assert axon.checkpoint(make_model(), epoch=epoch) is not None
    reason = f"{rank}={values[0]} is ignored, because {size} is {values[1] or 'not set'}"
    assert capsys.readouterr().out.count(reason) == 1


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "RANK": "0", "WORLD_SIZE": "1"},
        {
            "SLURM_PROCID": "1",
            "SLURM_NTASKS": "4",
            "OMPI_COMM_WORLD_RANK": "0",
            "OMPI_COMM_WORLD_SIZE": "2",
        },
        {"RANK": "", "WORLD_SIZE": "2"},
        {"RANK": "first", "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
    ],
)
def test_the_rank_of_the_inner_launcher_is_used_and_others_are_ignored(
    axon, monkeypatch, variables
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert axon.checkpoint(make_model(), epoch=0) is not None


# Restoring


def test_the_best_checkpoint_is_restored_in_place(axon):
    for epoch, loss in enumerate([0.9, 0.2, 0.4, math.nan]):
        optimizer = {"m": np.full(3, float(epoch))}
        axon.checkpoint(make_model(epoch), optimizer, epoch=epoch, metrics={"val_loss": loss})
    target, optimizer = make_model(7), {"m": np.ones(3)}
    weights = target["w"]
    best = axon.best("val_loss")
    assert best.epoch == 1
    assert best.restore(target, optimizer) == (target, optimizer)
    assert (weights == 1).all()
    assert (target["layers"][0]["b"] == 1).all()
    assert (optimizer["m"] == 1).all()


def test_restore_without_arguments_returns_what_was_saved(axon):
    axon.checkpoint(make_model(3), {"m": np.ones(2)}, extra={"note": "warm", "at": 5})
    latest = axon.latest()
    model, optimizer = latest.restore()
    assert (model["w"] == 3).all()
    assert (model["layers"][0]["b"] == 3).all()
    assert (optimizer["m"] == 1).all()
    assert latest.extra == {"note": "warm", "at": 5}


@pytest.mark.parametrize("resumes", [True, False])
def test_resume_restores_random_number_generators_and_restore_does_not(axon, restart, resumes):
    np.random.seed(3)
    saved = axon.checkpoint(make_model(), epoch=0)
    after_saving = np.random.random(4).tolist()
    restart(RunStatus.STOPPED)
    np.random.seed(99)
    seeded = np.random.random(4).tolist()
    np.random.seed(99)
    if resumes:
        assert axon.resume(make_model()).epoch == 0
    else:
        saved.restore(make_model())
    assert np.random.random(4).tolist() == (after_saving if resumes else seeded)


def test_a_changed_state_file_is_rejected(axon):
    saved = axon.checkpoint(make_model(1), epoch=0)
    path = Path(saved.record.model_state_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    target = make_model(7)
    with pytest.raises(StateCorrupt, match=r"model\.safetensors does not match the record of"):
        saved.restore(target)
    assert (target["w"] == 7).all()


def test_a_file_that_is_replaced_after_its_check_is_not_read(axon, states):
    saved = axon.checkpoint(make_model(1), {"m": np.ones(2)}, epoch=0)
    other = axon.checkpoint(make_model(2), epoch=1)

    class ReplacingStorage(StateStorage):
        def open(self, path, notebook_id, *, field=""):
            file = super().open(path, notebook_id, field=field)
            Path(path).unlink()
            Path(path).symlink_to(other.record.model_state_path)
            return file

    target, optimizer = make_model(7), {"m": np.zeros(2)}
    Checkpoint(saved.record, ReplacingStorage(Path(states.root))).restore(target, optimizer)
    assert (target["w"] == 1).all()
    assert (optimizer["m"] == 1).all()


def test_a_state_of_another_shape_is_not_restored_in_part(axon):
    saved = axon.checkpoint(make_model(1), {"m": np.zeros(2)}, epoch=0)
    target, optimizer = make_model(7), {"m": np.ones(3)}
    with pytest.raises(InvalidData, match=r"optimizer\['m'\]"):
        saved.restore(target, optimizer)
    assert (target["w"] == 7).all()
    optimizer = {"m": np.ones(2)}
    with pytest.raises(InvalidData, match=r"model\['w'\]"):
        saved.restore({"w": np.zeros((2, 2)), "layers": []}, optimizer)
    assert (optimizer["m"] == 1).all()


class Schedule:
    """An object that accepts only a state of its own length."""

    def __init__(self, length):
        self.length = length

    def state_dict(self):
        return {"length": self.length}

    def load_state_dict(self, state):
        if state["length"] != self.length:
            raise ValueError("wrong length")


def test_an_extra_object_that_rejects_its_state_leaves_the_model_unchanged(axon):
    extra = {"n": 1, "s": Schedule(1)}
    saved = axon.checkpoint(make_model(1), {"m": np.ones(2)}, extra=extra, epoch=0)
    target, optimizer, extra = make_model(7), {"m": np.zeros(2)}, {"n": 0, "s": Schedule(2)}
    with pytest.raises(InvalidData, match=r"extra\['s'\].*Schedule refuses.*wrong length"):
        saved.restore(target, optimizer, extra)
    assert ((target["w"] == 7).all(), (optimizer["m"] == 0).all(), extra["n"]) == (True, True, 0)
    extra["s"] = Schedule(1)
    saved.restore(target, optimizer, extra)
    assert ((target["w"] == 1).all(), (optimizer["m"] == 1).all(), extra["n"]) == (True, True, 1)


# Resuming


def test_resume_skips_a_checkpoint_without_its_state(axon, restart, capsys):
    remaining = axon.checkpoint(make_model(1), epoch=0)
    deleted = axon.checkpoint(make_model(2), epoch=1)
    restart(RunStatus.FAILED)
    Path(deleted.record.model_state_path).unlink()
    target = make_model()
    assert axon.resume(target).id == remaining.id
    assert (target["w"] == 1).all()
    assert "no longer exists" in capsys.readouterr().out


def test_resume_skips_many_checkpoints_without_a_model(axon, restart, capsys):
    remaining = axon.checkpoint(make_model(3), epoch=0, step=0)
    for step in range(1, 103):
        axon.checkpoint(None, step=step)
    restart(RunStatus.FAILED)
    assert axon.resume(make_model()).id == remaining.id
    assert "no longer exists" not in capsys.readouterr().out


def test_resume_prints_where_states_of_another_root_are(
    axon, restart, capsys, monkeypatch, tmp_path, states
):
    root, scratch = Path(states.root), tmp_path / "scratch"
    monkeypatch.setenv("AXON_STATES_ROOT", str(scratch))
    older = axon.checkpoint(make_model(1), epoch=0)
    newest = axon.checkpoint(make_model(2), epoch=1)
    restart(RunStatus.FAILED)
    monkeypatch.delenv("AXON_STATES_ROOT")
    assert axon.resume(make_model()) is None
    output = capsys.readouterr().out
    where = f"The state of checkpoint {newest.id[:8]} (epoch 1) is in {scratch}"
    assert where in output
    assert "Set states_root or AXON_STATES_ROOT to that folder" in output
    assert f"move its content to {root}." in output
    assert f"no state of its checkpoints is in {root}, but some are in {scratch}." in output
    assert "no longer exists" not in output
    restart()
    notebook_id = newest.record.notebook_id
    (root / notebook_id).mkdir(parents=True)
    (scratch / notebook_id / older.id).rename(root / notebook_id / older.id)
    assert axon.resume(make_model()).id == older.id
    assert where in capsys.readouterr().out
    assert (scratch / notebook_id / newest.id).is_dir()


def test_resume_works_without_standard_output(axon, restart, monkeypatch):
    saved = axon.checkpoint(make_model(1), epoch=0)
    restart(RunStatus.FAILED)
    monkeypatch.setattr(sys, "stdout", None)
    assert axon.resume(make_model()).id == saved.id


def test_a_training_resumes_in_a_moved_data_folder(axon, restart, tmp_path, monkeypatch):
    axon.checkpoint(make_model(1), {"m": np.ones(2)}, epoch=0)
    restart()
    (tmp_path / "data").rename(tmp_path / "moved")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "moved"))
    target, optimizer = make_model(7), {"m": np.zeros(2)}
    resumed = axon.resume(target, optimizer, force=True)
    assert (target["w"] == 1).all()
    assert (optimizer["m"] == 1).all()
    assert resumed.has_state
    assert Path(resumed.record.model_state_path).is_relative_to(tmp_path / "moved")


@pytest.mark.parametrize("is_absolute", [False, True])
def test_states_are_restored_from_a_moved_folder(
    axon, restart, records, tmp_path, monkeypatch, states, is_absolute
):
    saved = axon.checkpoint(make_model(1), epoch=0, metrics={"loss": 0.5})
    if is_absolute:  # as earlier versions recorded paths
        path = saved.record.model_state_path
        with closing(open_store(f"sqlite:///{tmp_path}/data/axon_notebooks/axon.db")) as store:
            store.checkpoints.update({"model_state_path": path}, doc_ids=[saved.id])
    restart()
    Path(states.root).rename(tmp_path / "states")
    monkeypatch.setenv("AXON_STATES_ROOT", str(tmp_path / "states"))
    for checkpoint in (axon.get(saved.id), axon.latest(), axon.best("loss")):
        target = make_model(7)
        checkpoint.restore(target)
        assert (target["w"] == 1).all()
    target = make_model(7)
    assert axon.resume(target, force=True).id == saved.id
    assert (target["w"] == 1).all()


def test_a_forked_process_has_its_own_run(axon):
    saved = axon.checkpoint(None, epoch=0)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, axon.checkpoint(None, epoch=1).run_id.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        run_id = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert run_id not in ("", saved.run_id)
    assert [one.epoch for one in axon.checkpoints()] == [1, 0]


# An unavailable store


def test_queries_include_unrecorded_checkpoints(axon, unavailable_store, capsys):
    with pytest.warns(AxonWarning, match="not being recorded"):
        saved = [
            axon.checkpoint(make_model(epoch), epoch=epoch, metrics={"loss": 1 / (1 + epoch)})
            for epoch in range(3)
        ]
    assert not any(one.is_recorded for one in saved)
    assert axon.best("loss") is saved[-1]
    assert axon.latest() is saved[-1]
    assert [one.epoch for one in axon.checkpoints()] == [2, 1, 0]
    assert "Only checkpoints of this process are considered" in capsys.readouterr().out
    target = make_model(7)
    axon.best("loss").restore(target)
    assert (target["w"] == 2).all()
    unavailable_store()
    assert [one.epoch for one in axon.checkpoints()] == [2, 1, 0]
    assert all(one.is_recorded and one.has_state for one in saved)
    assert axon.checkpoint(make_model(3), epoch=3).is_recorded
    assert len({one.run_id for one in axon.checkpoints()}) == 1
    assert [one.created_at for one in saved] == sorted(one.created_at for one in saved)


@pytest.mark.parametrize("id", [None, "44444444-4444-4444-8444-444444444444"])
def test_unrecorded_checkpoints_of_a_notebook_without_file_are_recorded(
    axon, unavailable_store, tmp_path, monkeypatch, id
):
    if id is None:
        monkeypatch.delenv("AXON_NOTEBOOK")
    else:
        monkeypatch.setenv("AXON_NOTEBOOK", id)
    with pytest.warns(AxonWarning):
        axon.checkpoint(make_model(), epoch=0)
    unavailable_store()
    if id is not None:
        with closing(open_store(f"sqlite:///{tmp_path}/stores/axon.db")) as store:
            NotebookRepository(store).create(NewNotebook(id=id, user_id="ada", name="by hand"))
    assert [one.is_recorded for one in axon.checkpoints()] == [True]
    for epoch in (1, 2):
        assert axon.checkpoint(make_model(), epoch=epoch).is_recorded
    assert [one.epoch for one in axon.checkpoints()] == [2, 1, 0]


def test_training_begins_anew_without_a_store(axon, unavailable_store):
    with pytest.warns(AxonWarning, match="Training starts from the beginning"):
        assert axon.resume(make_model()) is None
    with pytest.raises(StoreError):
        axon.resume(make_model(), force=True)


def test_checkpoints_survive_the_deletion_of_their_record(axon, records):
    first = axon.checkpoint(make_model(), epoch=0)
    records.delete(first.record.notebook_id)
    with pytest.warns(AxonWarning, match="not found"):
        saved = axon.checkpoint(make_model(1), epoch=1)
    assert saved.is_recorded
    assert saved.has_state
    assert [one.epoch for one in axon.checkpoints()] == [1]
    assert axon.checkpoint(make_model(2), epoch=2).is_recorded
    runs = records.runs.list(saved.record.notebook_id)
    assert [run.status for run in runs] == [RunStatus.RUNNING, RunStatus.COMPLETED]


@pytest.mark.parametrize("by", ["this process", "another"])
def test_a_run_ends_in_the_notebook_in_which_it_was_recovered(
    axon, unavailable_store, tmp_path, states, by
):
    with pytest.warns(AxonWarning):
        axon.checkpoint(make_model(), epoch=0)
    axon.checkpoint(make_model(), epoch=1)
    unavailable_store()
    with closing(open_store(f"sqlite:///{tmp_path}/stores/axon.db")) as store:
        records = NotebookRepository(store)
        if by == "another":
            origin = read_origin(tmp_path / "data" / "axon_notebooks")
            notes = [
                one for one in find_unrecorded(states) if isinstance(one, UnrecordedCheckpoint)
            ]
            results = list(recover(records, states, origin, notes))
            assert [result.error for result in results] == [None, None]
        assert axon.checkpoint(make_model(), epoch=0).is_recorded  # begins another run
        (notebook,) = records.list_all()
        runs = records.runs.list(notebook.id)
        assert [run.status for run in runs] == [RunStatus.RUNNING, RunStatus.COMPLETED]
        counts = [records.checkpoints.count(notebook.id, run_id=run.id) for run in runs]
        assert counts == [1, 2]


def test_training_continues_if_nothing_can_be_written(
    axon, unavailable_store, tmp_path, monkeypatch
):
    file = tmp_path / "states"
    file.touch()
    monkeypatch.setenv("AXON_STATES_ROOT", str(file / "below"))
    with pytest.warns(AxonWarning) as warned:
        assert not axon.checkpoint(None, epoch=0, metrics={"loss": 1}).is_recorded
    assert "its note for `jupyter axon recover` could not be written" in str(warned[-1].message)


def test_resume_ignores_invalid_notes(axon, tmp_path, records, restart, states):
    for epoch in range(3):
        axon.checkpoint(make_model(epoch), epoch=epoch)
    (notebook,) = records.list_all()
    restart()
    document = {
        "checkpoint": {"notebook_id": notebook.id, "epoch": 9, "step": 9, "metrics": {}},
        "store_url": f"sqlite:///{tmp_path}/data/axon_notebooks/axon.db",
        "owner": "ada",
    }
    times = ("9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "never", None)
    for number, made_at in enumerate(times):
        note = Note(notebook.id, f"invalid-{number}", {**document, "made_at": made_at})
        write_note(states.root, note)
    fifo = Path(states.root) / notebook.id / "fifo"
    fifo.mkdir()
    os.mkfifo(fifo / NOTE)
    assert axon.resume(make_model(), force=True).epoch == 2
    assert axon.checkpoint(make_model(), epoch=10).is_recorded
