"""A store with many runs: of several notebooks, with groups, tags, configurations and series.

``PYTHONPATH=tests python -m support.many_runs STORE_URL`` fills a store by hand. With ``--data``, a
Jupyter data directory, it fills the store there, and with ``--files`` it also writes the notebooks,
which a server of this data directory opens with their records.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any, Final

import nbformat
import sqlalchemy as sa

from jupyter_axon_notebooks.metrics import finite_metrics
from jupyter_axon_notebooks.provenance import Environment, ExecutedCell
from jupyter_axon_notebooks.records import (
    CellStatus,
    ConfigSource,
    NotebookCheckpoint,
    RunStatus,
    TrainingRun,
    format_time,
    new_id,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import run_key
from jupyter_axon_notebooks.series import Series, encode_series
from jupyter_axon_notebooks.store import Document, Store, document, open_store
from jupyter_axon_notebooks.store.series_table import Columns
from jupyter_axon_notebooks.sync import read_origin
from support.factories import code, new_notebook

_START: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)
#: The time between two runs, and between two logged steps.
_PAUSE, _STEP = timedelta(minutes=5), timedelta(seconds=10)
#: Logged steps of a run, and the number of the newest runs that share ``rows`` more.
_STEPS, _LONG = 20, 10
_BATCH = 500
_SOURCES: Final = (
    "import numpy as np\nrng = np.random.default_rng(0)",
    "lr = 0.1",
    "model = build(width=64)",
    "for epoch in range(20):\n    axon.log(train_epoch(model, lr))\n    axon.checkpoint(model)",
)
#: The cells that ran before the checkpoints of a run, as replaced sources by their positions.
_EXECUTED: Final[Sequence[dict[int, str]]] = (
    {},
    {1: "lr = 0.3"},
    {2: "model = build(width=64, dropout=0.1)", 1: "lr = 0.01"},
)


@dataclass(frozen=True)
class NotebookOfRuns:
    """A notebook of the store, and the provenance of its runs' checkpoints."""

    id: str
    version_id: str
    provenance_ids: list[str]


def fill_store(
    store: Store,
    runs: int = 10_000,
    notebooks: int = 50,
    *,
    rows: int = 0,
    user_id: str = "ada",
    data: Path | None = None,
    files: Path | None = None,
) -> list[str]:
    """Add notebooks with runs to a store; return the ids of the notebooks.

    Parameters
    ----------
    rows : int
        The number of rows that the ten newest runs have logged together, beside the 20 of each run.
    data, files : Path, optional
        The folder ``axon_notebooks`` in a Jupyter data directory, and a folder for the notebooks.
    """
    repository = NotebookRepository(store)
    origin = None if data is None else read_origin(data)
    found = []
    for number in range(notebooks):
        name = f"train-{number}"
        fields: dict[str, Any] = {"name": name, "user_id": user_id}
        if files is not None:
            fields |= {"path": str(_write_notebook(files, name)), "origin": origin}
        found.append(_add_notebook(repository, fields))
    for number, one in enumerate(found):
        numbers = range(number, runs, notebooks)
        with store.transaction():
            add_runs(store, one, numbers)
    if rows:
        _log_rows(store, found, min(runs, _LONG), runs, rows)
    return [one.id for one in found]


def add_runs(store: Store, notebook: NotebookOfRuns, numbers: Sequence[int]) -> None:
    """Add the runs of these numbers to a notebook, in one transaction; each has its own values."""
    runs = [_make_run(notebook.id, number, own) for own, number in enumerate(numbers, 1)]
    documents = (document(run_key(notebook.id, run.id), run.to_json()) for run in runs)
    with store.transaction() as connection:
        store.runs.insert(*documents)
        store.mark_written()
        r, chunks, summaries = store.run_index.runs.c, [], []
        query = sa.select(r.id, r.seq).where(r.notebook_id == notebook.id)
        rows: dict[str, int] = {row.id: row.seq for row in connection.execute(query)}
        for number, run in zip(numbers, runs, strict=True):
            key = {"notebook_id": notebook.id, "run": rows[run_key(notebook.id, run.id)]}
            for name, series in _logged(number, run).items():
                of_metric = {**key, "name": name}
                content = encode_series(Series.of(*series))
                chunks.append({**of_metric, "number": 0, "count": _STEPS, "content": content})
                summaries.append({**of_metric, **_summarize(series[1])})
        # In one statement, which takes a quarter of the time of one for each run.
        if chunks:
            connection.execute(sa.insert(store.logged_series.chunks), chunks)
            connection.execute(sa.insert(store.run_index.metrics), summaries)
        checkpoints = (
            one
            for number, run in zip(numbers, runs, strict=True)
            for one in _make_checkpoints(notebook, number, run)
        )
        while batch := list(islice(checkpoints, _BATCH)):
            store.checkpoints.insert(*batch)


