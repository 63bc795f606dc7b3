"""Claims about what the handlers share: locks that are waited for only so long."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from jupyter_axon_notebooks.errors import StoreBusy
from jupyter_axon_notebooks.handlers import RequestThreads, Writers
from jupyter_axon_notebooks.handlers import services as module
from jupyter_axon_notebooks.handlers.services import Services


def test_a_lock_that_comes_free_just_as_the_wait_for_it_ends_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.01)

    async def crowd() -> None:
        made = Services(*cast(Any, [None] * 4))
        loop = asyncio.get_running_loop()

        async def edit() -> None:
            async with made.editing("n.ipynb"):
                pass

        for _ in range(20):
            async with made.editing("n.ipynb"):
                second = asyncio.ensure_future(edit())
                await asyncio.sleep(0)
                free = loop.create_future()
                loop.call_at(
                    loop.time() + module.TIMEOUT, free.set_result, None
                )  # when the second gives up
                await free
            await asyncio.wait({second})
            assert second.exception() is None or isinstance(second.exception(), StoreBusy)
            await edit()

    asyncio.run(crowd())


def test_answers_with_outputs_are_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.01)

    async def crowd() -> None:
        made = Services(*cast(Any, [None] * 4))
        async with made.making_large(), made.making_large():
            with pytest.raises(StoreBusy, match="try again"):
                async with made.making_large():
                    pass
        async with made.making_large(), made.making_large():
            pass

    asyncio.run(crowd())


def test_a_request_that_meets_a_stopping_server_is_told_so() -> None:
    async def late() -> None:
        threads, writers = RequestThreads(1), Writers()
        threads.shutdown()
        writers.shutdown()
        with pytest.raises(StoreBusy, match="stopping"):
            await asyncio.get_running_loop().run_in_executor(threads, print)
        with pytest.raises(StoreBusy, match="stopping"):
            await writers.run(lambda: None, None)

    asyncio.run(late())
