"""Retention: rules for the checkpoints that keep their state files, and the removal of the others.

A checkpoint keeps its files if any rule keeps it. Pinned checkpoints, the newest checkpoint of the
notebook, and the newest checkpoint of each unfinished run, from which the run would be resumed,
always keep theirs. Records and metrics always stay.

A plan is made and carried out in one transaction, which locks the notebook, so that no checkpoint
is added and no run changes its status.

Files are removed after the commit. They are renamed first, with the checkpoint locked, so that a
state file that was added again meanwhile is not removed. If the process is killed in between,
garbage collection removes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any, NamedTuple

from ..errors import InvalidData, NotFound, StateError
from ..records import NotebookCheckpoint, RunStatus, format_time, now
from ..store import Store, retried
from .checkpoints import CheckpointRepository, rank_checkpoints
from .runs import RunRepository
from .states import States

#: The number of checkpoints that one transaction prunes.
_PAGE = 500


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
        return [checkpoint for checkpoint in checkpoints if checkpoint.step % self.steps == 0]


@dataclass(frozen=True)
class Tagged:
    """A rule that keeps the checkpoints that have a tag."""

    def __call__(self, checkpoints: Sequence[NotebookCheckpoint]) -> Iterable[NotebookCheckpoint]:
        """Return the checkpoints to keep."""
        return [checkpoint for checkpoint in checkpoints if checkpoint.tags]


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
        return sum(prunable.size for prunable in self.prunable)


class Retention:
    """The removal of state files of checkpoints whose records stay."""

    def __init__(
        self, store: Store, states: States, checkpoints: CheckpointRepository, runs: RunRepository
    ) -> None:
        self._store = store
        self._states = states
        self._checkpoints = checkpoints
        self._runs = runs

    @retried
    def plan(self, notebook_id: str, rules: Sequence[Rule]) -> PrunePlan:
        """Return the checkpoints of a notebook whose state files ``rules`` would remove.

        Pinned checkpoints, the newest one with state files, and the newest one of each run that is
        not completed are always kept. A state file outside of its checkpoint's folder, or one that
        another checkpoint uses too, is never removed.

        Raises
        ------
        NotFound
            When there is no such notebook.
        InvalidData
            When there is no rule.
        """
        with self._store.snapshot():
            return self._plan(notebook_id, rules)

    def _plan(self, notebook_id: str, rules: Sequence[Rule]) -> PrunePlan:
        if not rules:
            raise InvalidData(
                "$.rules", "expected at least one rule; without one, only the newest would be kept"
            )
        if not self._store.notebooks.contains(doc_id=notebook_id):
            raise NotFound("notebook", notebook_id)
        found = self._checkpoints.list(notebook_id)
        checkpoints = [checkpoint for checkpoint in found if has_state(checkpoint)]
        runs = self._runs.list(notebook_id)
        unfinished = {run.id for run in runs if run.status is not RunStatus.COMPLETED}
        keep = find_kept(checkpoints, rules) | {*find_newest(checkpoints, unfinished).values()}
        removable = find_removable(checkpoints, self._owns)
        prunable = [
            Prunable(checkpoint, removable[checkpoint.id])
            for checkpoint in checkpoints
            if checkpoint.id in removable and checkpoint.id not in keep and not checkpoint.pinned
        ]
        return PrunePlan(notebook_id, prunable, len(checkpoints) - len(prunable))

    def _owns(self, checkpoint: NotebookCheckpoint, path: str) -> bool:
        return self._states.owns(path, checkpoint.notebook_id, checkpoint.id)

    def prune(
        self,
        notebook_id: str,
        rules: Sequence[Rule],
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> list[Prunable]:
        """Prune the checkpoints that :meth:`plan` returns, and return those that were pruned.

        Their records and metrics stay, with ``model_state_path`` set to ``""`` and ``pruned_at``
        to the time. A checkpoint that is pinned meanwhile keeps its files.

        Parameters
        ----------
        progress : callable
            Called with the number of pruned checkpoints and the total. An exception that it raises
            ends the pruning.

        Raises
        ------
        NotFound, InvalidData
            As :meth:`plan` does.
        StateError
            When checkpoints were pruned, but some of their files could not be removed. No further
            checkpoints are pruned.
        """
        pruned: list[Prunable] = []
        total = len(self.plan(notebook_id, rules).prunable)
        progress(0, total)
        while batch := self._prune_batch(notebook_id, rules):
            self._remove_files(notebook_id, batch)
            pruned += batch
            progress(len(pruned), max(total, len(pruned)))
        return pruned

    @retried
    def _prune_batch(self, notebook_id: str, rules: Sequence[Rule]) -> list[Prunable]:
        """Plan, and prune the first checkpoints of the plan in the same transaction."""
        with self._store.transaction():
            if self._store.notebooks.get_for_update(notebook_id) is None:
                raise NotFound("notebook", notebook_id)
            planned = self._plan(notebook_id, rules).prunable[:_PAGE]
            ids = [prunable.checkpoint.id for prunable in planned]
            locked = {
                str(found.doc_id): self._checkpoints.read(found)
                for found in self._store.checkpoints.get_many_for_update(ids)
            }
            # One may have been pinned, tagged or deleted before it was locked.
            batch = [
                prunable
                for prunable in planned
                if locked.get(prunable.checkpoint.id) == prunable.checkpoint
            ]
            for prunable in batch:
                self._prune(prunable)
        return batch

    def _prune(self, prunable: Prunable) -> None:
        moment = format_time(now())

        def clear(stored: Any) -> None:
            for part in prunable.paths:
                stored.pop(f"{part}_state_path", None)
            stored.setdefault("model_state_path", "")
            stored["pruned_at"] = moment

        self._store.checkpoints.update(clear, doc_ids=[prunable.checkpoint.id])
        self._states.mark_unrecorded(prunable.checkpoint.notebook_id, prunable.checkpoint.id)

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
        wanted = {prunable.checkpoint.id: prunable.paths for prunable in pruned}
        with self._store.transaction():
            for found in self._store.checkpoints.get_many_for_update(wanted):
                id = str(found.doc_id)
                names = [
                    file_key(path)[-1]
                    for part, path in wanted[id].items()
                    if not found.get(f"{part}_state_path")
                ]
                done = self._states.stage_removal(notebook_id, id, names)
                staged.setdefault(id, []).extend(done)


@contextmanager
def _files_remain(id: str | None = None) -> Iterator[None]:
    which = "checkpoints are" if id is None else f"checkpoint {id} is"
    try:
        yield
    except StateError as error:
        raise StateError(f"{which} pruned, but state files remain: {error}") from error


def find_newest(
    checkpoints: Sequence[NotebookCheckpoint], unfinished: Collection[str]
) -> dict[str | None, str]:
    """Return the id of the newest checkpoint of each unfinished run, and of the notebook (None)."""
    newest: dict[str | None, str] = {}
    for checkpoint in checkpoints:
        newest.setdefault(None, checkpoint.id)
        if checkpoint.run_id is not None and checkpoint.run_id in unfinished:
            newest.setdefault(checkpoint.run_id, checkpoint.id)
    return newest


def find_kept(checkpoints: Sequence[NotebookCheckpoint], rules: Iterable[Rule]) -> set[str]:
    """Return the ids of the checkpoints that any rule keeps."""
    return {checkpoint.id for rule in rules for checkpoint in rule(checkpoints)}


def has_state(checkpoint: NotebookCheckpoint) -> bool:
    """Return whether a checkpoint has a state file."""
    return bool(state_paths(checkpoint))


def find_removable(
    checkpoints: Sequence[NotebookCheckpoint], owns: Callable[[NotebookCheckpoint, str], bool]
) -> dict[str, dict[str, str]]:
    """Return the paths of the state files that may be removed, by checkpoint and part.

    These are in the folder of their checkpoint, and no other checkpoint uses them.
    """
    uses = Counter(
        file_key(path) for checkpoint in checkpoints for path in state_paths(checkpoint).values()
    )
    parts = {
        checkpoint.id: {
            part: path
            for part, path in state_paths(checkpoint).items()
            if uses[file_key(path)] == 1 and owns(checkpoint, path)
        }
        for checkpoint in checkpoints
    }
    return {id: own for id, own in parts.items() if own}


def state_paths(checkpoint: NotebookCheckpoint) -> dict[str, str]:
    """Return the paths of a checkpoint's state files, by part."""
    paths = {"model": checkpoint.model_state_path, "optimizer": checkpoint.optimizer_state_path}
    return {part: path for part, path in paths.items() if path}


def file_key(path: str) -> tuple[str, ...]:
    """Return the notebook, checkpoint and file name of a state file, without the root folder."""
    return PureWindowsPath(path).parts[-3:]  # PureWindowsPath also splits POSIX paths
