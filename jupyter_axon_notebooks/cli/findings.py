"""What ``doctor`` finds: facts, and problems with a way out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """Something that is wrong.

    ``code`` is for scripts; ``what`` was seen, what it ``means``, and what to ``do``.
    """

    code: str
    what: str
    means: str
    do: str


@dataclass
class Diagnosis:
    """What was found: ``facts`` by section, plain JSON; and the problems in it."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
