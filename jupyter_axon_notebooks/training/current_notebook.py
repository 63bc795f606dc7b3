"""The notebook that this process trains, and its record."""

from __future__ import annotations

import os
from typing import Any

from ..defaults import READ_TIMEOUT
from ..errors import StoreBusy
from ..records import NotebookSummary
from ..stores import OpenStore
from .discovery import location
from .discovery.record import PreviousRecord, find_or_create_record, find_record, has_record
from .execution import current_execution


class CurrentNotebook:
    """The notebook that this process trains, located anew in each execution of a cell."""

    def __init__(self, user_id: str) -> None:
        self.record: NotebookSummary | None = None
        self._user_id = user_id
        self._place: location.NotebookLocation | None = None
        self._execution: Any = None
        self._previous: PreviousRecord | None = None

    @property
    def folder(self) -> str | None:
        """The folder of the notebook's file."""
        found = self._place
        return None if found is None or found.path is None else os.path.dirname(found.path)

    def locate(self) -> location.NotebookLocation:
        """Return where the notebook is; servers are asked once per execution."""
        execution = current_execution()
        if self._place is None or execution != self._execution:
            found = location.find_location()
            # If it is unknown now, a server is gone or a variable was deleted: keep what was known.
            if self._place is None or found.kind != "unknown":
                self._place = found
            self._execution = execution
        return self._place

    def update(self, opened: OpenStore) -> NotebookSummary:
        """Return the record, brought up to date with the file, or created."""
        if self.record is None or current_execution() != self._execution:
            found = self.locate()
            self.record = find_or_create_record(
                opened.repository, found, opened.origin, self._user_id, self._previous
            )
            self._previous = PreviousRecord(found, self.record.id)
        return self.record

    def read(self, opened: OpenStore) -> NotebookSummary:
        """Return the record, brought up to date unless others keep the store locked."""
        try:
            with opened.store.limit_wait(READ_TIMEOUT):
                return self.update(opened)
        except StoreBusy:
            self.record = None
            found = find_record(
                opened.repository, self.locate(), opened.origin, self._user_id, self._previous
            )
            if found is None:
                raise
            return found

    def find(self, opened: OpenStore) -> NotebookSummary | None:
        """Return the record as :meth:`read` does; None if there is none, and none is created."""
        if self.record is None or current_execution() != self._execution:
            self.record = None
            found, repository = self.locate(), opened.repository
            has_previous = (
                self._previous is not None
                and repository.find_summary(self._previous.id) is not None
            )
            if not has_previous and not has_record(repository, found, opened.origin, self._user_id):
                return None
        return self.read(opened)
