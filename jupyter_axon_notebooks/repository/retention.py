"""Retention: rules for the checkpoints that keep their state files, and the removal of the others.

A checkpoint keeps its files if any rule keeps it. Pinned checkpoints, the newest checkpoint of the
notebook, and the newest checkpoint of each unfinished run, from which the run would be resumed,
always keep theirs. Records and metrics always stay.

The plan reads every checkpoint of the notebook, so it is made without locks. The checkpoints are
then pruned in short transactions. Each one locks the notebook, so that no checkpoint is added and
no run changes its status, and checks that the plan still holds: the newest checkpoints still exist,
the status of their runs is the same, and no new checkpoint uses a file that would be removed. A
checkpoint that was pinned, tagged or changed meanwhile is skipped.

A run with rules of its own is pruned while it is trained, in one transaction after each checkpoint
(:meth:`Retention.prune_run`). No plan is made, since the training process knows which checkpoints
may be pruned.

Files are removed after the commit. They are renamed first, with the checkpoint locked, so that a
state file that was added again meanwhile is not removed. If the process is killed in between,
garbage collection removes them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PureWindowsPath
from typing import Any, NamedTuple

from tinydb import where

from ..errors import InvalidData, NotFound, StateError
from ..records import NotebookCheckpoint, RunStatus, format_time, now
from ..store import Store, retried
from ..store.codec import encode
from ..store.tables import decode_document
from .checkpoints import CheckpointRepository, checkpoint_query
from .retention_rules import Best, Every, Rule
from .run_queries import run_key
from .runs import RunRepository
from .states import States

#: A transaction prunes no further checkpoint after this number of seconds.
_TRANSACTION_TIME = 0.03
#: The number of checkpoints that are looked up together.
_PAGE = 100
#: The most checkpoints that are pruned after one checkpoint of a run with rules of its own.
_MAX_OF_RUN = 20


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


class RunPruning(NamedTuple):
    """The result of pruning a run that is being trained.

    Attributes
    ----------
    candidates : set of str
        The checkpoints that may be pruned after further ones. The others never will be.
    missing_metric : str or None
        The metric without which nothing is pruned.
    """

    pruned: list[Prunable]
    candidates: set[str]
    missing_metric: str | None


class _Plan(NamedTuple):
    """A plan and the facts that it depends on."""

    plan: PrunePlan
    #: The ids of the newest checkpoints with state files: by unfinished run, and of the notebook
    #: under the key None.
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
        return self._plan(notebook_id, rules).plan

    @retried
    def _plan(self, notebook_id: str, rules: Sequence[Rule]) -> _Plan:
        if not rules:
            raise InvalidData(
                "$.rules", "expected at least one rule; without one, only the newest would be kept"
            )
        with self._store.snapshot():
            if not self._store.notebooks.contains(doc_id=notebook_id):
                raise NotFound("notebook", notebook_id)
            found = self._store.checkpoints.search(
                checkpoint_query(notebook_id), sort=["-created_at", "-id"]
            )
            runs = self._runs.list(notebook_id)
        everything = [self._checkpoints.read(one) for one in found]
        checkpoints = [one for one in everything if has_state(one)]
        unfinished = frozenset(run.id for run in runs if run.status is not RunStatus.COMPLETED)
        newest = find_newest(checkpoints, unfinished)
        keep = find_kept(checkpoints, rules) | {*newest.values()}
        removable = find_removable(checkpoints, self._owns)
        prunable = [
            Prunable(one, removable[one.id])
            for one in checkpoints
            if one.id in removable and one.id not in keep and not one.pinned
        ]
        plan = PrunePlan(notebook_id, prunable, len(checkpoints) - len(prunable))
        return _Plan(plan, newest, unfinished, everything[0] if everything else None)

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
        to the time. A checkpoint that is pinned, tagged or changed meanwhile keeps its files.

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
        while True:
            planned = self._plan(notebook_id, rules)
            left = planned.plan.prunable
            total = len(pruned) + len(left)
            progress(len(pruned), total)
            while left:
                result = self._prune_batch(planned, left[:_PAGE])
                if result is None:
                    break  # make a new plan
                checked, batch = result
                self._remove_files(notebook_id, batch)
                left, pruned = left[checked:], [*pruned, *batch]
                progress(total - len(left), total)
            if not left:
                return pruned

    def prune_run(
        self, notebook_id: str, run_id: str, ids: Collection[str], rules: Sequence[Rule]
    ) -> RunPruning:
        """Prune checkpoints of a run that is being trained, by the rules of that run.

        The rules apply to the given checkpoints alone. Checkpoints that are pinned or tagged, or
        from which another run was resumed, the newest ones, from which this run would be resumed,
        and files that :meth:`plan` leaves alone are kept. Nothing is pruned while no checkpoint has
        the metric of a :class:`.Best`. A call prunes a limited number of checkpoints; the next one
        continues.

        Parameters
        ----------
        ids : collection of str
            The checkpoints that may be pruned, and those that they are compared with. Those that do
            not exist, or belong to another run, are ignored.

        Raises
        ------
        StateError
            When checkpoints were pruned, but some of their files could not be removed.
        """
        result = self._prune_run(notebook_id, run_id, ids, rules)
        self._remove_files(notebook_id, result.pruned)
        return result

    @retried
    def _prune_run(
        self, notebook_id: str, run_id: str, ids: Collection[str], rules: Sequence[Rule]
    ) -> RunPruning:
        with self._store.transaction():
            # No checkpoint is added and no run begins while the notebook is locked.
            self._store.notebooks.get_for_update(notebook_id)
            checkpoints = self._lock_run(notebook_id, run_id, ids)
            passing = [rule for rule in rules if not isinstance(rule, Every)]
            kept = _find_resumable(checkpoints) | find_kept(checkpoints, passing)
            replaced = [one for one in checkpoints if one.id not in kept]
            missing = next(
                (rule.metric for rule in rules if isinstance(rule, Best) and not rule(checkpoints)),
                None,
            )
            if missing is not None or not replaced:
                return RunPruning([], {one.id for one in checkpoints}, missing)
            lasting = find_kept(checkpoints, rules) | self._find_parents(notebook_id, run_id)
            unneeded = [
                one for one in replaced if one.id not in lasting and not one.pinned and not one.tags
            ]
            pruned = self._find_prunable(unneeded[-_MAX_OF_RUN:])
            for one in pruned:
                self._prune(one)
        return RunPruning(pruned, kept | {one.id for one in unneeded[:-_MAX_OF_RUN]}, None)

    def _lock_run(
        self, notebook_id: str, run_id: str, ids: Collection[str]
    ) -> list[NotebookCheckpoint]:
        """Lock and return those checkpoints that belong to a run and have states, newest first."""
        found = map(self._checkpoints.read, self._store.checkpoints.get_many_for_update(ids))
        of_run = [
            one
            for one in found
            if (one.notebook_id, one.run_id) == (notebook_id, run_id) and has_state(one)
        ]
        return sorted(of_run, key=lambda one: (one.created_at, one.id), reverse=True)

    def _find_parents(self, notebook_id: str, run_id: str) -> set[str]:
        """Return the checkpoints from which runs were resumed that began after a run."""
        run = self._store.runs.get(doc_id=run_key(notebook_id, run_id))
        if run is None:
            return set()
        since = where("started_at") > run["started_at"]
        later = self._store.runs.search((where("notebook_id") == notebook_id) & since)
        return {one["parent_checkpoint_id"] for one in later if "parent_checkpoint_id" in one}

    def _find_prunable(self, checkpoints: Sequence[NotebookCheckpoint]) -> list[Prunable]:
        """Return what can be removed of checkpoints of one notebook."""
        if not checkpoints:
            return []
        # A file exists when it is registered, so only a newer checkpoint can use it, too.
        since = min(one.created_at for one in checkpoints)
        newer = checkpoint_query(checkpoints[0].notebook_id, since=since)
        ids = {one.id for one in checkpoints}
        names = [encode(id)[1:-1] for id in ids]
        others = [
            self._checkpoints.read(decode_document((id, text)))
            for id, text in self._store.checkpoints.list_json(newer, [])
            if id not in ids and any(name in text for name in names)
        ]
        removable = find_removable([*checkpoints, *others], self._owns)
        return [Prunable(one, removable[one.id]) for one in checkpoints if one.id in removable]

    @retried
    def _prune_batch(
        self, planned: _Plan, batch: Sequence[Prunable]
    ) -> tuple[int, list[Prunable]] | None:
        """Prune checkpoints in a short transaction.

        Return the number of checkpoints that were checked, and those that were pruned, or None if
        the plan no longer holds.
        """
        notebook_id = planned.plan.notebook_id
        with self._store.transaction():
            if self._store.notebooks.get_for_update(notebook_id) is None:
                raise NotFound("notebook", notebook_id)
            deadline = time.monotonic() + _TRANSACTION_TIME  # without the wait for the lock
            locked = self._lock_batch(planned, batch)
            if locked is None:
                return None
            checked, pruned = 0, []
            for one in batch:
                checked += 1
                if _is_unchanged(locked.get(one.checkpoint.id), one.checkpoint):
                    self._prune(one)
                    pruned.append(one)
                if time.monotonic() >= deadline:
                    break
        return checked, pruned

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
            checkpoint_query(planned.plan.notebook_id, since=since)
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
                id = str(found.doc_id)
                names = [
                    file_key(path)[-1]
                    for part, path in wanted[id].items()
                    if not found.get(f"{part}_state_path")
                ]
                done = self._states.stage_removal(notebook_id, id, names)
                staged.setdefault(id, []).extend(done)


def _is_unchanged(found: NotebookCheckpoint | None, planned: NotebookCheckpoint) -> bool:
    """Return whether a checkpoint still has the pin, tags and files that it was planned with."""
    return (
        found is not None
        and (found.pinned, found.tags) == (planned.pinned, planned.tags)
        and state_paths(found) == state_paths(planned)
    )


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
    for one in checkpoints:
        newest.setdefault(None, one.id)
        if one.run_id is not None and one.run_id in unfinished:
            newest.setdefault(one.run_id, one.id)
    return newest


def _find_resumable(checkpoints: Sequence[NotebookCheckpoint]) -> set[str]:
    """Return the ids of the newest checkpoint, and of the newest one with a model's state."""
    newest = [one.id for one in checkpoints[:1]]
    return {*newest, *[one.id for one in checkpoints if one.model_state_path][:1]}


