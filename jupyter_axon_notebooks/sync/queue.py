"""The queue of events between the contents manager and the worker thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ..errors import StoreError
from ..records import NotebookCell, NotebookSummary


@dataclass
class Event:
    """An event that concerns the file or folder at ``path``.

    Attributes
    ----------
    number : int
        Its position in the order of events.
    cause : int
        The number of the event whose processing led to this one, else its own.
    failures : int
        How often processing it has failed.
    due : float
        When it may be processed, by the monotonic clock.
    """

    path: str
    number: int = field(default=0, kw_only=True)
    cause: int = field(default=0, kw_only=True)
    failures: int = field(default=0, kw_only=True)
    due: float = field(default=0.0, kw_only=True)

    def fail(self, error: BaseException) -> None:
        """Report a failure to those who wait for the result."""


@dataclass
class Save(Event):
    """A file whose record must be updated.

    The attributes are the arguments of :meth:`.NotebookRecorder.record`. ``waiters`` get the
    record.
    """

    owner: str
    content: Mapping[str, Any] | None = None
    file: dict[str, int] = field(default_factory=dict)
    previous: Sequence[NotebookCell] | None = None
    waiters: list[Future[NotebookSummary]] = field(default_factory=list)

    def replace_with(self, newer: Save) -> None:
        """Take over everything of a later save of the file except its owner."""
        self.content, self.file, self.previous = newer.content, newer.file, newer.previous
        self.waiters += newer.waiters

    def finish(self, summary: NotebookSummary) -> None:
        """Report the record to those who wait for it."""
        for waiter in self.waiters:
            waiter.set_result(summary)

    def fail(self, error: BaseException) -> None:
        """Report a failure to those who wait for the record."""
        for waiter in self.waiters:
            waiter.set_exception(error)
        self.waiters = []


@dataclass
class Rename(Event):
    """A file or folder that was renamed to ``new_path``."""

    new_path: str


@dataclass
class Delete(Event):
    """A file or folder that was deleted."""


@dataclass
class OpenStore(Event):
    """A request to open the store at ``path``, if it is not open."""


class EventQueue:
    """A queue with one consumer. :meth:`put` never waits for the consumer.

    Of several saves of one file only the last one matters, and real-time collaboration saves about
    once a second. A save therefore replaces a queued save of the same file, unless something was
    renamed or deleted in between.

    After a failure the consumer pauses until the retry delay has passed or someone waits for the
    result. Meanwhile the queue keeps no notebook contents, because the files have them.

    Parameters
    ----------
    save_delay : float
        Seconds before a save is processed, unless someone waits for it.
    """

    def __init__(self, save_delay: float = 0.0) -> None:
        self._save_delay = save_delay
        self._events: deque[Event] = deque()
        self._queued_saves: dict[str, Save] = {}
        self._changed = threading.Condition()
        self._last_number = 0
        self._current: Event | None = None
        self._current_since = 0.0
        self._paused_until = 0.0
        self._requested = 0
        self._closed = False

    def put(self, event: Event, *, cause: Event | None = None) -> None:
        """Add an event, or replace an older save of the same file.

        Whoever waits for ``cause``, the event that is being processed, also waits for this one.
        """
        with self._changed:
            if self._closed:
                event.fail(StoreError("the server is stopping"))
            elif isinstance(event, Save):
                self._put_save(event, cause)
            else:
                self._queued_saves.clear()
                self._append(event, cause)

    def _put_save(self, save: Save, cause: Event | None) -> None:
        if self._is_failing():
            save.content = None
        has_waiters = bool(save.waiters)
        queued = self._queued_saves.setdefault(save.path, save)
        if queued is save:
            save.due = time.monotonic() + self._save_delay
            self._append(save, cause)
        else:
            queued.replace_with(save)
        if has_waiters:
            self._request(queued.number)

    def _append(self, event: Event, cause: Event | None) -> None:
        self._last_number += 1
        event.number = self._last_number
        event.cause = event.number if cause is None else cause.cause
        self._events.append(event)
        self._changed.notify_all()

    def get(self) -> Event | None:
        """Wait for the next event; return None when the queue is closed and empty."""
        with self._changed:
            self._current = None
            self._changed.notify_all()
            while self._events or not self._closed:
                delay = self._delay()
                if delay is not None and delay <= 0:
                    event = self._events.popleft()
                    if isinstance(event, Save) and self._queued_saves.get(event.path) is event:
                        del self._queued_saves[event.path]
                    self._current, self._current_since = event, time.monotonic()
                    return event
                self._changed.wait(delay)
            return None

    def _delay(self) -> float | None:
        """Return the seconds until the next event is due; None if the queue is empty."""
        if not self._events:
            return None
        if self._closed:
            return 0.0
        is_requested = any(event.cause <= self._requested for event in self._events)
        due = 0.0 if is_requested else self._events[0].due
        return max(due, self._paused_until) - time.monotonic()

    def retry(self, event: Event, delay: float, error: BaseException) -> None:
        """Put a failed event back to the front, and report the failure to all who wait."""
        with self._changed:
            event.failures += 1
            self._events.appendleft(event)
            for queued in self._events:
                queued.fail(error)
                if isinstance(queued, Save):
                    queued.content = None
            self._current = None
            self._paused_until = time.monotonic() + delay
            self._changed.notify_all()

    def drain(self, timeout: float, retry_timeout: float) -> bool:
        """Wait until all events so far, and those they lead to, are processed or one fails again.

        Both times are measured from the start of the current event's processing if that is earlier.
        When an event is stuck, only the first callers wait for it.

        Parameters
        ----------
        timeout : float
            The longest wait in seconds.
        retry_timeout : float
            The longest wait in seconds for an event that has failed before.

        Returns
        -------
        bool
            True if all events were processed; False after a timeout or a failure.
        """
        with self._changed:
            last, start = self._last_number, time.monotonic()
            failures = self._failures()
            self._request(last)
            while not self._is_processed(last):
                is_failing = self._is_failing()
                since = start if self._current is None else min(start, self._current_since)
                left = since + (retry_timeout if is_failing else timeout) - time.monotonic()
                if left <= 0 or (is_failing and self._failures() != failures):
                    return False
                self._changed.wait(left)
            return True

    def _request(self, number: int) -> None:
        """Process the events up to ``number`` without delay."""
        self._requested = max(self._requested, number)
        self._paused_until = 0.0
        self._changed.notify_all()

    def _is_processed(self, number: int) -> bool:
        current = [] if self._current is None else [self._current]
        return all(event.cause > number for event in (*current, *self._events))

    def _failures(self) -> tuple[int, int]:
        """Return number and failures of the event that is processed now or next."""
        first = self._current or next(iter(self._events), None)
        return (0, 0) if first is None else (first.number, first.failures)

    def _is_failing(self) -> bool:
        return self._failures()[1] > 0

    def close(self) -> None:
        """Let the consumer process the remaining events and then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
