"""What the repository asks of the home of state files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

from ..errors import AxonError, StateError


class States(Protocol):
    """Says what records call state files, and removes those of what the repository deletes.

    Missing files are no error.
    """

    def mark_unrecorded(self, notebook_id: str, checkpoint_id: str | None = None) -> None:
        """Note that the record of a checkpoint, or of a whole notebook, is about to be removed.

        Called inside the transaction: should the process be killed after the commit, the files must be known to be
        nobody's. Quick, and raises nothing.
        """

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        """Remove the state files of one checkpoint."""

    def remove_notebook(self, notebook_id: str) -> None:
        """Remove the state files of all checkpoints of a notebook."""

    def recorded_path(self, path: str, notebook_id: str) -> str:
        """Return what the record of ``notebook_id`` is to say of the state file at ``path``."""

    def full_path(self, recorded: str) -> str:
        """Return the absolute path that a record means. Looks at no file."""

    def owns(self, path: str, notebook_id: str, checkpoint_id: str) -> bool:
        """Whether the state file at ``path`` lies where those of this checkpoint are written, and nowhere else."""

    def stage_removal(
        self, notebook_id: str, checkpoint_id: str, names: Collection[str]
    ) -> list[str]:
        """Give those state files of a checkpoint names by which they are known as nobody's; these names.

        Called inside a transaction: quick, whatever the files' size.
        """

    def remove_staged(self, notebook_id: str, checkpoint_id: str, names: Collection[str]) -> None:
        """Remove what :meth:`set_aside` named."""


@contextmanager
def files_remain(what: str) -> Iterator[None]:
    """Say of an error inside that ``what`` is deleted all the same: only its state files are still there."""
    try:
        yield
    except AxonError as error:
        raise StateError(f"{what} is deleted, but state files of it remain: {error}") from error


class NoStates:
    """For a store whose state files are kept by nobody: there is nothing to remove, and paths are what records say."""

    def mark_unrecorded(self, notebook_id: str, checkpoint_id: str | None = None) -> None:
        """Do nothing."""

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        """Do nothing."""

    def remove_notebook(self, notebook_id: str) -> None:
        """Do nothing."""

    def recorded_path(self, path: str, notebook_id: str) -> str:  # noqa: ARG002 - as it is
        """Return the path itself."""
        return path

    def full_path(self, recorded: str) -> str:
        """Return the path itself."""
        return recorded

    def owns(self, path: str, notebook_id: str, checkpoint_id: str) -> bool:  # noqa: ARG002 - whatever is asked
        """Own nothing."""
        return False

    def stage_removal(
        self,
        notebook_id: str,  # noqa: ARG002 - whatever is asked
        checkpoint_id: str,  # noqa: ARG002 - whatever is asked
        names: Collection[str],  # noqa: ARG002 - whatever is asked
    ) -> list[str]:
        """Do nothing."""
        return []

    def remove_staged(self, notebook_id: str, checkpoint_id: str, names: Collection[str]) -> None:
        """Do nothing."""
