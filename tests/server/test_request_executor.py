"""Tests of the worker threads and locks of requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from jupyter_axon_notebooks.errors import StoreBusy
from jupyter_axon_notebooks.handlers import RequestExecutor


@pytest.fixture
def executor() -> Iterator[RequestExecutor]:
    executor = RequestExecutor()
    yield executor
    executor.shutdown()


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
