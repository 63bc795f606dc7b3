"""The table of runs, the series of several, and archived runs, over REST."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from support.factories import code, new_checkpoint, new_notebook, new_save
from support.many_runs import fill_store
from support.rest_client import Client, Reply

from jupyter_axon_notebooks.provenance import Environment, ExecutedCell
from jupyter_axon_notebooks.records import RunStatus, TrainingRun, now
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
        config = {"lr": 10.0**-number, "model": {"width": 64}}
        run = repository.runs.start(notebook.id, config=config, tags=["first"], notes="good")
        rows = [Row(step, float(step), {"acc": step / 10 + number}) for step in range(5)]
        repository.series.append(notebook.id, run.id, rows, spool=run.id, begin=0, end=5)
        repository.runs.update_status(notebook.id, run.id, RunStatus.COMPLETED)
        found.append(run)
    return found


async def ask(axon: Client, where: str = "", query: str = "") -> list[str]:
    """Return the ids of the runs in the table."""
    reply = await axon.get(f"/runs/table?where={quote(where)}&{query}")
    assert reply.status == 200, reply.message
    return [run["id"] for run in reply.json["runs"]]


async def test_the_table_has_a_short_form_of_each_run(
    axon: Client, repository: NotebookRepository, runs: list[TrainingRun]
) -> None:
    first, second, _ = runs
    for epoch, pinned in enumerate((True, False)):
        repository.create_checkpoint(
            new_checkpoint(
                first.notebook_id,
                {"pinned": True},
                run_id=first.id,
                epoch=epoch,
                pinned=pinned,
                model_state_path="/states/m",
                sizes={"model": 10},
            )
        )
    reply = await axon.get("/runs/table?sort=started_at")
    assert reply.headers["X-Total-Count"] == "2"
    assert [run["id"] for run in reply.json["runs"]] == [first.id, second.id]
    assert reply.json["notebooks"] == {
        first.notebook_id: {"name": "n0"},
        second.notebook_id: {"name": "n1"},
    }
    found = reply.json["runs"][0]
    whole = (await axon.get(f"/runs/{first.id}")).json
    assert found == {
        **{
            name: whole[name] for name in ("id", "notebook_id", "number", "status", "tags", "notes")
        },
        **{name: whole[name] for name in ("started_at", "ended_at", "metrics", "step_count")},
        "name": "run 1",
        "archived": False,
        "config": {"lr": 1.0, "model.width": 64},
        "checkpoint_count": 2,
        "pinned_count": 1,
        "size": 20,
    }


async def test_the_table_is_filtered_sorted_and_paged(
    axon: Client, runs: list[TrainingRun]
) -> None:
    first, second, others = (run.id for run in runs)
    assert await ask(axon) == [second, first]
    assert await ask(axon, "config.lr < 0.5") == [second]
    assert await ask(axon, query="sort=acc.max&limit=1") == [first]
    reply = await axon.get("/runs/table?sort=acc.max&limit=1&offset=1&only_ids=true")
    assert reply.json == {"ids": [second], "notebook_ids": [runs[1].notebook_id]}
    assert reply.headers["X-Total-Count"] == "2"
    assert await ask(axon, query=f"ids={first},{others},unknown") == [first]
    assert await ask(axon, "config.lr < 0.5", f"ids={first}") == []
    assert await ask(axon, query=f"notebook_id={runs[0].notebook_id}") == [first]
    assert await ask(axon, query="ids=") == []
    refused = await axon.get(f"/runs/table?where={quote('number == 1 and config.lrr < 1')}")
    assert (refused.status, refused.json["position"]) == (400, 16)
    assert "config.lr" in refused.json["suggestions"]
    assert (
        await axon.get(f"/runs/table?ids={'x,' * 10}{','.join(map(str, range(1001)))}")
    ).status == 400


async def test_archived_runs_are_left_out_unless_a_filter_names_them(
    axon: Client, runs: list[TrainingRun]
) -> None:
    first, second, _ = (run.id for run in runs)
    archived = await axon.put(f"/runs/{first}", {"archived": True})
    assert archived.json["archived"] is True
    assert await ask(axon) == [second]
    assert (await axon.get("/runs/table?only_ids=true")).json["ids"] == [second]
    assert [found["run"]["id"] for found in (await axon.get("/runs")).json] == [second]
    assert await ask(axon, "archived == True") == [first]
    assert await ask(axon, "archived != True") == [second]
    assert await ask(axon, "archived in (True, False)") == [second, first]
    assert await ask(axon, "number == 1 or archived == True") == [second, first]
    assert await ask(axon, query=f"ids={first}") == [first]
    assert (await axon.get(f"/runs/{first}")).status == 200
    back = await axon.put(f"/runs/{first}", {"archived": False})
    assert "archived" not in back.json
    assert await ask(axon) == [second, first]
    refused = await axon.get(f"/runs/table?where={quote('archived')}")
    assert refused.json["suggestions"] == ["archived == True", "archived == False"]
    assert (await axon.get(f"/runs/table?where={quote('archived == 1')}")).status == 400


async def poll(axon: Client, path: str, tag: str) -> Reply:
    return await axon.get(path, headers={"If-None-Match": tag})


@pytest.mark.parametrize("path", ["/runs/table", "/runs/table?only_ids=1", "/runs/series?ids="])
async def test_nothing_is_sent_again_while_nothing_changes(
    axon: Client, repository: NotebookRepository, runs: list[TrainingRun], path: str
) -> None:
    if path.endswith("="):
        path += ",".join(run.id for run in runs)
    reply = await axon.get(path)
    tag = reply.headers["ETag"]
    for _ in range(2):
        again = await poll(axon, f"{path}{'&' if '?' in path else '?'}no_track_activity=1", tag)
        assert (again.status, again.body) == (304, b"")
    assert again.headers["X-Axon-Revision"] == reply.headers["X-Axon-Revision"]
    run = repository.runs.start(runs[0].notebook_id, lease_until=now())
    rows = [Row(9, 1.0, {"acc": 1.0})]
    repository.series.append(run.notebook_id, runs[0].id, rows, spool="s", begin=0, end=1)
    changed = await poll(axon, path, tag)
    assert changed.status == 200
    assert changed.headers["X-Axon-Revision"] != reply.headers["X-Axon-Revision"]


async def test_series_of_several_runs_are_columns(
    axon: Client, repository: NotebookRepository, runs: list[TrainingRun]
) -> None:
    first, second, others = runs
    repository.create_checkpoint(
        new_checkpoint(first.notebook_id, {"val": 0.5}, run_id=first.id, step=3)
    )
    ids = f"{second.id},{first.id},{others.id},unknown"
    series = (await axon.get(f"/runs/series?ids={ids}&key=acc&key=val&key=unknown")).json["series"]
    assert series.keys() == {first.id, second.id}
    assert series[first.id].keys() == {"acc", "val"}
    assert series[first.id]["acc"]["step"] == [0, 1, 2, 3, 4]
    assert series[first.id]["val"]["value"] == [0.5]
    assert series[second.id].keys() == {"acc"}
    every = (await axon.get(f"/runs/series?ids={ids}&points=2")).json["series"]
    assert every[first.id].keys() == {"acc", "val"}
    assert every[second.id]["acc"]["value"] == [1.0, 1.4]
    assert (await axon.get("/runs/series")).status == 400
    assert (await axon.get(f"/runs/series?ids={','.join(map(str, range(101)))}")).status == 400


async def test_runs_of_two_notebooks_with_the_same_id_are_told_apart(
    axon: Client, repository: NotebookRepository
) -> None:
    notebooks = [repository.create(new_notebook(name=name)).id for name in ("a", "b")]
    run_id = "base,line/1"
    for number, notebook_id in enumerate(notebooks):
        repository.runs.start(notebook_id, id=run_id)
        rows = [Row(0, 0.0, {"acc": float(number)})]
        repository.series.append(notebook_id, run_id, rows, spool=notebook_id, begin=0, end=1)
        repository.runs.update_status(notebook_id, run_id, RunStatus.COMPLETED)
    keys = [f"{notebook_id}/{run_id}" for notebook_id in notebooks]
    query = "&".join(f"id={quote(key, safe='')}" for key in keys)
    table = (await axon.get("/runs/table?only_ids=1&sort=acc")).json
    assert table == {"ids": [run_id] * 2, "notebook_ids": notebooks}
    assert len(await ask(axon, query=f"id={quote(keys[1], safe='')}")) == 1
    series = (await axon.get(f"/runs/series?{query}")).json["series"]
    assert {key: found["acc"]["value"] for key, found in series.items()} == {
        keys[0]: [0.0],
        keys[1]: [1.0],
    }
    base = quote(keys[0], safe="")
    found = (await axon.get(f"/runs/reproducibility?{query}&base={base}")).json["runs"]
    assert [(one["notebook_id"], one["run_id"]) for one in found] == [
        (notebook_id, run_id) for notebook_id in notebooks
    ]
    compared = (await axon.get(f"/runs/compare?{query}")).json["runs"]
    assert [run["notebook_id"] for run in compared] == notebooks
    refused = await axon.get("/runs/series?id=x")
    assert (refused.status, "NOTEBOOK_ID/RUN_ID" in refused.message) == (400, True)
    change = {"notes": "only this"}
    url = f"/runs/{quote(run_id, safe='')}?notebook_id={notebooks[1]}"
    assert (await axon.put(url, change)).status == 200
    assert [run.notes for id in notebooks for run in repository.runs.list(id)] == [
        None,
        "only this",
    ]


async def test_parts_of_the_table_do_not_wait_for_large_responses(
    axon: Client, runs: list[TrainingRun], jp_serverapp: Any
) -> None:
    executor = jp_serverapp.web_app.settings["axon_services"].executor
    async with executor.large_response(), executor.large_response():
        assert await ask(axon, "number == 1") == [run.id for run in reversed(runs[:2])]
        series = await axon.get(f"/runs/series?ids={runs[0].id}&points=500")
        assert [*series.json["series"]] == [runs[0].id]


async def test_the_table_has_ten_thousand_runs(axon: Client, jp_serverapp: Any) -> None:
    url = jp_serverapp.web_app.settings["axon_services"].config.store_url
    with closing(open_store(url)) as store:
        fill_store(store, 10_000)
    reply = await axon.raw("GET", "/axon/runs/table")
    assert len(reply.json["runs"]) == 10_000
    assert len(reply.json["notebooks"]) == 50
    ids = (await axon.get("/runs/table?only_ids=true")).json["ids"]
    assert ids == [run["id"] for run in reply.json["runs"]]


def execute(*sources: str) -> list[ExecutedCell]:
    return [
        ExecutedCell(source=source, execution_count=number, cell_id=f"c{number}")
        for number, source in enumerate(sources, 1)
    ]


async def test_runs_have_flags_and_the_number_of_cells_that_differ(
    axon: Client, repository: NotebookRepository, runs: list[TrainingRun]
) -> None:
    cells = [code("c1", "x = 1"), code("c2", "fit(x)")]
    notebook = repository.create(new_notebook(*cells, name="n"))
    best, same, other, without = (repository.runs.start(notebook.id) for _ in range(4))
    for run, executed in (
        (best, execute("x = 1", "fit(x)")),
        (same, execute("x = 1", "fit(x)\n")),
        (other, execute("x = 2", "fit(x)")),
    ):
        id = repository.provenance.add(notebook.id, executed, Environment(python="3.11"))
        for step in (0, 1):
            new = new_checkpoint(notebook.id, run_id=run.id, step=step, provenance_id=id)
            last = repository.create_checkpoint(new)
    listed = [other, best, same, without, runs[0], runs[2]]
    path = f"/runs/reproducibility?ids={','.join(run.id for run in listed)},unknown&base={best.id}"
    reply = await axon.get(path)
    found = {one["run_id"]: one for one in reply.json["runs"]}
    assert list(found) == [run.id for run in listed[:-1]]
    assert found[other.id]["checkpoint_id"] == last.id
    assert (found[other.id]["code"], found[other.id]["changed_cells"]) == ("different", 1)
    flag = found[other.id]["flags"][0]
    assert (flag["kind"], flag["cell_id"]) == ("edited", "c1")
    assert "executed" not in flag
    for run in (best, same):
        assert (found[run.id]["code"], found[run.id]["changed_cells"]) == ("same", 0)
        assert (found[run.id]["flags"], found[run.id]["is_recorded"]) == ([], True)
    for run in (without, runs[0]):
        ids = {"run_id": run.id, "notebook_id": run.notebook_id}
        assert found[run.id] == {**ids, "is_recorded": False, "code": None, "flags": []}
    again = await poll(axon, path, reply.headers["ETag"])
    assert again.status == 304
    repository.save(notebook.id, new_save(code("c1", "x = 2"), code("c2", "fit(x)")))
    changed = await poll(axon, path, reply.headers["ETag"])
    flags = {one["run_id"]: len(one["flags"]) for one in changed.json["runs"]}
    assert (flags[best.id], flags[other.id]) == (1, 0)
    assert (await axon.get(f"/runs/reproducibility?ids={best.id}")).json["runs"][0]["code"] is None


async def test_each_run_is_compared_with_the_base_of_its_notebook(
    axon: Client, repository: NotebookRepository
) -> None:
    listed = []
    for name, sources in (("a", ["x = 1", "x = 2"]), ("b", ["y = 1", "y = 1"])):
        notebook = repository.create(new_notebook(code("c1", sources[0]), name=name))
        for source in sources:
            run = repository.runs.start(notebook.id)
            id = repository.provenance.add(notebook.id, execute(source), Environment(python="3.11"))
            new = new_checkpoint(notebook.id, run_id=run.id, step=0, provenance_id=id)
            repository.create_checkpoint(new)
            listed.append(run)

    async def compare(*bases: TrainingRun) -> list[str]:
        query = "&".join(
            [f"ids={','.join(run.id for run in listed)}", *(f"base={b.id}" for b in bases)]
        )
        found = (await axon.get(f"/runs/reproducibility?{query}")).json["runs"]
        return [one["code"] for one in found]

    assert await compare(listed[0], listed[2]) == ["same", "different", "same", "same"]
    assert await compare(listed[0]) == ["same", "different", "different", "different"]
    query = "&".join(f"base={number}" for number in range(101))
    refused = await axon.get(f"/runs/reproducibility?ids={listed[0].id}&{query}")
    assert (refused.status, "at most 100" in refused.message) == (400, True)
