"""The commands about runs of all notebooks."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from support.factories import new_checkpoint, new_notebook

from jupyter_axon_notebooks.errors import StoreBusy
from jupyter_axon_notebooks.records import ConfigSource, RunStatus, UpdateRun
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.checkpoints import CheckpointRepository
from jupyter_axon_notebooks.repository.run_queries import RunQuery, run_key
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store import open_store

from .conftest import Axon


@pytest.fixture
def repository(db: Path) -> Iterator[NotebookRepository]:
    with closing(open_store(f"sqlite:///{db}")) as store:
        yield NotebookRepository(store)


@pytest.fixture(autouse=True)
def runs(repository: NotebookRepository) -> list[str]:
    """A search in one notebook, and a run in another; their ids."""
    ids = []
    for name, rates in (("search", (0.1, 0.01)), ("wide", (0.001,))):
        notebook = repository.create(new_notebook(name=name))
        for number, lr in enumerate(rates):
            config = {"lr": lr, "seed": 1, "model": {"depth": 2}}
            run = repository.runs.start(notebook.id, config=config, tags=["baseline"] * (lr == 0.1))
            rows = [Row(step, step + 1.0, {"val_acc": step / 10 + number}) for step in range(3)]
            repository.series.append(notebook.id, run.id, rows, spool=run.id, begin=0, end=3)
            repository.runs.update_status(notebook.id, run.id, RunStatus.COMPLETED)
            ids.append(run.id)
    return ids


def test_runs_are_listed_with_what_differs(axon: Axon) -> None:
    output = axon("runs", "--sort", "-val_acc").stdout
    heading, _, *lines = output.splitlines()
    assert heading.split() == [
        "name", "notebook", "status", "config.lr", "val_acc", "tags", "size", "started", "id"
    ]  # fmt: skip
    assert lines[0].split()[:6] == ["run", "2", "search", "completed", "0.01", "1.2"]
    assert len(lines) == 3


def test_tables_fit_the_terminal(axon: Axon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    for width, left_out in (("80", "size, started"), ("70", "tags, size, started")):
        monkeypatch.setenv("COLUMNS", width)
        shown = axon("runs")
        assert f"not shown on this terminal: {left_out};" in shown.stderr
        lines = click.unstyle(shown.stdout).splitlines()
        assert max(map(len, lines)) <= int(width)
        assert lines[0].split()[-1] == "id"
    monkeypatch.setenv("COLUMNS", "50")
    output = axon("compare", "search#1", "search#2", "wide#1").stdout
    compared = click.unstyle(output).splitlines()
    assert max(map(len, compared)) <= 50
    assert sum(line.startswith("val_acc.max ") for line in compared) == 2


def test_a_named_run_is_listed_with_its_number(axon: Axon, runs: list[str]) -> None:
    assert axon("edit-run", runs[1], "--name", "slow").exit_code == 0
    heading, _, *lines = axon("runs", "name == 'slow'").stdout.splitlines()
    assert heading.split()[:3] == ["name", "number", "notebook"]
    assert [line.split()[:3] for line in lines] == [["slow", "2", "search"]]


def test_runs_of_one_configuration_are_listed_with_all_of_it(axon: Axon) -> None:
    heading = axon("runs", "--limit", "1").stdout.splitlines()[0]
    assert heading.split()[3:6] == ["config.lr", "config.seed", "config.model.depth"]


def test_runs_are_filtered_and_written_for_scripts(axon: Axon, runs: list[str]) -> None:
    found = json.loads(axon("runs", "config.lr < 0.05 and notebook == 'search'", "--json").stdout)
    assert [one["run"]["id"] for one in found] == [runs[1]]
    output = axon(
        "runs", "'baseline' in tags", "--csv", "--columns", "config.lr,val_acc.max"
    ).stdout
    [row] = csv.DictReader(io.StringIO(output))
    assert (row["id"], row["name"], row["config.lr"], row["val_acc.max"]) == (
        runs[0],
        "run 1",
        "0.1",
        "0.2",
    )
    assert axon("runs", "config.lr > 5").stderr == "no run matches\n"
    assert "1 of 3 runs" in axon("runs", "--limit", 1).stderr


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("config.lrr < 1", "did you mean config.lr? (at position 1"),
        ("val_acc >", "(at the end)"),
        ("open('x') == 1", "functions cannot be called"),
    ],
)
def test_an_invalid_filter_is_refused(axon: Axon, where: str, told: str) -> None:
    result = axon("runs", where)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_metric_may_be_named_like_a_field(
    axon: Axon, repository: NotebookRepository, runs: list[str]
) -> None:
    run = repository.runs.find(runs[2])
    row = Row(5, 1.0, {"name": 7.0, "val_acc": -math.inf})
    repository.series.append(run.notebook_id, run.id, [row], spool="a", begin=0, end=1)
    where = f"id == {run.id!r}"
    heading, _, line = axon("runs", where).stdout.splitlines()
    assert "metrics.name" in heading
    assert line.split()[:2] == ["run", "1"]
    [found] = csv.DictReader(io.StringIO(axon("runs", where, "--csv").stdout))
    assert (found["name"], found["metrics.name"]) == ("run 1", "7.0")
    assert float(found["val_acc"]) == -math.inf


def test_unknown_columns_are_refused(axon: Axon) -> None:
    result = axon("runs", "--columns", "val_acc, config.lrr")
    assert result.exit_code == 2
    assert "did you mean config.lr" in result.stderr


def test_blank_tags_are_left_out(
    axon: Axon, repository: NotebookRepository, runs: list[str]
) -> None:
    axon("edit-run", runs[0], "--tag", "", "--tag", "paper")
    assert repository.runs.find(runs[0]).tags == ["baseline", "paper"]


def test_runs_are_compared(axon: Axon, runs: list[str]) -> None:
    result = axon("compare", runs[0][:8], runs[1][:8])
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["config", "run", "1", "run", "2"] in lines
    assert ["lr", "0.1", "0.01"] in lines
    assert ["val_acc.max", "0.2", "1.2"] in lines
    assert "seed" not in result.stdout
    comparison = json.loads(axon("compare", *runs, "--json").stdout)
    assert [one["number"] for one in comparison["runs"]] == [1, 2, 1]
    assert axon("compare", runs[0]).exit_code == 2
    ambiguous = axon("compare", "run 1", runs[1])
    assert ambiguous.exit_code == 3
    assert "could be any of 2 runs" in ambiguous.stderr


def test_runs_of_several_notebooks_are_compared_under_their_names(axon: Axon) -> None:
    output = axon("compare", "search#1", "wide#1").stdout
    assert "run 1 of search   run 1 of wide" in output.splitlines()[0]
    assert "" in output.splitlines()  # between the tables


def test_an_edit_without_a_change_is_refused(axon: Axon, runs: list[str]) -> None:
    result = axon("edit-run", runs[0])
    assert result.exit_code == 2
    assert "nothing to change" in result.stderr


def test_a_notebook_in_place_of_a_filter_is_explained(axon: Axon) -> None:
    result = axon("runs", "train.ipynb")
    assert result.exit_code == 2
    assert "--notebook train.ipynb" in result.stderr


def test_a_run_is_edited(axon: Axon, repository: NotebookRepository, runs: list[str]) -> None:
    options = (
        "--name",
        "best so far",
        "--notes",
        "try again",
        "--tag",
        "paper",
        "--untag",
        "baseline",
    )
    assert axon("edit-run", runs[0], *options).exit_code == 0
    run = repository.runs.find("best so far")
    assert (run.id, run.tags, run.notes) == (runs[0], ["paper"], "try again")
    assert axon("edit-run", "unknown", "--name", "x").exit_code == 3


def test_the_configuration_of_a_run_is_edited(
    axon: Axon, repository: NotebookRepository, runs: list[str]
) -> None:
    pairs = ("lr=0.5", "model.depth=3", "optimizer=adam", "data.path=a=b", "layers=[1, 2]")
    options = [part for pair in pairs for part in ("--config", pair)]
    assert axon("edit-run", runs[0], *options).exit_code == 0
    run = repository.runs.find(runs[0])
    assert run.config == {
        "lr": 0.5,
        "seed": 1,
        "model": {"depth": 3},
        "optimizer": "adam",
        "data.path": "a=b",
        "layers": [1, 2],
    }
    assert run.config_source is ConfigSource.GIVEN
    wrong = axon("edit-run", runs[0], "--config", "lr")
    assert (wrong.exit_code, "expected KEY=VALUE" in wrong.stderr) == (2, True)


def test_runs_are_exported_as_csv(axon: Axon, runs: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    result = axon("export-runs", "config.lr >= 0.01", "--to", "csv", "-o", folder)
    assert result.exit_code == 0, result.stderr
    table = read_csv(folder / "runs.csv")
    assert [row["config.lr"] for row in table] == ["0.1", "0.01"]
    assert [row["config.model.depth"] for row in table] == ["2", "2"]
    [file] = (folder / "series").glob("run_1-*.csv")
    assert folder / table[0]["series"] == file
    series = read_csv(file)
    values = [(row["step"], row["val_acc"]) for row in series]
    assert values == [("0", "0.0"), ("1", "0.1"), ("2", "0.2")]


def test_odd_names_are_exported(axon: Axon, repository: NotebookRepository, tmp_path: Path) -> None:
    for _ in range(2):
        notebook = repository.create(new_notebook(name=".."))
        repository.runs.start(notebook.id, id="same", name="=1+1 \ud800")
    result = axon("export-runs", "id == 'same'", "--to", "csv", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert len(list((tmp_path / "out/series").iterdir())) == 2
    assert [row["name"] for row in read_csv(tmp_path / "out/runs.csv")] == ["'=1+1 \\ud800"] * 2
    output = axon("runs", "id == 'same'", "--csv").stdout
    assert [row["name"][:5] for row in csv.DictReader(io.StringIO(output))] == ["'=1+1"] * 2


def test_an_mlflow_server_that_is_unreachable_is_reported(axon: Axon) -> None:
    result = axon("export-runs", "--to", "mlflow", "-o", "http://127.0.0.1:1")
    assert result.exit_code != 0
    assert "cannot be reached" in result.stderr


def test_commands_work_on_the_runs_of_the_user(axon: Axon, repository: NotebookRepository) -> None:
    notebook = repository.create(new_notebook(name="other", user_id="bob"))
    run = repository.runs.start(notebook.id, name="bobs")
    assert "bobs" not in axon("runs").stdout
    assert "bobs" in axon("runs", "--all-users").stdout
    assert axon("edit-run", run.id, "--name", "x").exit_code == 3
    assert axon("compare", run.id, run.id).exit_code == 3
    assert axon("compare", "--all-users", run.id, run.id).exit_code == 0
    assert axon("edit-run", "--all-users", run.id, "--name", "x").exit_code == 0


def test_runs_of_one_name_have_a_column_each(
    axon: Axon, repository: NotebookRepository, runs: list[str]
) -> None:
    for id in runs[:2]:
        repository.runs.update(repository.runs.find(id).notebook_id, id, UpdateRun(name="config"))
    assert "0.1" in axon("compare", *runs[:2]).stdout
    assert axon("compare", runs[0], runs[0]).exit_code == 0


def test_a_name_may_contain_a_number_sign(
    axon: Axon, repository: NotebookRepository, runs: list[str]
) -> None:
    assert axon("edit-run", runs[0], "--name", "try #2").exit_code == 0
    assert axon("edit-run", "try #2", "--tag", "found").exit_code == 0
    notebook_id = repository.runs.find(runs[0]).notebook_id
    assert axon("edit-run", f"{notebook_id}#2", "--tag", "second").exit_code == 0
    assert repository.runs.find(runs[1]).tags == ["second"]


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_the_best_checkpoint_by_a_metric_that_was_only_logged_is_explained(axon: Axon) -> None:
    result = axon("best", "val_acc")
    assert result.exit_code == 3
    assert "`jupyter axon runs --sort val_acc` ranks them" in result.stderr


def test_archived_runs_are_not_listed(axon: Axon, runs: list[str]) -> None:
    assert axon("edit-run", runs[0], "--archive").exit_code == 0

    def listed(*options: str) -> set[str]:
        return {one["run"]["id"] for one in json.loads(axon("runs", "--json", *options).stdout)}

    assert listed() == {*runs[1:]}
    assert listed("--archived") == {*runs}
    assert listed("archived == True") == {runs[0]}
    assert axon("edit-run", runs[0], "--unarchive").exit_code == 0
    assert listed() == {*runs}


def test_runs_are_listed_before_they_are_deleted(
    axon: Axon, repository: NotebookRepository, runs: list[str]
) -> None:
    run = repository.runs.find(runs[0])
    repository.create_checkpoint(new_checkpoint(run.notebook_id, run_id=run.id, pinned=True))
    repository.runs.update_status(run.notebook_id, runs[1], RunStatus.RUNNING)
    shown = axon("delete-run", "search#1", "search#2", "wide#1")
    assert shown.exit_code == 1
    assert "run 1 (" + runs[0][:8] + ") has 1 pinned checkpoint; --with-pinned" in shown.stderr
    assert f"run 2 ({runs[1][:8]}) is running; stop it first" in shown.stderr
    assert "Would delete 1 run" in shown.stderr
    assert runs[2] in shown.stdout
    result = json.loads(axon("delete-run", "--yes", "--json", *runs).stdout)
    assert result == {
        "deleted": True,
        "runs": [{"id": runs[2], "bytes": 0}],
        "left_alone": [runs[0], runs[1]],
    }
    pinned = axon("delete-run", "--yes", "--with-pinned", runs[0])
    assert (pinned.exit_code, "Deleted 1 run" in pinned.stderr) == (0, True)
    assert {one.run.id for one in repository.runs.search(RunQuery()).runs} == {runs[1]}
    assert axon("delete-run", runs[0]).exit_code == 3


def test_deleting_leaves_the_run_of_another_notebook_with_the_same_id(
    axon: Axon, repository: NotebookRepository
) -> None:
    ids = []
    for name in ("here", "there"):
        notebook_id = repository.create(new_notebook(name=name)).id
        repository.runs.start(notebook_id, id="baseline")
        repository.runs.update_status(notebook_id, "baseline", RunStatus.COMPLETED)
        ids.append(notebook_id)
    deleted = axon("delete-run", "--yes", "here#1")
    assert (deleted.exit_code, "Deleted 1 run" in deleted.stderr) == (0, True)
    assert repository.runs.list(ids[0]) == []
    assert [run.id for run in repository.runs.list(ids[1])] == ["baseline"]


def test_what_was_deleted_is_reported_if_other_runs_cannot_be_deleted(
    axon: Axon, repository: NotebookRepository, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id in runs:
        run = repository.runs.find(run_id)
        repository.runs.update_status(run.notebook_id, run_id, RunStatus.COMPLETED)
    delete = CheckpointRepository.delete_run

    def fail_for_one(self: Any, notebook_id: str, run_id: str, **options: Any) -> None:
        if run_id == runs[1]:
            raise StoreBusy("the store is locked")
        delete(self, notebook_id, run_id, **options)

    monkeypatch.setattr(CheckpointRepository, "delete_run", fail_for_one)
    result = axon("delete-run", "--yes", *runs)
    assert result.exit_code == 1
    assert "could not be deleted: the store is locked" in result.stderr
    assert "Deleted 2 runs" in result.stderr
    assert {one.run.id for one in repository.runs.search(RunQuery()).runs} == {runs[1]}


def test_a_damaged_run_is_not_deleted_silently(
    axon: Axon, repository: NotebookRepository, db: Path, runs: list[str]
) -> None:
    notebook_id = repository.runs.find(runs[0]).notebook_id
    with closing(open_store(f"sqlite:///{db}")) as store:
        store.runs.update({"status": "asleep"}, doc_ids=[run_key(notebook_id, runs[0])])
    result = axon("delete-run", "--yes", runs[0])
    assert result.exit_code != 0
    assert "damaged" in result.stderr
