"""What happened to notebook files, on its way to the worker: in order, and of the saves of a file only the latest."""

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
    """Something that happened to a file or, where it says so, to a folder.

    Attributes
    ----------
    number : int
        Its place in the order.
    cause : int
        The number of the event that led to it, while that was worked on; else its own.
    failures : int
        How often it was worked on in vain.
    due : float
        When it is worked on, by the monotonic clock.
    """

    path: str
    number: int = field(default=0, kw_only=True)
    cause: int = field(default=0, kw_only=True)
    failures: int = field(default=0, kw_only=True)
    due: float = field(default=0.0, kw_only=True)

    def fail(self, error: BaseException) -> None:
        """Tell everybody who waits for the outcome that there will be none for now."""


@dataclass
class Save(Event):
    """A file whose record is to be brought up to date.

    Attributes
    ----------
    path : str
        The file's absolute path; for contents that are not files, the contents API's.
    owner : str
        Who owns the record, should it have to be made.
    content : mapping or None
        The notebook as it was saved, parsed. None: the file has to be read.
    file : dict
        ``size`` and ``mtime`` of the file that holds ``content``.
    folder : str or None
        The folder that the file was named in, should ``path`` have to be looked up again.
    previous : sequence of NotebookCell or None
        The cells that the file was made of, where that is known: its cells without ids of their own take theirs.
    is_copy : bool
        Whether the file was made from another notebook to be executed: it takes over neither its record nor its id.
    done : list of Future
        Those who wait for the record.
    """

    owner: str
    content: Mapping[str, Any] | None = None
    file: dict[str, int] = field(default_factory=dict)
    folder: str | None = None
    previous: Sequence[NotebookCell] | None = None
    is_copy: bool = False
    done: list[Future[NotebookSummary]] = field(default_factory=list)

    def overtake(self, newer: Save) -> None:
        """Become ``newer``; who waits for this save gets what comes of that one. The owner is who saved first."""
        self.content, self.file, self.folder = newer.content, newer.file, newer.folder
        self.previous = newer.previous
        self.done += newer.done

    def resolve(self, summary: NotebookSummary) -> None:
        """Give everybody who waits the record."""
        for future in self.done:
            future.set_result(summary)

    def fail(self, error: BaseException) -> None:
        """Tell everybody who waits that there will be no record for now."""
        for future in self.done:
            future.set_exception(error)
        self.done = []


@dataclass
class Rename(Event):
    """A file, or a folder with all beneath it, that is now at ``new_path``."""

    new_path: str


@dataclass
class Delete(Event):
    """A file, or a folder with all beneath it, that was deleted."""


@dataclass
class Opening(Event):
    """The store at ``path`` that may have to be opened before anything else can be done."""


class EventQueue:
    """A queue with one consumer. Putting never waits for the consumer.

    Real-time collaboration saves about once a second; of several saves of one file only the last one matters, so it
    takes the place of the one before, unless something was renamed or deleted in between.

    After a failure the consumer pauses, and whoever waits for it ends the pause: what was in the way may be gone. As
    long as it fails, contents are let go, since the files have them.

    Parameters
    ----------
    rest : float
        Seconds that a save stays here, unless somebody waits for it.
    """

    def __init__(self, rest: float = 0.0) -> None:
        self._rest = rest
        self._events: deque[Event] = deque()
        self._latest: dict[str, Save] = {}
        self._changed = threading.Condition()
        self._last_number = 0
        self._working_on: Event | None = None
        self._working_since = 0.0
        self._resume_at = 0.0
        self._wanted = 0
        self._closed = False

    def put(self, event: Event, *, cause: Event | None = None) -> None:
        """Add an event, or let a save take the place of an older one of the same file.

        ``cause`` is what is worked on, where that led to it: who waits for the one waits for the other.
        """
        with self._changed:
            if self._closed:
                event.fail(StoreError("the server is stopping"))
            elif isinstance(event, Save):
                self._put_save(event, cause)
            else:
                self._latest.clear()
                self._append(event, cause)

    def _put_save(self, save: Save, cause: Event | None) -> None:
        if self._is_failing():
            save.content = None
        is_wanted = bool(save.done)
        waiting = self._latest.setdefault(save.path, save)
        if waiting is save:
            save.due = time.monotonic() + self._rest
            self._append(save, cause)
        else:
            waiting.overtake(save)
        if is_wanted:
            self._want(waiting.number)

    def _append(self, event: Event, cause: Event | None) -> None:
        self._last_number += 1
        event.number = self._last_number
        event.cause = event.number if cause is None else cause.cause
        self._events.append(event)
        self._changed.notify_all()

    def put_back(self, event: Event, delay: float, error: BaseException) -> None:
        """Return an event that failed, to be the next one again, in ``delay`` seconds; who waits for any is told."""
        with self._changed:
            event.failures += 1
            self._events.appendleft(event)
            for waiting in self._events:
                waiting.fail(error)
                if isinstance(waiting, Save):
                    waiting.content = None
            self._working_on = None
            self._resume_at = time.monotonic() + delay
            self._changed.notify_all()

    def take(self) -> Event | None:
        """The next event, waited for; None once the queue is closed and empty."""
        with self._changed:
            self._working_on = None
            self._changed.notify_all()
            while not (self._closed and not self._events):
                pause = self._pause()
                if pause is not None and pause <= 0:
                    self._working_on, self._working_since = self._next(), time.monotonic()
                    return self._working_on
                self._changed.wait(pause)
            return None

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None: nobody knows."""
        if not self._events:
            return None
        if self._closed:
            return 0.0
        head = self._events[0]
        due = 0.0 if any(event.cause <= self._wanted for event in self._events) else head.due
        return max(due, self._resume_at) - time.monotonic()

    def _next(self) -> Event:
        event = self._events.popleft()
        if isinstance(event, Save) and self._latest.get(event.path) is event:
            del self._latest[event.path]
        return event

    def settle(self, timeout: float, patience: float) -> bool:
        """Wait until all put before this call, and what that led to, has been worked on, or has failed once more.

        An event that has been worked on for longer than a caller may wait is stuck, so the caller does not wait for it
        again: of many callers only the first ones wait.

        Parameters
        ----------
        timeout : float
            Seconds to wait at most, in all and for one event.
        patience : float
            Seconds to wait at most for what has failed before.

        Returns
        -------
        bool
            Whether all of it has been worked on; False when time ran out, or something failed.
        """
        with self._changed:
            last, began = self._last_number, time.monotonic()
            failed = self._failures()
            self._want(last)
            while not self._is_done(last):
                failing = self._is_failing()
                since = began if self._working_on is None else min(began, self._working_since)
                left = since + (patience if failing else timeout) - time.monotonic()
                if left <= 0 or (failing and self._failures() != failed):
                    return False
                self._changed.wait(left)
            return True

    def _is_done(self, number: int) -> bool:
        working_on = [] if self._working_on is None else [self._working_on]
        return all(event.cause > number for event in (*working_on, *self._events))

    def _head(self) -> Event | None:
        """What is worked on, or will be next."""
        if self._working_on is not None:
            return self._working_on
        return self._events[0] if self._events else None

    def _failures(self) -> tuple[int, int]:
        head = self._head()
        return (0, 0) if head is None else (head.number, head.failures)

    def _is_failing(self) -> bool:
        return self._failures()[1] > 0

    def _want(self, number: int) -> None:
        """Let the consumer go on with what was put up to ``number``."""
        self._wanted = max(self._wanted, number)
        self._resume_at = 0.0
        self._changed.notify_all()

    def close(self) -> None:
        """Let the consumer finish what is here and then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
