"""Tests of the save hooks."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import pytest

from jupyter_axon_notebooks.records import is_record_id, new_id
from jupyter_axon_notebooks.sync import EmbeddedIds, SaveHooks

LOG = logging.getLogger("test")
Handed = list[tuple[str, Any]]
MINE = "0d1991cb-4986-4fd7-958e-684f68b23ece"
#: What a notebook may carry in place of a record id.
NO_IDS: list[Any] = [
    *("\ud800", "../../x", "", "x" * 1_000_000, MINE.upper()),
    *(f" {MINE}", MINE.replace("-", ""), 5, None, [MINE]),
]


def notebook(**metadata: Any) -> dict[str, Any]:
    content = {"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return {"type": "notebook", "format": "json", "content": content}


@pytest.fixture
def handed() -> Handed:
    return []


@pytest.fixture
def hooks(handed: Handed) -> SaveHooks:
    ids = EmbeddedIds()
    ids.load({})
    return SaveHooks(lambda path, content: handed.append((path, content)), ids, LOG)


def embedded(model: dict[str, Any]) -> Any:
    return model["content"]["metadata"].get("axon", {}).get("notebook_id")


def test_an_open_notebook_gets_the_same_id_on_every_save(hooks: SaveHooks) -> None:
    first, second = notebook(), notebook()
    hooks.pre_save(path="a.ipynb", model=first)
    hooks.pre_save(path="/a.ipynb", model=second)
    assert embedded(first) == embedded(second)


def test_a_valid_id_is_kept_and_remembered(hooks: SaveHooks) -> None:
    model, later = notebook(axon={"notebook_id": MINE, "other": 1}), notebook()
    hooks.pre_save(path="a.ipynb", model=model)
    hooks.pre_save(path="a.ipynb", model=later)
    assert model["content"]["metadata"]["axon"] == {"notebook_id": MINE, "other": 1}
    assert embedded(later) == MINE


@pytest.mark.parametrize("bad", NO_IDS, ids=range(len(NO_IDS)))
def test_an_invalid_id_is_not_remembered_and_text_is_replaced(hooks: SaveHooks, bad: Any) -> None:
    model, later = notebook(axon={"notebook_id": bad, "other": 1}), notebook()
    hooks.pre_save(path="a.ipynb", model=model)
    hooks.pre_save(path="a.ipynb", model=later)
    assert is_record_id(embedded(later))
    id = embedded(later) if isinstance(bad, str) else bad
    assert model["content"]["metadata"]["axon"] == {"notebook_id": id, "other": 1}


def test_embedding_can_be_switched_off(handed: Handed) -> None:
    hooks = SaveHooks(lambda path, content: handed.append((path, content)), None, LOG)
    model = notebook()
    hooks.pre_save(path="a.ipynb", model=model)
    hooks.post_save(os_path="/a.ipynb", model={"path": "a.ipynb"})
    assert model == notebook()
    assert handed == [("/a.ipynb", notebook()["content"])]


@pytest.mark.parametrize(
    "model",
    [
        None,
        {},
        {"type": "file", "content": "x"},
        {"type": "notebook"},
        {"type": "notebook", "content": None},
        {"type": "notebook", "content": "text"},
        {"type": "notebook", "content": {"metadata": []}},
        {"type": "notebook", "content": {"metadata": {"axon": "somebody else's"}}},
        {"type": "notebook", "content": {"metadata": {"axon": {"notebook_id": 5}}}},
    ],
)
def test_other_models_are_not_changed(hooks: SaveHooks, model: Any) -> None:
    before = repr(model)
    hooks.pre_save(path="a.ipynb", model=model)
    assert repr(model) == before


def test_changes_by_later_hooks_are_reported(hooks: SaveHooks, handed: Handed) -> None:
    model = notebook()
    hooks.pre_save(path="a.ipynb", model=model)
    model["content"] = {"stripped": True}
    hooks.post_save(os_path="/a.ipynb", model={"path": "a.ipynb"})
    assert handed == [("/a.ipynb", {"stripped": True})]


def test_the_content_of_a_failed_save_is_not_reported_for_another(
    hooks: SaveHooks, handed: Handed
) -> None:
    hooks.pre_save(path="a.ipynb", model=notebook())  # this save fails: no post-save hook
    hooks.post_save(os_path="/b.ipynb", model={"type": "notebook", "path": "b.ipynb"})
    assert handed == [("/b.ipynb", None)]


def test_interleaved_saves_keep_their_contents(hooks: SaveHooks, handed: Handed) -> None:
    async def one_save(name: str, before: asyncio.Event, after: asyncio.Event) -> None:
        hooks.pre_save(path=f"{name}.ipynb", model=notebook(name=name))
        after.set()
        await before.wait()
        hooks.post_save(os_path=f"/{name}.ipynb", model={"path": f"{name}.ipynb"})

    async def both() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        await asyncio.gather(one_save("a", second, first), one_save("b", first, second))

    asyncio.run(both())
    assert {path: content["metadata"]["name"] for path, content in handed} == {
        "/a.ipynb": "a",
        "/b.ipynb": "b",
    }


def test_concurrent_saves_of_a_file_are_reported_without_content(
    hooks: SaveHooks, handed: Handed
) -> None:
    def begin() -> contextvars.Context:
        context = contextvars.copy_context()
        context.run(hooks.pre_save, path="a.ipynb", model=notebook())
        return context

    def end(context: contextvars.Context) -> None:
        context.run(hooks.post_save, os_path="/a.ipynb", model={"path": "a.ipynb"})

    first, second = begin(), begin()
    end(second)
    third = begin()
    end(third)
    end(first)
    assert handed == [("/a.ipynb", None)] * 3
    failed = begin()
    del failed, first, second, third
    end(begin())
    assert handed[3][1] is not None


def test_hooks_never_raise(caplog: pytest.LogCaptureFixture) -> None:
    class NoIds(EmbeddedIds):
        def get_or_create(self, path: str) -> str:
            raise RuntimeError("no ids today")

    def refuse(path: str, content: Any) -> None:
        raise MemoryError("no room in the queue")

    hooks = SaveHooks(refuse, NoIds(), LOG)
    context = contextvars.copy_context()
    context.run(hooks.pre_save, path="a.ipynb", model=notebook())
    context.run(hooks.post_save, os_path="/a.ipynb", model={"path": "a.ipynb"})
    assert "no ids today" in caplog.text
    assert "no room in the queue" in caplog.text


def test_no_id_is_created_before_the_known_ones_are_loaded() -> None:
    ids = EmbeddedIds(
        to_contents_path=lambda stored: (
            stored.removeprefix("/top/") if stored.startswith("/top/") else None
        )
    )
    hooks = SaveHooks(lambda path, content: None, ids, LOG)
    early, late = notebook(), notebook()
    hooks.pre_save(path="a.ipynb", model=early)
    new, known, old, another = (new_id() for _ in range(4))
    hooks.pre_save(path="b.ipynb", model=notebook(axon={"notebook_id": new}))
    ids.load({"/top/a.ipynb": known, "/top/b.ipynb": old, "/elsewhere/c.ipynb": another})
    hooks.pre_save(path="a.ipynb", model=late)
    assert (embedded(early), embedded(late), ids.get_or_create("b.ipynb")) == (None, known, new)
    assert ids.get_or_create("c.ipynb") not in (None, another)
