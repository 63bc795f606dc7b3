"""The rules of retention, and the text in which a run has them. Pure functions.

The rules of a run are written as ``last:2, best:val_loss:3, every:1000``: a checkpoint keeps its
state files if any of them keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from ..errors import InvalidData
from ..metrics import direction, rank
from ..records import NotebookCheckpoint

#: The maximum length of the rules of a run, in characters.
MAX_KEEP: Final = 255
_EXPECTED: Final = (
    "expected last:N, best:METRIC:N, best:METRIC:min:N, best:METRIC:max:N or every:STEPS"
)

#: A rule takes the checkpoints that have state files, newest first, and returns those to keep.
Rule = Callable[[Sequence[NotebookCheckpoint]], Iterable[NotebookCheckpoint]]


@dataclass(frozen=True)
class Newest:
    """A rule that keeps the newest ``count`` checkpoints."""

    count: int

    def __call__(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return the checkpoints to keep."""
        return checkpoints[: self.count]


@dataclass(frozen=True)
class Best:
    """A rule that keeps the ``count`` best checkpoints by a metric."""

    metric: str
    minimize: bool
    count: int = 1

    def __call__(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return the checkpoints to keep."""
        return rank_checkpoints(checkpoints, self.metric, self.minimize)[: self.count]


@dataclass(frozen=True)
class Every:
    """A rule that keeps the checkpoints whose step is a multiple of ``steps``."""

    steps: int

    def __call__(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return the checkpoints to keep."""
        return [one for one in checkpoints if one.step % self.steps == 0]


@dataclass(frozen=True)
class Tagged:
    """A rule that keeps the checkpoints that have a tag."""

    def __call__(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return the checkpoints to keep."""
        return [one for one in checkpoints if one.tags]


#: A rule that a run can have.
RunRule: TypeAlias = Newest | Best | Every


def rank_checkpoints(
    checkpoints: Iterable[NotebookCheckpoint], metric: str, minimize: bool
) -> list[NotebookCheckpoint]:
    """Return the checkpoints with a finite number ``metric``, best first."""
    return rank(
        checkpoints,
        metric,
        minimize=minimize,
        fields=lambda one: (one.metrics, one.created_at, one.id),
    )


@lru_cache(maxsize=32)
def parse_rules(text: str) -> tuple[RunRule, ...]:
    """Return the rules of a run.

    Raises
    ------
    InvalidData
        If one of them is invalid. The message says which one, where it is, and what is allowed.
    """
    if len(text) > MAX_KEEP:
        raise InvalidData("$.keep", f"expected at most {MAX_KEEP} characters, got {len(text)}")
    return tuple(_parse_rule(rule, position) for rule, position in _split(text))


def _split(text: str) -> Iterator[tuple[str, int]]:
    """Yield the parts between commas, without spaces around colons, and their positions from 1."""
    for part in re.finditer(r"(?:^|(?<=,))[^,]*", text):
        rule = part[0].lstrip()
        yield re.sub(r"\s*:\s*", ":", rule.rstrip()), part.end() - len(rule) + 1


def _parse_rule(rule: str, position: int) -> RunRule:
    def error(reason: str) -> InvalidData:
        where = f"at position {position}, {rule!r}" if rule else f"at position {position}"
        return InvalidData("$.keep", f"{reason} ({where})")

    kind, _, value = rule.partition(":")
    if kind == "best" and value:
        metric, mode, count = parse_best(value)
        if not count:
            raise error("this rule keeps no checkpoint; give a number of at least 1")
        mode = mode or direction(metric)
        if mode is None:
            raise error(
                f"it is not known whether lower or higher values of {metric} are better; write "
                f"best:{metric}:min:{count} or best:{metric}:max:{count}"
            )
        return Best(metric, mode == "min", count)
    if kind not in ("last", "every") or not (value.isascii() and value.isdigit()):
        raise error(_EXPECTED)
    number = int(value)
    if not number:
        raise error("expected a number of at least 1")
    return Newest(number) if kind == "last" else Every(number)


def parse_best(text: str) -> tuple[str, Literal["min", "max"] | None, int]:
    """Return the metric, the direction if it is given, and the number of checkpoints to keep.

    The text is ``METRIC[:min|max][:K]``.
    """
    metric, count = text, 1
    head, _, tail = metric.rpartition(":")
    if head and tail.isascii() and tail.isdigit():
        metric, count = head, int(tail)
        head, _, tail = metric.rpartition(":")
    if head and tail == "min":
        return head, "min", count
    if head and tail == "max":
        return head, "max", count
    return metric, None, count
