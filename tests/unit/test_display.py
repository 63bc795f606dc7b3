"""What the notebook API returns is displayed in a line or a small table."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

from jupyter_axon_notebooks.printable import short_repr
from jupyter_axon_notebooks.records import ConfigSource, MetricSummary, TrainingRun, now
from jupyter_axon_notebooks.series import EMPTY
from jupyter_axon_notebooks.training.run_display import run_html, run_text

#: What is shown of one result at most: characters of text and of HTML without its style.
MAX_TEXT, MAX_HTML = 8_000, 20_000
HOSTILE = "<img src=x onerror=alert(1)>\x1b]0;x\x07\n\u202e" + "x" * 900


def displayed(value: Any) -> tuple[str, str]:
    """Return the text and the HTML that a notebook shows of a value."""
    bundle, _ = DisplayFormatter().format(value)
    html = re.sub("<style>.*?</style>", "", bundle.get("text/html", ""), flags=re.DOTALL)
    return bundle["text/plain"], html


def assert_short(value: Any) -> str:
    text, html = displayed(value)
    assert len(text) <= MAX_TEXT
    assert len(html) <= MAX_HTML
    assert text.count("\n") < 40
    assert "<img" not in html
    for shown in (text, html):
        assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    return text


@pytest.fixture
def large(axon: Any) -> Any:
    """A run with 10,000 metrics, a large configuration, and hostile names."""
    metrics = {HOSTILE: 1.0, **{f"metric {i}": float(i) for i in range(10_000)}}
    config = {HOSTILE: HOSTILE, "nested": {"a": [[1] * 1_000] * 10, "text": "x" * 100_000}}
    run = axon.start_run({**config, **{f"key {i}": i for i in range(1_000)}}, tags=["t"] * 1)
    axon.log(metrics)
    axon.checkpoint({"w": np.zeros((500, 500))}, {"m": np.ones(3)}, metrics=metrics, tags=["<img>"])
    run.finish()
    return axon.start_run({"lr": 0.1, **{f"key {i}": -i for i in range(1_000)}}, name="<img>")


RESULTS: dict[str, Callable[[Any], Any]] = {
    "restored": lambda axon: axon.latest().restore(),
    "restored into": lambda axon: axon.latest().restore({"w": np.zeros((500, 500))}),
    "checkpoint": lambda axon: axon.latest(),
    "checkpoints": lambda axon: axon.checkpoints(),
    "record of a checkpoint": lambda axon: axon.latest().record,
    "metrics of a checkpoint": lambda axon: axon.latest().metrics,
    "metrics of checkpoints": lambda axon: axon.checkpoints().metrics(),
    "best": lambda axon: axon.best("metric 3", "max"),
    "resumed": lambda axon: axon.resume({"w": np.zeros((500, 500))}, force=True),
    "notebook": lambda axon: axon.notebook(),
    "cells": lambda axon: axon.notebook().cells,
    "runs": lambda axon: axon.runs(),
    "run": lambda axon: axon.runs()[1],
    "record of a run": lambda axon: axon.runs()[1].record,
    "config": lambda axon: axon.runs()[1].config,
    "metrics of a run": lambda axon: axon.runs()[1].metrics,
    "series": lambda axon: axon.runs()[1].series("metric 3"),
}


def test_every_result_is_short(axon: Any, large: Any) -> None:
    found = {name: get(axon) for name, get in RESULTS.items()}
    for name, result in found.items():
        assert assert_short(result), name


def test_the_restored_states_are_named_and_not_printed(axon: Any) -> None:
    axon.checkpoint({"w": np.zeros(2000), "b": np.zeros(3)}, np.ones((20, 30)))
    restored = axon.latest().restore()
    assert repr(restored) == "<restored model: dict of 2, optimizer: ndarray of shape (20, 30)>"
    model, optimizer = restored
    assert isinstance(restored, tuple)
    assert type(model) is dict
    assert restored.optimizer is optimizer
    for same in (pickle.loads(pickle.dumps(restored)), copy.deepcopy(restored)):
        assert (same[1] == optimizer).all()
    axon.checkpoint({"w": np.zeros(3)}, step=1)
    assert repr(axon.latest().restore()) == "<restored model: dict of 1>"


def test_a_notebook_is_shown_without_its_cells(axon: Any) -> None:
    axon.checkpoint(None, metrics={"loss": 1.0})
    assert "1 × NotebookCell" in repr(axon.notebook())
    assert "train()" in repr(axon.notebook().cells)


def test_metrics_remain_dicts(axon: Any) -> None:
    metrics = axon.checkpoint(None, metrics={"val": {"loss": 0.5}}).metrics
    assert metrics == {"val": {"loss": 0.5}}
    assert repr(metrics) == "{'val': {'loss': 0.5}}"
    assert json.loads(json.dumps(metrics)) == metrics
    assert type(pickle.loads(pickle.dumps(metrics))) is dict
    assert type(copy.copy(metrics)) is dict


def test_a_run_shows_its_name_configuration_and_values() -> None:
    begun = now()
    run = TrainingRun(
        id="1f9c22ab-0000-4000-8000-000000000000",
        notebook_id="n",
        number=3,
        started_at=begun,
        ended_at=begun.replace(year=begun.year + 1),
        config={"lr": 0.1 + 0.2, "layers": [64, 64]},
        config_source=ConfigSource.DERIVED,
        tags=["baseline"],
        metrics={
            "system/cpu": MetricSummary(last=1.0, last_step=9),
            "val_loss": MetricSummary(last=0.5, last_step=9, min=0.25, min_step=4, max=1.0),
            "odd": MetricSummary(last="NaN", last_step=9),
        },
    )
    text = run_text(run)
    config = "lr=0.3, layers=[64, 64] (derived from code)"
    assert text.startswith(f"<run 3 · running · {config} · val_loss 0.5 · odd nan · 8,7")
    html = run_html(run)
    for shown in ("run 3", config, "0.5 (best 0.25 at step 4)", "baseline", "8,7"):
        assert shown in html
    assert "system/cpu" not in text + html
    run.name, run.config_source = "wide", ConfigSource.GIVEN
    assert "derived" not in run_html(run)
    assert "wide (run 3)" in run_html(run)
    assert "resumed from" not in run_html(run)
    run.parent_checkpoint_id = "9a5c28a1-c34e-4fd7-b3d4-55dcd8938429"
    assert "checkpoint 9a5c28a1" in run_html(run)


def test_a_list_of_runs_has_columns_for_what_differs_and_for_the_order(axon: Any) -> None:
    for lr in (0.1, 0.01):
        with axon.start_run({"lr": lr, "seed": 1}):
            axon.log({**{f"a{i}": 0.0 for i in range(9)}, "val_acc": lr}, step=0)
            axon.log({"val_acc": lr / 2}, step=1)
    text, html = displayed(axon.runs(sort="-val_acc.max"))
    heads, first, *_, more = text.splitlines()
    assert heads.split() == [
        *("name", "status", "lr", "val_acc.max", "val_acc", "a0"),
        *("started", "id"),
    ]
    assert first.split()[:5] == ["run", "1", "completed", "0.1", "0.1"]
    assert more == "… and 8 more columns, which table() has"
    assert ">val_acc.max<" in html
    assert '<td class="t">completed</td><td>0.1</td>' in html  # texts align to the left
    assert "seed" not in html


def test_the_run_that_is_trained_shows_its_latest_values(axon: Any) -> None:
    run = axon.start_run({"lr": 0.1})
    for step, loss in enumerate((0.5, 0.25)):
        axon.log({"val_loss": loss})
        assert run.metrics["val_loss"] == loss
        assert f"val_loss {loss}" in repr(run), step
    axon.log({"val_loss": 1.0})
    run.finish()
    assert "1 (best 0.25 at step 1)" in run._repr_html_()


def test_a_run_shows_its_latest_values_while_the_store_is_locked(axon: Any, tmp_path: Path) -> None:
    run = axon.start_run()
    run.log({"loss": 0.5, "wide": 1.0, "odd": math.nan})
    with closing(sqlite3.connect(tmp_path / "data/axon_notebooks/axon.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        for loss in (0.25, 1.0):
            run.log({"loss": loss, "wide": -math.inf, "odd": 2.0})
        assert run.metrics == {"loss": 1.0, "wide": -math.inf, "odd": 2.0}
        assert "1 (best 0.25 at step 1)" in run._repr_html_()


def test_a_list_of_many_runs_is_cut(axon: Any) -> None:
    for _ in range(32):
        axon.start_run({"lr": 1}).finish()
    text, html = displayed(axon.runs())
    assert len(text.splitlines()) == 1 + 30 + 1
    assert "… and 2 more runs" in html


def test_runs_of_several_notebooks_are_shown_with_them(
    axon: Any, notebook: Any, restart: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    axon.start_run({"lr": 1}).finish()
    restart()
    other = notebook.with_name("other.ipynb")
    other.write_bytes(notebook.read_bytes())
    monkeypatch.setenv("AXON_NOTEBOOK", str(other))
    axon.start_run({"lr": 1}, name="wide").finish()
    found = axon.runs(all=True)
    assert [row["notebook"] for row in found.table()] == ["other", "digits"]
    heads, *rows = repr(found).splitlines()
    assert heads.split()[:4] == ["name", "number", "notebook", "status"]
    assert rows[0].split()[:3] == ["wide", "1", "other"]
    assert "notebook" not in repr(axon.runs())


def test_an_empty_series_is_shown() -> None:
    assert repr(EMPTY) == "<series without rows>"


def test_only_the_beginning_of_a_value_is_shown() -> None:
    assert short_repr({"b": 1, "a": [1, 2]}) == "{'b': 1, 'a': [1, 2]}"  # in its own order
    deep: Any = {}
    for _ in range(500):
        deep = {"deep": deep}
    for value in (deep, {i: i for i in range(10**6)}, "x" * 10**7, [HOSTILE] * 1_000):
        assert len(short_repr(value)) <= 60
