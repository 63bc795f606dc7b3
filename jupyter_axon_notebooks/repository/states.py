"""What the repository asks of the home of state files."""

from __future__ import annotations

from typing import Protocol


class States(Protocol):
    """Removes the state files of what the repository deletes. Missing files are no error."""

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        """Remove the state files of one checkpoint."""

    def remove_notebook(self, notebook_id: str) -> None:
        """Remove the state files of all checkpoints of a notebook."""


class NoStates:
    """For a store whose state files are kept by nobody: there is nothing to remove."""

    def remove_checkpoint(self, notebook_id: str, checkpoint_id: str) -> None:
        """Do nothing."""

    def remove_notebook(self, notebook_id: str) -> None:
        """Do nothing."""
