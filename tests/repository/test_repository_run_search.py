"""Runs are named, numbered, changed, and found across notebooks."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.factories import new_checkpoint, new_notebook

from jupyter_axon_notebooks.errors import Conflict, InvalidData, NotFound
from jupyter_axon_notebooks.metrics import resolve
from jupyter_axon_notebooks.records import RunStatus, UpdateRun, format_time, now
from jupyter_axon_notebooks.repository.run_queries import RunQuery, run_key
from jupyter_axon_notebooks.run_filters import (
    Combination,
    Comparison,
    Constant,
    InvalidFilter,
    Negation,
    Variable,
    matches,
)
from jupyter_axon_notebooks.spool import Row


@pytest.fixture
def notebook(repository):
    return repository.create(new_notebook(name="first"))


@pytest.fixture
def other(repository):
    return repository.create(new_notebook(name="second", user_id="bob"))


def log(repository, run, **metrics):
    rows = [Row(0, 0.0, metrics)]
    repository.series.append(run.notebook_id, run.id, rows, spool=run.id, begin=0, end=1)


def names(repository, where="", **options):
    page = repository.runs.search(RunQuery(where=where, **options))
    return [found.run.display_name for found in page.runs]


def test_runs_are_numbered_within_their_notebook(repository, notebook, other):
    runs = [repository.runs.start(notebook.id) for _ in range(3)]
    assert [run.number for run in runs] == [1, 2, 3]
    assert repository.runs.start(other.id).number == 1
    repository.runs.remove(notebook.id, runs[2].id)
    repository.runs.remove(notebook.id, runs[0].id)
    assert repository.runs.start(notebook.id).number == 4
    assert repository.runs.get(notebook.id, runs[1].id).display_name == "run 2"


def test_a_run_has_what_it_was_started_with(repository, notebook):
    fields = {
        "name": "wide",
        "config": {"lr": 0.1, "model": {"layers": [64, 64], "name": None}},
        "tags": ["baseline"],
        "notes": "first try",
        "group": "lr search",
        "keep": "last:2",
    }
    run = repository.runs.start(notebook.id, **fields)
    found = repository.runs.get(notebook.id, run.id)
    assert {name: getattr(found, name) for name in fields} == fields
    assert found == repository.runs.list(notebook.id)[0]


def test_a_run_can_be_changed(repository, notebook):
    run = repository.runs.start(notebook.id, name="wide", tags=["a"], notes="x", config={"lr": 1})
    changed = repository.runs.update(
        notebook.id, run.id, UpdateRun(name="deep", tags=[], notes="", config={"lr": 2})
    )
    assert (changed.name, changed.tags, changed.notes, changed.config) == (
        "deep",
        [],
        None,
        {"lr": 2},
    )
    assert repository.runs.get(notebook.id, run.id) == changed
    assert names(repository, "config.lr == 2 and not 'a' in tags") == ["deep"]
    assert names(repository, "config.lr == 1 or 'a' in tags") == []
    with pytest.raises(NotFound):
        repository.runs.update(notebook.id, "another", UpdateRun(name="x"))


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "x" * 256},
        {"tags": ["x"] * 101},
        {"config": {"x": "x" * (1 << 20)}},
        {"config": {"x": {1}}},
        {"notes": "x" * 100_001},
    ],
)
def test_fields_that_are_too_large_are_refused(repository, notebook, fields):
    with pytest.raises(InvalidData):
        repository.runs.start(notebook.id, **fields)
    run = repository.runs.start(notebook.id)
    with pytest.raises(InvalidData):
        repository.runs.update(notebook.id, run.id, UpdateRun(**fields))
    assert len(repository.runs.list(notebook.id)) == 1


def test_rules_that_cannot_be_followed_are_refused(repository, notebook):
    run = repository.runs.start(notebook.id, keep="last:2")
    with pytest.raises(InvalidData, match=r"\$\.keep: expected last:N"):
        repository.runs.update(notebook.id, run.id, UpdateRun(keep="newest:2"))
    assert repository.runs.get(notebook.id, run.id).keep == "last:2"
    assert repository.runs.update(notebook.id, run.id, UpdateRun(keep="")).keep is None


def test_runs_are_found_across_notebooks(repository, notebook, other):
    first = repository.runs.start(notebook.id, config={"lr": 0.1}, tags=["baseline"])
    second = repository.runs.start(other.id, name="wide", config={"lr": 0.001, "layers": [64]})
    log(repository, first, val_acc=0.9)
    log(repository, second, val_acc=0.95)
    repository.runs.update_status(other.id, second.id, RunStatus.COMPLETED)
    assert names(repository) == ["wide", "run 1"]
    assert names(repository, sort="-val_acc") == ["wide", "run 1"]
    assert names(repository, sort="val_acc") == ["run 1", "wide"]
    assert names(repository, 'config.lr < 0.01 and status == "completed"') == ["wide"]
    assert names(repository, "'baseline' in tags") == ["run 1"]
    assert names(repository, 'notebook == "second"') == ["wide"]
    assert names(repository, user_id="ada") == ["run 1"]
    assert names(repository, notebook_id=other.id) == ["wide"]
    page = repository.runs.search(RunQuery(limit=1, offset=1))
    assert page.total == 2
    assert [(found.notebook, found.run.metrics["val_acc"].max) for found in page.runs] == [
        ("first", 0.9)
    ]
    assert repository.runs.config_keys() == ["layers", "lr"]
    assert repository.runs.config_keys("ada") == ["lr"]
    assert repository.runs.metric_names(notebook_id=other.id) == ["val_acc"]
    assert repository.runs.metric_names("ada", other.id) == []
    assert repository.runs.config_keys("ada", other.id) == []


def test_an_expired_run_is_found_as_stopped(repository, notebook):
    repository.runs.start(notebook.id, lease_until=now() - timedelta(seconds=1))
    assert names(repository, "status == 'stopped'") == ["run 1"]
    assert names(repository, "status == 'running'") == []
    assert names(repository, "ended_at != None") == ["run 1"]


def test_sizes_of_states_are_summed(repository, notebook):
    run = repository.runs.start(notebook.id)
    for step in range(2):
        repository.create_checkpoint(
            new_checkpoint(
                notebook.id,
                {"text": "\ud800"},
                run_id=run.id,
                epoch=0,
                step=step,
                sizes={"model": 10, "optimizer": 5},
            )
        )
    last = repository.create_checkpoint(
        new_checkpoint(notebook.id, run_id=run.id, step=9, sizes={"model": 2**40})
    )

    def count():
        [found] = repository.runs.search(RunQuery()).runs
        return found.checkpoint_count, found.size

    assert count() == (3, 30 + 2**40)
    repository.store.checkpoints.update({"pruned_at": format_time(now())}, [last.id])
    assert count() == (3, 30)
    repository.checkpoints.delete(last.id)
    assert count() == (2, 30)


def test_a_damaged_run_is_left_out(repository, notebook):
    kept, damaged = repository.runs.start(notebook.id), repository.runs.start(notebook.id)
    repository.store.runs.update({"status": 7}, [run_key(notebook.id, damaged.id)])
    page = repository.runs.search(RunQuery())
    assert [found.run.id for found in page.runs] == [kept.id]


@pytest.mark.parametrize(
    ("where", "suggestion"),
    [("config.lrr < 1", "config.lr"), ("val_ac > 1", "val_acc"), ("lr < 1", "config.lr")],
)
def test_an_unknown_name_is_refused_with_a_suggestion(repository, notebook, where, suggestion):
    run = repository.runs.start(notebook.id, config={"lr": 1})
    log(repository, run, val_acc=1.0)
    for query in (RunQuery(where=where), RunQuery(sort=where.split()[0])):
        with pytest.raises(InvalidFilter) as raised:
            repository.runs.search(query)
        assert suggestion in raised.value.suggestions


def test_a_run_is_found_by_any_of_its_names(repository, notebook, other):
    run = repository.runs.start(notebook.id, name="wide", key="fold 1")
    same = repository.runs.start(other.id, name="wide")
    plain = repository.runs.start(notebook.id)
    for text in (run.id, run.id[:13], "fold 1"):
        assert repository.runs.find(text).id == run.id
    assert repository.runs.find("wide", notebook.id).id == run.id
    assert repository.runs.find("1", notebook.id).id == run.id
    assert repository.runs.find("run 2").id == repository.runs.find("2").id == plain.id
    assert repository.runs.find("wide", user_id="bob").id == same.id
    with pytest.raises(ValueError, match="could be any of 2 runs: wide"):
        repository.runs.find("wide")
    with pytest.raises(NotFound, match="did you mean wide"):
        repository.runs.find("wid")
    with pytest.raises(NotFound, match="the runs of this notebook are run 2, fold 1"):
        repository.runs.find("zzz", notebook.id)
    with pytest.raises(NotFound):
        repository.runs.find("")


def test_a_key_comes_before_a_number(repository, notebook):
    keyed = repository.runs.start(notebook.id, key="2")
    repository.runs.start(notebook.id)
    assert repository.runs.find("2", notebook.id).id == keyed.id


def test_a_run_without_a_name_is_searched_by_what_is_displayed(repository, notebook):
    repository.runs.start(notebook.id)
    plain, empty = (repository.runs.start(notebook.id, name=name) for name in (None, ""))
    for run in (plain, empty):
        [found] = repository.runs.search(RunQuery(where=f"name == '{run.display_name}'")).runs
        assert found.run.id == run.id
    names = [one.run.display_name for one in repository.runs.search(RunQuery(sort="name")).runs]
    assert names == ["run 1", "run 2", "run 3"]


def test_an_id_of_several_notebooks_is_ambiguous(repository, notebook, other):
    for each in (notebook, other):
        repository.runs.start(each.id, id="same")
    with pytest.raises(ValueError, match="could be any of 2 runs"):
        repository.runs.find("same")
    assert repository.runs.find("same", other.id).notebook_id == other.id
    assert repository.runs.find("same", user_id="ada").notebook_id == notebook.id


def test_a_run_can_be_found_by_its_complete_id_only(repository, notebook):
    run = repository.runs.start(notebook.id, name="wide", key="fold 1")
    assert repository.runs.find(run.id, by_id=True).id == run.id
    for text in (run.id[:13], "wide", "fold 1", "1"):
        with pytest.raises(NotFound):
            repository.runs.find(text, notebook.id, by_id=True)


@pytest.mark.parametrize(
    "config",
    [
        {"x": math.inf},
        {"x": math.nan},
        {"x": "\ud800"},
        {"\ud800": 1},
        {"x": 10**400},
        {"x": [-(10**400)]},
    ],
)
def test_a_run_with_odd_values_is_found(repository, notebook, config):
    run = repository.runs.start(notebook.id, id="odd \ud800", config=config)
    assert repository.runs.find(run.id).id == run.id
    assert repository.runs.find("odd").id == run.id
    assert repository.runs.search(RunQuery()).total == 1
    assert repository.runs.update(notebook.id, run.id, UpdateRun(name="x")).name == "x"


def test_large_numbers_and_nan_can_be_searched(repository, notebook):
    config = {"big": 10**400, "nan": math.nan, "list": [math.nan, 10**400]}
    repository.runs.start(notebook.id, config=config)
    digits = "9" * 400
    assert names(repository, f"config.big == {digits} and {digits} in config.list") == ["run 1"]
    assert names(repository, f"config.big in (1, {digits}) and config.big > -{digits}") == ["run 1"]
    assert names(repository, "config.nan == 'NaN' and 'NaN' in config.list") == ["run 1"]
    assert names(repository, "config.nan == None or config.nan > 0") == []


def test_long_texts_and_lists_are_searched_by_their_beginning(repository, notebook):
    long = "x" * 3_000
    config = {"text": long, "texts": [long], "many": list(range(5_000)), "last": 1}
    repository.runs.start(notebook.id, config=config, notes="begin" + long)
    many = f"[{', '.join(map(str, range(700)))}]"
    for where in (
        f"config.text == '{long}'",
        f"'{long}' in config.texts",
        "'begin' in notes and 'xxx' in config.text",
        "199 in config.many and config.last == 1",
    ):
        assert names(repository, where) == ["run 1"]
    for where in (f"config.text == '{long}x'", "config.text == None", f"config.many == {many}"):
        assert names(repository, where) == []


def test_a_run_is_deleted_with_its_checkpoints(repository, notebook):
    run = repository.runs.start(notebook.id)
    pinned = repository.create_checkpoint(
        new_checkpoint(notebook.id, run_id=run.id, epoch=0, step=0, pinned=True)
    )
    kept = repository.create_checkpoint(new_checkpoint(notebook.id, run_id="b", epoch=0, step=0))
    with pytest.raises(Conflict, match="is running"):
        repository.checkpoints.delete_run(notebook.id, run.id, with_pinned=True)
    repository.runs.update_status(notebook.id, run.id, RunStatus.COMPLETED)
    with pytest.raises(Conflict, match="pinned"):
        repository.checkpoints.delete_run(notebook.id, run.id)
    assert repository.runs.get(notebook.id, run.id) is not None
    repository.checkpoints.delete_run(notebook.id, run.id, with_pinned=True)
    assert repository.get_checkpoint(pinned.id) is None
    assert repository.get_checkpoint(kept.id) is not None
    with pytest.raises(NotFound):
        repository.checkpoints.delete_run(notebook.id, run.id)


# Filters mean in SQL what they mean in Python

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, -1.5, math.inf, 10**400]),
    st.sampled_from(["a", "ab", "b", "", "é", "%", "_", "NaN"]),
)
values = st.one_of(scalars, st.just(math.nan))
runs = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "ab"]),
        "group": st.one_of(st.none(), st.sampled_from(["a", "b"])),
        "tags": st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True),
        "config": st.dictionaries(
            st.sampled_from("xyz"), st.one_of(values, st.lists(values, max_size=2)), max_size=3
        ),
        "loss": st.one_of(st.none(), st.sampled_from([0.5, 1.0, 2.0])),
        "archived": st.booleans(),
    }
)
_FIELDS = ("name", "number", "tags", "archived", "group", "notebook", "path")
variables = st.one_of(
    st.sampled_from([Variable("field", name) for name in _FIELDS]),
    st.sampled_from([Variable("config", name) for name in "xyzw"]),
    st.sampled_from([Variable("metric", "loss", name) for name in ("last", "min", "max")]),
)
lists = st.lists(scalars, max_size=2).map(tuple)
comparisons = st.one_of(
    st.builds(
        Comparison,
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        variables,
        st.one_of(st.one_of(scalars, lists).map(Constant), variables),
    ),
    st.builds(
        Comparison,
        st.sampled_from(["in", "not in"]),
        st.one_of(variables, scalars.map(Constant)),
        variables,
    ),
    st.builds(
        Comparison,
        st.sampled_from(["in", "not in"]),
        variables,
        st.one_of(lists, st.sampled_from(["abc", ""])).map(Constant),
    ),
)
filters = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        inner.map(Negation),
        st.builds(Combination, st.sampled_from(["and", "or"]), st.tuples(inner, inner)),
    ),
    max_leaves=3,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(runs, max_size=3), st.lists(filters, min_size=1, max_size=8))
def test_a_filter_means_the_same_in_sql_and_in_python(repository, drawn, tried):
    repository.create(new_notebook(name="b", path="b"))
    notebook = repository.create(new_notebook(name="a", path="ab"))
    expected = {}
    for fields in drawn:
        loss, archived = fields.pop("loss"), fields.pop("archived")
        run = repository.runs.start(notebook.id, **fields)
        if loss is not None:
            log(repository, run, loss=loss)
        repository.runs.update(notebook.id, run.id, UpdateRun(archived=archived))
        expected[run.id] = {
            **fields,
            "name": run.display_name,
            "number": run.number,
            "loss": loss,
            "archived": archived,
            "notebook": notebook.name,
            "path": notebook.path,
        }
    store, moment = repository.store, "2026"
    index = store.run_index
    for filter in tried:

        def value_of(variable, values):
            if variable.kind == "config":
                return resolve(values["config"], variable.name)
            return values["loss" if variable.kind == "metric" else variable.name]

        r, n = index.runs, index.notebooks
        query = (
            r.join(n, n.c.id == r.c.notebook_id)
            .select()
            .with_only_columns(r.c.id)
            .where(index.condition(filter, moment), r.c.notebook_id == notebook.id)
        )
        with store.snapshot() as connection:
            found = set(connection.scalars(query))
        ids = {
            id
            for id, values in expected.items()
            if matches(filter, lambda variable, values=values: value_of(variable, values))
        }
        stored = {run.id for run in repository.runs.list(notebook.id)}
        assert len(found) == len(ids)
        assert ids <= stored


def test_metrics_of_checkpoints_are_summarized(repository, notebook):
    run = repository.runs.start(notebook.id)
    for step, loss in enumerate((3.0, 1.0, 2.0)):
        saved = repository.create_checkpoint(
            new_checkpoint(notebook.id, {"val": {"loss": loss}}, run_id=run.id, epoch=0, step=step)
        )
    repository.checkpoints.add_metrics(saved.id, {"acc": 0.5})
    repository.create_checkpoint(new_checkpoint(notebook.id, {"loss": 9.0}, epoch=7, step=9))
    found = repository.runs.get(notebook.id, run.id).metrics
    loss = found["val.loss"]
    assert (loss.last, loss.min, loss.min_step, loss.max) == (2.0, 1.0, 1, 3.0)
    assert found["acc"].last == 0.5
    assert names(repository, "val.loss.min < 2 and acc == 0.5") == ["run 1"]


def test_summaries_follow_the_checkpoints(repository, notebook):
    run = repository.runs.start(notebook.id)

    def add(epoch, step, loss, **options):
        new = new_checkpoint(notebook.id, {"loss": loss}, run_id=run.id, epoch=epoch, step=step)
        return repository.checkpoints.add(new, **options)

    def summary():
        found = (repository.runs.get(notebook.id, run.id).metrics or {}).get("loss")
        return found and (found.last, found.min, found.max)

    add(0, 5, 1.0)
    add(1, 0, 2.0)  # steps begin again
    assert summary() == (2.0, 1.0, 2.0)
    late = add(0, 6, 9.0)
    assert summary() == (2.0, 1.0, 9.0)
    add(1, 0, 3.0, overwrite=True)
    assert summary() == (3.0, 1.0, 9.0)
    repository.checkpoints.add_metrics(late.id, {"loss": 0.5})
    assert summary() == (3.0, 0.5, 3.0)
    for checkpoint in repository.list_checkpoints(notebook.id):
        repository.checkpoints.delete(checkpoint.id)
    assert summary() is None


def test_logged_metrics_are_summarized_by_their_series(repository, notebook):
    run = repository.runs.start(notebook.id)
    log(repository, run, loss=1.0)
    saved = repository.create_checkpoint(
        new_checkpoint(notebook.id, {"loss": 7.0, "acc": 0.5}, run_id=run.id, epoch=0, step=9)
    )
    found = repository.runs.get(notebook.id, run.id).metrics
    assert (found["loss"].max, found["acc"].max) == (1.0, 0.5)
    repository.checkpoints.delete(saved.id)
    found = repository.runs.get(notebook.id, run.id).metrics
    assert list(found) == ["loss"]
