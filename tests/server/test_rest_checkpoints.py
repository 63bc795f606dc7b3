"""Tests of the checkpoint routes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.rest_client import Client


async def notebook_path(axon: Client) -> str:
    return f"/notebooks/{(await axon.created('/notebooks', {'name': 'n'}))['id']}"


def at(epoch: int, **given: Any) -> dict[str, Any]:
    return {"epoch": epoch, "step": 10 * epoch, "metrics": {}, **given}


async def test_a_checkpoint_has_the_version_of_the_notebook(axon: Client) -> None:
    path = await notebook_path(axon)
    version = (await axon.get(path)).json["version_id"]
    made = await axon.created(
        f"{path}/checkpoints", at(3, metrics={"loss": 0.5}, tags=["t"], format="torch")
    )
    assert (made["epoch"], made["step"], made["metrics"]) == (3, 30, {"loss": 0.5})
    assert (made["version_id"], made["tags"], made["model_state_path"]) == (version, ["t"], "")
    assert (await axon.get(f"{path}/checkpoints/{made['id']}")).json == made


async def test_states_in_the_body_are_stored_with_their_digests(axon: Client) -> None:
    path = await notebook_path(axon)
    states = {"model": b"weights", "optimizer": b""}
    sent = {
        f"{part}_state_base64": base64.b64encode(octets).decode() for part, octets in states.items()
    }
    made = await axon.created(f"{path}/checkpoints", at(0, **sent, digests={"model": "0" * 64}))
    assert made["digests"] == {
        part: hashlib.sha256(octets).hexdigest() for part, octets in states.items()
    }
    assert made["sizes"] == {"model": 7, "optimizer": 0}
    for part, octets in states.items():
        got = await axon.get(f"{path}/checkpoints/{made['id']}/states/{part}")
        assert got.body == octets


async def test_a_conflict_leaves_neither_record_nor_file(
    axon: Client, stored: Callable[[], list[str]]
) -> None:
    path = await notebook_path(axon)
    given = at(0, run_id="r", model_state_base64="AAAA")
    await axon.created(f"{path}/checkpoints", given)
    before = stored()
    assert (await axon.post(f"{path}/checkpoints", given)).status == 409
    assert stored() == before


async def test_an_existing_state_is_registered_by_its_path(axon: Client, data: Path) -> None:
    path = await notebook_path(axon)
    state = data / "axon_notebooks" / "states" / path.rpartition("/")[2] / "run" / "model.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"kernel wrote this")
    made = await axon.created(f"{path}/checkpoints", at(0, model_state_path=str(state)))
    assert made["model_state_path"] == str(state)
    assert made["digests"] == {"model": hashlib.sha256(b"kernel wrote this").hexdigest()}
    assert (
        await axon.get(f"{path}/checkpoints/{made['id']}/states/model")
    ).body == b"kernel wrote this"


async def test_checkpoints_are_listed_newest_first_with_pages_and_filters(axon: Client) -> None:
    path = await notebook_path(axon)
    made = [
        await axon.created(f"{path}/checkpoints", at(epoch, run_id=f"run{epoch % 2}"))
        for epoch in range(4)
    ]
    everything = await axon.get(f"{path}/checkpoints")
    assert [c["epoch"] for c in everything.json] == [3, 2, 1, 0]
    assert everything.headers["X-Total-Count"] == "4"
    page = await axon.get(f"{path}/checkpoints?limit=2&offset=1")
    assert [c["epoch"] for c in page.json] == [2, 1]
    run = await axon.get(f"{path}/checkpoints?run_id=run1")
    assert ([c["epoch"] for c in run.json], run.headers["X-Total-Count"]) == ([3, 1], "2")
    newer = await axon.get(f"{path}/checkpoints?since={made[1]['created_at']}")
    assert [c["epoch"] for c in newer.json] == [3, 2]


@pytest.mark.parametrize(
    ("query", "epoch"),
    [
        ("", 1),
        ("?metric=loss", 1),
        ("?metric=loss&minimize=false", 2),
        ("?metric=val.acc&minimize=0", 0),
        ("?metric=val.acc&minimize=1", 2),
        ("?metric=unknown", None),
    ],
)
async def test_the_best_checkpoint_is_found(query: str, epoch: int | None, axon: Client) -> None:
    path = await notebook_path(axon)
    for number, (loss, acc) in enumerate(
        [(0.5, 0.9), (0.1, 0.8), (0.7, 0.1), (None, None), (True, "1")]
    ):
        metrics = {"loss": loss, "val": {"acc": acc}}
        await axon.created(f"{path}/checkpoints", at(number, metrics=metrics))
    best = (await axon.get(f"{path}/checkpoints/best{query}")).json
    assert (best and best["epoch"]) == epoch


async def test_metrics_may_be_non_finite(axon: Client) -> None:
    path = await notebook_path(axon)
    metrics = '{"a": NaN, "b": [-Infinity, 1e999], "n": null, "big": ' + str(10**400) + "}"
    body = '{"epoch": 0, "step": 0, "metrics": ' + metrics + "}"
    made = (await axon.post(f"{path}/checkpoints", body=body)).json
    assert made["metrics"] == {
        "a": "NaN",
        "b": ["-Infinity", "Infinity"],
        "n": None,
        "big": 10**400,
    }
    assert made["nonfinite"] == ["a", "b.0", "b.1"]
    spelled = at(1, metrics={"a": "NaN", "s": "NaN"}, nonfinite=["a"])
    assert (await axon.created(f"{path}/checkpoints", spelled))["nonfinite"] == ["a"]
    assert (await axon.get(f"{path}/checkpoints/best?metric=big")).json is None


async def test_only_tags_and_pin_change(axon: Client) -> None:
    path = await notebook_path(axon)
    made = await axon.created(f"{path}/checkpoints", at(0))
    changed = (
        await axon.put(f"{path}/checkpoints/{made['id']}", {**made, "pinned": True, "epoch": 9})
    ).json
    assert changed == {**made, "pinned": True}
    changed = (await axon.put(f"{path}/checkpoints/{made['id']}", {"tags": ["a"]})).json
    assert changed == {**made, "pinned": True, "tags": ["a"]}


async def test_a_checkpoint_is_deleted_with_its_states(axon: Client) -> None:
    path = await notebook_path(axon)
    made = await axon.created(f"{path}/checkpoints", at(0, model_state_base64="AAAA"))
    assert (await axon.delete(f"{path}/checkpoints/{made['id']}")).status == 204
    assert not Path(made["model_state_path"]).exists()
    again = await axon.delete(f"{path}/checkpoints/{made['id']}")
    assert (again.status, again.message) == (404, f"checkpoint {made['id']} not found")


async def test_a_checkpoint_is_not_found_under_another_notebook(
    axon: Client, stored: Callable[[], list[str]]
) -> None:
    path, other = await notebook_path(axon), await notebook_path(axon)
    made = await axon.created(f"{path}/checkpoints", at(0, model_state_base64="AAAA"))
    before = stored()
    under_other = f"{other}/checkpoints/{made['id']}"
    for method, below, body in [
        ("GET", "", None),
        ("PUT", "", "{}"),
        ("DELETE", "", None),
        ("GET", "/states/model", None),
        ("PUT", "/states/optimizer", "x"),
    ]:
        assert (await axon(method, under_other + below, body=body)).status == 404
    assert stored() == before
