"""Which checkpoint a training goes on from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from ..errors import NotFound
from ..printable import printable
from ..records import NotebookCheckpoint, RunStatus, TrainingRun
from ..stores import STATES_ROOT, OpenStore
from .display import format_checkpoint
from .execution import cell_digest
from .messages import print_message
from .processes import RunIdentity, is_alive, is_here, is_leased_elsewhere, is_unfinished

#: Stands for a run that could not be seen when another one began.
UNKNOWN_RUN: Final = "unknown"
#: Runs, and checkpoints, that are read at once in search of one.
_PAGE: Final = 50
#: Names of runs that an error lists.
_MOST_LISTED: Final = 8


class Leased(Exception):
    """A run of another host may still train: only its lease says so."""

    def __init__(self, run: TrainingRun) -> None:
        super().__init__(run.id)
        self.run = run
        self.whereabouts = _whereabouts(run)


@dataclass
class Resumable:
    """A question for the checkpoint that a training goes on from.

    Attributes
    ----------
    identity : RunIdentity
        Of the run that is about to begin.
    force : bool
        Whatever became of the run.
    wants_state : bool
        Pass over checkpoints without a model's state that can be read.
    own : collection of str
        The runs that this process has trained in this execution; they are never resumed.
    ended, alive : collection of str
        Runs of other hosts that turned out to be over, or to train still.
    skipped_run_id : str or None
        Set to the run that was left alone because it is alive.
    """

    home: OpenStore
    notebook_id: str
    identity: RunIdentity
    force: bool
    wants_state: bool
    own: Collection[str]
    ended: Collection[str]
    alive: Collection[str]
    skipped_run_id: str | None = None

    def newest_of(self, run: TrainingRun) -> NotebookCheckpoint | None:
        """The newest checkpoint of a run."""
        return self.home.repository.checkpoints.get_latest(self.notebook_id, run_id=run.id)

    def latest_of(self, run: TrainingRun) -> NotebookCheckpoint:
        """The newest checkpoint of a run, or of what it was resumed from, that can be restored.

        Raises
        ------
        NotFound
            When it has none.
        """
        newest = next(iter(list_branch(self.home, run)), None)
        found = None if newest is None else self._restorable(newest)
        if found is None:
            raise NotFound("checkpoint", f"of run {run.id} that can be restored")
        return found

    def restorable(self, run: TrainingRun, newest: NotebookCheckpoint) -> NotebookCheckpoint | None:
        """The checkpoint to go on from, of a run that is over; its end is recorded if its process could not do that."""
        if run.status is RunStatus.RUNNING and (run.id in self.ended or not is_alive(run)):
            self.home.repository.runs.update_status(self.notebook_id, run.id, RunStatus.STOPPED)
        return self._restorable(newest)

    def _restorable(self, newest: NotebookCheckpoint) -> NotebookCheckpoint | None:
        """The newest checkpoint of a run whose state is there; says so if it is not the newest that has had one."""
        if not self.wants_state:
            return newest
        offset, missing = 0, False
        elsewhere: str | None = None
        repository, states = self.home.repository, self.home.states
        while page := repository.list_checkpoints(
            newest.notebook_id, _PAGE, offset, run_id=newest.run_id
        ):
            for found in page:
                if states.can_read(found.model_state_path, found.notebook_id):
                    return found
                path = found.model_state_path
                if path and elsewhere is None:
                    elsewhere = states.find_former_root(path, found.notebook_id)
                    if elsewhere is not None:
                        print_message(
                            f"The state of {format_checkpoint(found)} is below {elsewhere}, where it is not looked for. Set states_root "
                            f"or {STATES_ROOT} to that folder, or move what is in it to {states.root}."
                        )
                        missing = True
                if (path or found.pruned_at is not None) and not missing:
                    print_message(f"The state of {format_checkpoint(found)} is not there any more.")
                    missing = True
            offset += len(page)
        where = (
            "there" if elsewhere is None else f"below {states.root}, but some are below {elsewhere}"
        )
        print_message(
            f"Run {str(newest.run_id)[:8]} cannot be gone on with: no state of its checkpoints is {where}."
        )
        return None

    def is_over(self, run: TrainingRun) -> bool:
        """Whether nobody trains in a run any more, and it was not completed.

        Raises
        ------
        Leased
            When only the run's lease says that somebody does.
        """
        if run.id in self.ended or is_unfinished(run):
            return True
        if run.id not in self.alive and is_alive(run) and is_leased_elsewhere(run):
            raise Leased(run)
        return False


def find_resumable(asked: Resumable) -> NotebookCheckpoint | None:
    """Return the latest checkpoint of the newest run that this training continues, if that run is unfinished.

    What keeps it from being resumed is said.

    Raises
    ------
    Leased
        When it has to be found out first whether a run of another host still trains.
    """
    identity = asked.identity
    finished_from: set[str] = (
        set()
    )  # where runs went on, and came to their end without a further checkpoint
    candidates = _candidates(asked)
    for run in candidates:
        newest = asked.newest_of(run)
        if newest is None:
            if run.status is RunStatus.COMPLETED and run.parent_checkpoint_id is not None:
                finished_from.add(run.parent_checkpoint_id)
            continue
        if asked.force:
            return asked.restorable(run, newest)
        if newest.id in finished_from or run.status is RunStatus.COMPLETED:
            if identity.ordinal == 0 or identity.key is not None:
                print_message(
                    f"{_named(run)} completed ({format_checkpoint(newest)}): training begins anew. resume(force=True) continues it."
                )
            return None
        if not asked.is_over(run):
            print_message(
                f"{_named(run)} of this notebook is still training{_whereabouts(run)}: left alone."
            )
            asked.skipped_run_id = run.id
            return None
        return asked.restorable(*_furthest(asked, run, newest, candidates))
    return None


def _furthest(
    asked: Resumable, run: TrainingRun, newest: NotebookCheckpoint, older: Iterator[TrainingRun]
) -> tuple[TrainingRun, NotebookCheckpoint]:
    """The run that ``run`` began anew beside, if it is over by now and came further; else ``run``."""
    repository, seen = asked.home.repository, {run.id}
    skipped_id = run.skipped_run_id
    while skipped_id is not None and skipped_id not in seen:
        seen.add(skipped_id)
        if skipped_id == UNKNOWN_RUN:
            skipped = next((found for found in older if asked.newest_of(found) is not None), None)
        else:
            skipped = repository.runs.get(asked.notebook_id, skipped_id)
        if skipped is None:
            break
        its_newest = asked.newest_of(skipped)
        further = its_newest is not None and (its_newest.epoch, its_newest.step) > (
            newest.epoch,
            newest.step,
        )
        if its_newest is not None and further and is_unfinished(skipped):
            print_message(
                f"{_named(skipped)} came further than {_named(run)}, which began beside it."
            )
            run, newest = skipped, its_newest
        skipped_id = skipped.skipped_run_id
    return run, newest


def _candidates(asked: Resumable) -> Iterator[TrainingRun]:
    """The runs that this training may continue, newest first.

    With a key, those of that key. Without, the first training of a cell continues what was the first training of the same cell,
    or was continued from there, or, where the cell has not trained before, of any. The second and later trainings of one
    execution continue nothing, since nobody can tell which: a loop may have been changed.
    """
    identity = asked.identity
    runs = (run for run in _all_runs(asked.home, asked.notebook_id) if run.id not in asked.own)
    if identity.key is not None:
        yield from (run for run in runs if run.key == identity.key)
        return
    if identity.ordinal > 0 and not asked.force:
        return
    unnamed = [run for run in runs if run.key is None]
    _say_unfinished_in_loop(asked, unnamed)
    firsts = [run for run in unnamed if (run.ordinal or 0) == identity.ordinal]
    of_cell = {run.id for run in firsts if run.cell == identity.cell}
    if identity.cell is None:
        yield from firsts
        return
    if not of_cell:
        present = _cells_of(asked)
        yield from (run for run in firsts if run.cell is None or run.cell not in present)
        return
    for run in reversed(firsts):  # oldest first, since a run is begun after its parent
        if run.cell is None:
            of_cell.add(run.id)
        elif run.id not in of_cell and run.parent_checkpoint_id is not None:
            parent = asked.home.repository.get_checkpoint(run.parent_checkpoint_id)
            if parent is not None and parent.run_id in of_cell:
                of_cell.add(run.id)
    yield from (run for run in firsts if run.id in of_cell)


def _cells_of(asked: Resumable) -> set[str]:
    """What names the cells that the notebook has now: a run that began in another one of them is that one's to resume."""
    notebook = asked.home.repository.find_by_id(asked.notebook_id, outputs=False)
    cells = [] if notebook is None else notebook.cells
    return {cell.id for cell in cells} | {cell_digest(cell.source) for cell in cells}


