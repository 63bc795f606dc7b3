"""Saving, querying, restoring and resuming checkpoints through the notebook API."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from jupyter_axon_notebooks.errors import Conflict, InvalidData, NotFound, StateCorrupt, StoreError
from jupyter_axon_notebooks.records import RunStatus
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.training.messages import AxonWarning


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


def test_a_model_that_cannot_be_saved_leaves_no_files(axon, records, states):
    with pytest.raises(TypeError, match="object"):
        axon.checkpoint(object(), epoch=0)
    assert records.list_all() == []
    assert not Path(states.root).exists()


# Queries


def test_the_direction_of_a_metric_follows_from_its_name(axon, capsys):
    for epoch, value in enumerate([1.0, 3.0, 2.0]):
        metrics = {"val_accuracy": value, "val": {"loss": value}, "wobble": value}
        axon.checkpoint(None, epoch=epoch, metrics=metrics)
    for _ in range(2):  # prints the direction once
        assert axon.best("val_accuracy").epoch == 1
    assert capsys.readouterr().out == "The best val_accuracy: higher is better.\n"
    assert axon.best("val.loss").epoch == 0
    assert "lower is better" in capsys.readouterr().out
    assert axon.best("wobble", "max").epoch == 1
    assert axon.best("val_accuracy", "min").epoch == 0
    with pytest.raises(ValueError, match="lower or higher values of wobble are better"):
        axon.best("wobble")
    with pytest.raises(ValueError, match="mode is 'most'"):
        axon.best("wobble", "most")
    with pytest.raises(NotFound, match=r"as perplexity; there are val\.loss, val_accuracy, wobble"):
        axon.best("perplexity")


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


def test_get_accepts_the_beginning_of_an_id(axon):
    saved = axon.checkpoint(None, epoch=0)
    assert axon.get(saved.id[:6]).id == saved.id
    with pytest.raises(NotFound, match="checkpoint nowhere not found"):
        axon.get("nowhere")
    with pytest.raises(ValueError, match="id is blank"):
        axon.get("")
    with pytest.raises(TypeError):
        axon.get(3)


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


@pytest.mark.parametrize("size", [None, "1", "many"])
def test_an_inconsistent_rank_is_ignored(axon, monkeypatch, size):
    monkeypatch.setenv("RANK", "1")
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
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
    assert [run.status for run in runs] == [RunStatus.RUNNING]
