"""Text from others made safe to show in a terminal, a log or a notebook.

Names, tags, names of metrics and paths may hold anything, terminal escapes and line breaks included. Whatever prints
them passes them through :func:`printable`.
"""

from __future__ import annotations

import logging
import re
import textwrap
from datetime import datetime
from typing import Final

#: Control characters (line breaks included), marks that reorder or separate text, and halves of surrogate pairs.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff]"
)


def printable(text: str, *, keep: str = "") -> str:
    r"""Return ``text`` with its unprintable characters written as escapes, such as ``\x1b``.

    Parameters
    ----------
    keep : str
        Characters that stay as they are, such as the line breaks of a text that may have several lines.
    """
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), text)


def printable_json(text: str) -> str:
    r"""Return the JSON document ``text`` with its unprintable characters as ``\uXXXX``, which means the same."""
    return _UNPRINTABLE.sub(
        lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text
    )


def shorten(text: str, length: int) -> str:
    """Return ``text`` cut to ``length`` characters, with an ellipsis where something is missing."""
    return text if len(text) <= length else text[: length - 1] + "…"


def local_time(moment: datetime) -> str:
    """Return ``moment`` in this machine's time zone, to the second."""
    try:
        moment = moment.astimezone()
    except (
        OverflowError,
        ValueError,
        OSError,
    ):  # the years 1 and 9999 have no such hour in every zone
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


class _PrintableLog(logging.Filter):
    """Makes this project's log messages and their tracebacks printable and leaves those of others alone."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message; every record passes."""
        if isinstance(record.msg, str) and record.msg.startswith("axon:"):
            record.msg, record.args = printable(record.getMessage()), ()
            if record.exc_info and not record.exc_text:  # which formatters take as it is
                traceback = logging.Formatter().formatException(record.exc_info)
                # Indented, no line of an error's text looks like an entry of the log.
                record.exc_text = textwrap.indent(printable(traceback, keep="\n"), "    ")
        return True


#: The filter for the loggers that this project writes to.
PRINTABLE_LOG: Final = _PrintableLog()


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
