"""Notification of objects before and after a fork of the process.

SQLite does not support forking while a database is open. The child inherits SQLite's record of the
locks that its process holds, but not the locks. The parent may then remove the log that the child
writes to, and the child's commits are lost. So every connection is closed before a fork, and parent
and child open their own afterwards.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class ForkListener(Protocol):
    """An object that is notified of forks, in the thread that forks."""

    def before_fork(self) -> None:
        """Close what the child must not inherit, and open nothing until the fork is done."""

    def after_fork_in_parent(self) -> None:
        """Resume work."""

    def after_fork_in_child(self) -> None:
        """Resume work in the new process, in which no other thread runs."""


_listeners: weakref.WeakSet[ForkListener] = weakref.WeakSet()
_notified: list[ForkListener] = []
_lock = threading.Lock()


def notify_of_forks(listener: ForkListener) -> None:
    """Notify ``listener`` of every fork of this process for as long as the object exists."""
    _listeners.add(listener)


def _before() -> None:
    _lock.acquire()
    _notified[:] = _listeners
    for listener in _notified:
        listener.before_fork()


def _in_parent() -> None:
    for listener in _notified:
        listener.after_fork_in_parent()
    _notified.clear()
    _lock.release()


def _in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for listener in _notified:
        listener.after_fork_in_child()
    _notified.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
