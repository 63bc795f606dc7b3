"""Which checkpoint a training resumes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..errors import NotFound
from ..records import NotebookCheckpoint, RunStatus, TrainingRun
from ..stores import STATES_ROOT, OpenStore
from .display import format_checkpoint
from .execution import cell_digest
from .messages import print_message
from .processes import is_alive, is_leased_elsewhere, is_this_process, is_unfinished
from .run import RunIdentity

#: The id that stands for a run that could not be looked up when another one began.
UNKNOWN_RUN: Final = "unknown"
#: Runs or checkpoints that are read at once.
_PAGE: Final = 50


class LeaseUndecided(Exception):
    """A run on another host may be alive: only its lease says so, and it has not ended yet."""

    def __init__(self, run: TrainingRun) -> None:
        super().__init__(run.id)
        self.run = run
        self.whereabouts = _whereabouts(run)


@dataclass
class ResumeRequest:
    """The request of a beginning training to resume another.

    Attributes
    ----------
    identity : RunIdentity
        Of the run that is about to begin.
    run : str or None
        Key, name, number or id of the run to resume, whatever its status is.
    force : bool
        Resume the newest run whatever its status is.
    wants_state : bool
        Pass over checkpoints without a model state that can be read.
    excluded : collection of str
        Runs that this process trained in the same execution. They are never resumed.
    ended, alive : set of str
        Runs on other hosts that turned out to be over, or to be alive.
    """

    identity: RunIdentity
    run: str | None = None
    force: bool = False
    wants_state: bool = True
    excluded: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    alive: set[str] = field(default_factory=set)


class ResumePoint(NamedTuple):
    """The point at which a training resumes.

    Attributes
    ----------
    checkpoint : NotebookCheckpoint or None
        None if it begins anew.
    key : str or None
        The key of the run that begins.
    skipped_run_id : str or None
        The run that is left alone because it is alive.
    """

    checkpoint: NotebookCheckpoint | None
    key: str | None
    skipped_run_id: str | None = None


def find_resumable(opened: OpenStore, notebook_id: str, request: ResumeRequest) -> ResumePoint:
    """Return the checkpoint that a training resumes from, and report why a run is not resumed.

    Raises
    ------
    NotFound
        If the named run does not exist or has no checkpoint that can be restored.
    LeaseUndecided
        If it has to be found out first whether a run on another host is alive.
    """
    search = _Search(opened, notebook_id, request)
    key = request.identity.key
    if request.run is not None:
        named = opened.repository.runs.find(request.run, notebook_id)
        return ResumePoint(search.latest_of(named), named.key if key is None else key)
    return ResumePoint(search.find(), key, search.skipped_run_id)


class _Search:
    """The search for a checkpoint to resume from."""

    def __init__(self, opened: OpenStore, notebook_id: str, request: ResumeRequest) -> None:
        self.skipped_run_id: str | None = None
        self._opened = opened
        self._repository = opened.repository
        self._notebook_id = notebook_id
        self._request = request
        self._identity = request.identity

    def latest_of(self, run: TrainingRun) -> NotebookCheckpoint:
        """Return the newest checkpoint of a run and its ancestors that can be restored."""
        newest = next(iter(list_branch(self._opened, run)), None)
        found = None if newest is None else self._restorable(newest)
        if found is None:
            raise NotFound("checkpoint", f"of run {run.id} that can be restored")
        return found

    def find(self) -> NotebookCheckpoint | None:
        """Return the latest checkpoint of the newest candidate, if that run is unfinished."""
        finished_parents: set[str] = set()  # from which runs completed without a further checkpoint
        candidates = self._candidates()
        for run in candidates:
            newest = self._newest_of(run)
            if newest is None:
                if run.status is RunStatus.COMPLETED and run.parent_checkpoint_id is not None:
                    finished_parents.add(run.parent_checkpoint_id)
                continue
            if self._request.force:
                return self._restorable_end(run, newest)
            if newest.id in finished_parents or run.status is RunStatus.COMPLETED:
                if self._identity.ordinal == 0 or self._identity.key is not None:
                    print_message(
                        f"{name_run(run)} is completed ({format_checkpoint(newest)}), so training "
                        "starts from the beginning. To continue the run, use resume(force=True)."
                    )
                return None
            if not self._is_over(run):
                print_message(
                    f"{name_run(run)} of this notebook is still training{_whereabouts(run)}, so "
                    "it is not resumed."
                )
                self.skipped_run_id = run.id
                return None
            return self._restorable_end(*self._furthest(run, newest, candidates))
        return None

    def _candidates(self) -> Iterator[TrainingRun]:
        """Yield the runs that the training may continue, newest first.

        With a key, these are the runs with that key. Without one, the first training of a cell
        continues the first training of the same cell or what was resumed from it; in a cell that
        has not trained before, it continues what was trained by a cell that no longer exists.
        Further trainings of one execution continue nothing, since a loop may have been changed.
        """
        identity = self._identity
        runs = (run for run in self._runs() if run.id not in self._request.excluded)
        if identity.key is not None:
            yield from (run for run in runs if run.key == identity.key)
            return
        if identity.ordinal > 0 and not self._request.force:
            return
        unnamed = [run for run in runs if run.key is None]
        self._report_unfinished_in_loop(unnamed)
        firsts = [run for run in unnamed if (run.ordinal or 0) == identity.ordinal]
        if identity.cell is None:
            yield from firsts
            return
        of_cell = {run.id for run in firsts if run.cell == identity.cell}
        if not of_cell:
            notebook = self._repository.find_by_id(self._notebook_id, outputs=False)
            cells = [] if notebook is None else notebook.cells
            present = {cell.id for cell in cells} | {cell_digest(cell.source) for cell in cells}
            yield from (run for run in firsts if run.cell is None or run.cell not in present)
            return
        for run in reversed(firsts):  # oldest first: a run begins after its parent
            if run.cell is None:
                of_cell.add(run.id)
            elif run.id not in of_cell and run.parent_checkpoint_id is not None:
                parent = self._repository.get_checkpoint(run.parent_checkpoint_id)
                if parent is not None and parent.run_id in of_cell:
                    of_cell.add(run.id)
        yield from (run for run in firsts if run.id in of_cell)

    def _report_unfinished_in_loop(self, unnamed: list[TrainingRun]) -> None:
        newest = next((run for run in unnamed if self._newest_of(run) is not None), None)
        if newest is not None and newest.ordinal and is_unfinished(newest):
            if self._request.force:
                return
            print_message(
                f"{name_run(newest)} is unfinished. It was training {newest.ordinal + 1} of "
                "several in one execution of a cell. To resume it, name the run: resume(…, "
                f"run={newest.id[:8]!r}). Give each training a key to have them resumed "
                "automatically: resume(…, key=…)."
            )

    def _is_over(self, run: TrainingRun) -> bool:
        if run.id in self._request.ended or is_unfinished(run):
            return True
        if run.id not in self._request.alive and is_alive(run) and is_leased_elsewhere(run):
            raise LeaseUndecided(run)
        return False

    def _furthest(
        self, run: TrainingRun, newest: NotebookCheckpoint, older: Iterator[TrainingRun]
    ) -> tuple[TrainingRun, NotebookCheckpoint]:
        """Return the run that ``run`` left alone, if that ended and came further; else ``run``."""
        seen, skipped_id = {run.id}, run.skipped_run_id
        while skipped_id is not None and skipped_id not in seen:
            seen.add(skipped_id)
            if skipped_id == UNKNOWN_RUN:
                skipped = next((one for one in older if self._newest_of(one) is not None), None)
            else:
                skipped = self._repository.runs.get(self._notebook_id, skipped_id)
            if skipped is None:
                break
            end = self._newest_of(skipped)
            is_further = end is not None and (end.epoch, end.step) > (newest.epoch, newest.step)
            if end is not None and is_further and is_unfinished(skipped):
                print_message(
                    f"{name_run(skipped)} takes precedence over {name_run(run)}: it has a later "
                    "checkpoint, although it began earlier."
                )
                run, newest = skipped, end
            skipped_id = skipped.skipped_run_id
        return run, newest

    def _restorable_end(
        self, run: TrainingRun, newest: NotebookCheckpoint
    ) -> NotebookCheckpoint | None:
        """Return the checkpoint to resume a run from; records the end of a lost process."""
        is_over = run.id in self._request.ended or not is_alive(run)
        if run.status is RunStatus.RUNNING and is_over:
            self._repository.runs.update_status(self._notebook_id, run.id, RunStatus.STOPPED)
        return self._restorable(newest)

    def _restorable(self, newest: NotebookCheckpoint) -> NotebookCheckpoint | None:
        """Return the newest checkpoint of a run whose state exists, and report missing states."""
        if not self._request.wants_state:
            return newest
        states, offset, is_reported = self._opened.states, 0, False
        elsewhere: str | None = None
        while page := self._repository.list_checkpoints(
            newest.notebook_id, _PAGE, offset, run_id=newest.run_id
        ):
            for found in page:
                path = found.model_state_path
                if states.can_read(path, found.notebook_id):
                    return found
                if path and elsewhere is None:
                    elsewhere = states.find_former_root(path, found.notebook_id)
                    if elsewhere is not None:
                        print_message(
                            f"The state of {format_checkpoint(found)} is in {elsewhere}, which is "
                            "not the current folder of state files. Set states_root or "
                            f"{STATES_ROOT} to that folder, or move its content to {states.root}."
                        )
                        is_reported = True
                if (path or found.pruned_at is not None) and not is_reported:
                    print_message(f"The state of {format_checkpoint(found)} no longer exists.")
                    is_reported = True
            offset += len(page)
        where = (
            "exists" if elsewhere is None else f"is in {states.root}, but some are in {elsewhere}"
        )
        print_message(
            f"Run {str(newest.run_id)[:8]} cannot be resumed: no state of its checkpoints {where}."
        )
        return None

    def _newest_of(self, run: TrainingRun) -> NotebookCheckpoint | None:
        return self._repository.checkpoints.get_latest(self._notebook_id, run_id=run.id)

    def _runs(self) -> Iterator[TrainingRun]:
        return _list_runs(self._opened, self._notebook_id)


def list_branch(opened: OpenStore, run: TrainingRun) -> list[NotebookCheckpoint]:
    """Return the checkpoints that led to the end of a run, newest first.

    These are its own, and those of the runs that it was resumed from up to the checkpoint where it
    was resumed.
    """
    found: list[NotebookCheckpoint] = []
    seen: set[str] = set()
    branch: TrainingRun | None = run
    until: NotebookCheckpoint | None = None
    while branch is not None and branch.id not in seen:
        seen.add(branch.id)
        of_run = opened.repository.list_checkpoints(branch.notebook_id, run_id=branch.id)
        found += [one for one in of_run if until is None or one.created_at <= until.created_at]
        parent_id = branch.parent_checkpoint_id
        until = None if parent_id is None else opened.repository.get_checkpoint(parent_id)
        branch = None
        if until is not None and until.run_id is not None:
            branch = opened.repository.runs.get(until.notebook_id, until.run_id)
    return found


def _list_runs(opened: OpenStore, notebook_id: str) -> Iterator[TrainingRun]:
    offset = 0
    while page := opened.repository.runs.list(notebook_id, _PAGE, offset):
        yield from page
        offset += len(page)


def name_run(run: TrainingRun) -> str:
    """Return how a sentence names a run: ``Run 3 (fold 2)``."""
    given = run.name or run.key
    number = run.id[:8] if run.number is None else run.number
    return f"Run {number}" + ("" if given is None else f" ({given})")


def _whereabouts(run: TrainingRun) -> str:
    if run.process is None:
        return ""
    if is_this_process(run.process):
        return " in this process"
    return f" in process {run.process.pid} on {run.process.host.partition('/')[0]}"
