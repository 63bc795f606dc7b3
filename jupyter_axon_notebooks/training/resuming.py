"""Which checkpoint a training resumes from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ..errors import NotFound
from ..printable import printable
from ..records import NotebookCheckpoint, RunStatus, TrainingRun
from ..stores import STATES_ROOT, OpenStore
from .display import format_checkpoint
from .execution import cell_digest
from .messages import print_message
from .processes import LEASE, is_alive, is_leased_elsewhere, is_this_process, is_unfinished
from .runs import RunIdentity

#: Seconds between two looks at a run whose lease may be renewed.
_POLL_INTERVAL: Final = 1.0
#: Runs that an error message lists.
_MAX_LISTED: Final = 8


@dataclass
class ResumeRequest:
    """The request of a beginning training to resume another.

    Attributes
    ----------
    identity : RunIdentity
        Of the run that is about to begin.
    run : str or None
        The key or id of the run to resume, whatever its status is.
    force : bool
        Resume the newest run whatever its status is.
    wants_state : bool
        Pass over checkpoints without a model state that can be read.
    excluded : collection of str
        Runs that this process trained in the same execution. They are never resumed.
    """

    identity: RunIdentity
    run: str | None = None
    force: bool = False
    wants_state: bool = True
    excluded: set[str] = field(default_factory=set)


@dataclass
class ResumeSearch:
    """The search for the checkpoint that a training resumes from.

    It prints why a run is not resumed.
    """

    opened: OpenStore
    notebook_id: str
    request: ResumeRequest

    def latest_of(self, run: TrainingRun) -> NotebookCheckpoint:
        """Return the newest checkpoint of a run and its ancestors that can be restored.

        Raises
        ------
        NotFound
            If there is none.
        """
        newest = next(iter(list_branch(self.opened, run)), None)
        found = None if newest is None else self._restorable(newest)
        if found is None:
            raise NotFound("checkpoint", f"of run {run.id} that can be restored")
        return found

    def find(self) -> NotebookCheckpoint | None:
        """Return the latest checkpoint of the newest candidate, if that run is unfinished."""
        finished_parents: set[str] = set()  # from which runs completed without a further checkpoint
        for run in self._candidates():
            newest = self._newest_of(run)
            if newest is None:
                if run.status is RunStatus.COMPLETED and run.parent_checkpoint_id is not None:
                    finished_parents.add(run.parent_checkpoint_id)
                continue
            is_completed = newest.id in finished_parents or run.status is RunStatus.COMPLETED
            if is_completed and not self.request.force:
                if self.request.identity.ordinal == 0 or self.request.identity.key is not None:
                    print_message(
                        f"{_name(run)} is completed ({format_checkpoint(newest)}), so training "
                        "starts from the beginning. To continue the run, use resume(force=True)."
                    )
                return None
            if not self.request.force and not is_unfinished(run) and self._is_training(run):
                print_message(
                    f"{_name(run)} of this notebook is still training{_whereabouts(run)}, so "
                    "it is not resumed."
                )
                return None
            if run.status is RunStatus.RUNNING and (not is_alive(run) or not self.request.force):
                self.opened.repository.runs.update_status(
                    self.notebook_id, run.id, RunStatus.STOPPED
                )
            return self._restorable(newest)
        return None

    def _candidates(self) -> Iterator[TrainingRun]:
        """Yield the runs that the training may continue, newest first.

        With a key, these are the runs with that key. Without one, the first training of a cell
        continues the first training of the same cell or what was resumed from it; in a cell that
        has not trained before, it continues what was trained by a cell that no longer exists.
        Further trainings of one execution continue nothing, since a loop may have been changed.
        """
        identity = self.request.identity
        listed = self.opened.repository.runs.list(self.notebook_id)
        runs = [run for run in listed if run.id not in self.request.excluded]
        if identity.key is not None:
            yield from (run for run in runs if run.key == identity.key)
            return
        if identity.ordinal > 0 and not self.request.force:
            return
        unnamed = [run for run in runs if run.key is None]
        if not self.request.force:
            self._report_unfinished_in_loop(unnamed)
        firsts = [run for run in unnamed if (run.ordinal or 0) == identity.ordinal]
        if identity.cell is None:
            yield from firsts
            return
        of_cell = {run.id for run in firsts if run.cell == identity.cell}
        if not of_cell:
            notebook = self.opened.repository.find_by_id(self.notebook_id, outputs=False)
            cells = [] if notebook is None else notebook.cells
            present = {cell.id for cell in cells} | {cell_digest(cell.source) for cell in cells}
            yield from (run for run in firsts if run.cell is None or run.cell not in present)
            return
        for run in reversed(firsts):  # oldest first: a run begins after its parent
            if run.cell is None:
                of_cell.add(run.id)
            elif run.id not in of_cell and run.parent_checkpoint_id is not None:
                parent = self.opened.repository.get_checkpoint(run.parent_checkpoint_id)
                if parent is not None and parent.run_id in of_cell:
                    of_cell.add(run.id)
        yield from (run for run in firsts if run.id in of_cell)

    def _report_unfinished_in_loop(self, unnamed: list[TrainingRun]) -> None:
        newest = next((run for run in unnamed if self._newest_of(run) is not None), None)
        if newest is not None and newest.ordinal and is_unfinished(newest):
            print_message(
                f"{_name(newest)} is unfinished. It was training {newest.ordinal + 1} of several "
                "in one execution of a cell. To resume it, name the run: resume(…, "
                f"run={newest.id[:8]!r}). Give each training a key to have them resumed "
                "automatically: resume(…, key=…)."
            )

    def _is_training(self, run: TrainingRun) -> bool:
        """Return whether a run is alive; wait if only its lease shows that it may be."""
        if not is_leased_elsewhere(run):
            return True
        timeout = LEASE.total_seconds()
        print_message(
            f"Run {run.id[:8]} was training{_whereabouts(run)} a moment ago. Waiting for up to "
            f"{timeout:.0f} s to find out whether it is still training. Interrupt to stop waiting."
        )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL)
            found = self.opened.repository.runs.get(run.notebook_id, run.id)
            if found is None or found.status is not RunStatus.RUNNING:
                return False
            if found.lease_until != run.lease_until:
                return True
        return False

    def _restorable(self, newest: NotebookCheckpoint) -> NotebookCheckpoint | None:
        """Return the newest checkpoint of a run whose state exists, and report missing states."""
        if not self.request.wants_state:
            return newest
        states, is_reported = self.opened.states, False
        elsewhere: str | None = None
        for found in self.opened.repository.list_checkpoints(
            newest.notebook_id, run_id=newest.run_id
        ):
            path = found.model_state_path
            if states.can_read(path, found.notebook_id):
                return found
            former = states.find_former_root(path, found.notebook_id)
            if former is not None and elsewhere is None:
                elsewhere, is_reported = former, True
                print_message(
                    f"The state of {format_checkpoint(found)} is in {former}, which is not the "
                    f"current folder of state files. Set states_root or {STATES_ROOT} to that "
                    f"folder, or move its content to {states.root}."
                )
            if (path or found.pruned_at is not None) and not is_reported:
                is_reported = True
                print_message(f"The state of {format_checkpoint(found)} no longer exists.")
        where = (
            "exists" if elsewhere is None else f"is in {states.root}, but some are in {elsewhere}"
        )
        print_message(
            f"Run {str(newest.run_id)[:8]} cannot be resumed: no state of its checkpoints {where}."
        )
        return None

    def _newest_of(self, run: TrainingRun) -> NotebookCheckpoint | None:
        return self.opened.repository.checkpoints.get_latest(self.notebook_id, run_id=run.id)


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


def find_run(opened: OpenStore, notebook_id: str, name: str) -> TrainingRun:
    """Return a run of a notebook by its id, its key (then the newest), or a prefix of its id.

    Raises
    ------
    NotFound
        If there is none.
    ValueError
        If the beginning matches several.
    """
    if (found := opened.repository.runs.get(notebook_id, name)) is not None:
        return found
    runs = opened.repository.runs.list(notebook_id)
    if named := [run for run in runs if run.key == name]:
        return named[0]
    matches = [run for run in runs if name and run.id.startswith(name)]
    if len(matches) > 1:
        listed = ", ".join(run.id for run in matches[:_MAX_LISTED])
        raise ValueError(printable(f"{name} could be any of {len(matches)} runs: {listed}"))
    if not matches:
        keys = list(dict.fromkeys(run.key for run in runs if run.key is not None))[:_MAX_LISTED]
        known = f"; keys of its runs: {', '.join(keys)}" if keys else ""
        raise NotFound("run", name, f"this notebook has no run {name}{known}")
    return matches[0]


def _name(run: TrainingRun) -> str:
    return f"Run {run.id[:8]}" + ("" if run.key is None else f" ({run.key})")


def _whereabouts(run: TrainingRun) -> str:
    if run.process is None:
        return ""
    if is_this_process(run.process):
        return " in this process"
    return f" in process {run.process.pid} on {run.process.host.partition('/')[0]}"
