"""The errors this project raises, each with a name.

They are raised where the fact is known and become HTTP answers in one place
(:mod:`jupyter_axon_notebooks.handlers.responses`), so nothing below the handlers
knows a status code.
"""

from __future__ import annotations

from .printable import printable


class AxonError(Exception):
    """Base of every error this project raises on purpose.

    Messages quote what others wrote and are shown in terminals: as text, they hold no control characters.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class NotFound(AxonError):
    """A record, cell, checkpoint, version or run that is not there.

    Parameters
    ----------
    kind : str
        What was looked for, in one word: ``notebook``, ``cell``, ``checkpoint``, …
    id : str
        The id that named it.
    message : str, optional
        The message, if it says more than that.
    """

    def __init__(self, kind: str, id: str, message: str | None = None) -> None:
        super().__init__(message or f"{kind} {id} not found")
        self.kind = kind
        self.id = id


class InvalidData(AxonError):
    """A value that breaks the data model; names the field it stands in.

    Parameters
    ----------
    path : str
        Where the value stands, as a JSON path from the document's root (``$.cells[3].source``).
    reason : str
        What is wrong with it, with what was expected.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Unreadable(InvalidData):
    """A file that cannot be read at all: no regular file, too large, or not this user's to read."""


class Conflict(AxonError):
    """A change that clashes with what is already stored."""


class Stale(AxonError):
    """A change meant for a version that is no longer the current one."""


class Forbidden(AxonError):
    """Something that exists and is not the acting user's to see or change."""


class TooLarge(AxonError):
    """A body over the configured limit."""


class NoSpace(AxonError):
    """No room left on the disk that was to be written."""


class StoreError(AxonError):
    """The store cannot be opened, read or written; the message says why and what helps."""


class StoreBusy(StoreError):
    """Another process kept the store locked for longer than the busy timeout."""


class OutcomeUnknown(StoreError):
    """The database vanished in the middle of a commit, and whether it had stored the change could not be found out."""


class StoreDamaged(StoreError):
    """The file of the store is damaged, or is no store."""


class RecordDamaged(StoreError):
    """One record in the store cannot be read or written; the others can."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of this package."""


class WrongUser(StoreError):
    """A database that keeps users apart shows this role the records of another user than the one who acts."""


class ArchiveRefused(AxonError):
    """A file that is not an archive, or not a complete one; the message says what is wrong."""


class StateCorrupt(AxonError):
    """A state file whose content does not match its recorded digest."""


class StateError(AxonError):
    """State files cannot be written, read or removed; the message says why and what helps."""
