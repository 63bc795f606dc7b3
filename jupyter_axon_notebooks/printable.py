"""Escaping of control characters in text from others, for terminals, logs and notebooks.

Names, tags, metric names and paths may have any characters, including terminal escapes and line
breaks. Code that prints them passes them through :func:`printable`.
"""

from __future__ import annotations

import logging
import re
import reprlib
import textwrap
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final

#: Control characters and line breaks, marks that reorder or separate text, half surrogate pairs.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff]"
)


def printable(text: str, *, keep: str = "") -> str:
    r"""Return ``text`` with unprintable characters as escapes such as ``\x1b``.

    Parameters
    ----------
    keep : str
        Characters that are not escaped, such as the line breaks of a text of several lines.
    """
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), text)


def shorten(text: str, length: int) -> str:
    """Return ``text`` cut to ``length`` characters, with an ellipsis if it is cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def short_repr(value: Any, length: int = 60) -> str:
    """Return the ``repr`` of plain data, cut to ``length`` characters and printable.

    Only the beginning of long texts and containers is read.
    """
    return shorten(printable(_SHORT.repr(value)), length)


class _ShortRepr(reprlib.Repr):
    """The ``repr`` of the first items of containers, and of the ends of long texts."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict = 3, 20
        self.maxstring = self.maxother = 60

    def repr_dict(self, x: Mapping[Any, Any], level: int) -> str:
        """Return the items in their own order; the base class sorts them."""
        if level <= 0 and x:
            return "{...}"
        items = islice(x.items(), self.maxdict)
        texts = [
            f"{self.repr1(key, level - 1)}: {self.repr1(one, level - 1)}" for key, one in items
        ]
        return f"{{{', '.join([*texts, *(['...'] if len(x) > self.maxdict else [])])}}}"


_SHORT: Final = _ShortRepr()


def local_time(moment: datetime) -> str:
    """Return ``moment`` in the local time zone, to the second."""
    try:
        moment = moment.astimezone()
    except (
        OverflowError,
        ValueError,
        OSError,
    ):  # in the years 1 and 9999
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


class _PrintableLog(logging.Filter):
    """Makes the log messages of this project and their tracebacks printable."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape the message; accept every record."""
        if isinstance(record.msg, str) and record.msg.startswith("axon:"):
            record.msg, record.args = printable(record.getMessage()), ()
            if record.exc_info and not record.exc_text:
                traceback = logging.Formatter().formatException(record.exc_info)
                # Indentation keeps lines of an error's text from looking like log entries.
                record.exc_text = textwrap.indent(printable(traceback, keep="\n"), "    ")
        return True


#: The filter for the loggers that this project uses.
PRINTABLE_LOG: Final = _PrintableLog()


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
