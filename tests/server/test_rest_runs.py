"""Tests of the routes of runs and metrics, and of conditional requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest
from support.factories import new_checkpoint, new_notebook
from support.rest_client import Client

from jupyter_axon_notebooks.records import RunProcess, RunStatus, now
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.checkpoints import CheckpointRepository
from jupyter_axon_notebooks.repository.runs import RunRepository
from jupyter_axon_notebooks.repository.series import SeriesRepository
from jupyter_axon_notebooks.store import open_store

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def repository(jp_serverapp: Any) -> Iterator[NotebookRepository]:
    """The records, as another process has them."""
    url = jp_serverapp.web_app.settings["axon_services"].config.store_url
    with closing(open_store(url)) as store:
        yield NotebookRepository(store)


async def notebook_path(axon: Client) -> str:
    return f"/notebooks/{(await axon.created('/notebooks', {'name': 'n'}))['id']}"


async def take(axon: Client, path: str, epoch: int, metrics: Any, **given: Any) -> dict[str, Any]:
    body = {"epoch": epoch, "step": 10 * epoch, "metrics": metrics, **given}
    made: dict[str, Any] = await axon.created(f"{path}/checkpoints", body)
    return made


async def series(axon: Client, path: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await axon.get(f"{path}/metrics{query}")).json["runs"]
    return found


async def test_runs_are_listed_with_pages_and_filters(
    axon: Client, repository: NotebookRepository
) -> None:
    path = await notebook_path(axon)
    id = path.rpartition("/")[2]
    process = RunProcess(host="gpu1", pid=7, started_at=LONG_AGO)
    made = [
        repository.runs.start(id, process=process),
        repository.runs.start(id, lease_until=LONG_AGO),
    ]
    made.append(repository.runs.start(id))
    repository.runs.update_status(id, made[2].id, RunStatus.FAILED)
    everything = await axon.get(f"{path}/runs")
    assert [run["id"] for run in everything.json] == [run.id for run in made[::-1]]
    assert [run["status"] for run in everything.json] == ["failed", "stopped", "running"]
    assert everything.json[2]["process"] == process.to_json()
    page = await axon.get(f"{path}/runs?limit=1&offset=1")
    assert ([run["id"] for run in page.json], page.headers["X-Total-Count"]) == ([made[1].id], "3")
    stopped = await axon.get(f"{path}/runs?status=stopped")
    assert ([run["id"] for run in stopped.json], stopped.headers["X-Total-Count"]) == (
        [made[1].id],
        "1",
    )
    assert (await axon.get(f"{path}/runs?status=lost")).status == 400


@pytest.mark.parametrize("run_id", ["a/b", "tab\t", "Läufe 🏃", "../..", "%2F&x=y"])
async def test_a_run_may_have_any_id_that_is_not_blank(axon: Client, run_id: str) -> None:
    path = await notebook_path(axon)
    made = await take(axon, path, 0, {"loss": 1}, run_id=run_id)
    assert made["run_id"] == run_id
    assert [run["id"] for run in (await axon.get(f"{path}/runs")).json] == [run_id]
    assert [one["run_id"] for one in await series(axon, path)] == [run_id]
    asked = f"?run_id={quote(run_id, safe='')}"
    assert [one["run_id"] for one in await series(axon, path, asked)] == [run_id]
    assert (await axon.get(f"{path}/checkpoints{asked}")).headers["X-Total-Count"] == "1"
    again = await axon.post(
        f"{path}/checkpoints", {"epoch": 0, "step": 0, "metrics": {"loss": 1}, "run_id": run_id}
    )
    assert again.status == 409


@pytest.mark.parametrize("run_id", [" \t", "NUL \0", "\ud800", "x" * 1_000_000])
async def test_an_invalid_run_id_is_refused(
    axon: Client, stored: Callable[[], list[str]], run_id: str
) -> None:
    path = await notebook_path(axon)
    before = stored()
    body = {"epoch": 0, "step": 0, "metrics": {}, "run_id": run_id, "model_state_base64": "AAAA"}
    refused = await axon.post(f"{path}/checkpoints", body)
    assert refused.status == 400
    assert "run_id" in refused.message
    assert len(refused.body) < 1_000
    assert (
        (await axon.get(f"{path}/runs")).json == (await axon.get(f"{path}/checkpoints")).json == []
    )
    assert stored() == before


async def test_metrics_are_columns_by_run(axon: Client, repository: NotebookRepository) -> None:
    path = await notebook_path(axon)
    id = path.rpartition("/")[2]
    parent = await take(axon, path, 0, {"loss": 1.5, "val": {"loss": 2}}, run_id="a")
    repository.runs.start(id, id="b", parent_checkpoint_id=parent["id"])
    made = [
        await take(axon, path, 1, {"loss": "NaN", "s": "NaN"}, run_id="b", nonfinite=["loss"]),
        await take(
            axon, path, 2, {"acc": 1, "flag": True, "list": [1], "big": 10**400}, run_id="b"
        ),
        await take(axon, path, 3, {"val": {"loss": 0.5}, "val.loss": 9}, run_id="b"),
    ]
    alone = await take(axon, path, 0, None)
    repository.runs.update_status(id, "a", RunStatus.COMPLETED)
    assert await series(axon, path) == [
        {
            "run_id": "a",
            "status": "completed",
            "checkpoint_id": [parent["id"]],
            "epoch": [0],
            "step": [0],
            "created_at": [parent["created_at"]],
            "metrics": {"loss": [1.5], "val.loss": [2]},
        },
        {
            "run_id": "b",
            "parent_checkpoint_id": parent["id"],
            "status": "running",
            "checkpoint_id": [one["id"] for one in made],
            "epoch": [1, 2, 3],
            "step": [10, 20, 30],
            "created_at": [one["created_at"] for one in made],
            "metrics": {
                "loss": ["NaN", None, None],
                "acc": [None, 1, None],
                "val.loss": [None, None, 9],
            },
        },
        {
            "checkpoint_id": [alone["id"]],
            "epoch": [0],
            "step": [0],
            "created_at": [alone["created_at"]],
            "metrics": {},
        },
    ]


async def test_metrics_are_filtered_by_name_run_and_time(axon: Client) -> None:
    path = await notebook_path(axon)
    made = [
        await take(axon, path, n, {"loss": n, "val": {"acc": n}}, run_id=f"run{n % 2}")
        for n in range(4)
    ]
    by_key = await series(axon, path, "?key=val.acc&key=none&key=val.acc")
    assert [one["metrics"] for one in by_key] == [
        {"val.acc": [0, 2], "none": [None, None]},
        {"val.acc": [1, 3], "none": [None, None]},
    ]
    by_run = await series(axon, path, "?run_id=run1&key=loss")
    assert [(one["run_id"], one["metrics"]) for one in by_run] == [("run1", {"loss": [1, 3]})]
    newer = await series(axon, path, f"?since={made[2]['created_at']}")
    assert [one["checkpoint_id"] for one in newer] == [[made[3]["id"]]]
    assert await series(axon, path, f"?since={made[3]['created_at']}") == []
    assert await series(axon, path, "?run_id=none") == []
    assert (await axon.get(f"{path}/metrics?since=yesterday")).status == 400


@pytest.mark.parametrize("what", ["runs", "metrics", "checkpoints", "checkpoints?limit=1&offset=9"])
async def test_an_unchanged_response_is_304(what: str, axon: Client) -> None:
    path = await notebook_path(axon)
    await take(axon, path, 0, {"loss": 1}, run_id="a")
    first = await axon.get(f"{path}/{what}")
    assert first.headers["Cache-Control"] == "private, no-cache"
    tag = {"If-None-Match": first.headers["ETag"]}
    again = await axon.get(f"{path}/{what}", headers=tag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    await take(axon, path, 1, {"loss": 1}, run_id="b")
    changed = await axon.get(f"{path}/{what}", headers=tag)
    assert changed.status == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


POLLED = ("metrics", "checkpoints", "runs")


async def tagged(axon: Client, path: str) -> dict[str, str]:
    """The tags of what a panel polls; each holds, as long as nothing has changed."""
    tags = {name: (await axon.get(f"{path}/{name}")).headers["ETag"] for name in POLLED}
    for name, tag in tags.items():
        assert (await axon.get(f"{path}/{name}", headers={"If-None-Match": tag})).status == 304
    return tags


async def test_other_query_arguments_do_not_change_the_tag(
    axon: Client, repository: NotebookRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await notebook_path(axon)
    await take(axon, path, 1, {"loss": 1}, run_id="a")
    tags = await tagged(axon, path)
    for subject in (SeriesRepository, CheckpointRepository, RunRepository):
        monkeypatch.setattr(subject, "list", None)  # nothing is read once more
    for number, (name, tag) in enumerate(tags.items()):
        # As JupyterLab asks, with `cache: "no-store"`: each URL is another one.
        url = f"{path}/{name}?no_track_activity=1&{1764396800000 + number}"
        assert (await axon.get(url, headers={"If-None-Match": tag})).status == 304
    monkeypatch.undo()
    for name, narrowed in (
        ("metrics", "run_id=b"),
        ("checkpoints", "run_id=b"),
        ("runs", "status=failed"),
    ):
        answer = await axon.get(f"{path}/{name}?{narrowed}", headers={"If-None-Match": tags[name]})
        assert (answer.status, "run_id" in answer.body.decode()) == (200, False)


async def test_every_change_changes_the_tag(axon: Client, repository: NotebookRepository) -> None:
    path = await notebook_path(axon)
    id = path.rpartition("/")[2]
    made = [await take(axon, path, n, {"loss": n}, run_id="a") for n in range(3)]

    async def changes(*names: str) -> None:
        nonlocal tags
        before, tags = tags, await tagged(axon, path)
        assert {name for name in POLLED if tags[name] != before[name]} == set(names)

    tags = await tagged(axon, path)
    await take(axon, path, 3, {"loss": 3}, run_id="a")
    await changes("metrics", "checkpoints", "runs")
    repository.delete_checkpoint(made[1]["id"])
    await changes("metrics", "checkpoints")
    newest = repository.checkpoints.get_latest(id)
    assert newest is not None
    repository.delete_checkpoint(newest.id)
    again = new_checkpoint(id, {"loss": 7}, epoch=3, step=30, run_id="a", id=newest.id)
    repository.create_checkpoint(again, made_at=newest.created_at)
    await changes("metrics", "checkpoints", "runs")
    await axon.put(f"{path}/checkpoints/{made[0]['id']}", {"pinned": True, "tags": ["t"]})
    await changes("checkpoints")
    repository.runs.update_status(id, "a", RunStatus.FAILED)
    await changes("metrics", "runs")
    repository.create(new_notebook(id="another"))
    await changes()


async def test_an_expired_lease_changes_the_tag(
    axon: Client, repository: NotebookRepository
) -> None:
    path = await notebook_path(axon)
    await take(axon, path, 1, {"loss": 1}, run_id="a")
    ends = now() + timedelta(seconds=2)
    repository.runs.renew(path.rpartition("/")[2], "a", ends)
    tag = (await axon.get(f"{path}/metrics")).headers["ETag"]
    lapsed = (await axon.get(f"{path}/metrics", headers={"If-None-Match": tag})).status == 200
    while not lapsed:
        assert now() < ends + timedelta(seconds=20)
        lapsed = (await axon.get(f"{path}/metrics", headers={"If-None-Match": tag})).status == 200
    assert [run["status"] for run in await series(axon, path)] == ["stopped"]
