"""Retention: which checkpoints keep their state files, and the removal of the others.

A rule gets a notebook's checkpoints with state files, newest first, and says which ones it keeps.
A checkpoint keeps its files if any rule keeps it. Besides, kept in any case are pinned
checkpoints, the newest one of the notebook, and the newest one of each unfinished run, from which
it would be resumed. Records and metrics always stay.

The checkpoints to prune are planned without locks, since planning reads every checkpoint of the
notebook. They are then pruned in short transactions with the notebook locked, so that no
checkpoint is added and no run changes its status. Each transaction checks with few look-ups that
the plan still holds: the newest checkpoints are still found, nobody has pinned, tagged or changed
a checkpoint that is to go, and no new checkpoint names its files.

Files are removed after the commit, under a temporary name that they get with the checkpoint
locked, so that a state that was added again meanwhile is not affected. If the process is killed in
between, garbage collection removes them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any, NamedTuple, Protocol

from ..errors import InvalidData, NotFound, StateError
from ..records import NotebookCheckpoint, RunStatus, format_time, now
from ..store import Store, retried
from .checkpoints import CheckpointRepository, checkpoints_of, rank_checkpoints
from .runs import RunRepository, run_key
from .states import States

#: Seconds after which a transaction starts nothing more.
_TURN = 0.03
#: The number of checkpoints that are looked up together.
_PAGE = 100


class Rule(Protocol):
    """A reason to keep checkpoints."""

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return those of ``checkpoints``, which are newest first, that the rule keeps."""


@dataclass(frozen=True)
class Newest:
    """Keeps the newest ``count`` checkpoints."""

    count: int

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return the first ones."""
        return checkpoints[: self.count]


@dataclass(frozen=True)
class Best:
    """Keeps the ``count`` best checkpoints by a metric."""

    metric: str
    minimize: bool
    count: int = 1

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return those with the smallest, or the largest, finite numbers."""
        return rank_checkpoints(checkpoints, self.metric, self.minimize)[: self.count]


@dataclass(frozen=True)
class Every:
    """Keeps the checkpoints whose step is a multiple of ``steps``."""

    steps: int

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return those at such a step."""
        return [one for one in checkpoints if one.step % self.steps == 0]


@dataclass(frozen=True)
class Tagged:
    """Keeps the checkpoints that have a tag."""

    def kept(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return those with any tag."""
        return [one for one in checkpoints if one.tags]


class Prunable(NamedTuple):
    """A checkpoint to prune, and the paths of the state files to remove, by part."""

    checkpoint: NotebookCheckpoint
    paths: dict[str, str]

    @property
    def size(self) -> int:
        """The bytes that pruning it frees, as far as they are recorded."""
        sizes = self.checkpoint.sizes or {}
        return sum(sizes.get(part, 0) for part in self.paths)


class PrunePlan(NamedTuple):
    """The checkpoints of a notebook to prune, newest first.

    Attributes
    ----------
    kept : int
        The number of other checkpoints with state files.
    """

    notebook_id: str
    prunable: list[Prunable]
    kept: int

    @property
    def size(self) -> int:
        """The bytes that pruning frees, as far as they are recorded."""
        return sum(one.size for one in self.prunable)


class _Plan(NamedTuple):
    """A plan with the facts it depends on."""

    plan: PrunePlan
    #: The newest checkpoints with state files: of unfinished runs by run, and of the notebook
    #: under None.
    newest_by_run: dict[str | None, str]
    unfinished: frozenset[str]
    newest: NotebookCheckpoint | None


