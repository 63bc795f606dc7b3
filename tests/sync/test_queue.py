"""Claims about the queue between the save hooks and the worker."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from jupyter_axon_notebooks.errors import StoreError
from jupyter_axon_notebooks.sync.queue import Delete, Event, EventQueue, Rename, Save

TROUBLE = StoreError("the store is not there")


def save(path: str, mark: int = 0, done: list[Future[Any]] | None = None) -> Save:
    return Save(path, "ada", {"mark": mark}, waiters=done or [])


def contents(queue: EventQueue) -> list[Any]:
    return [event.content for event in iter(queue.get, None) if isinstance(event, Save)]


def test_saves_are_taken_in_the_order_in_which_their_files_came() -> None:
    queue = EventQueue()
    for path in ("b", "a", "c"):
        queue.put(save(path))
    queue.close()
    assert [taken.path for taken in iter(queue.get, None)] == ["b", "a", "c"]


def test_only_the_latest_save_of_a_file_is_kept() -> None:
    queue = EventQueue()
    for mark in range(100):
        queue.put(save("a", mark))
    queue.close()
    assert contents(queue) == [{"mark": 99}]


def test_who_waits_for_a_save_that_was_overtaken_waits_for_the_newer_one() -> None:
    queue = EventQueue()
    first: Future[Any] = Future()
    second: Future[Any] = Future()
    queue.put(save("a", 1, [first]))
    queue.put(save("a", 2, [second]))
    taken = queue.get()
    assert isinstance(taken, Save)
    taken.finish("the record")  # type: ignore[arg-type]
    assert first.result(0) == second.result(0) == "the record"


def test_a_save_that_comes_while_its_file_is_worked_on_is_taken_next() -> None:
    queue = EventQueue()
    queue.put(save("a", 1))
    assert queue.get() is not None
    queue.put(save("a", 2))
    queue.close()
    assert contents(queue) == [{"mark": 2}]


def test_a_save_that_is_put_back_comes_before_a_newer_one() -> None:
    queue = EventQueue()
    queue.put(save("a", 1))
    old = queue.get()
    queue.put(newer := save("a", 2))
    assert old is not None
    queue.retry(old, delay=0, error=TROUBLE)
    queue.close()
    assert list(iter(queue.get, None)) == [old, newer]


def test_after_a_failure_contents_are_let_go_and_who_waits_is_told() -> None:
    queue = EventQueue()
    queue.put(save("a", 1))
    failed = queue.get()
    waiting: Future[Any] = Future()
    queue.put(save("b", 2, [waiting]))
    assert failed is not None
    queue.retry(failed, delay=0, error=TROUBLE)
    assert waiting.exception(0) is TROUBLE
    queue.put(save("c", 3))
    queue.close()
    assert contents(queue) == [None, None, None]


def test_a_save_rests_until_somebody_waits_for_it() -> None:
    queue = EventQueue(save_delay=3600)
    queue.put(save("a", 1))
    queue.put(save("a", 2))
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(queue.get)
        queue.drain(0.01, 0.01)
        saved = taken.result(10)
    assert isinstance(saved, Save)
    assert saved.content == {"mark": 2}


def test_a_closed_queue_takes_nothing_more() -> None:
    queue = EventQueue()
    queue.close()
    waiting: Future[Any] = Future()
    queue.put(save("a", done=[waiting]))
    assert isinstance(waiting.exception(0), StoreError)
    assert queue.get() is None


@pytest.mark.parametrize("between", [Delete("a"), Rename("a", "b"), Delete("folder")])
def test_a_save_never_overtakes_what_happened_before_it(between: Event) -> None:
    queue = EventQueue()
    queue.put(save("a", 1))
    queue.put(between)
    queue.put(save("a", 2))
    queue.put(save("a", 3))
    queue.close()
    assert [type(event) for event in iter(queue.get, None)] == [Save, type(between), Save]


def test_a_save_that_is_put_back_is_taken_again_before_the_others() -> None:
    queue = EventQueue()
    queue.put(save("a"))
    queue.put(save("b"))
    failed = queue.get()
    assert failed is not None
    queue.retry(failed, delay=0.01, error=TROUBLE)
    assert [taken.path for taken in (queue.get(), queue.get()) if taken] == ["a", "b"]


def test_settling_waits_for_the_save_being_worked_on() -> None:
    queue = EventQueue()
    queue.put(save("a"))
    assert queue.get() is not None
    assert not queue.drain(0.01, 0.01)
    waiter = threading.Thread(target=queue.get)
    waiter.start()
    assert queue.drain(10, 10)
    queue.close()
    waiter.join()


def test_settling_waits_for_nothing_that_came_later() -> None:
    queue = EventQueue()
    queue.put(save("a"))
    assert queue.get() is not None
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(queue.drain, 10, 10)
        while not queue._changed._waiters:  # type: ignore[attr-defined]
            pass
        queue.put(save("b"))
        assert queue.get() is not None
        assert outcome.result(10)


def test_settling_waits_for_what_came_of_what_was_there() -> None:
    queue = EventQueue(save_delay=3600)
    queue.put(Delete("a"))
    opening = queue.get()
    assert opening is not None
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(queue.drain, 10, 10)
        while not queue._changed._waiters:  # type: ignore[attr-defined]
            pass
        queue.put(save("b"), cause=opening)
        led_to = queue.get()
        assert led_to is not None
        assert led_to.path == "b"
        assert not outcome.done()
        queue.close()
        assert queue.get() is None
        assert outcome.result(10)


def test_settling_ends_a_pause_after_a_failure_and_gives_up_at_the_next_one() -> None:
    queue = EventQueue()
    queue.put(save("a"))
    failed = queue.get()
    assert failed is not None
    queue.retry(failed, delay=3600, error=TROUBLE)

    def fail_again() -> None:
        again = queue.get()
        assert again is not None
        queue.retry(again, delay=3600, error=TROUBLE)

    consumer = threading.Thread(target=fail_again)
    consumer.start()
    assert not queue.drain(3600, 3600)
    consumer.join()


@pytest.mark.parametrize("pause", [0, 3600])
def test_a_closed_queue_gives_what_it_has_without_pausing_and_then_nothing(pause: float) -> None:
    queue = EventQueue()
    queue.put(save("a"))
    failed = queue.get()
    assert failed is not None
    queue.retry(failed, delay=pause, error=TROUBLE)
    queue.close()
    assert queue.get() is failed
    assert queue.get() is None
