"""Tests of the worker threads and locks of requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from jupyter_axon_notebooks.errors import StoreBusy
from jupyter_axon_notebooks.handlers import executor as module
from jupyter_axon_notebooks.handlers.executor import RequestExecutor


@pytest.fixture
def executor() -> Iterator[RequestExecutor]:
    executor = RequestExecutor()
    yield executor
    executor.shutdown()


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_TIMEOUT", 0.01)


@pytest.mark.usefixtures("short_timeout")
async def test_a_lock_that_becomes_free_at_the_timeout_is_not_lost(
    executor: RequestExecutor,
) -> None:
    loop = asyncio.get_running_loop()

    async def edit() -> None:
        async with executor.edit_lock("n.ipynb"):
            pass

    for _ in range(20):
        async with executor.edit_lock("n.ipynb"):
            second = asyncio.ensure_future(edit())
            await asyncio.sleep(0)
            timed_out = loop.create_future()
            loop.call_at(loop.time() + module.WRITE_TIMEOUT, timed_out.set_result, None)
            await timed_out
        await asyncio.wait({second})
        assert second.exception() is None or isinstance(second.exception(), StoreBusy)
        await edit()


@pytest.mark.usefixtures("short_timeout")
async def test_large_responses_are_limited(executor: RequestExecutor) -> None:
    for _ in range(2):
        async with executor.large_response(), executor.large_response():
            with pytest.raises(StoreBusy, match="try again"):
                async with executor.large_response():
                    pass


async def test_work_is_refused_after_shutdown(executor: RequestExecutor) -> None:
    executor.shutdown()
    with pytest.raises(StoreBusy, match="stopping"):
        await executor.run(print)
    with pytest.raises(StoreBusy, match="stopping"):
        await executor.write(print, None)


async def test_work_that_timed_out_is_not_done_later(executor: RequestExecutor) -> None:
    go_on = threading.Event()
    done: list[str] = []
    waiting = [asyncio.ensure_future(executor.write(go_on.wait, None)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusy, match="could not begin within"):
        await executor.write(lambda: done.append("late"), 0.05)
    go_on.set()
    await asyncio.gather(*waiting)
    await executor.write(lambda: done.append("later"), 30)
    assert done == ["later"]
