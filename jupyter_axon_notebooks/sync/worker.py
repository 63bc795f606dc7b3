"""The thread that turns saves into records."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ..errors import AxonError, Conflict, InvalidData, NoSpace, NotFound, StoreError
from ..mapping import MappedNotebook, map_notebook, notebook_name, read_notebook
from ..records import NewNotebook, NotebookSummary, now
from ..repository import NotebookRepository, SavedNotebook
from .queue import Save, SaveQueue

#: Seconds a REST request waits for saves that are on their way.
SETTLE_TIMEOUT = 30.0
#: Seconds between attempts to read a file that is being written by somebody else.
_REREAD = (0.05, 0.2, 0.5)
#: Seconds before a save that the store did not take is tried again; the last one for good.
_RETRY = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class NotebookSync:
    """Keeps the records of notebook files up to date.

    Parameters
    ----------
    repository : NotebookRepository
        Where records are kept.
    origin : str
        The id of this Jupyter data folder; records are bound to (origin, real path).
    """

    def __init__(self, repository: NotebookRepository, origin: str, log: logging.Logger) -> None:
        self.origin = origin
        self._repository = repository
        self._log = log
        self._queue = SaveQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="axon-sync", daemon=True)

    def start(self) -> None:
        """Start working."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish what was handed over, then stop; False when ``timeout`` seconds were not enough.

        What is left then is found again when the server starts or the record is read: the file has it.
        """
        self._stopping.set()
        self._queue.close()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def saved(self, path: str, owner: str, content: Mapping[str, Any] | None) -> None:
        """Hand over a file that was saved, with its content where that is at hand. Returns at once."""
        self._queue.put(Save(path, owner, content))

    def settle(self, timeout: float = SETTLE_TIMEOUT) -> None:
        """Wait until the saves handed over so far are in the store, or have failed to get there."""
        if not self._queue.settle(timeout):
            self._log.warning("axon: saves are still on their way to the store after %.0f s", timeout)

    def sync_file(self, path: str, owner: str) -> NotebookSummary:
        """Read a file and bring its record up to date, or make it.

        Raises
        ------
        NotFound
            When there is no such file.
        InvalidData
            When it is not a notebook.
        StoreError
            When the store does not take it.
        """
        done: Future[NotebookSummary] = Future()
        self._queue.put(Save(path, owner, done=[done]))
        return done.result(SETTLE_TIMEOUT * 2)

    def _work(self) -> None:
        while (save := self._queue.take()) is not None:
            try:
                save.resolve(self._sync(save))
            except (StoreError, NoSpace) as error:
                self._try_again(save, error)
            except AxonError as error:
                self._log.warning("axon: %s has no up-to-date record: %s", save.path, error)
                save.fail(error)
            except Exception as error:  # noqa: BLE001 - one notebook's trouble must not end the thread
                self._log.error("axon: the record of %s could not be made", save.path, exc_info=True)
                save.fail(error)

    def _try_again(self, save: Save, error: AxonError) -> None:
        save.fail(error)
        if self._stopping.is_set():
            self._log.error("axon: the last save of %s is not in the store: %s", save.path, error)
            return
        delay = _RETRY[min(save.failures, len(_RETRY) - 1)]
        if save.failures == 0:
            self._log.warning("axon: the save of %s waits for the store: %s", save.path, error)
        save.failures += 1
        self._queue.put_back(save, delay)

    def _sync(self, save: Save) -> NotebookSummary:
        path = os.path.realpath(save.path)
        bound = self._repository.find_by_path(self.origin, path)
        content = save.content
        if content is None or not _is_plain(content):
            content = self._read(save.path)
        mapped = self._map(content, bound)
        embedded_id = _embedded_id(content)
        saved = SavedNotebook(
            cells=mapped.cells,
            metadata=mapped.metadata,
            status=mapped.status,
            synced_at=now(),
            embedded_id=embedded_id,
            file=_fingerprint(save.path),
        )
        if bound is not None:
            return self._repository.save(bound.id, saved)
        return self._create(path, save.owner, embedded_id, saved)

    def _create(
        self, path: str, owner: str, embedded_id: str | None, saved: SavedNotebook
    ) -> NotebookSummary:
        new = NewNotebook(user_id=owner, name=notebook_name(path), path=path, origin=self.origin)
        if embedded_id is not None:
            if self._repository.find_summary(embedded_id) is None:
                new.id = embedded_id
            else:
                axon = {**saved.metadata.extra.get("axon", {}), "copied_from": embedded_id}
                saved.metadata.extra = {**saved.metadata.extra, "axon": axon}
        try:
            id = self._repository.create_saved(new, saved).id
        except Conflict:
            # Another server of this user was quicker, with the file or with the id.
            bound = self._repository.find_by_path(self.origin, path)
            if bound is None:
                new.id = None
                id = self._repository.create_saved(new, saved).id
            else:
                return self._repository.save(bound.id, saved)
        summary = self._repository.find_summary(id)
        if summary is None:
            raise NotFound("notebook", id)
        return summary

    def _map(self, content: Mapping[str, Any], bound: NotebookSummary | None) -> MappedNotebook:
        if bound is None or _has_ids(content):
            return map_notebook(content)
        previous = self._repository.find_by_id(bound.id)
        return map_notebook(content, previous=previous.cells if previous is not None else ())

    def _read(self, path: str) -> Mapping[str, Any]:
        for delay in (*_REREAD, None):
            try:
                return read_notebook(Path(path).read_bytes())
            except FileNotFoundError:
                raise NotFound("file", path) from None
            except OSError as error:
                raise InvalidData("$", f"{path} cannot be read: {error.strerror}") from error
            except InvalidData:
                # It may be half-written.
                if delay is None:
                    raise
                self._stopping.wait(delay)
        raise AssertionError("the last attempt returns or raises")


def _is_plain(content: Mapping[str, Any]) -> bool:
    """Whether a saved content is what the file holds: Jupyter repairs what is not v4 or lacks ids as it writes."""
    return content.get("nbformat") == 4 and (_has_ids(content) or not _needs_ids(content))


def _needs_ids(content: Mapping[str, Any]) -> bool:
    minor = content.get("nbformat_minor")
    return not isinstance(minor, int) or minor >= 5


def _has_ids(content: Mapping[str, Any]) -> bool:
    cells = content.get("cells")
    if not isinstance(cells, list) or not _needs_ids(content):
        return False
    ids = [cell.get("id") if isinstance(cell, dict) else None for cell in cells]
    return all(isinstance(id, str) for id in ids) and len(set(ids)) == len(ids)


def _embedded_id(content: Mapping[str, Any]) -> str | None:
    metadata = content.get("metadata")
    axon = metadata.get("axon") if isinstance(metadata, dict) else None
    id = axon.get("notebook_id") if isinstance(axon, dict) else None
    return id if isinstance(id, str) and id else None


def _fingerprint(path: str) -> dict[str, int]:
    try:
        found = os.stat(path)
    except OSError:
        return {}
    return {"size": found.st_size, "mtime": found.st_mtime_ns}
