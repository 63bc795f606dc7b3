"""Which checkpoints keep their state files. Pure.

A rule is given a notebook's checkpoints that have state files, newest first, and says which of them it keeps. A
checkpoint is kept if any rule keeps it; besides, whatever the rules say, those that are pinned, the newest of the
notebook, and the newest of each unfinished run, from which it would be resumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Protocol

from ..metrics import rankable, resolve
from ..records import NotebookCheckpoint


class Rule(Protocol):
    """What some checkpoints are kept for."""

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Those of ``checkpoints``, which are newest first, that the rule keeps."""


@dataclass(frozen=True)
class Newest:
    """Keeps the newest ``count``."""

    count: int

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """The first ones."""
        return checkpoints[: self.count]


@dataclass(frozen=True)
class Best:
    """Keeps the ``count`` best by a metric, ranked as :meth:`.NotebookRepository.get_best_checkpoints` does."""

    metric: str
    minimize: bool
    count: int = 1

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Those with the smallest, or the largest, finite numbers."""
        sign = 1 if self.minimize else -1
        ranked = sorted(
            (sign * value, one.created_at, one.id, one)
            for one in checkpoints
            if (value := rankable(resolve(one.metrics, self.metric))) is not None
        )
        return [one for *_, one in ranked[: self.count]]


@dataclass(frozen=True)
class Every:
    """Keeps those whose step is a multiple of ``steps``."""

    steps: int

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Those at such a step."""
        return [one for one in checkpoints if one.step % self.steps == 0]


@dataclass(frozen=True)
class Tagged:
    """Keeps those that have a tag."""

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Those with any tag."""
        return [one for one in checkpoints if one.tags]


@dataclass(frozen=True)
class Pinned:
    """Keeps those that are pinned; in force in any case."""

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Those that are pinned."""
        return [one for one in checkpoints if one.pinned]


@dataclass(frozen=True)
class LastOnes:
    """Keeps the newest of all and the newest of each unfinished run; in force in any case.

    Attributes
    ----------
    unfinished : collection of str
        The ids of the runs that are not completed.
    """

    unfinished: Collection[str]

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """The last ones."""
        seen = set()
        for place, one in enumerate(checkpoints):
            is_last_of_run = one.run_id in self.unfinished and one.run_id not in seen
            seen.add(one.run_id)
            if place == 0 or is_last_of_run:
                yield one


def kept(checkpoints: Sequence[NotebookCheckpoint], rules: Iterable[Rule]) -> set[str]:
    """The ids of those of ``checkpoints``, newest first, that any of the rules keeps."""
    return {one.id for rule in rules for one in rule.kept(checkpoints)}


def has_state(checkpoint: NotebookCheckpoint) -> bool:
    """Whether a checkpoint's record names a state file."""
    return bool(state_paths(checkpoint))


def own_parts(
    checkpoints: Sequence[NotebookCheckpoint], owns: Callable[[NotebookCheckpoint, str], bool]
) -> dict[str, dict[str, str]]:
    """The paths of the state files that could go, by checkpoint and part: its own, that no other checkpoint names.

    A file that was registered, from somebody's folder or another checkpoint's, is not a checkpoint's own: it stays, and
    so does the reference to it, which takes up no room.
    """
    named = Counter(file_key(path) for one in checkpoints for path in state_paths(one).values())
    parts = {
        one.id: {
            part: path
            for part, path in state_paths(one).items()
            if named[file_key(path)] == 1 and owns(one, path)
        }
        for one in checkpoints
    }
    return {id: own for id, own in parts.items() if own}


def state_paths(checkpoint: NotebookCheckpoint) -> dict[str, str]:
    """The paths that a checkpoint's record names, by part."""
    paths = {"model": checkpoint.model_state_path, "optimizer": checkpoint.optimizer_state_path}
    return {part: path for part, path in paths.items() if path}


def file_key(path: str) -> tuple[str, ...]:
    """What two paths of one state file have in common, wherever the root is: notebook, checkpoint and name."""
    return PureWindowsPath(path).parts[-3:]  # splits the paths of other systems as well
