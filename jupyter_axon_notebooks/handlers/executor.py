"""The threads that do the work of requests, and the locks between requests."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from ..errors import StoreBusy

P = ParamSpec("P")
T = TypeVar("T")

_READERS: Final = 8
_WRITERS: Final = 4
#: Responses with the outputs of a notebook that are built at a time.
_LARGE_RESPONSES: Final = 2
#: Seconds that a request waits for a writer thread or a lock.
WRITE_TIMEOUT: Final = 30.0
#: Seconds for which other reads are refused after a read has found the store locked.
_LOCKED_PERIOD: Final = 1.0


class _RequestThreads(ThreadPoolExecutor):
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as error:  # shut down, or no thread can be started
            raise StoreBusy(f"the server is stopping or overloaded ({error}); try again") from error


class RequestExecutor:
    """Runs the work of requests in threads.

    Reads and writes have separate threads, so that reads continue while all writers wait for the
    store. The coroutines and context managers are for the event loop's thread only.
    """

    def __init__(self) -> None:
        self._readers = _RequestThreads(_READERS, thread_name_prefix="axon-reader")
        self._writers = _RequestThreads(_WRITERS, thread_name_prefix="axon-writer")
        self._large_responses = asyncio.Semaphore(_LARGE_RESPONSES)
        self._file_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._locked_at = -math.inf

    async def read(self, work: Callable[[], T], *, is_late: Callable[[], bool]) -> T:
        """Run ``work`` in a reader thread.

        Parameters
        ----------
        is_late : callable
            Returns whether the request has waited for as long as it may.

        Raises
        ------
        StoreBusy
            If another read has just found the store locked, and the request is late.
        """

        def check_and_work() -> T:
            if is_late() and time.monotonic() - self._locked_at < _LOCKED_PERIOD:
                raise StoreBusy("the store is locked by another process; try again")
            try:
                return work()
            except StoreBusy:
                self._locked_at = time.monotonic()
                raise

        return await asyncio.wrap_future(self._readers.submit(check_and_work))

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` that does not change the store."""
        return await asyncio.wrap_future(self._readers.submit(work))

    async def write(self, work: Callable[[], T], timeout: float | None) -> T:
        """Run ``work`` in a writer thread.

        Raises
        ------
        StoreBusy
            If no thread becomes free within ``timeout`` seconds; ``work`` is not run then.
        """
        future = self._writers.submit(work)
        result = asyncio.wrap_future(future)
        if timeout is not None:
            done, _ = await asyncio.wait({result}, timeout=timeout)
            if not done and future.cancel():
                raise StoreBusy(
                    f"other changes are waiting for the store, and this one could not begin within "
                    f"{timeout:g} s; nothing was changed, try again"
                )
        return await result

    def large_response(self) -> AbstractAsyncContextManager[None]:
        """Limit how many large responses are built at a time; raise StoreBusy after a timeout."""
        return _acquire(
            self._large_responses,
            f"the server has been building other large responses for over {WRITE_TIMEOUT:g} s; "
            "try again",
        )

    @asynccontextmanager
    async def edit_lock(self, file: str) -> AsyncIterator[None]:
        """Allow one edit of a notebook file at a time; raise StoreBusy after a timeout."""
        lock = self._file_locks.get(file)
        if lock is None:
            lock = self._file_locks[file] = asyncio.Lock()
        message = (
            f"other changes of the notebook {file} have been waiting for over {WRITE_TIMEOUT:g} s; "
            "nothing was changed, try again"
        )
        async with _acquire(lock, message):
            yield

    def shutdown(self) -> None:
        """Cancel the work that has not begun."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._writers.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def _acquire(lock: asyncio.Lock | asyncio.Semaphore, message: str) -> AsyncIterator[None]:
    # Before Python 3.12, wait_for() loses a lock that it acquires just when its time is over.
    acquiring = asyncio.ensure_future(lock.acquire())
    try:
        await asyncio.wait({acquiring}, timeout=WRITE_TIMEOUT)
        if not acquiring.done():
            raise StoreBusy(message)
        yield
    finally:
        if acquiring.done():
            lock.release()
        else:
            acquiring.cancel()