def _write_notebook(folder: Path, name: str) -> Path:
    cells = [
        nbformat.v4.new_code_cell(source, id=f"cell-{number}")
        for number, source in enumerate(_SOURCES)
    ]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"{name}.ipynb").resolve()
    file.write_text(nbformat.writes(notebook))
    return file


def _add_notebook(repository: NotebookRepository, fields: dict[str, Any]) -> NotebookOfRuns:
    cells = [code(f"cell-{number}", source) for number, source in enumerate(_SOURCES)]
    record = repository.create(new_notebook(*cells, **fields))
    provenance_ids = []
    for replaced in _EXECUTED:
        executed = [
            ExecutedCell(
                source=replaced.get(number, source),
                execution_count=number + 1,
                cell_id=f"cell-{number}",
                status=CellStatus.COMPLETED,
                executed_at=_START,
            )
            for number, source in enumerate(_SOURCES)
        ]
        environment = Environment(python="3.11.9", packages={"numpy": "2.1.0"})
        provenance_ids.append(repository.provenance.add(record.id, executed, environment))
    return NotebookOfRuns(record.id, record.version_id or "", provenance_ids)


def _make_run(notebook_id: str, number: int, own_number: int) -> TrainingRun:
    """Return a run; ``number`` is unique in the store, ``own_number`` in the notebook."""
    choice = random.Random(number)
    started_at = _START + number * _PAUSE
    optimizer = choice.choice(["sgd", "adam", "adamw"])
    config: dict[str, Any] = {
        "data": {"name": "cifar10", "augment": True},  # the same in all runs
        "epochs": _STEPS,
        "lr": round(10 ** choice.uniform(-4, -1), 6),
        "optimizer": {"name": optimizer},
        "model": {"width": choice.choice([32, 64, 128]), "layers": choice.choice([[64], [64, 64]])},
        "seed": number % 5,
    }
    if optimizer == "sgd":  # missing in the others
        config["optimizer"]["momentum"] = choice.choice([0.0, 0.9])
    if number % 7 == 0:
        config["warmup"] = number % 3 == 0
    status = choice.choices(list(RunStatus)[1:], [8, 1, 1])[0]
    fields: dict[str, Any] = {}
    if number % 3 == 0:
        fields["group"] = f"sweep-{number // 300}"
    if number % 10 == 0:
        fields["name"] = f"baseline {number}"
    if number % 50 == 0:
        fields["notes"] = f"Notes on run {number}"
    return TrainingRun(
        id=new_id(),
        notebook_id=notebook_id,
        number=own_number,
        status=status,
        started_at=started_at,
        ended_at=started_at + _STEPS * _STEP,
        config=config,
        config_source=ConfigSource.DERIVED if number % 2 else ConfigSource.GIVEN,
        tags=[
            tag
            for tag, every in {"baseline": 4, "paper": 9, "wide": 11}.items()
            if not number % every
        ],
        step_count=_STEPS,
        last_step=_STEPS - 1,
        **fields,
    )


def _logged(number: int, run: TrainingRun) -> Columns:
    """Return what a run has logged; every 20th run has diverged, and every 30th has nothing."""
    if number % 30 == 29:
        return {}
    choice = random.Random(number)
    floor, rate = choice.uniform(0.05, 0.6), choice.uniform(0.1, 0.5)
    loss = [floor + math.exp(-rate * step) + choice.gauss(0, 0.01) for step in range(_STEPS)]
    if number % 20 == 0:
        loss[-1] = math.nan
    values = {"loss": loss, "val_loss": [1.1 * value for value in loss]}
    values["val_acc"] = [0.0 if math.isnan(value) else 1 - value / 2 for value in loss]
    if number % 2:
        values["grad_norm"] = [abs(choice.gauss(1, 0.3)) for _ in loss]
    times = [(run.started_at + step * _STEP).timestamp() for step in range(_STEPS)]
    return {name: (list(range(_STEPS)), column, times) for name, column in values.items()}