def _say_unfinished_in_loop(asked: Resumable, unnamed: list[TrainingRun]) -> None:
    newest = next((run for run in unnamed if asked.newest_of(run) is not None), None)
    if newest is not None and newest.ordinal and is_unfinished(newest) and not asked.force:
        print_message(
            f"{_named(newest)} is unfinished. It was number {newest.ordinal + 1} of several trainings in one execution, so it is "
            f"only resumed by name: resume(…, run={newest.id[:8]!r}). Give each training a key to have them resumed by "
            "themselves: resume(…, key=…)."
        )


def list_branch(home: OpenStore, run: TrainingRun) -> list[NotebookCheckpoint]:
    """Return the checkpoints of a run and those that led to it, newest first: where it was resumed, its parents' until there."""
    found: list[NotebookCheckpoint] = []
    seen: set[str] = set()
    branch: TrainingRun | None = run
    until: NotebookCheckpoint | None = None
    while branch is not None and branch.id not in seen:
        seen.add(branch.id)
        line = home.repository.list_checkpoints(branch.notebook_id, run_id=branch.id)
        found += [one for one in line if until is None or one.created_at <= until.created_at]
        until, parent_id = None, branch.parent_checkpoint_id
        if parent_id is not None:
            until = home.repository.get_checkpoint(parent_id)
        branch = None
        if until is not None and until.run_id is not None:
            branch = home.repository.runs.get(until.notebook_id, until.run_id)
    return found


