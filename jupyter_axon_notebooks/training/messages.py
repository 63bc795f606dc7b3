"""Messages to the user of a training process: warnings, and notes in the output of the cell."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress

from ..printable import printable


class AxonWarning(UserWarning):
    """A problem that a training does not have to stop for."""


def warn(text: str) -> None:
    """Warn the user, with the line of their code that called this package as the location."""
    warnings.warn(printable(text), AxonWarning, stacklevel=_caller_depth())


def print_message(text: str) -> None:
    """Print a note to the output of the cell; errors of the output are ignored."""
    if sys.stdout is None:  # a process without a console
        return
    with suppress(OSError, ValueError):  # closed, or an encoding without one of the characters
        sys.stdout.write(printable(text) + "\n")
        sys.stdout.flush()


def _caller_depth() -> int:
    """Return the stack level of the first caller outside of this package."""
    package, depth = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while (
        frame.f_back is not None
        and frame.f_globals.get("__name__", "").partition(".")[0] == package
    ):
        frame, depth = frame.f_back, depth + 1
    return depth
