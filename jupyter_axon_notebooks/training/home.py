"""The store as a process that trains has it: opened when it is first needed, and again when it was lost."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass

from ..printable import printable
from ..repository import NotebookRepository
from ..states import StateStorage
from ..store import Store


class AxonWarning(UserWarning):
    """Something went wrong that a training does not have to stop for."""


@dataclass(frozen=True)
class Home:
    """What stands on an open store."""

    store: Store
    repository: NotebookRepository
    states: StateStorage
    origin: str


def warn(text: str) -> None:
    """Warn the user, at the line of theirs that led here."""
    warnings.warn(printable(text), AxonWarning, stacklevel=_depth_of_caller())


def _depth_of_caller() -> int:
    """How far up the first line outside of this package is, for who calls this: whom a warning is for."""
    package, depth = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while (
        frame.f_back is not None
        and frame.f_globals.get("__name__", "").partition(".")[0] == package
    ):
        frame, depth = frame.f_back, depth + 1
    return depth
