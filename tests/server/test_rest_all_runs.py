"""Runs of all notebooks over REST: search, comparison, changes and series."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.factories import new_checkpoint, new_notebook
from support.rest_client import Client

from jupyter_axon_notebooks.records import RunStatus, TrainingRun
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.spool import Row
from jupyter_axon_notebooks.store import open_store


@pytest.fixture
def repository(jp_serverapp: Any) -> Iterator[NotebookRepository]:
    """The records, as a training process has them."""
    url = jp_serverapp.web_app.settings["axon_services"].config.store_url
    with closing(open_store(url)) as store:
        yield NotebookRepository(store)


@pytest.fixture
def runs(axon: Client, repository: NotebookRepository) -> list[TrainingRun]:
    """A run in each of two notebooks of the user, and one of another user."""
    found = []
    for number, user_id in enumerate(("ada", "ada", "bob")):
        notebook = repository.create(new_notebook(name=f"n{number}", user_id=user_id))
        run = repository.runs.start(notebook.id, config={"lr": 10.0**-number, "seed": 1})
        rows = [Row(step, float(step), {"val/acc": step / 10 + number}) for step in range(5)]
        repository.series.append(notebook.id, run.id, rows, spool=run.id, begin=0, end=5)
        repository.runs.update_status(notebook.id, run.id, RunStatus.COMPLETED)
        found.append(run)
    return found


async def search(axon: Client, query: str = "") -> list[str]:
    return [found["notebook"] for found in (await axon.get(f"/runs?{query}")).json]


async def test_a_user_finds_the_runs_of_all_own_notebooks(
    axon: Client, runs: list[TrainingRun]
) -> None:
    assert await search(axon) == ["n1", "n0"]
    where = quote('config.lr < 0.5 and metrics["val/acc"].max > 1 and status == "completed"')
    assert await search(axon, f"where={where}") == ["n1"]
    assert await search(axon, "sort=val/acc&limit=1") == ["n0"]
    reply = await axon.get("/runs?limit=1&offset=1&sort=-val/acc.max")
    assert reply.headers["X-Total-Count"] == "2"
    [found] = reply.json
    assert found["run"]["metrics"]["val/acc"] == {
        "last": 0.4, "last_step": 4, "min": 0.0, "min_step": 0, "max": 0.4, "max_step": 4
    }  # fmt: skip
    assert (await axon.get("/runs/columns")).json == {
        "config": ["lr", "seed"],
        "metrics": ["val/acc"],
    }


async def test_the_path_of_a_notebook_is_that_of_its_contents(
    axon: Client,
    repository: NotebookRepository,
    runs: list[TrainingRun],
    jp_root_dir: Path,
    jp_serverapp: Any,
) -> None:
    notebook = repository.create(
        new_notebook(name="filed", path=str(jp_root_dir / "a.ipynb"), origin="elsewhere")
    )
    repository.runs.start(notebook.id)
    [found] = (await axon.get("/runs?limit=1")).json
    assert found["notebook"] == "filed"
    assert not {"path", "origin"} & set(found)
    origin = jp_serverapp.web_app.settings["axon_services"].sync.origin
    here = repository.create(new_notebook(path=str(jp_root_dir / "a.ipynb"), origin=origin))
    repository.runs.start(here.id)
    [found] = (await axon.get("/runs?limit=1")).json
    assert found["path"] == "a.ipynb"


async def test_an_invalid_filter_is_refused_with_its_position(
    axon: Client, runs: list[TrainingRun]
) -> None:
    reply = await axon.get(f"/runs?where={quote('number == 1 and config.lrr < 1')}")
    assert reply.status == 400
    assert reply.json["position"] == 16
    assert "config.lr" in reply.json["suggestions"]
    for where in ("__import__('os')", "status.x == 1", "a" * 5000):
        assert (await axon.get(f"/runs?where={quote(where)}")).status == 400


async def test_a_run_is_read_changed_and_deleted(axon: Client, runs: list[TrainingRun]) -> None:
    path = f"/runs/{runs[0].id}"
    assert (await axon.get(path)).json["number"] == 1
    changed = await axon.put(path, {"name": "wide", "tags": ["a"], "notes": "good"})
    assert (changed.status, changed.json["name"]) == (200, "wide")
    assert await search(axon, f"where={quote('name == `wide`'.replace('`', chr(34)))}") == ["n0"]
    assert (await axon.put(path, {"name": "x" * 256})).status == 400
    assert (await axon.put(path, {"keep": "last:2"})).json["keep"] == "last:2"
    refused = await axon.put(path, {"keep": "last:2, newest:1"})
    assert refused.status == 400
    assert "at position 9, 'newest:1'" in refused.message
    for text in (runs[0].id[:13], "wide"):
        assert (await axon.get(f"/runs/{text}")).status == 200
        assert (await axon.put(f"/runs/{text}", {"name": "x"})).status == 404
        assert (await axon.delete(f"/runs/{text}")).status == 404
    assert (await axon.delete(path)).status == 204
    assert (await axon.get(path)).status == 404
    assert await search(axon) == ["n1"]


async def test_runs_of_other_users_do_not_exist(axon: Client, runs: list[TrainingRun]) -> None:
    path = f"/runs/{runs[2].id}"
    for reply in (
        await axon.get(path),
        await axon.get(f"{path}/series"),
        await axon.put(path, {"name": "x"}),
        await axon.delete(path),
        await axon.get(f"/runs/compare?ids={runs[0].id},{runs[2].id}"),
    ):
        assert reply.status == 404


async def test_pinned_checkpoints_protect_a_run(
    axon: Client, repository: NotebookRepository, runs: list[TrainingRun]
) -> None:
    run = runs[0]
    repository.create_checkpoint(
        new_checkpoint(run.notebook_id, run_id=run.id, epoch=0, step=0, pinned=True)
    )
    assert (await axon.delete(f"/runs/{run.id}")).status == 409
    assert (await axon.delete(f"/runs/{run.id}?with_pinned=true")).status == 204


async def test_an_active_run_is_not_deleted(
    axon: Client, repository: NotebookRepository, runs: list[TrainingRun]
) -> None:
    run = runs[0]
    repository.runs.update_status(run.notebook_id, run.id, RunStatus.RUNNING)
    assert (await axon.delete(f"/runs/{run.id}")).status == 409
    assert (await axon.get(f"/runs/{run.id}")).status == 200


async def test_series_are_sampled_columns(axon: Client, runs: list[TrainingRun]) -> None:
    reply = await axon.get(f"/runs/{runs[0].id}/series?key=val/acc&key=unknown")
    assert reply.json["series"]["val/acc"]["step"] == [0, 1, 2, 3, 4]
    assert reply.json["series"]["unknown"] == {"step": [], "value": [], "time": []}
    reply = await axon.get(f"/runs/{runs[0].id}/series?points=2")
    assert reply.json["series"]["val/acc"]["value"] == [0.0, 0.4]


async def test_runs_are_compared(axon: Client, runs: list[TrainingRun]) -> None:
    reply = await axon.get(f"/runs/compare?ids={runs[0].id},{runs[1].id}")
    assert reply.json["config"] == [{"name": "lr", "values": [1.0, 0.1]}]
    assert [one["number"] for one in reply.json["runs"]] == [1, 1]
    assert [one["max"] for one in reply.json["metrics"][0]["values"]] == [0.4, 1.4]
    assert reply.json["changes"] == [None]
    assert (await axon.get(f"/runs/compare?ids={runs[0].id}")).status == 400


async def test_runs_that_have_little_in_common_are_compared(
    axon: Client, repository: NotebookRepository, runs: list[TrainingRun]
) -> None:
    first, second = runs[:2]
    third = repository.runs.start(second.notebook_id)
    repository.series.append(
        third.notebook_id, third.id, [Row(0, 0.0, {"acc": 0.5})], spool="s", begin=0, end=1
    )
    for run in (first, third):
        repository.create_checkpoint(
            new_checkpoint(run.notebook_id, run_id=run.id, epoch=0, step=0)
        )
    reply = await axon.get(f"/runs/compare?ids={first.id},{second.id},{third.id}")
    assert reply.status == 200
    metrics = {one["name"]: one["values"] for one in reply.json["metrics"]}
    assert metrics["val/acc"][2] is None
    assert metrics["acc"][:2] == [None, None]
    assert metrics["acc"][2]["last"] == 0.5
    assert [change is None for change in reply.json["changes"]] == [True, False]


async def test_a_name_of_several_runs_is_a_conflict(axon: Client, runs: list[TrainingRun]) -> None:
    assert (await axon.get(f"/runs/{quote('run 1')}")).status == 409
    path = f"/runs/{quote('run 1')}?notebook_id={runs[1].notebook_id}"
    assert (await axon.get(path)).json["id"] == runs[1].id
