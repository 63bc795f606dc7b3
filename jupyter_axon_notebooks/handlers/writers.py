"""The threads that do the work of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from ..errors import StoreBusy

P = ParamSpec("P")
T = TypeVar("T")

#: Threads. They may all wait for the store at once; those of requests that only read do not.
_THREADS: Final = 4
#: Seconds for which a request that changes something waits for one of them, or for another change of the same file.
TIMEOUT: Final = 30.0


class RequestThreads(ThreadPoolExecutor):
    """A thread pool that reports a server which is stopping as an error of the store."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule a call.

        Raises
        ------
        StoreBusy
            When the pool was shut down, or no thread can be started.
        """
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as error:
            raise StoreBusy(f"the server is stopping or overloaded ({error}); try again") from error


class Writers:
    """Threads for what may have to wait until it can change the store."""

    def __init__(self) -> None:
        self._executor = RequestThreads(_THREADS, thread_name_prefix="axon-writer")

    async def run(self, work: Callable[[], T], timeout: float | None) -> T:
        """Do ``work`` in one of the threads.

        Raises
        ------
        StoreBusy
            When none becomes free within ``timeout`` seconds; ``work`` is not done then.
        """
        future = self._executor.submit(work)
        result = asyncio.wrap_future(future)
        if timeout is not None:
            done, _ = await asyncio.wait({result}, timeout=timeout)
            if not done and future.cancel():
                raise StoreBusy(
                    f"other changes are waiting for the store, and this one could not begin within {timeout:g} s; "
                    "nothing was changed, try again"
                )
        return await result

    def shutdown(self) -> None:
        """Begin nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)
