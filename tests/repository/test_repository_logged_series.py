"""Logged rows are stored once, and read as curves."""

from __future__ import annotations

import math

import pytest
import sqlalchemy as sa
from store.conftest import record_statements
from support.factories import new_checkpoint, new_notebook

from jupyter_axon_notebooks.errors import NotFound
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.run_queries import run_key
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store.series_table import MAX_CHUNK_ROWS


@pytest.fixture
def run(repository):
    notebook = repository.create(new_notebook())
    return repository.runs.start(notebook.id, name="wide")


def append(repository, run, rows, begin=0, end=None, spool="s"):
    end = begin + len(rows) if end is None else end
    return repository.series.append(
        run.notebook_id, run.id, rows, spool=spool, begin=begin, end=end
    )


def read(repository, run, name, **options):
    series = repository.series.read(run.notebook_id, run.id, name, **options)
    return list(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def test_rows_become_curves_and_summaries(repository, run):
    rows = [
        Row(step, step + 0.5, {"loss": 1.0 - step / 10, "val/acc": float(step)})
        for step in range(5)
    ]
    assert append(repository, run, rows) == 5
    assert append(repository, run, [Row(5, 9.0, {"loss": math.nan})], begin=5) == 6
    assert read(repository, run, "val/acc") == [(step, float(step)) for step in range(5)]
    assert len(read(repository, run, "loss")) == 6
    found = repository.runs.get(run.notebook_id, run.id)
    assert (found.step_count, found.last_step) == (6, 5)
    loss = found.metrics["loss"]
    assert (loss.last, loss.last_step) == ("NaN", 5)
    assert (loss.min, loss.min_step, loss.max, loss.max_step) == (pytest.approx(0.6), 4, 1.0, 0)
    assert repository.series.names(run.notebook_id, run.id) == ["loss", "val/acc"]


def test_rows_of_one_step_merge(repository, run):
    append(
        repository, run, [Row(0, 0.0, {"a": 1.0}), Row(0, 1.0, {"b": 2.0}), Row(0, 2.0, {"a": 3.0})]
    )
    assert read(repository, run, "a") == [(0, 3.0)]
    assert read(repository, run, "b") == [(0, 2.0)]
    assert repository.runs.get(run.notebook_id, run.id).step_count == 1


def test_rows_are_stored_once(repository, run):
    rows = [Row(0, 0.0, {"a": 1.0})]
    assert append(repository, run, rows) == 1
    assert append(repository, run, rows) == 1  # again, from the beginning
    assert append(repository, run, [Row(9, 0.0, {"a": 9.0})], begin=7) == 1
    assert read(repository, run, "a") == [(0, 1.0)]
    assert repository.series.offset(run.notebook_id, run.id, "s") == 1
    assert append(repository, run, rows, spool="another") == 1
    repository.series.forget_spool(run.notebook_id, run.id, "s")
    assert repository.series.offset(run.notebook_id, run.id, "s") == 0
    assert repository.series.offset(run.notebook_id, run.id, "another") == 1


def test_system_metrics_count_no_steps(repository, run):
    append(repository, run, [Row(7, 0.0, {"system/cpu_percent": 50.0}), Row(0, 0.0, {"loss": 1.0})])
    assert repository.runs.get(run.notebook_id, run.id).step_count == 1


def test_a_resumed_run_shows_its_parents_curve_once(repository, run):
    append(repository, run, [Row(step, 0.0, {"loss": float(step)}) for step in range(10)])
    saved = repository.create_checkpoint(
        new_checkpoint(run.notebook_id, run_id=run.id, epoch=0, step=4)
    )
    resumed = repository.runs.start(run.notebook_id, parent_checkpoint_id=saved.id)
    append(repository, resumed, [Row(step, 0.0, {"loss": -float(step)}) for step in range(5, 8)])
    assert read(repository, resumed, "loss") == [
        *((step, float(step)) for step in range(5)),
        *((step, -float(step)) for step in range(5, 8)),
    ]
    assert len(read(repository, run, "loss")) == 10
    assert repository.series.names(resumed.notebook_id, resumed.id) == ["loss"]


def test_a_resumed_run_shows_only_its_own_system_metrics(repository, run):
    name = "system/cpu_percent"
    append(repository, run, [Row(step, 0.0, {name: 1.0, "loss": 1.0}) for step in range(3)])
    saved = repository.create_checkpoint(
        new_checkpoint(run.notebook_id, run_id=run.id, epoch=0, step=2)
    )
    resumed = repository.runs.start(run.notebook_id, parent_checkpoint_id=saved.id)
    assert repository.series.names(run.notebook_id, resumed.id) == ["loss"]
    append(repository, resumed, [Row(0, 9.0, {name: 2.0})])
    assert read(repository, resumed, name) == [(0, 2.0)]
    found = repository.series.read_all(run.notebook_id, resumed.id, ["loss", name, "unknown"])
    assert [len(series) for series in found.values()] == [3, 1, 0]


def test_a_branch_is_looked_up_once_for_all_its_metrics(repository, run):
    metrics = [f"m{number}" for number in range(20)]
    append(repository, run, [Row(step, 0.0, dict.fromkeys(metrics, 1.0)) for step in range(3)])
    saved = repository.create_checkpoint(new_checkpoint(run.notebook_id, run_id=run.id, step=1))
    resumed = repository.runs.start(run.notebook_id, parent_checkpoint_id=saved.id)
    append(repository, resumed, [Row(2, 0.0, dict.fromkeys(metrics, 2.0))])
    branch = repository.series.branch(run.notebook_id, resumed.id)
    assert branch.names() == sorted(metrics)
    with record_statements(repository.store) as sent:
        found = [branch.read(name).values.tolist() for name in metrics]
    assert found == [[1.0, 1.0, 2.0]] * len(metrics)
    reads = [statement for statement, _ in sent if statement.startswith("SELECT")]
    assert len(reads) == 2 * len(metrics)  # of the run, and of its parent


def test_metrics_of_checkpoints_are_curves_too(repository, run):
    for step in range(3):
        repository.create_checkpoint(
            new_checkpoint(
                run.notebook_id,
                run_id=run.id,
                epoch=0,
                step=step,
                metrics={"val": {"acc": step / 2}},
            )
        )
    assert read(repository, run, "val.acc") == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert read(repository, run, "unknown") == []


def test_many_rows_are_sampled(repository, run):
    rows = [Row(step, 0.0, {"loss": math.sin(step)}) for step in range(20_000)]
    append(repository, run, rows)
    sampled = read(repository, run, "loss", points=100)
    assert len(sampled) <= 100
    assert {sampled[0][0], sampled[-1][0]} == {0, 19_999}
    assert max(value for _, value in sampled) == max(math.sin(step) for step in range(20_000))


def test_a_sample_of_many_rows_lacks_values_that_were_replaced(repository, run):
    replaced = [Row(step, 0.0, {"loss": 99.0 * (step % 7 == 3)}) for step in range(20_000)]
    begin = append(repository, run, replaced)
    rows = [Row(step, 0.0, {"loss": 1.0 + step / 20_000}) for step in range(20_000)]
    append(repository, run, rows, begin=begin)
    values = [value for _, value in read(repository, run, "loss", points=100)]
    assert 1.0 <= min(values) <= max(values) < 2.0


@pytest.mark.parametrize(
    "sizes",
    [(8_192, 1), (5_000, 10_000, 3_000), (20_000, 1, 1), (4_000,) * 5, (1,) * 40, (100, 9_000)],
)
def test_rows_stay_in_order_whatever_the_batches(repository, run, sizes):
    begin = 0
    for size in sizes:
        rows = [Row(0, float(begin + at), {"a": float(begin + at)}) for at in range(size)]
        begin = append(repository, run, rows, begin=begin)
    store = repository.store
    with store.snapshot() as connection:
        row = store.run_index.row_of(connection, run_key(run.notebook_id, run.id))
        series = store.logged_series.read(connection, row, run.notebook_id, "a")
        counts = connection.scalars(sa.select(store.logged_series.chunks.c.count)).all()
    assert series.values.tolist() == list(range(sum(sizes)))
    assert max(counts) <= MAX_CHUNK_ROWS


def test_many_names_are_stored(repository, run):
    names = {f"layer.{number}/weight\n<b>": float(number) for number in range(3_000)}
    append(repository, run, [Row(step, 0.0, names) for step in range(2)])
    assert read(repository, run, "layer.7/weight\n<b>") == [(0, 7.0), (1, 7.0)]
    assert len(repository.runs.get(run.notebook_id, run.id).metrics) == 3_000


def test_rows_that_cannot_be_stored_are_left_out(repository, run):
    rows = [
        Row(-1, 0.0, {"a": 1.0}),
        Row(2**53, 0.0, {"a": 1.0}),
        Row(2**64, 0.0, {"a": 1.0}),
        Row(3, 0.0, {"a": 2.0, "x" * 1_001: 1.0}),
    ]
    assert append(repository, run, rows) == 4
    assert read(repository, run, "a") == [(3, 2.0)]
    assert repository.series.names(run.notebook_id, run.id) == ["a"]


def test_a_run_that_does_not_exist_has_no_series(repository: NotebookRepository, run):
    run.id = "another"
    with pytest.raises(NotFound):
        append(repository, run, [Row(0, 0.0, {"a": 1.0})])
    with pytest.raises(NotFound):
        read(repository, run, "a")


def test_series_are_deleted_with_their_run_and_their_notebook(repository, run):
    last = repository.runs.start(run.notebook_id, config={"lr": 1})
    for each in (run, last):
        append(repository, each, [Row(0, 0.0, {"a": 1.0})], spool=each.id)
    repository.runs.remove(run.notebook_id, last.id)
    assert read(repository, run, "a") == [(0, 1.0)]
    again = repository.runs.start(run.notebook_id, id=last.id)
    assert again.number == 3
    assert repository.runs.get(run.notebook_id, again.id).metrics is None
    assert read(repository, again, "a") == []
    repository.delete(run.notebook_id)
    store = repository.store
    with store.snapshot() as connection:
        for table in (*store.logged_series.tables, *store.run_index.tables):
            assert connection.execute(table.select()).all() == []
