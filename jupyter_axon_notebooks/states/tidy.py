"""What is done about state files when a server starts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from ..errors import AxonError
from ..repository import NotebookRepository
from ..repository.retention import file_key
from .folders import format_size
from .storage import StateStorage

#: Bytes of state files from which on the user is told how to get rid of some.
_MUCH = 10 * 1000**3


class _Stopped(Exception):
    """There is no more time."""


def tidy(
    states: StateStorage,
    repository: NotebookRepository,
    log: logging.Logger,
    rested: Callable[[], bool],
) -> None:
    """Remove what killed writers left behind, and say so when state files take up much room; nothing else is removed.

    ``rested`` is called again and again, and may take its time. Once it says False it ends early: what is left then is
    found the next time.
    """

    def go_on(_seen: int) -> None:
        if not rested():
            raise _Stopped

    try:
        report = states.sweep(partial(named_files, repository), progress=go_on)
        used = states.measure(progress=go_on)
    except _Stopped:
        return
    except AxonError as error:
        log.warning("axon: state files were not looked at: %s", error)
        return
    for problem in report.problems:
        log.warning("axon: a leftover of an interrupted write stays: %s", problem)
    if report.freed:
        log.info("axon: removed %s that interrupted writes left behind", format_size(report.freed))
    if used > _MUCH:
        log.warning(
            "axon: state files take up %s in %s. `jupyter axon prune --all --keep-newest 5 --keep-best METRIC` shows which "
            "checkpoints could do without theirs, and what that would free",
            format_size(used),
            states.root,
        )


def named_files(
    repository: NotebookRepository, notebook_id: str, checkpoint_id: str
) -> set[str] | None:
    """The names of the state files that a checkpoint's record gives; None where there is no such record."""
    checkpoint = repository.get_checkpoint(checkpoint_id)
    if checkpoint is None or checkpoint.notebook_id != notebook_id:
        return None
    paths = (checkpoint.model_state_path, checkpoint.optimizer_state_path)
    return {file_key(path)[-1] for path in paths if path}