def find_kept(checkpoints: Sequence[NotebookCheckpoint], rules: Iterable[Rule]) -> set[str]:
    """Return the ids of the checkpoints that any rule keeps."""
    return {one.id for rule in rules for one in rule(checkpoints)}


def has_state(checkpoint: NotebookCheckpoint) -> bool:
    """Return whether a checkpoint has a state file."""
    return bool(state_paths(checkpoint))


def find_removable(
    checkpoints: Sequence[NotebookCheckpoint], owns: Callable[[NotebookCheckpoint, str], bool]
) -> dict[str, dict[str, str]]:
    """Return the paths of the state files that may be removed, by checkpoint and part.

    These are in the folder of their checkpoint, and no other checkpoint uses them.
    """
    uses = Counter(file_key(path) for one in checkpoints for path in state_paths(one).values())
    parts = {
        one.id: {
            part: path
            for part, path in state_paths(one).items()
            if uses[file_key(path)] == 1 and owns(one, path)
        }
        for one in checkpoints
    }
    return {id: own for id, own in parts.items() if own}


def state_paths(checkpoint: NotebookCheckpoint) -> dict[str, str]:
    """Return the paths of a checkpoint's state files, by part."""
    paths = {"model": checkpoint.model_state_path, "optimizer": checkpoint.optimizer_state_path}
    return {part: path for part, path in paths.items() if path}


def file_key(path: str) -> tuple[str, ...]:
    """Return the notebook, checkpoint and file name of a state file, without the root folder."""
    return PureWindowsPath(path).parts[-3:]  # PureWindowsPath also splits POSIX paths
