"""Translation of database errors into errors of this project, common to all engines."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from ..errors import AxonError, StoreBusy, StoreError

#: Advice for a process that had the store open while a newer version migrated it.
OUTDATED = (
    "a newer version of this package has migrated it; "
    "upgrade jupyter-axon-notebooks and restart this process"
)


class Interrupted(StoreBusy):
    """The database aborted a transaction. Nothing was stored, so it can be retried as a whole."""


class ForeignRecord(StoreError):
    """A record belongs to another user, in a database with row-level security."""


def map_errors(
    engine: sa.Engine, translate: Callable[[BaseException, bool], AxonError | None]
) -> None:
    """Make ``engine`` raise this project's errors.

    ``translate`` gets an error of the driver, and whether a connection had been made before. It
    returns the error to raise instead, or None.
    """

    @sa.event.listens_for(engine, "handle_error")
    def _handle(context: sa.engine.ExceptionContext) -> AxonError | None:
        error = context.original_exception
        # Others, such as KeyboardInterrupt, do not come from the driver. A UnicodeDecodeError
        # does: sqlite3 raises it for messages that quote damaged text.
        if context.sqlalchemy_exception is None and not isinstance(error, UnicodeDecodeError):
            return None
        return translate(error, context.connection is not None)
