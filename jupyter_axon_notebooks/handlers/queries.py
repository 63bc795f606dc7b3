"""Query arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Final, NamedTuple, TypeVar

from ..errors import InvalidData
from ..records import Moment, Record
from .request_bodies import text_fault

_E = TypeVar("_E", bound=Enum)

_DEFAULT_LIMIT: Final = 100
_MAX_LIMIT: Final = 1000
_MAX_OFFSET: Final = 2**63 - 1
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_DIGITS: Final = re.compile(r"[0-9]{1,20}", re.ASCII)


class Page(NamedTuple):
    """A part of a list."""

    limit: int
    offset: int


class _Since(Record):
    since: Moment


class Query:
    """The query arguments of a request.

    Every method raises :class:`.InvalidData` with the argument's name for an invalid value. Of a
    repeated argument the last value counts, except in :meth:`texts`.
    """

    def __init__(self, arguments: Mapping[str, Sequence[bytes]]) -> None:
        self._arguments = arguments

    def text(self, name: str) -> str | None:
        """Return an argument, or None."""
        values = self._arguments.get(name)
        return _decode(name, values[-1]) if values else None

    def texts(self, name: str) -> list[str]:
        """Return the distinct values of an argument that may be repeated."""
        return list(dict.fromkeys(_decode(name, value) for value in self._arguments.get(name, ())))

    def required(self, name: str) -> str:
        """Return an argument that must be given."""
        text = self.text(name)
        if text is None:
            raise InvalidData(name, "required, but missing")
        return text

    def page(self) -> Page:
        """Return ``limit`` and ``offset``."""
        limit = self._number("limit", _DEFAULT_LIMIT, 1, _MAX_LIMIT)
        return Page(limit, self._number("offset", 0, 0, _MAX_OFFSET))

    def _number(self, name: str, default: int, minimum: int, maximum: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not _DIGITS.fullmatch(text) or not minimum <= int(text) <= maximum:
            raise InvalidData(
                name, f"expected an integer from {minimum} to {maximum}, got {text[:80]!r}"
            )
        return int(text)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean argument: ``true``, ``1``, ``false`` or ``0``."""
        text = self.text(name)
        if text is None:
            return default
        if text not in _FLAGS:
            raise InvalidData(name, f"expected true, false, 1 or 0, got {text[:80]!r}")
        return _FLAGS[text]

    def choice(self, name: str, kind: type[_E]) -> _E | None:
        """Return a member of an enumeration, or None."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return kind(text)
        except ValueError:
            allowed = ", ".join(str(member.value) for member in kind)
            raise InvalidData(name, f"expected one of {allowed}, got {text[:80]!r}") from None

    def since(self) -> datetime | None:
        """Return the time in ``since``, in the format of RFC 3339, or None."""
        text = self.text("since")
        if text is None:
            return None
        try:
            return _Since.from_json({"since": text}).since
        except InvalidData:
            reason = f"expected a time such as 2026-04-16T23:15:00Z, got {text[:80]!r}"
            raise InvalidData("since", reason) from None


def _decode(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise InvalidData(name, "expected UTF-8") from None
    if reason := text_fault(text):
        raise InvalidData(name, reason)
    return text