def _summarize(values: Sequence[float]) -> dict[str, Any]:
    """Return the summary of the values of the steps 0, 1, 2, …"""
    by_value = sorted((value, step) for step, value in enumerate(values) if not math.isnan(value))
    (least, min_step), (greatest, max_step) = by_value[0], by_value[-1]
    return {
        "last": None if math.isnan(values[-1]) else values[-1],
        "last_step": len(values) - 1,
        "min": least,
        "min_step": min_step,
        "max": greatest,
        "max_step": max_step,
    }


def _make_checkpoints(
    notebook: NotebookOfRuns, number: int, run: TrainingRun
) -> Iterator[Document]:
    """Yield up to four checkpoints of a run, some pinned; every 10th run has none."""
    columns, count = _logged(number, run), number % 5 if number % 10 else 0
    for epoch in range(count):
        step = (epoch + 1) * _STEPS // count - 1
        checkpoint = NotebookCheckpoint(
            id=new_id(),
            notebook_id=notebook.id,
            run_id=run.id,
            version_id=notebook.version_id,
            provenance_id=notebook.provenance_ids[number % len(notebook.provenance_ids)],
            epoch=epoch,
            step=step,
            metrics=finite_metrics(
                {name: values[step] for name, (_, values, _) in columns.items()}
            ),
            model_state_path=f"/states/{run.id}/{epoch}/model.safetensors",
            sizes={"model": 1_000_000 + number},
            created_at=run.started_at + (step + 1) * _STEP,
            pinned=number % 25 == 1 and epoch == 0,
        )
        yield document(checkpoint.id, checkpoint.to_json())


def _log_rows(
    store: Store, notebooks: Sequence[NotebookOfRuns], count: int, runs: int, rows: int
) -> None:
    """Add logged rows to the newest runs."""
    for number in range(runs - count, runs):
        notebook = notebooks[number % len(notebooks)]
        started_at = format_time(_START + number * _PAUSE)
        with store.transaction() as connection:
            r = store.run_index.runs.c
            of_run = (r.notebook_id == notebook.id, r.started_at == started_at)
            row = connection.scalar(
                store.run_index.runs.select().with_only_columns(r.seq).where(*of_run)
            )
            choice, first = random.Random(number), (_START + number * _PAUSE).timestamp()
            steps = list(range(_STEPS, _STEPS + rows // count))
            values = [math.exp(-step / len(steps)) + choice.gauss(0, 0.02) for step in steps]
            times = [first + step / 10 for step in steps]
            columns = dict.fromkeys(("loss", "val_loss"), (steps, values, times))
            store.mark_written()
            store.logged_series.append(connection, row, notebook.id, columns)
            store.run_index.add_metrics(connection, row, notebook.id, columns)


def main() -> None:
    """Fill the store that the command line names."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("url", nargs="?", help="of the store; by default the one in --data")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--notebooks", type=int, default=50)
    parser.add_argument("--rows", type=int, default=0, help="logged rows of the newest runs")
    parser.add_argument("--user", default="ada")
    parser.add_argument("--data", type=Path, help="a Jupyter data directory")
    parser.add_argument("--files", type=Path, help="a folder for the notebooks; needs --data")
    chosen = parser.parse_args()
    data = None if chosen.data is None else chosen.data.resolve() / "axon_notebooks"
    if data is None and (chosen.url is None or chosen.files is not None):
        parser.error("give the URL of a store, or --data")
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with closing(open_store(chosen.url or f"sqlite:///{data}/axon.db")) as store:
        fill_store(
            store,
            chosen.runs,
            chosen.notebooks,
            rows=chosen.rows,
            user_id=chosen.user,
            data=data,
            files=chosen.files,
        )
    print(f"{chosen.runs:,} runs in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