def find_run(home: OpenStore, notebook_id: str, name: str) -> TrainingRun:
    """Return a run of a notebook by its id, its key (the newest run with it), or the beginning of its id.

    Raises
    ------
    NotFound
        When there is none.
    ValueError
        When the beginning fits several.
    """
    repository = home.repository
    if (found := repository.runs.get(notebook_id, name)) is not None:
        return found
    beginning: list[TrainingRun] = []
    keys: dict[str, None] = {}
    for run in _all_runs(home, notebook_id):
        if run.key == name:
            return run
        if name and run.id.startswith(name):
            beginning.append(run)
        if run.key is not None:
            keys[run.key] = None
    if len(beginning) > 1:
        listed = ", ".join(run.id for run in beginning[:_MOST_LISTED])
        raise ValueError(printable(f"{name} could be any of {len(beginning)} runs: {listed}"))
    if beginning:
        return beginning[0]
    raise _NoRun(name, list(keys))


class _NoRun(NotFound):
    def __init__(self, name: str, keys: list[str]) -> None:
        super().__init__("run", name)
        known = f"; keys of its runs: {', '.join(keys[:_MOST_LISTED])}" if keys else ""
        self.args = (f"this notebook has no run {name}{known}",)


def _all_runs(home: OpenStore, notebook_id: str) -> Iterator[TrainingRun]:
    offset = 0
    while page := home.repository.runs.list(notebook_id, _PAGE, offset):
        yield from page
        offset += len(page)


def _named(run: TrainingRun) -> str:
    return f"Run {run.id[:8]}" + ("" if run.key is None else f" ({run.key})")


def _whereabouts(run: TrainingRun) -> str:
    if run.process is None:
        return ""
    host = run.process.host.partition("/")[0]
    return (
        " in this process" if is_here(run.process) else f" in process {run.process.pid} on {host}"
    )
