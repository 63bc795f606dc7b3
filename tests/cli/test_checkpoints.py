"""The commands about checkpoints: listing, ranking, pinning, restoring, pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from support.factories import new_notebook

from jupyter_axon_notebooks.records import NewCheckpoint, NotebookCheckpoint, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store

from .conftest import USER, Axon

Make = Callable[..., NotebookCheckpoint]


@contextmanager
def training(url: str, root: Path) -> Iterator[tuple[NotebookRepository, Make]]:
    """The records of a store, and what makes a checkpoint with states, as a kernel does."""
    with closing(open_store(url)) as store:
        states = StateStorage(root, store_id=store.mark_id)
        repository = NotebookRepository(store, states=states)

        def make(notebook_id: str, epoch: int, metrics: Any, **fields: Any) -> NotebookCheckpoint:
            return _make(repository, states, notebook_id, epoch, metrics, **fields)

        yield repository, make


def _make(
    repository: NotebookRepository,
    states: StateStorage,
    notebook_id: str,
    epoch: int,
    metrics: Any,
    parts: str = "model optimizer",
    **fields: Any,
) -> NotebookCheckpoint:
    new = NewCheckpoint(
        notebook_id=notebook_id, epoch=epoch, step=10 * epoch, metrics=metrics, **fields
    )
    id = repository.create_checkpoint(new).id
    for part in parts.split():
        with states.open_writer(notebook_id, id, part, format="safetensors") as writer:  # type: ignore[arg-type]
            writer.write(f"{part} {epoch}".encode())
            repository.checkpoints.attach_state(id, part, writer.commit, writer.digest)  # type: ignore[arg-type]
        states.mark_recorded(notebook_id, id)
    found = repository.get_checkpoint(id)
    assert found is not None
    return found


@pytest.fixture
def trained(db: Path, root: Path) -> Iterator[tuple[NotebookRepository, Make]]:
    with training(f"sqlite:///{db}", root) as opened:
        yield opened


@pytest.fixture
def repository(trained: tuple[NotebookRepository, Make]) -> NotebookRepository:
    return trained[0]


@pytest.fixture
def make(trained: tuple[NotebookRepository, Make]) -> Make:
    return trained[1]


@pytest.fixture
def notebook_id(repository: NotebookRepository) -> str:
    return repository.create(new_notebook(name="train")).id


@pytest.fixture
def series(make: Make, notebook_id: str) -> list[NotebookCheckpoint]:
    """Checkpoints whose validation loss is best in the middle."""
    return [
        make(notebook_id, n, {"loss": 4 - n, "val": {"loss": abs(n - 2)}, "acc": n / 4, "odd": n})
        for n in range(5)
    ]


def epochs(found: Any) -> list[int]:
    return [one["epoch"] for one in found]


# checkpoints, best


def test_checkpoints_are_listed_newest_first(
    axon: Axon, repository: NotebookRepository, make: Make, notebook_id: str
) -> None:
    first = make(notebook_id, 0, {"loss": 0.5}, run_id="run-a", tags=["t", "u"], pinned=True)
    make(notebook_id, 1, {"loss": 0.25}, run_id="run-b", parts="")
    ran = axon("checkpoints", notebook_id[:9])
    assert (ran.exit_code, ran.stderr) == (0, "")
    head, _, newest, oldest = ran.stdout.splitlines()
    assert head.split() == [
        "epoch",
        "step",
        "metrics",
        "run",
        "tags",
        "pinned",
        "size",
        "created",
        "id",
    ]
    assert newest.split()[:5] == ["1", "10", "loss=0.25", "run", "2"]
    assert oldest.startswith("    0      0   loss=0.5    run 1   t, u   pinned   18 bytes")
    assert oldest.endswith(first.id)
    listed = axon("checkpoints", notebook_id, "--json").json
    assert listed == [one.to_json() for one in repository.list_checkpoints(notebook_id)]
    assert epochs(axon("checkpoints", notebook_id, "--run", "run-a", "--json").json) == [0]
    limited = axon("checkpoints", notebook_id, "--limit", "1", "--json")
    assert (epochs(limited.json), limited.stderr) == ([1], "1 of 2; --limit shows more.\n")
    assert axon("checkpoints", notebook_id, "--run", "run").exit_code == 3


def test_checkpoints_name_their_runs_and_fit_the_terminal(
    axon: Axon,
    repository: NotebookRepository,
    make: Make,
    notebook_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (None, "wide"):
        run = repository.runs.start(notebook_id, name=name)
        make(notebook_id, 0, {"loss": 0.5, "val_acc": 0.25}, run_id=run.id)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "70")
    for command in (("checkpoints", notebook_id), ("best", "val_acc", "-n", "2")):
        output = click.unstyle(axon(*command).stdout)
        assert max(map(len, output.splitlines())) <= 70
        assert "run 1 " in output
        assert "wide (run 2)" in output
        assert "val_acc=0.25" in output
        assert "size" not in output


@pytest.fixture
def folds(repository: NotebookRepository, make: Make, notebook_id: str) -> dict[int, str]:
    """Runs with keys, one of them twice, by the epoch of their only checkpoint."""
    runs = {}
    for epoch, key in enumerate(["fold 1", "fold 2", "fold 1", None]):
        run = repository.runs.start(notebook_id, key=key)
        make(
            notebook_id, epoch, {"loss": epoch, **({"own": 1} if epoch == 1 else {})}, run_id=run.id
        )
        runs[epoch] = run.id
    return runs


def test_a_run_is_named_by_its_key_its_id_or_the_beginning(
    axon: Axon, notebook_id: str, folds: dict[int, str]
) -> None:
    names = {"fold 2": 1, "fold 1": 2, folds[0]: 0, folds[0][:13]: 0, folds[3]: 3}
    for name, epoch in names.items():
        assert epochs(axon("checkpoints", notebook_id, "--run", name, "--json").json) == [epoch]
        assert epochs(axon("best", notebook_id, "loss", "--run", name, "--json").json) == [epoch]
        for which in (["--best", "loss"], ["--latest"]):
            assert axon("restore", notebook_id, *which, "--run", name, "--force").exit_code == 0
            assert Path("model.safetensors").read_text() == f"model {epoch}"
    assert epochs(axon("best", notebook_id, "loss", "--json").json) == [0]
    missing = axon("best", notebook_id, "own", "--max", "--run", "fold 1")
    assert (missing.exit_code, missing.stderr) == (
        3,
        f"Error: no checkpoint of the run {folds[2]} has a finite number 'own'; there are loss\n",
    )
    missing = axon("restore", notebook_id, "--best", "own", "--max", "--run", "fold 1")
    assert (missing.exit_code, folds[2] in missing.stderr) == (3, True)
    assert axon("restore", notebook_id, "--run", "fold 1").exit_code == 2


def test_the_best_is_found_by_what_the_metrics_name_says(
    axon: Axon, notebook_id: str, series: list[NotebookCheckpoint]
) -> None:
    def best(*arguments: str) -> list[int]:
        return epochs(axon("best", notebook_id, "--json", *arguments).json)

    assert best("val.loss") == [2]
    assert best("acc") == [4]
    assert best("acc", "--min") == [0]
    assert best("odd", "--max", "-n", "2") == [4, 3]
    shown = axon("best", notebook_id, "val.loss").stdout.splitlines()
    assert shown[2].split()[:3] == ["2", "20", "val.loss=0"]


def test_the_best_is_found_over_all_notebooks_of_the_user(
    axon: Axon, repository: NotebookRepository, make: Make, series: list[NotebookCheckpoint]
) -> None:
    other = repository.create(new_notebook(name="other")).id
    make(other, 7, {"acc": 2.0})
    make(repository.create(new_notebook(user_id="eve")).id, 8, {"acc": 3.0})
    assert epochs(axon("best", "acc", "-n", "2", "--json").json) == [7, 4]
    heading, _, line = axon("best", "acc").stdout.splitlines()
    assert (heading.split()[0], line.split()[0]) == ("notebook", "other")
    assert axon("best", "accu").exit_code == 3
    assert axon("best", "a", "b", "acc").exit_code == 2
    assert axon("best", "acc", "--run", "1").exit_code == 2


def test_a_metric_that_does_not_say_which_way_is_asked_about(
    axon: Axon, notebook_id: str, series: list[NotebookCheckpoint]
) -> None:
    ran = axon("best", notebook_id, "odd")
    assert ran.exit_code == 2
    assert "larger values of 'odd' are better: add --min or --max" in ran.stderr
    ran = axon("best", notebook_id, "perplexity")
    listed = "there are acc, loss, odd, val.loss"
    assert (ran.exit_code, ran.stderr) == (
        3,
        f"Error: no checkpoint has a finite number 'perplexity'; {listed}\n",
    )
    ran = axon("best", notebook_id, "val_los")  # whose direction nobody knows
    assert (ran.exit_code, ran.stdout) == (3, "")
    assert "'val_los'; did you mean val.loss" in ran.stderr
    assert axon("best", notebook_id, "val.loss").stderr == "val.loss: lower is better.\n"
    assert axon("best", notebook_id, "val.loss", "--min").stderr == ""


# pin, unpin


def test_checkpoints_are_pinned_and_unpinned(
    axon: Axon, repository: NotebookRepository, series: list[NotebookCheckpoint]
) -> None:
    ids = [one.id for one in series]
    assert axon("pin", ids[0][:13], ids[1]).exit_code == 0
    assert axon("unpin", ids[1]).exit_code == 0
    assert axon("pin", ids[2], "none").exit_code == 3
    pinned = {one.id for one in repository.list_checkpoints(series[0].notebook_id) if one.pinned}
    assert pinned == {ids[0]}


# restore


def test_states_are_copied_out_and_not_over_others(
    axon: Axon, series: list[NotebookCheckpoint], tmp_path: Path
) -> None:
    there = tmp_path / "new" / "folder"
    ran = axon("restore", series[3].id[:13], "-o", there)
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout.split() == [
        str(there / f"{part}.safetensors") for part in ("model", "optimizer")
    ]
    assert (there / "model.safetensors").read_text() == "model 3"
    (there / "model.safetensors").unlink()
    again = axon("restore", series[2].id, "-o", there)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "optimizer.safetensors exists already; --force replaces it" in again.stderr
    assert not (there / "model.safetensors").exists()
    assert axon("restore", series[2].id, "-o", there, "--force").exit_code == 0
    assert (there / "optimizer.safetensors").read_text() == "optimizer 2"


def test_the_best_and_the_latest_are_those_that_have_states(
    axon: Axon, make: Make, notebook_id: str, series: list[NotebookCheckpoint]
) -> None:
    make(notebook_id, 8, {"val": {"loss": -1}}, parts="")
    for options, expected in (
        (["--best", "val.loss"], "model 2"),
        (["--best", "odd", "--max"], "model 4"),
        (["--latest"], "model 4"),
    ):
        assert axon("restore", notebook_id, *options, "--force").exit_code == 0
        assert Path("model.safetensors").read_text() == expected
    assert axon("restore", notebook_id, "--best", "odd").exit_code == 2
    assert axon("restore", notebook_id, "--best", "acc", "--latest").exit_code == 2
    assert axon("restore", notebook_id, "--best", "auc").exit_code == 3


def test_what_is_not_what_was_stored_is_not_restored(
    axon: Axon, series: list[NotebookCheckpoint], make: Make, notebook_id: str
) -> None:
    Path(series[0].model_state_path).write_text("model 9")
    ran = axon("restore", series[0].id, "-o", "out")
    assert ran.exit_code == 1
    assert "is damaged: its SHA-256 differs from the recorded one" in ran.stderr
    assert list(Path("out").iterdir()) == []
    Path(series[1].model_state_path).unlink()
    assert axon("restore", series[1].id, "-o", "gone").exit_code == 3
    empty = axon("restore", make(notebook_id, 9, {}, parts="").id)
    assert (empty.exit_code, "were never stored" in empty.stderr) == (3, True)


# prune


def test_pruning_is_shown_first_and_done_when_told(
    axon: Axon,
    repository: NotebookRepository,
    notebook_id: str,
    series: list[NotebookCheckpoint],
    root: Path,
) -> None:
    command = ["prune", notebook_id, "--keep-best", "val.loss"]
    shown = axon(*command)
    assert shown.exit_code == 0
    rows = [line.split() for line in shown.stdout.splitlines()[2:]]
    assert [row[1] for row in rows] == ["3", "1", "0"]
    assert shown.stderr == (
        "val.loss: lower is better.\n"
        "Would remove the state files of 3 checkpoints, 54 bytes. "
        "Checkpoints that would keep their state files: 2. Add --yes to remove the files.\n"
    )
    planned = axon(*command, "--json").json
    assert (planned["pruned"], planned["bytes"], epochs(planned["checkpoints"])) == (
        False,
        54,
        [3, 1, 0],
    )
    assert len(list(root.rglob("*.safetensors"))) == 10
    done = axon(*command, "--yes", "--json").json
    assert done == {**planned, "pruned": True}
    assert not any(Path(file).exists() for one in done["checkpoints"] for file in one["files"])
    assert len(list(root.rglob("*.safetensors"))) == 4
    assert "pruned" in axon("checkpoints", notebook_id).stdout
    again = axon(*command, "--yes").stderr
    assert (
        again
        == "val.loss: lower is better.\nNothing to remove: 2 checkpoints keep their state files.\n"
    )
    ran = axon("restore", series[0].id)
    assert (ran.exit_code, "they were pruned" in ran.stderr) == (3, True)


@pytest.mark.parametrize(
    ("rules", "going"),
    [
        (["--keep-newest", "2"], [2, 1, 0]),
        (["--keep-every", "20"], [3, 1]),
        (["--keep-tagged"], [3, 2, 0]),
        (["--keep-best", "val.loss:2"], [3, 0]),
        (["--keep-best", "odd:min"], [3, 2, 1]),
        (["--keep-best", "odd:min:2", "--keep-best", "acc"], [3, 2]),
    ],
)
def test_what_is_kept(
    axon: Axon,
    repository: NotebookRepository,
    notebook_id: str,
    series: list[NotebookCheckpoint],
    rules: list[str],
    going: list[int],
) -> None:
    repository.checkpoints.update(series[1].id, UpdateCheckpoint(tags=["t"]))
    assert epochs(axon("prune", notebook_id, "--json", *rules).json["checkpoints"]) == going


def test_all_are_ones_own(axon: Axon, repository: NotebookRepository, make: Make) -> None:
    owners = {
        repository.create(new_notebook(user_id=user, name="n")).id: user
        for user in (USER, "bob", USER)
    }
    for id in owners:
        make(id, 0, {}), make(id, 1, {})
    done = axon("prune", "--all", "--keep-newest", "1", "--yes", "--json").json
    assert len(done["checkpoints"]) == 2
    assert {owners[one["notebook_id"]] for one in done["checkpoints"]} == {USER}


# PostgreSQL


def test_checkpoints_are_sorted_by_a_metric(
    axon: Axon, make: Make, notebook_id: str, series: list[NotebookCheckpoint]
) -> None:
    make(notebook_id, 9, {"val": {"loss": 1.5}}, run_id="r")
    make(notebook_id, 10, {"val": {"loss": 0.5}}, run_id="r")

    def sort(*options: str) -> list[int]:
        return epochs(axon("checkpoints", notebook_id, "--json", "--sort", *options).json)

    assert sort("val.loss") == [2, 10, 1, 3, 9, 0, 4]
    assert sort("acc", "--limit", "2") == [4, 3]
    assert sort("odd", "--min") == [0, 1, 2, 3, 4]
    assert sort("val.loss", "--run", "r") == [10, 9]
    assert axon("checkpoints", notebook_id, "--sort", "odd").exit_code == 2
    assert (
        "no checkpoint has a finite number 'auc'; "
        in axon("checkpoints", notebook_id, "--sort", "auc").stderr
    )
    misspelt = axon("checkpoints", notebook_id, "--sort", "val.los")
    assert misspelt.stderr.startswith(
        "no checkpoint has a finite number 'val.los'; did you mean val.loss"
    )
    assert axon("checkpoints", notebook_id, "--sort", "acc").stderr == "acc: higher is better.\n"
    assert axon("checkpoints", notebook_id, "--sort", "acc", "--max").stderr == ""


def test_pruning_tells_what_it_takes_for_the_best(
    axon: Axon,
    repository: NotebookRepository,
    make: Make,
    notebook_id: str,
    series: list[NotebookCheckpoint],
) -> None:
    shown = axon("prune", notebook_id, "--keep-best", "acc")
    assert shown.stderr.startswith("acc: higher is better.\n")
    for metric in ("ac", "val_los", "neg_acc"):
        ran = axon("prune", notebook_id, "--keep-best", metric, "--yes")
        assert (ran.exit_code, ran.stdout) == (3, "")
        assert f"no checkpoint has a finite number '{metric}'; did you mean" in ran.stderr
    make(notebook_id, 9, {"neg_recall": 0.5})
    asked = axon("prune", notebook_id, "--keep-best", "neg_recall", "--yes")
    assert asked.exit_code == 2
    assert "or `neg_recall:max`" in asked.stderr
    assert all(one.model_state_path for one in repository.list_checkpoints(notebook_id))
    other = repository.create(new_notebook(name="empty")).id
    assert axon("prune", other, "--keep-best", "loss").exit_code == 0
    assert axon("prune", other, notebook_id, "--keep-best", "loss").exit_code == 0
