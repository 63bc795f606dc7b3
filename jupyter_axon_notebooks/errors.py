"""The named errors of this project.

They become HTTP statuses in :mod:`.handlers.responses` and exit codes in :mod:`.cli`, and nowhere
else.
"""

from __future__ import annotations

from .printable import printable


class AxonError(Exception):
    """The base class of all errors.

    Messages may quote text from others and are shown in terminals, so they have no control
    characters.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class NotFound(AxonError):
    """A record, cell, checkpoint, version or run that does not exist.

    Parameters
    ----------
    kind : str
        The kind of object: ``notebook``, ``cell``, ``checkpoint``, …
    id : str
        Its id.
    message : str, optional
        The message, if it says more than that.
    """

    def __init__(self, kind: str, id: str, message: str | None = None) -> None:
        super().__init__(message or f"{kind} {id} not found")
        self.kind = kind
        self.id = id


class InvalidData(AxonError):
    """A value that is invalid in the data model.

    Parameters
    ----------
    path : str
        The location of the value, as a JSON path (``$.cells[3].source``).
    reason : str
        What is wrong, and what was expected.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Unreadable(InvalidData):
    """A file that cannot be read: not a regular file, too large, or not readable by this user."""


class Conflict(AxonError):
    """A change that conflicts with what is stored."""


class Stale(AxonError):
    """A change that is meant for a version other than the current one."""


class Forbidden(AxonError):
    """An object that the acting user may not see or change."""


class TooLarge(AxonError):
    """A body over the configured limit."""


class NoSpace(AxonError):
    """A disk without free space."""


class StoreError(AxonError):
    """The store cannot be opened, read or written; the message says why and what to do."""


class StoreBusy(StoreError):
    """The store was locked by another process for longer than the busy timeout."""


class OutcomeUnknown(StoreError):
    """The connection was lost during a commit, and it is unknown whether the change was stored."""


class StoreDamaged(StoreError):
    """The store's file is damaged or is not a store."""


class RecordDamaged(StoreError):
    """A single record cannot be read or written."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of this package."""


class WrongUser(StoreError):
    """The database role may only see the records of a user other than the acting one."""


class ArchiveRefused(AxonError):
    """A file that is not a complete archive; the message says what is wrong, and where."""


class StateCorrupt(AxonError):
    """A state file whose content does not match its recorded digest."""


class StateError(AxonError):
    """State files cannot be written, read or removed; the message says why and what helps."""
