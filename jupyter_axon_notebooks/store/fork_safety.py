"""Forks, which SQLite does not survive with a database open.

A forked child inherits SQLite's notion of which locks its process holds, but not the locks. What the child then
commits can be thrown away: the parent, believing itself the last to close the database, removes the log the child is
writing to. So every connection is closed before a fork, and each side opens its own afterwards.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forked(Protocol):
    """What wants to know of forks. All three are called in the thread that forks."""

    def before_fork(self) -> None:
        """Close what the child must not inherit, and open nothing more until told."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Go on as another process, in which no other thread runs."""


_known: weakref.WeakSet[Forked] = weakref.WeakSet()
_told: list[Forked] = []
_one_at_a_time = threading.Lock()


def tell_of_forks(interested: Forked) -> None:
    """Have ``interested`` told of every fork of this process from now on, as long as it lives."""
    _known.add(interested)


def _before() -> None:
    _one_at_a_time.acquire()
    _told[:] = _known
    for interested in _told:
        interested.before_fork()


def _in_parent() -> None:
    for interested in _told:
        interested.after_fork_in_parent()
    _told.clear()
    _one_at_a_time.release()


def _in_child() -> None:
    global _one_at_a_time
    _one_at_a_time = threading.Lock()
    for interested in _told:
        interested.after_fork_in_child()
    _told.clear()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
