"""The interface through which the repository uses the storage of state files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ..errors import AxonError, StateError


class States:
    """The storage of the state files of checkpoints. Missing files are no error.

    This base class is the storage of a store without state files: it does nothing.
    """

    def mark_unrecorded(self, notebook_id: str, checkpoint_id: str | None = None) -> None:
        """Mark the files of a checkpoint or a notebook for garbage collection.

        Called inside the transaction that removes the record. If the process is killed after the
        commit, garbage collection removes the files. Must be quick and raise nothing.
        """

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        """Remove the state files of one checkpoint."""

    def remove_notebook(self, notebook_id: str) -> None:
        """Remove the state files of all checkpoints of a notebook."""

    def recorded_path(self, path: str, notebook_id: str) -> str:  # noqa: ARG002 - the interface
        """Return the form in which a record stores the path of a state file."""
        return path

    def full_path(self, recorded: str) -> str:
        """Return the absolute path for a recorded one, without accessing the file."""
        return recorded

    def owns(self, path: str, notebook_id: str, checkpoint_id: str) -> bool:  # noqa: ARG002 - the interface
        """Return whether the state file at ``path`` is in the folder of this checkpoint."""
        return False

    def stage_removal(
        self,
        notebook_id: str,  # noqa: ARG002 - the interface
        checkpoint_id: str,  # noqa: ARG002 - the interface
        names: Collection[str],  # noqa: ARG002 - the interface
    ) -> list[str]:
        """Rename state files of a checkpoint to temporary names, and return these names.

        Called inside a transaction, so it must be quick.
        """
        return []

    def remove_staged(self, notebook_id: str, checkpoint_id: str, names: Collection[str]) -> None:
        """Remove files that :meth:`stage_removal` renamed."""


@contextmanager
def files_remain(record: str) -> Iterator[None]:
    """Raise StateError for errors inside: ``record`` is deleted, but files remain."""
    try:
        yield
    except AxonError as error:
        raise StateError(f"{record} is deleted, but state files of it remain: {error}") from error