class Retention:
    """The removal of state files of checkpoints whose records stay."""

    def __init__(
        self, store: Store, states: States, checkpoints: CheckpointRepository, runs: RunRepository
    ) -> None:
        self._store = store
        self._states = states
        self._checkpoints = checkpoints
        self._runs = runs

    def plan(self, notebook_id: str, rules: Sequence[Rule]) -> PrunePlan:
        """Return the checkpoints of a notebook that would lose their state files under ``rules``.

        Kept in any case are pinned checkpoints, the newest one with state files, and the newest of
        each run that is not completed. State files that were registered where they lay, or that
        another checkpoint names too, stay.

        Raises
        ------
        NotFound
            When found is no such notebook.
        InvalidData
            When found is no rule.
        """
        return self._plan(notebook_id, rules).plan

    @retried
    def _plan(self, notebook_id: str, rules: Sequence[Rule]) -> _Plan:
        if not rules:
            raise InvalidData(
                "$.rules", "expected at least one, or nothing but the last checkpoint would stay"
            )
        with self._store.snapshot():
            if not self._store.notebooks.contains(doc_id=notebook_id):
                raise NotFound("notebook", notebook_id)
            found = self._store.checkpoints.search(
                checkpoints_of(notebook_id), sort=["-created_at", "-id"]
            )
            runs = self._runs.list(notebook_id)
        everything = [self._checkpoints.read(one) for one in found]
        checkpoints = [one for one in everything if has_state(one)]
        unfinished = frozenset(run.id for run in runs if run.status is not RunStatus.COMPLETED)
        last = last_of_runs(checkpoints, unfinished)
        keep = kept(checkpoints, rules) | {*last.values()}
        own = own_parts(checkpoints, self._owns)
        prunable = [
            Prunable(one, own[one.id])
            for one in checkpoints
            if one.id in own and one.id not in keep and not one.pinned
        ]
        plan = PrunePlan(notebook_id, prunable, len(checkpoints) - len(prunable))
        return _Plan(plan, last, unfinished, everything[0] if everything else None)

    def _owns(self, checkpoint: NotebookCheckpoint, path: str) -> bool:
        return self._states.owns(path, checkpoint.notebook_id, checkpoint.id)

    def prune(
        self,
        notebook_id: str,
        rules: Sequence[Rule],
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> list[Prunable]:
        """Remove the state files of the checkpoints that :meth:`plan` names; return these.

        Their records and metrics stay: ``model_state_path`` is ``""`` and ``pruned_at`` is set. A
        checkpoint that is pinned, tagged or changed meanwhile keeps its files.

        Parameters
        ----------
        progress : callable
            Called with the number of pruned checkpoints and of all to prune. What it raises ends
            the pruning.

        Raises
        ------
        NotFound, InvalidData
            As :meth:`plan` does.
        StateError
            When checkpoints are pruned, but some of their files could not be removed; the pruning
            ends found.
        """
        pruned: list[Prunable] = []
        while True:
            planned = self._plan(notebook_id, rules)
            left = planned.plan.prunable
            total = len(pruned) + len(left)
            progress(len(pruned), total)
            while left:
                turn = self._prune_batch(planned, left[:_PAGE])
                if turn is None:
                    break  # make a new plan
                seen, gone = turn
                self._remove_files(notebook_id, gone)
                left, pruned = left[seen:], [*pruned, *gone]
                progress(total - len(left), total)
            if not left:
                return pruned

    @retried
    def _prune_batch(
        self, planned: _Plan, batch: Sequence[Prunable]
    ) -> tuple[int, list[Prunable]] | None:
        """Prune in a short transaction; return the number of checkpoints seen, and the pruned ones.

        None if the plan no longer holds.
        """
        notebook_id = planned.plan.notebook_id
        with self._store.transaction():
            if self._store.notebooks.get_for_update(notebook_id) is None:
                raise NotFound("notebook", notebook_id)
            ends = time.monotonic() + _TURN  # not counting the wait for the lock
            locked = self._lock_batch(planned, batch)
            if locked is None:
                return None
            seen, gone = 0, []
            for one in batch:
                seen += 1
                if _is_as_planned(locked.get(one.checkpoint.id), one.checkpoint):
                    self._prune(one)
                    gone.append(one)
                if time.monotonic() >= ends:
                    break
        return seen, gone

    def _lock_batch(
        self, planned: _Plan, batch: Sequence[Prunable]
    ) -> dict[str, NotebookCheckpoint] | None:
        """Lock and return the checkpoints of a batch, or None if the plan no longer holds."""
        runs = {one.checkpoint.run_id for one in batch if one.checkpoint.run_id is not None}
        newest = {
            planned.newest_by_run[run] for run in (None, *runs) if run in planned.newest_by_run
        }
        ids = newest | {one.checkpoint.id for one in batch}
        locked = {
            str(found.doc_id): self._checkpoints.read(found)
            for found in self._store.checkpoints.get_many_for_update(ids)
        }
        if not all(id in locked and has_state(locked[id]) for id in newest):
            return None
        # No run changes its status while the notebook is locked.
        keys = {run_key(planned.plan.notebook_id, run) for run in runs}
        for run in self._store.runs.get(doc_ids=keys):
            if (run.get("status") != RunStatus.COMPLETED.value) != (
                run.get("id") in planned.unfinished
            ):
                return None
        since = planned.newest.created_at if planned.newest is not None else None
        files = {file_key(path) for one in batch for path in one.paths.values()}
        for found in self._store.checkpoints.search(
            checkpoints_of(planned.plan.notebook_id, since=since)
        ):
            if files & {
                file_key(path) for path in state_paths(self._checkpoints.read(found)).values()
            }:
                return None
        return locked

    def _prune(self, one: Prunable) -> None:
        moment = format_time(now())

        def clear(stored: Any) -> None:
            for part in one.paths:
                stored.pop(f"{part}_state_path", None)
            stored.setdefault("model_state_path", "")
            stored["pruned_at"] = moment

        self._store.checkpoints.update(clear, doc_ids=[one.checkpoint.id])
        self._states.mark_unrecorded(one.checkpoint.notebook_id, one.checkpoint.id)

    def _remove_files(self, notebook_id: str, pruned: Sequence[Prunable]) -> None:
        staged: dict[str, list[str]] = {}
        with _files_remain():
            self._stage_removal(notebook_id, pruned, staged)
        for id, names in staged.items():
            with _files_remain(id):
                self._states.remove_staged(notebook_id, id, names)

    @retried
    def _stage_removal(
        self, notebook_id: str, pruned: Sequence[Prunable], staged: dict[str, list[str]]
    ) -> None:
        """Rename the files of pruned checkpoints unless they were added again; fill ``staged``."""
        wanted = {one.checkpoint.id: one.paths for one in pruned}
        with self._store.transaction():
            for found in self._store.checkpoints.get_many_for_update(wanted):
                names = _removed_names(wanted[str(found.doc_id)], found)
                done = self._states.stage_removal(notebook_id, str(found.doc_id), names)
                staged.setdefault(str(found.doc_id), []).extend(done)


def _is_as_planned(found: NotebookCheckpoint | None, planned: NotebookCheckpoint) -> bool:
    """Return whether a checkpoint is unchanged since the plan."""
    return (
        found is not None
        and (found.pinned, found.tags) == (planned.pinned, planned.tags)
        and state_paths(found) == state_paths(planned)
    )


def _removed_names(paths: Mapping[str, str], stored: Mapping[str, Any]) -> Collection[str]:
    """Return the names of the files at ``paths`` whose parts the record no longer names."""
    return [
        file_key(path)[-1] for part, path in paths.items() if not stored.get(f"{part}_state_path")
    ]


@contextmanager
def _files_remain(id: str | None = None) -> Iterator[None]:
    which = "checkpoints are" if id is None else f"checkpoint {id} is"
    try:
        yield
    except StateError as error:
        raise StateError(f"{which} pruned, but state files remain: {error}") from error


def last_of_runs(
    checkpoints: Sequence[NotebookCheckpoint], unfinished: Collection[str]
) -> dict[str | None, str]:
    """Return the ids of the newest checkpoints: of unfinished runs, and of all under None."""
    last: dict[str | None, str] = {}
    for one in checkpoints:
        last.setdefault(None, one.id)
        if one.run_id is not None and one.run_id in unfinished:
            last.setdefault(one.run_id, one.id)
    return last


def kept(checkpoints: Sequence[NotebookCheckpoint], rules: Iterable[Rule]) -> set[str]:
    """Return the ids of the checkpoints that any of the rules keeps."""
    return {one.id for rule in rules for one in rule.kept(checkpoints)}


def has_state(checkpoint: NotebookCheckpoint) -> bool:
    """Return whether a checkpoint's record names a state file."""
    return bool(state_paths(checkpoint))


def own_parts(
    checkpoints: Sequence[NotebookCheckpoint], owns: Callable[[NotebookCheckpoint, str], bool]
) -> dict[str, dict[str, str]]:
    """Return the paths of removable state files, by checkpoint and part.

    A registered file, from another folder or another checkpoint, is not a checkpoint's own.
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
    """Return the paths that a checkpoint's record names, by part."""
    paths = {"model": checkpoint.model_state_path, "optimizer": checkpoint.optimizer_state_path}
    return {part: path for part, path in paths.items() if path}


def file_key(path: str) -> tuple[str, ...]:
    """Return what identifies a state file under any root: notebook, checkpoint and name."""
    return PureWindowsPath(path).parts[-3:]  # splits the paths of all systems
