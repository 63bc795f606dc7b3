"""The notebook API, in this process, on a store and a home of state files of its own."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

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


def model(value: float = 0.0) -> dict[str, Any]:
    return {
        "w": np.full((2, 3), float(value)),
        "layers": [{"b": np.full(3, value, dtype=np.float32)}],
    }


def test_a_checkpoint_tells_what_was_saved(
    axon: Any, records: NotebookRepository, notebook: Path
) -> None:
    made = axon.checkpoint(
        model(),
        {"m": np.zeros(3)},
        epoch=2,
        step=40,
        metrics={"loss": np.float32(0.5)},
        tags="first",
    )
    assert (made.epoch, made.step, made.metrics, made.tags) == (2, 40, {"loss": 0.5}, ["first"])
    assert made.is_recorded
    assert made.has_state
    stored = records.get_checkpoint(made.id)
    assert stored == made.record
    (record,) = records.list_all()
    assert (record.path, record.user_id, record.id) == (str(notebook), "ada", stored.notebook_id)
    assert stored.version_id == record.version_id
    assert stored.provenance_id is not None
    assert set(stored.sizes or {}) == {"model", "optimizer"}
    for part, path in (
        ("model", stored.model_state_path),
        ("optimizer", stored.optimizer_state_path),
    ):
        assert Path(str(path)).stat().st_size == (stored.sizes or {})[part]


def test_metrics_that_cannot_be_added_to_others_cost_no_state(axon: Any) -> None:
    """Each has as many numbers that are not finite as can be named, or nearly."""
    first = axon.checkpoint(None, epoch=0, step=5, metrics={"a" * 5000: [math.nan] * 1_500})
    second = axon.checkpoint(model(1), epoch=0, step=5, metrics={"b" * 5000: [math.nan] * 1_500})
    assert (second.id != first.id, second.has_state, second.is_recorded) == (True, True, True)
    assert [next(iter(one.metrics))[0] for one in axon.checkpoints()] == ["b", "a"]


def test_a_position_that_is_no_number_is_omitted(axon: Any) -> None:
    with pytest.warns(AxonWarning, match="step is not a number; it is taken as omitted"):
        made = axon.checkpoint(model(1), epoch=3, step=math.nan)
    assert (made.epoch, made.step, made.has_state) == (3, 0, True)


def test_best_is_restored_in_place(axon: Any) -> None:
    for epoch, loss in enumerate([0.9, 0.2, 0.4, math.nan]):
        axon.checkpoint(
            model(epoch), {"m": np.full(3, float(epoch))}, epoch=epoch, metrics={"val_loss": loss}
        )
    ours, optimizer = model(7), {"m": np.ones(3)}
    weights = ours["w"]
    best = axon.best("val_loss")
    assert best.epoch == 1
    assert best.restore(ours, optimizer) == (ours, optimizer)
    assert (weights == 1).all()
    assert (ours["layers"][0]["b"] == 1).all()
    assert (optimizer["m"] == 1).all()


def test_what_is_best_has_a_direction(axon: Any, capsys: Any) -> None:
    for epoch, value in enumerate([1.0, 3.0, 2.0]):
        metrics = {"val_accuracy": value, "val": {"loss": value}, "wobble": value}
        axon.checkpoint(None, epoch=epoch, metrics=metrics)
    assert axon.best("val_accuracy").epoch == 1
    assert axon.best("val_accuracy").epoch == 1
    assert capsys.readouterr().out == "The best val_accuracy: higher is better.\n"
    assert axon.best("val.loss", "min").epoch == 0
    assert capsys.readouterr().out == ""
    assert axon.best("val.loss").epoch == 0
    assert "lower is better" in capsys.readouterr().out
    assert axon.best("wobble", "max").epoch == 1
    assert axon.best("val_accuracy", "min").epoch == 0
    with pytest.raises(ValueError, match="unknown whether a lower or a higher wobble is better"):
        axon.best("wobble")
    with pytest.raises(NotFound, match="finite number as wobbly"):
        axon.best("wobbly")
    with pytest.raises(ValueError, match="mode is 'most'"):
        axon.best("wobble", "most")
    with pytest.raises(NotFound, match=r"as perplexity; there are val\.loss, val_accuracy, wobble"):
        axon.best("perplexity")


def test_a_misspelt_metric_is_found_among_those_of_all_checkpoints(
    axon: Any, anew: Callable[[], None]
) -> None:
    axon.checkpoint(None, epoch=0, metrics={"val_loss": 1.0})
    anew()
    for epoch in range(1, 4):
        axon.checkpoint(None, epoch=epoch, metrics={"loss": 1.0})
    for misspelt, mode in (("val_los", None), ("vall_loss", "min"), ("validloss", None)):
        with pytest.raises(NotFound, match=f"as {misspelt}; did you mean val_loss"):
            axon.best(misspelt, mode)


def test_numbers_of_all_kinds_stop_no_training(axon: Any, records: NotebookRepository) -> None:
    made = axon.checkpoint(model(1), epoch=1.0, step=np.float64(30.0), metrics={"loss": 1})
    assert (made.epoch, made.step) == (1, 30)
    with pytest.warns(AxonWarning, match="epoch is not a whole number"):
        assert axon.checkpoint(model(), epoch=1.5, step=31).epoch == 1
    metrics = {"loss": 0.5, "confusion": np.eye(3), "x": object(), 3: 0.25}
    said = r"metrics are left out: confusion \(is a ndarray.*, x \(is a object\)"
    with pytest.warns(AxonWarning, match=said) as told:
        odd = axon.checkpoint(model(2), epoch=2, metrics=metrics)
    assert len(told) == 1
    assert odd.metrics == {"loss": 0.5, "3": 0.25}
    assert (odd.restore()[0]["w"] == 2).all()
    with pytest.warns(AxonWarning, match="no metrics are recorded"):
        assert axon.checkpoint(model(3), metrics=[0.5]).has_state
    stored = records.get_checkpoint(odd.id)
    assert stored is not None
    assert stored.metrics == odd.metrics


def test_steps_may_count_tokens(
    axon: Any, anew: Callable[[], None], records: NotebookRepository
) -> None:
    for number in range(3):
        axon.checkpoint(
            model(number), epoch=0, step=5_000_000_000 + number, metrics={"loss": 3 - number}
        )
    assert [one.step for one in axon.checkpoints()] == [5_000_000_002, 5_000_000_001, 5_000_000_000]
    assert len({one.run_id for one in axon.checkpoints()}) == 1
    assert axon.best("loss").step == 5_000_000_002
    assert axon.checkpoint(model(), overwrite=True, step=5_000_000_002).step == 5_000_000_002
    assert axon.checkpoint(model()).step == 5_000_000_003
    assert "step 5000000003" in repr(axon.latest())
    assert "5000000001" in repr(axon.checkpoints())
    assert axon.checkpoints().metrics()["step"] == [
        5_000_000_000 + number for number in (0, 1, 2, 3)
    ]
    assert len(axon.checkpoints()) == 4
    anew()
    resumed = axon.resume(model(), force=True)
    assert resumed.step == 5_000_000_003
    assert axon.checkpoint(model()).step == 5_000_000_004


def test_a_large_step_survives_an_outage(axon: Any, away: Callable[[], None]) -> None:
    with pytest.warns(AxonWarning, match="not being recorded"):
        noted = axon.checkpoint(model(), epoch=0, step=5_000_000_000)
    assert (noted.step, noted.is_recorded) == (5_000_000_000, False)
    away()
    assert axon.latest().step == 5_000_000_000
    assert noted.is_recorded


def test_a_metric_does_not_hide_where_the_training_stands(axon: Any) -> None:
    metrics = {
        "epoch": 0.5,
        "step": 7,
        "val": {"loss": 1.0, "epoch": 2},
        "metrics": {"step": 8},
        "run": 3,
    }
    axon.checkpoint(None, epoch=4, step=40, metrics=metrics)
    found = axon.checkpoints().metrics()
    assert (found["epoch"], found["step"]) == ([4], [40])
    assert (found["metrics.epoch"], found["metrics.metrics.step"], found["metrics.step"]) == (
        [0.5],
        [7],
        [8],
    )
    assert (found["val.loss"], found["val.epoch"], found["run"]) == ([1.0], [2], [3])
    heads, row = repr(axon.checkpoints()).splitlines()
    assert heads.split()[1:5] == ["epoch", "step", "metrics.epoch", "metrics.metrics.step"]
    assert row.split()[1:5] == ["4", "40", "0.5", "7"]


def test_checkpoints_of_several_runs_are_shown_with_their_runs(axon: Any) -> None:
    first = axon.checkpoint(None, epoch=0, step=0, metrics={"run": 3})
    heads, _ = repr(axon.checkpoints()).splitlines()
    assert heads.split()[:4] == ["checkpoint", "epoch", "step", "run"]
    axon.resume(key="another")
    second = axon.checkpoint(None, epoch=0, step=0, metrics={"run": 4})
    shown = axon.checkpoints()
    heads, *rows = repr(shown).splitlines()
    assert heads.split()[:5] == ["checkpoint", "run", "epoch", "step", "metrics.run"]
    runs = [str(one.run_id)[:8] for one in (second, first)]
    assert [row.split()[1] for row in rows] == runs
    assert all(f">{run}<" in shown._repr_html_() for run in runs)
    assert [row.split()[1] for row in repr(axon.checkpoints(run="another")).splitlines()[1:]] == [
        "0"
    ]


@pytest.mark.parametrize("kind", ["notebook", "script", "nothing"])
def test_to_ask_makes_no_record(
    kind: str,
    axon: Any,
    records: NotebookRepository,
    notebook: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
    made = axon.checkpoint(None, metrics={"val_loss": 1.0})
    assert axon.best("val_loss").id == axon.latest().id == made.id
    assert len(records.list_all()) == 1


def test_to_ask_finds_a_record_whose_file_was_moved(
    axon: Any,
    anew: Callable[[], None],
    notebook: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = axon.checkpoint(None, metrics={"loss": 1.0})
    content = json.loads(notebook.read_text())
    content["metadata"]["axon"] = {"notebook_id": made.record.notebook_id}
    notebook.write_text(json.dumps(content))
    axon.notebook()
    anew()
    moved = notebook.rename(tmp_path / "renamed.ipynb")
    monkeypatch.setenv("AXON_NOTEBOOK", str(moved))
    assert axon.latest().id == made.id


def test_without_a_model_only_metrics_are_saved(axon: Any) -> None:
    made = axon.checkpoint(None, epoch=0, metrics={"loss": 1})
    assert not made.has_state
    assert made.record.sizes is None
    with pytest.raises(NotFound, match="state of checkpoint"):
        made.restore(model())


def test_restore_without_arguments_gives_what_was_stored(axon: Any) -> None:
    axon.checkpoint(model(3), {"m": np.ones(2)}, extra={"note": "warm", "at": 5})
    latest = axon.latest()
    stored, optimizer = latest.restore()
    assert (stored["w"] == 3).all()
    assert (stored["layers"][0]["b"] == 3).all()
    assert (optimizer["m"] == 1).all()
    assert latest.extra == {"note": "warm", "at": 5}


def test_random_numbers_go_on_after_a_resume(axon: Any, anew: Callable[[], None]) -> None:
    np.random.seed(3)
    axon.checkpoint(model(), epoch=0)
    expected = np.random.random(4).tolist()
    anew(RunStatus.STOPPED)
    np.random.seed(99)
    resumed = axon.resume(model())
    assert resumed.epoch == 0
    assert np.random.random(4).tolist() == expected


def test_to_restore_leaves_random_numbers_alone(axon: Any) -> None:
    made = axon.checkpoint(model(), epoch=0)
    np.random.seed(5)
    expected = np.random.random(4).tolist()
    np.random.seed(5)
    made.restore(model())
    assert np.random.random(4).tolist() == expected


def test_steps_and_epochs_follow_from_the_run(axon: Any) -> None:
    made = [
        axon.checkpoint(None),
        axon.checkpoint(None),
        axon.checkpoint(None, epoch=4),
        axon.checkpoint(None),
    ]
    assert [(one.epoch, one.step) for one in made] == [(0, 0), (0, 1), (4, 2), (4, 3)]
    assert len({one.run_id for one in made}) == 1
    again = axon.checkpoint(None, epoch=0)
    assert (again.epoch, again.step) == (0, 0)
    assert again.run_id != made[0].run_id


def test_overwrite_replaces_what_stands_there(axon: Any) -> None:
    first = axon.checkpoint(model(1), epoch=0)
    axon.checkpoint(model(2), epoch=1)
    replaced = axon.checkpoint(model(3), epoch=0, overwrite=True)
    assert (replaced.epoch, replaced.step, replaced.run_id) == (0, 0, first.run_id)
    assert [one.epoch for one in axon.checkpoints()] == [0, 1]
    assert not Path(first.record.model_state_path).exists()
    assert replaced.has_state


def test_a_pinned_checkpoint_is_not_replaced(axon: Any, tmp_path: Path) -> None:
    pinned = axon.pin(axon.checkpoint(model(1), epoch=0))
    with pytest.raises(Conflict, match="pinned"):
        axon.checkpoint(model(2), epoch=0, overwrite=True)
    assert [one.id for one in axon.checkpoints()] == [pinned.id]
    states = tmp_path / "data" / "axon_notebooks" / "states" / pinned.record.notebook_id
    assert [folder.name for folder in states.iterdir()] == [pinned.id]


def test_get_takes_the_beginning_of_an_id(axon: Any) -> None:
    made = axon.checkpoint(None, epoch=0)
    assert axon.get(made.id[:6]).id == made.id
    with pytest.raises(NotFound, match="checkpoint nowhere not found"):
        axon.get("nowhere")
    with pytest.raises(NotFound):
        axon.get("")


def test_a_pin_is_set_and_taken_back(axon: Any) -> None:
    made = axon.checkpoint(None, epoch=0)
    assert not made.pinned
    assert axon.pin(made).pinned
    assert axon.get(made.id).pinned
    assert not axon.pin(made.id, pinned=False).pinned


def test_lists_show_as_tables_and_give_columns(axon: Any) -> None:
    for epoch in range(3):
        axon.checkpoint(
            None, epoch=epoch, metrics={"loss": 1 / (epoch + 1)} | ({"<b>": 1} if epoch else {})
        )
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


RANKS = {
    "torchrun": ("RANK", "WORLD_SIZE"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
    "open mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "mpich": ("PMI_RANK", "PMI_SIZE"),
}


@pytest.mark.parametrize(("rank", "size"), RANKS.values(), ids=RANKS)
def test_other_processes_than_the_first_write_nothing_and_say_so_once(
    axon: Any,
    records: NotebookRepository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: str,
    size: str,
) -> None:
    monkeypatch.setenv(rank, "1")
    monkeypatch.setenv(size, "2")
    for epoch in range(2):
        assert axon.checkpoint(model(), epoch=epoch) is None
    assert records.list_all() == []
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert f"process 1 of 2 ({rank})" in told


@pytest.mark.parametrize(("rank", "size"), RANKS.values(), ids=RANKS)
@pytest.mark.parametrize(
    "left",
    [
        {"rank": "1"},
        {"rank": "1", "size": "1"},
        {"rank": "3", "size": "2"},
        {"rank": "1", "size": "many"},
    ],
)
def test_a_rank_that_was_left_over_is_told_of_and_ignored(
    axon: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rank: str,
    size: str,
    left: dict[str, str],
) -> None:
    for name, value in left.items():
        monkeypatch.setenv({"rank": rank, "size": size}[name], value)
    for epoch in range(2):
        assert axon.checkpoint(model(), epoch=epoch) is not None
    told = capsys.readouterr().out
    assert told.count("is ignored") == 1
    assert (
        f"{rank}={left['rank']} is ignored, since {size} is {left.get('size', 'not set')}" in told
    )


@pytest.mark.parametrize(
    "inner",
    [{"RANK": "0", "WORLD_SIZE": "1"}, {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}],
)
def test_the_rank_of_an_inner_launcher_counts(
    axon: Any, monkeypatch: pytest.MonkeyPatch, inner: dict[str, str]
) -> None:
    for name, value in {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", **inner}.items():
        monkeypatch.setenv(name, value)
    assert axon.checkpoint(model(), epoch=0) is not None


@pytest.mark.parametrize("rank", ["", "first", "-1"])
def test_a_rank_that_is_no_number_is_none(
    axon: Any, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert axon.checkpoint(model(), epoch=0) is not None


def test_a_model_that_cannot_be_saved_leaves_nothing(
    axon: Any, records: NotebookRepository, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match="object"):
        axon.checkpoint(object(), epoch=0)
    assert records.list_all() == []
    assert not (tmp_path / "data" / "axon_notebooks" / "states").exists()


def test_a_state_that_was_changed_is_refused(axon: Any) -> None:
    made = axon.checkpoint(model(1), epoch=0)
    path = Path(made.record.model_state_path)
    octets = bytearray(path.read_bytes())
    octets[-1] ^= 1
    path.write_bytes(octets)
    ours = model(7)
    with pytest.raises(StateCorrupt, match=r"model\.safetensors differs from what checkpoint"):
        made.restore(ours)
    assert (ours["w"] == 7).all()


def test_what_was_verified_is_what_is_restored(axon: Any, tmp_path: Path) -> None:
    """Even if another file takes the place of the verified one, or a link to it does."""
    made, other = (
        axon.checkpoint(model(1), {"m": np.ones(2)}, epoch=0),
        axon.checkpoint(model(2), epoch=1),
    )

    class Replaced(StateStorage):
        def open(self, path: str, notebook_id: str, *, field: str = "") -> BinaryIO:
            file = super().open(path, notebook_id, field=field)
            Path(path).unlink()
            Path(path).symlink_to(other.record.model_state_path)
            return file

    replaced = Replaced(tmp_path / "data" / "axon_notebooks" / "states")
    ours, optimizer = model(7), {"m": np.zeros(2)}
    Checkpoint(made.record, replaced).restore(ours, optimizer)
    assert (ours["w"] == 1).all()
    assert (optimizer["m"] == 1).all()


def test_a_state_that_does_not_fit_changes_nothing(axon: Any) -> None:
    made = axon.checkpoint(model(1), {"m": np.zeros(2)}, epoch=0)
    ours, optimizer = model(7), {"m": np.ones(3)}
    with pytest.raises(InvalidData, match=r"optimizer\['m'\]"):
        made.restore(ours, optimizer)
    assert (ours["w"] == 7).all()
    other, fitting = {"w": np.zeros((2, 2)), "layers": []}, {"m": np.ones(2)}
    with pytest.raises(InvalidData, match=r"model\['w'\]"):
        made.restore(other, fitting)
    assert (fitting["m"] == 1).all()


class Schedule:
    """What goes on only with a state of its own length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def state_dict(self) -> dict[str, Any]:
        return {"length": self.length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["length"] != self.length:
            raise ValueError("of another length")


def test_an_object_that_refuses_its_state_leaves_model_and_optimizer_alone(axon: Any) -> None:
    made = axon.checkpoint(model(1), {"m": np.ones(2)}, extra={"n": 1, "s": Schedule(1)}, epoch=0)
    ours, optimizer, extra = model(7), {"m": np.zeros(2)}, {"n": 0, "s": Schedule(2)}
    with pytest.raises(
        InvalidData, match=r"extra\['s'\].*Schedule refuses the state.*of another length"
    ):
        made.restore(ours, optimizer, extra)
    assert (ours["w"] == 7).all()
    assert (optimizer["m"] == 0).all()
    assert extra["n"] == 0
    extra["s"] = Schedule(1)
    made.restore(ours, optimizer, extra)
    assert (ours["w"] == 1).all()
    assert (optimizer["m"] == 1).all()
    assert extra["n"] == 1


def test_a_finished_training_is_not_resumed(axon: Any, anew: Callable[[], None]) -> None:
    axon.checkpoint(model(), epoch=3)
    anew(RunStatus.COMPLETED)
    assert axon.resume(model()) is None
    assert axon.resume(model(), force=True).epoch == 3


def test_resume_passes_over_what_cannot_be_restored(
    axon: Any, anew: Callable[[], None], capsys: Any
) -> None:
    kept, lost = axon.checkpoint(model(1), epoch=0), axon.checkpoint(model(2), epoch=1)
    anew(RunStatus.FAILED)
    Path(lost.record.model_state_path).unlink()
    ours = model()
    assert axon.resume(ours).id == kept.id
    assert (ours["w"] == 1).all()
    assert "no longer exists" in capsys.readouterr().out


def test_resume_names_the_folder_in_which_a_state_was_left(
    axon: Any,
    anew: Callable[[], None],
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    root, scratch = tmp_path / "data" / "axon_notebooks" / "states", tmp_path / "scratch"
    monkeypatch.setenv("AXON_STATES_ROOT", str(scratch))
    older, newest = axon.checkpoint(model(1), epoch=0), axon.checkpoint(model(2), epoch=1)
    anew(RunStatus.FAILED)
    monkeypatch.delenv("AXON_STATES_ROOT")
    assert axon.resume(model()) is None
    said = capsys.readouterr().out
    assert f"The state of checkpoint {newest.id[:8]} (epoch 1) is in {scratch}" in said
    assert (
        f"Set states_root or AXON_STATES_ROOT to that folder, or move its content to {root}."
        in said
    )
    assert f"no state of its checkpoints is in {root}, but some are in {scratch}." in said
    assert "no longer exists" not in said
    anew()
    notebook_id = newest.record.notebook_id
    (root / notebook_id).mkdir(parents=True)
    (scratch / notebook_id / older.id).rename(root / notebook_id / older.id)
    assert axon.resume(model()).id == older.id
    said = capsys.readouterr().out
    assert f"The state of checkpoint {newest.id[:8]} (epoch 1) is in {scratch}" in said
    assert (scratch / notebook_id / newest.id).is_dir()


def test_where_there_is_no_output_nothing_is_said(
    axon: Any, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = axon.checkpoint(model(1), epoch=0)
    anew(RunStatus.FAILED)
    monkeypatch.setattr(sys, "stdout", None)
    assert axon.resume(model()).id == made.id


def test_another_notebook_can_be_named(axon: Any, tmp_path: Path, notebook: Path) -> None:
    axon.checkpoint(None, epoch=0)
    other = tmp_path / "other.ipynb"
    other.write_text(notebook.read_text())
    assert axon.use(other).path == str(other)
    assert axon.checkpoints() == []
    made = axon.checkpoint(None, epoch=1)
    assert axon.use(notebook).id != made.record.notebook_id
    with pytest.raises(NotFound, match=r"nothing\.ipynb"):
        axon.use(tmp_path / "nothing.ipynb")
    assert axon.notebook().path == str(notebook)


def test_a_forked_process_has_a_run_of_its_own(axon: Any) -> None:
    made = axon.checkpoint(None, epoch=0)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, axon.checkpoint(None, epoch=1).run_id.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        theirs = told.read()
    assert os.waitpid(child, 0)[1] == 0
    assert theirs
    assert theirs != made.run_id
    assert [one.epoch for one in axon.checkpoints()] == [1, 0]


def test_after_a_replacement_the_run_goes_on_where_it_was(axon: Any) -> None:
    made = [axon.checkpoint(model(epoch), epoch=epoch) for epoch in range(3)]
    axon.checkpoint(model(9), epoch=0, overwrite=True)
    again = axon.checkpoint(model(8), epoch=1)
    assert again.run_id != made[0].run_id
    assert again.has_state
    assert len(axon.checkpoints()) == 4


def test_a_checkpoint_whose_call_was_interrupted_costs_no_other(
    axon: Any, records: NotebookRepository
) -> None:
    first = axon.checkpoint(model(), epoch=0)
    stored = NewCheckpoint(
        notebook_id=first.record.notebook_id, run_id=first.run_id, epoch=1, step=1, metrics={}
    )
    records.create_checkpoint(stored)  # and then the call was interrupted
    again = axon.checkpoint(model(1), epoch=1)
    assert again.is_recorded
    assert again.has_state
    assert again.run_id != first.run_id


def test_an_optimizer_in_the_models_place_is_told(axon: Any) -> None:
    class SGD:
        param_groups: tuple[()] = ()

    with pytest.raises(TypeError, match="model is an optimizer"):
        axon.checkpoint(SGD(), model(), epoch=0)


def test_many_checkpoints_without_a_state_do_not_hide_the_one_that_has_it(
    axon: Any, anew: Callable[[], None], capsys: Any
) -> None:
    kept = axon.checkpoint(model(3), epoch=0, step=0)
    for step in range(1, 103):
        axon.checkpoint(None, step=step)
    anew(RunStatus.FAILED)
    assert axon.resume(model()).id == kept.id
    assert "not there" not in capsys.readouterr().out


# While the store cannot be had


@pytest.fixture
def away(axon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has the store out of reach from the start; what it gives brings it back."""
    place = tmp_path / "stores"
    place.touch()
    monkeypatch.setenv("AXON_STORE_URL", f"sqlite:///{place}/axon.db")

    def back() -> None:
        place.unlink()
        place.mkdir()

    return back


def test_what_the_store_lacks_counts_all_the_same(
    axon: Any, away: Callable[[], None], capsys: Any
) -> None:
    with pytest.warns(AxonWarning, match="not being recorded"):
        made = [
            axon.checkpoint(model(epoch), epoch=epoch, metrics={"loss": 1 / (1 + epoch)})
            for epoch in range(3)
        ]
    assert not any(one.is_recorded for one in made)
    assert axon.best("loss") is made[-1]
    assert axon.latest() is made[-1]
    assert [one.epoch for one in axon.checkpoints()] == [2, 1, 0]
    assert "Only checkpoints of this process are considered" in capsys.readouterr().out
    restored = model(7)
    axon.best("loss").restore(restored)
    assert (restored["w"] == 2).all()

    away()
    assert [one.epoch for one in axon.checkpoints()] == [2, 1, 0]
    assert all(one.is_recorded and one.has_state for one in made)
    assert axon.checkpoint(model(3), epoch=3).is_recorded
    assert len({one.run_id for one in axon.checkpoints()}) == 1
    assert [one.created_at for one in made] == sorted(one.created_at for one in made)


@pytest.mark.parametrize("named", ["nothing", "a record"])
def test_a_notebook_that_is_no_file_gets_its_own_back(
    axon: Any, away: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    id = "44444444-4444-4444-8444-444444444444"
    if named == "nothing":
        monkeypatch.delenv("AXON_NOTEBOOK")
    else:
        monkeypatch.setenv("AXON_NOTEBOOK", id)
    with pytest.warns(AxonWarning):
        axon.checkpoint(model(), epoch=0)
    away()
    if named == "a record":
        store = open_store(f"sqlite:///{tmp_path}/stores/axon.db")
        NotebookRepository(store).create(NewNotebook(id=id, user_id="ada", name="by hand"))
        store.close()
    assert [one.is_recorded for one in axon.checkpoints()] == [True]
    for epoch in (1, 2):
        assert axon.checkpoint(model(), epoch=epoch).is_recorded
    assert [one.epoch for one in axon.checkpoints()] == [2, 1, 0]


def test_to_resume_without_a_store_is_to_train_anew(axon: Any, away: Callable[[], None]) -> None:
    with pytest.warns(AxonWarning, match="Training begins anew"):
        assert axon.resume(model()) is None
    with pytest.raises(StoreError):
        axon.resume(model(), force=True)


def test_a_record_that_is_deleted_in_mid_training_costs_nothing(
    axon: Any, records: NotebookRepository
) -> None:
    first = axon.checkpoint(model(), epoch=0)
    records.delete(first.record.notebook_id)
    with pytest.warns(AxonWarning, match="not found"):
        made = axon.checkpoint(model(1), epoch=1)
    assert made.is_recorded
    assert made.has_state
    assert [one.epoch for one in axon.checkpoints()] == [1]
    assert axon.checkpoint(model(2), epoch=2).is_recorded
    runs = records.runs.list(made.record.notebook_id)
    assert [run.status for run in runs] == [RunStatus.RUNNING, RunStatus.COMPLETED]


@pytest.mark.parametrize("by", ["this process", "another"])
def test_a_run_that_was_recorded_under_another_notebook_ends_there(
    axon: Any, away: Callable[[], None], tmp_path: Path, by: str
) -> None:
    with pytest.warns(AxonWarning):
        axon.checkpoint(model(), epoch=0)
    axon.checkpoint(model(), epoch=1)
    away()
    store = open_store(f"sqlite:///{tmp_path}/stores/axon.db")
    records = NotebookRepository(store)
    if by == "another":
        states = StateStorage(tmp_path / "data" / "axon_notebooks" / "states")
        origin = read_origin(tmp_path / "data" / "axon_notebooks")
        taken = list(recover(records, states, origin, notes(states)))
        assert [one.error for one in taken] == [None, None]
    assert axon.checkpoint(model(), epoch=0).is_recorded  # which begins another run
    (notebook,) = records.list_all()
    runs = records.runs.list(notebook.id)
    assert [run.status for run in runs] == [RunStatus.RUNNING, RunStatus.COMPLETED]
    assert [records.checkpoints.count(notebook.id, run_id=run.id) for run in runs] == [1, 2]
    store.close()


def notes(states: StateStorage) -> list[UnrecordedCheckpoint]:
    return [found for found in find_unrecorded(states) if isinstance(found, UnrecordedCheckpoint)]


def test_a_checkpoint_that_can_be_noted_nowhere_stops_nothing(
    axon: Any, away: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "states"
    in_the_way.touch()
    monkeypatch.setenv("AXON_STATES_ROOT", str(in_the_way / "below"))
    with pytest.warns(AxonWarning) as told:
        assert not axon.checkpoint(None, epoch=0, metrics={"loss": 1}).is_recorded
    assert "could not be noted either" in str(told[-1].message)


def test_a_hostile_note_keeps_no_training_from_resuming(
    axon: Any, tmp_path: Path, records: NotebookRepository, anew: Callable[[], None]
) -> None:
    for epoch in range(3):
        axon.checkpoint(model(epoch), epoch=epoch)
    (notebook,) = records.list_all()
    anew()
    states = StateStorage(tmp_path / "data" / "axon_notebooks" / "states")
    url = f"sqlite:///{tmp_path}/data/axon_notebooks/axon.db"
    document = {
        "checkpoint": {"notebook_id": notebook.id, "epoch": 9, "step": 9, "metrics": {}},
        "store_url": url,
        "owner": "ada",
    }
    moments = ("9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "never", None)
    for number, moment in enumerate(moments):
        write_note(
            states.root, Note(notebook.id, f"hostile-{number}", {**document, "made_at": moment})
        )
    fifo = Path(states.root) / notebook.id / "fifo"
    fifo.mkdir()
    os.mkfifo(fifo / NOTE)
    assert axon.resume(model(), force=True).epoch == 2
    assert axon.checkpoint(model(), epoch=10).is_recorded


def test_questions_are_answered_while_others_keep_the_store_from_being_changed(
    axon: Any, anew: Callable[[], None], notebook: Path, tmp_path: Path
) -> None:
    axon.use(notebook)
    made = axon.checkpoint(None, epoch=0, metrics={"loss": 1.0})
    content = json.loads(notebook.read_text())
    content["cells"][0]["source"] = "train(1)"
    anew()
    file = tmp_path / "data/axon_notebooks/axon.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        notebook.write_text(json.dumps(content))  # which nobody can record now
        asked = (
            lambda: axon.best("loss").id,
            lambda: axon.latest().id,
            lambda: axon.checkpoints()[0].id,
            lambda: axon.get(made.id).id,
        )
        for ask in asked:
            began = time.monotonic()
            assert ask() == made.id
            assert time.monotonic() - began < 8  # to record a checkpoint waits for 10 s
        assert [cell.source for cell in axon.notebook().cells] == ["train()"]
    assert [cell.source for cell in axon.notebook().cells] == ["train(1)"]


def test_a_training_goes_on_where_its_data_folder_was_moved_to(
    axon: Any, anew: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = axon.checkpoint(model(1), {"m": np.ones(2)}, epoch=0)
    assert Path(first.record.model_state_path).is_file()
    anew()
    (tmp_path / "data").rename(tmp_path / "moved")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "moved"))
    ours, optimizer = model(7), {"m": np.zeros(2)}
    resumed = axon.resume(ours, optimizer, force=True)
    assert resumed is not None
    assert (ours["w"] == 1).all()
    assert (optimizer["m"] == 1).all()
    assert resumed.has_state
    assert Path(resumed.record.model_state_path).is_relative_to(tmp_path / "moved")


@pytest.mark.parametrize("recorded", ["now", "by an earlier version"])
def test_states_are_restored_from_a_root_that_was_moved(
    axon: Any,
    anew: Callable[[], None],
    records: NotebookRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorded: str,
) -> None:
    made = axon.checkpoint(model(1), epoch=0, metrics={"loss": 0.5})
    if recorded == "by an earlier version":
        path = made.record.model_state_path
        with closing(open_store(f"sqlite:///{tmp_path}/data/axon_notebooks/axon.db")) as store:
            store.checkpoints.update({"model_state_path": path}, doc_ids=[made.id])
    anew()
    (tmp_path / "data" / "axon_notebooks" / "states").rename(tmp_path / "states")
    monkeypatch.setenv("AXON_STATES_ROOT", str(tmp_path / "states"))
    for found in (axon.get(made.id), axon.latest(), axon.best("loss")):
        ours = model(7)
        found.restore(ours)
        assert (ours["w"] == 1).all()
    ours = model(7)
    assert axon.resume(ours, force=True).id == made.id
    assert (ours["w"] == 1).all()
