"""Pruning: state files of checkpoints go, their records and metrics stay.

What goes is found out while nothing is locked, since it takes reading every checkpoint of the notebook. Then it goes in
turns, each a short transaction under the notebook's lock in which nobody makes a checkpoint, nor moves a run on. There it
takes few look-ups to see that the plan still holds: those that must not be the last ones are not, for the last ones are
there; nobody has pinned, tagged or changed a checkpoint that is to go, or else it stays; and no new one names its files.
What else the rules keep they keep of those that were there when the plan was made.

The files go after the commit, by way of another name that they are given under the checkpoint's lock: a state that was
put back in the meantime is another file by then, or not yet there. Whoever is killed in between leaves marks and names by
which a sweep finishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..errors import InvalidData, NotFound, StateError
from ..records import NotebookCheckpoint, RunStatus, format_time, now
from ..store import Store, retried
from .checkpoints import CheckpointRepository, checkpoints_of
from .retention import LastOnes, Pinned, Rule, file_key, has_state, kept, own_parts, state_paths
from .runs import RunRepository, run_key
from .states import States

#: Seconds after which a transaction takes up nothing more.
_TURN = 0.03
#: Checkpoints that are looked at together.
_PAGE = 100


class Prunable(NamedTuple):
    """A checkpoint that goes, as it was found, and the paths of its state files that go, by part."""

    checkpoint: NotebookCheckpoint
    paths: dict[str, str]

    @property
    def size(self) -> int:
        """The bytes that this frees, as far as they are recorded."""
        sizes = self.checkpoint.sizes or {}
        return sum(sizes.get(part, 0) for part in self.paths)


class PrunePlan(NamedTuple):
    """What would go of a notebook, newest first.

    Attributes
    ----------
    kept : int
        How many other checkpoints have state files, which stay.
    """

    notebook_id: str
    goes: list[Prunable]
    kept: int

    @property
    def size(self) -> int:
        """The bytes that this frees, as far as they are recorded."""
        return sum(one.size for one in self.goes)


class _Plan(NamedTuple):
    """A plan, and what it goes by."""

    plan: PrunePlan
    guards: dict[
        str | None, str
    ]  # the last ones: by unfinished run, and of the notebook under None
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

        Kept in any case are pinned checkpoints, the newest one with state files, and the newest of each run that is not
        completed. State files that were registered where they lay, or that another checkpoint names too, stay.

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
        last = LastOnes(unfinished)
        keep = kept(checkpoints, [*rules, Pinned(), last])
        own = own_parts(checkpoints, self._owns)
        goes = [
            Prunable(one, own[one.id])
            for one in checkpoints
            if one.id not in keep and one.id in own
        ]
        guards: dict[str | None, str] = {
            one.run_id: one.id for one in last.kept(checkpoints) if one.run_id is not None
        }
        if checkpoints:
            guards[None] = checkpoints[0].id
        plan = PrunePlan(notebook_id, goes, len(checkpoints) - len(goes))
        return _Plan(plan, guards, unfinished, everything[0] if everything else None)

    def _owns(self, checkpoint: NotebookCheckpoint, path: str) -> bool:
        return self._states.owns(path, checkpoint.notebook_id, checkpoint.id)

    def prune(
        self,
        notebook_id: str,
        rules: Sequence[Rule],
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> list[Prunable]:
        """Remove the state files of the checkpoints that :meth:`plan` names and return the pruned ones.

        Their records and metrics stay: ``model_state_path`` is ``""`` and ``pruned_at`` is set. A checkpoint that is pinned,
        tagged or changed meanwhile keeps its files.

        Parameters
        ----------
        progress : callable
            Called with the number of pruned checkpoints and of all to prune. What it raises ends the pruning.

        Raises
        ------
        NotFound, InvalidData
            As :meth:`plan` does.
        StateError
            When checkpoints are pruned, but some of their files could not be removed; the pruning ends there.
        """
        pruned: list[Prunable] = []
        while True:
            planned = self._plan(notebook_id, rules)
            left = planned.plan.goes
            total = len(pruned) + len(left)
            progress(len(pruned), total)
            while left:
                turn = self._turn(planned, left[:_PAGE])
                if turn is None:
                    break  # the last ones have changed: it takes a new plan
                seen, gone = turn
                self._remove_files(notebook_id, gone)
                left, pruned = left[seen:], [*pruned, *gone]
                progress(total - len(left), total)
            if not left:
                return pruned

    @retried
    def _turn(self, planned: _Plan, batch: Sequence[Prunable]) -> tuple[int, list[Prunable]] | None:
        """Prune as many as a short transaction takes; how many were looked at, and those pruned.

        None where the plan does not hold any more.
        """
        notebook_id = planned.plan.notebook_id
        with self._store.transaction():
            if self._store.notebooks.locked(notebook_id) is None:
                raise NotFound("notebook", notebook_id)
            ends = time.monotonic() + _TURN  # waiting for the lock has held up nobody
            there = self._still_planned(planned, batch)
            if there is None:
                return None
            seen, gone = 0, []
            for one in batch:
                seen += 1
                if _is_as_planned(there.get(one.checkpoint.id), one.checkpoint):
                    self._prune(one)
                    gone.append(one)
                if time.monotonic() >= ends:
                    break
        return seen, gone

    def _still_planned(
        self, planned: _Plan, batch: Sequence[Prunable]
    ) -> dict[str, NotebookCheckpoint] | None:
        """The checkpoints of a batch as they are now, locked; None where those that were to stay are not all there."""
        runs = {one.checkpoint.run_id for one in batch if one.checkpoint.run_id is not None}
        guards = {planned.guards[run] for run in (None, *runs) if run in planned.guards}
        ids = guards | {one.checkpoint.id for one in batch}
        there = {
            str(found.doc_id): self._checkpoints.read(found)
            for found in self._store.checkpoints.locked_some(ids)
        }
        if not all(id in there and has_state(there[id]) for id in guards):
            return None
        # Nobody moves a run on while the notebook is locked.
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
        return there

    def _prune(self, one: Prunable) -> None:
        moment = format_time(now())

        def forget(stored: Any) -> None:
            for part in one.paths:
                stored.pop(f"{part}_state_path", None)
            stored.setdefault("model_state_path", "")
            stored["pruned_at"] = moment

        self._store.checkpoints.update(forget, doc_ids=[one.checkpoint.id])
        self._states.mark_unrecorded(one.checkpoint.notebook_id, one.checkpoint.id)

    def _remove_files(self, notebook_id: str, gone: Sequence[Prunable]) -> None:
        aside: dict[str, list[str]] = {}
        with _files_remain():
            self._set_aside(notebook_id, gone, aside)
        for id, names in aside.items():
            with _files_remain(id):
                self._states.remove_staged(notebook_id, id, names)

    @retried
    def _set_aside(
        self, notebook_id: str, gone: Sequence[Prunable], aside: dict[str, list[str]]
    ) -> None:
        """Have the files of pruned checkpoints be nobody's, unless they were put back; ``aside`` gets their names."""
        wanted = {one.checkpoint.id: one.paths for one in gone}
        with self._store.transaction():
            for found in self._store.checkpoints.locked_some(wanted):
                names = _unnamed(wanted[str(found.doc_id)], found)
                done = self._states.stage_removal(notebook_id, str(found.doc_id), names)
                aside.setdefault(str(found.doc_id), []).extend(done)


def _is_as_planned(found: NotebookCheckpoint | None, planned: NotebookCheckpoint) -> bool:
    """Whether nobody has pinned, tagged, changed or removed a checkpoint since it was planned for."""
    return (
        found is not None
        and (found.pinned, found.tags) == (planned.pinned, planned.tags)
        and state_paths(found) == state_paths(planned)
    )


def _unnamed(paths: Mapping[str, str], stored: Mapping[str, Any]) -> Collection[str]:
    """The names of the files at ``paths`` of those parts that a checkpoint's record names no file of."""
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
