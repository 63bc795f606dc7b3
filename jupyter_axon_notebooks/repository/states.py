"""The storage of state files, as the repository uses it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

from ..errors import AxonError, StateError


class States(Protocol):
    """The storage of the state files of checkpoints. Missing files are no error."""

    def mark_unrecorded(self, notebook_id: str, checkpoint_id: str | None = None) -> None:
        """Mark the files of a checkpoint or a notebook whose record is about to be removed.

        Called inside the transaction, so that garbage collection removes the files if the process
        is killed after the commit. Must be quick and raise nothing.
        """

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        """Remove the state files of one checkpoint."""

    def remove_notebook(self, notebook_id: str) -> None:
        """Remove the state files of all checkpoints of a notebook."""

    def recorded_path(self, path: str, notebook_id: str) -> str:
        """Return the form in which a record of ``notebook_id`` stores the path of a state file."""

    def full_path(self, recorded: str) -> str:
        """Return the absolute path for a recorded one, without looking at the file."""

    def owns(self, path: str, notebook_id: str, checkpoint_id: str) -> bool:
        """Return whether the state file at ``path`` is in the folder of this checkpoint."""

    def stage_removal(
        self, notebook_id: str, checkpoint_id: str, names: Collection[str]
    ) -> list[str]:
        """Rename state files of a checkpoint to temporary names, and return these.

        Called inside a transaction: quick, whatever the files' size.
        """

    def remove_staged(self, notebook_id: str, checkpoint_id: str, names: Collection[str]) -> None:
        """Remove files that :meth:`stage_removal` renamed."""


@contextmanager
def files_remain(record: str) -> Iterator[None]:
    """Raise StateError for errors inside: ``record`` is deleted, but files remain."""
    try:
        yield
    except AxonError as error:
        raise StateError(f"{record} is deleted, but state files of it remain: {error}") from error


class NoStates:
    """Storage for a store without state files: removes nothing and leaves paths as they are."""

    def mark_unrecorded(self, notebook_id: str, checkpoint_id: str | None = None) -> None:
        """Do nothing."""

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        """Do nothing."""

    def remove_notebook(self, notebook_id: str) -> None:
        """Do nothing."""

    def recorded_path(self, path: str, notebook_id: str) -> str:  # noqa: ARG002 - part of the interface
        """Return the path itself."""
        return path

    def full_path(self, recorded: str) -> str:
        """Return the path itself."""
        return recorded

    def owns(self, path: str, notebook_id: str, checkpoint_id: str) -> bool:  # noqa: ARG002 - part of the interface
        """Return False."""
        return False

    def stage_removal(
        self,
        notebook_id: str,  # noqa: ARG002 - part of the interface
        checkpoint_id: str,  # noqa: ARG002 - part of the interface
        names: Collection[str],  # noqa: ARG002 - part of the interface
    ) -> list[str]:
        """Do nothing."""
        return []

    def remove_staged(self, notebook_id: str, checkpoint_id: str, names: Collection[str]) -> None:
        """Do nothing."""
