"""Which checkpoint a training goes on from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..records import NotebookCheckpoint, RunStatus, TrainingRun
from .display import described, say
from .home import Home
from .runs import is_alive, is_here, is_unfinished

#: Runs, and checkpoints, that are read at once in search of one.
_PAGE: Final = 50


def unfinished(
    home: Home, notebook_id: str, *, any: bool, wants_state: bool, own_run_id: str | None
) -> NotebookCheckpoint | None:
    """The latest checkpoint of the newest run that has one, if that run is unfinished; what keeps it from that is said.

    Parameters
    ----------
    any : bool
        Whatever became of the run.
    wants_state : bool
        Pass over checkpoints without a model's state that can be read.
    own_run_id : str, optional
        The run that this process is in: it is alive, and nobody's but the user's to go back in.
    """
    finished_from: set[str] = set()  # where runs went on, and came to their end without a further checkpoint
    for run in _runs(home, notebook_id):
        newest = home.repository.latest_checkpoint(notebook_id, run_id=run.id)
        if newest is None:
            if run.status is RunStatus.COMPLETED and run.parent_checkpoint_id is not None:
                finished_from.add(run.parent_checkpoint_id)
            continue
        is_own = run.status is RunStatus.RUNNING and run.id == own_run_id
        if not (any or is_own or is_unfinished(run)):
            if is_alive(run):
                say(f"Run {run.id[:8]} of this notebook is still training{_whereabouts(run)}: left alone.")
            return None
        if newest.id in finished_from and not any:
            return None
        if run.status is RunStatus.RUNNING and not is_own and is_unfinished(run):
            home.repository.update_run_status(
                notebook_id, run.id, RunStatus.STOPPED
            )  # its process could not say so
        return _restorable(home, newest) if wants_state else newest
    return None


def _restorable(home: Home, newest: NotebookCheckpoint) -> NotebookCheckpoint | None:
    """The newest checkpoint of a run whose model's state is there; says so if it is not the newest that has had one."""
    offset, missing = 0, False
    while page := home.repository.list_checkpoints(newest.notebook_id, _PAGE, offset, run_id=newest.run_id):
        for found in page:
            if home.states.holds(found.model_state_path, found.notebook_id):
                return found
            if (found.model_state_path or found.pruned_at is not None) and not missing:
                say(f"The state of {described(found)} is not there any more.")
                missing = True
        offset += len(page)
    say(f"Run {str(newest.run_id)[:8]} cannot be gone on with: no state of its checkpoints is there.")
    return None


def _runs(home: Home, notebook_id: str) -> Iterator[TrainingRun]:
    offset = 0
    while page := home.repository.list_runs(notebook_id, _PAGE, offset):
        yield from page
        offset += len(page)


def _whereabouts(run: TrainingRun) -> str:
    if run.process is None:
        return ""
    host = run.process.host.partition("/")[0]
    return " in this process" if is_here(run.process) else f" in process {run.process.pid} on {host}"
