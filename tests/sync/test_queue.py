"""Tests of the queue between the save hooks and the worker."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.sync.queue import Delete, Event, EventQueue, Rename, Save

ERROR = StoreError("the store is unavailable")


def put(queue: EventQueue, path: str, mark: int = 0) -> tuple[Save, Future[Any]]:
    waiter: Future[Any] = Future()
    save = Save(path, "ada", {"mark": mark}, waiters=[waiter])
    queue.put(save)
    return save, waiter


def get(queue: EventQueue) -> Event:
    event = queue.get()
    assert event is not None
    return event


def close_and_get_all(queue: EventQueue) -> list[tuple[str, Any]]:
    queue.close()
    return [(event.path, getattr(event, "content", None)) for event in iter(queue.get, None)]


def test_events_keep_their_order_and_only_the_last_save_of_a_file_is_kept() -> None:
    queue = EventQueue()
    for mark, path in enumerate("bacba"):
        put(queue, path, mark)
    assert close_and_get_all(queue) == [("b", {"mark": 3}), ("a", {"mark": 4}), ("c", {"mark": 2})]


def test_those_who_wait_for_a_replaced_save_get_the_record_of_the_newer_one() -> None:
    queue = EventQueue()
    waiters = [put(queue, "a", mark)[1] for mark in (1, 2)]
    save = get(queue)
    assert isinstance(save, Save)
    save.finish("the record")  # type: ignore[arg-type]
    assert [waiter.result(0) for waiter in waiters] == ["the record"] * 2


def test_a_save_during_the_processing_of_its_file_comes_next() -> None:
    queue = EventQueue()
    put(queue, "a", 1)
    get(queue)
    put(queue, "a", 2)
    assert close_and_get_all(queue) == [("a", {"mark": 2})]


@pytest.mark.parametrize("event", [Delete("a"), Rename("a", "b"), Delete("folder")])
def test_a_save_does_not_replace_one_before_a_rename_or_deletion(event: Event) -> None:
    queue = EventQueue()
    put(queue, "a", 1)
    queue.put(event)
    put(queue, "a", 2)
    put(queue, "a", 3)
    queue.close()
    assert [type(event) for event in iter(queue.get, None)] == [Save, type(event), Save]


def test_after_a_failure_contents_are_dropped_and_waiters_get_the_error() -> None:
    queue = EventQueue()
    put(queue, "a", 1)
    failed = get(queue)
    _, waiter = put(queue, "b", 2)
    queue.retry(failed, delay=0, error=ERROR)
    assert waiter.exception(0) is ERROR
    put(queue, "a", 3)
    put(queue, "c", 4)
    assert close_and_get_all(queue) == [("a", None), ("b", None), ("a", None), ("c", None)]


def test_a_save_is_delayed_until_somebody_waits_for_it() -> None:
    queue = EventQueue(save_delay=3600)
    for mark in (1, 2):
        queue.put(Save("a", "ada", {"mark": mark}))
    with ThreadPoolExecutor(1) as pool:
        event = pool.submit(queue.get)
        queue.drain(0.01, 0.01)
        save = event.result(10)
    assert isinstance(save, Save)
    assert save.content == {"mark": 2}


def test_draining_waits_for_the_event_in_progress() -> None:
    queue = EventQueue()
    put(queue, "a")
    get(queue)
    assert not queue.drain(0.01, 0.01)
    consumer = threading.Thread(target=queue.get)
    consumer.start()
    assert queue.drain(10, 10)
    queue.close()
    consumer.join()


def test_draining_ends_the_pause_after_a_failure_and_gives_up_at_the_next_one() -> None:
    queue = EventQueue()
    put(queue, "a")
    queue.retry(get(queue), delay=3600, error=ERROR)
    consumer = threading.Thread(target=lambda: queue.retry(get(queue), delay=3600, error=ERROR))
    consumer.start()
    assert not queue.drain(3600, 3600)
    consumer.join()
