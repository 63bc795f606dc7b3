"""The thread that turns what happened to notebook files into records."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ..errors import AxonError, Conflict, InvalidData, NoSpace, NotFound, StoreError
from ..mapping import map_notebook, notebook_name, read_notebook
from ..records import NewNotebook, NotebookSummary, now
from ..repository import Binding, NotebookRepository, SavedNotebook
from .identity import Known, New, Sighting, identify
from .queue import Delete, Event, EventQueue, Rename, Save

#: Seconds a REST request waits for saves that are on their way.
SETTLE_TIMEOUT = 30.0
#: Seconds between attempts to read a file that is being written by somebody else.
_REREAD = (0.05, 0.2, 0.5)
#: Seconds before what the store did not take is tried again; the last one for good.
_RETRY = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class NotebookSync:
    """Keeps the records of notebook files up to date.

    Parameters
    ----------
    repository : NotebookRepository
        Where records are kept.
    origin : str
        The id of this Jupyter data folder; records are bound to (origin, real path).
    embedded : callable, optional
        Told the path of each file and the id that it is seen to carry; called from the worker's thread.
    """

    def __init__(
        self,
        repository: NotebookRepository,
        origin: str,
        log: logging.Logger,
        embedded: Callable[[str, str], None] = lambda _path, _id: None,
    ) -> None:
        self.origin = origin
        self._repository = repository
        self._log = log
        self._embedded = embedded
        self._queue = EventQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="axon-sync", daemon=True)

    def start(self) -> None:
        """Start working; first with what happened to the known files while nobody looked."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish what was handed over, then stop; False when ``timeout`` seconds were not enough.

        What is left then is found again when the server starts or the record is read: the file has it.
        """
        self._stopping.set()
        self._queue.close()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # What happened. These return at once.

    def saved(self, path: str, owner: str, content: Mapping[str, Any] | None) -> None:
        """A file was saved, with this content where it is at hand."""
        self._queue.put(Save(path, owner, content, _fingerprint(path)))

    def renamed(self, old_path: str, new_path: str) -> None:
        """A file, or a folder, was renamed."""
        self._queue.put(Rename(old_path, new_path))

    def deleted(self, path: str) -> None:
        """A file, or a folder, was deleted."""
        self._queue.put(Delete(path))

    # What is asked. These wait.

    def settle(self, timeout: float = SETTLE_TIMEOUT) -> None:
        """Wait until what happened so far is in the store, or has failed to get there."""
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

    def freshen(self, ids: Iterable[str]) -> bool:
        """Sync the files of those records that somebody else than Jupyter changed; whether there were any.

        Raises
        ------
        StoreError
            When the store cannot be read. A file that cannot be read leaves its record as it was.
        """
        waiting = []
        for binding in self._repository.bindings_of(ids):
            if binding.origin == self.origin and _was_changed(binding):
                done: Future[NotebookSummary] = Future()
                self._queue.put(Save(str(binding.path), binding.user_id, done=[done]))
                waiting.append(done)
        for done in waiting:
            error = done.exception(SETTLE_TIMEOUT)
            if error is not None:
                self._log.debug("axon: a record is shown as it was when its file was last read: %s", error)
        return bool(waiting)

    # The thread.

    def _work(self) -> None:
        self._attempt(self._catch_up)
        while (event := self._queue.take()) is not None:
            try:
                self._handle(event)
            except (StoreError, NoSpace) as error:
                self._try_again(event, error)
            except AxonError as error:
                self._log.warning("axon: %s has no up-to-date record: %s", event.path, error)
                event.fail(error)
            except Exception as error:  # noqa: BLE001 - one notebook's trouble must not end the thread
                self._log.error("axon: the record of %s could not be made", event.path, exc_info=True)
                event.fail(error)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except AxonError as error:
            self._log.warning("axon: what changed while no server ran is found later: %s", error)

    def _catch_up(self) -> None:
        for binding in self._repository.list_bindings(self.origin):
            path = str(binding.path)
            if binding.embedded_id is not None:
                self._embedded(path, binding.embedded_id)
            if _was_changed(binding):
                self._queue.put(Save(path, binding.user_id))

    def _try_again(self, event: Event, error: AxonError) -> None:
        event.fail(error)
        if self._stopping.is_set():
            self._log.error("axon: what last happened to %s is not in the store: %s", event.path, error)
            return
        delay = _RETRY[min(event.failures, len(_RETRY) - 1)]
        if event.failures == 0:
            self._log.warning("axon: what happened to %s waits for the store: %s", event.path, error)
        event.failures += 1
        self._queue.put_back(event, delay)

    def _handle(self, event: Event) -> None:
        match event:
            case Save():
                event.resolve(self._save(event))
            case Rename():
                self._rename(_resolved(event.path), _resolved(event.new_path))
            case Delete():
                for binding in self._bound(_resolved(event.path)):
                    self._repository.release(binding.id)

    def _bound(self, path: str) -> list[Binding]:
        """Who is bound to a file, or to files beneath a folder."""
        exactly = self._repository.binding_at(self.origin, path)
        beneath = self._repository.list_bindings(self.origin, folder=path)
        return beneath if exactly is None else [exactly, *beneath]

    def _rename(self, old_path: str, new_path: str) -> None:
        for binding in self._bound(old_path):
            self._repository.bind(binding.id, new_path + str(binding.path)[len(old_path) :])

    def _save(self, save: Save) -> NotebookSummary:
        path = _resolved(save.path)
        content, file = save.content, save.file
        if content is None or not _is_plain(content):
            file = _fingerprint(path)  # before reading: what is written meanwhile is then noticed
            content = self._read(save.path)
        seen = Sighting(self.origin, path, save.owner, _embedded_id(content), file)
        if seen.embedded_id is not None:
            self._embedded(path, seen.embedded_id)
        found = identify(seen, self._repository)
        if isinstance(found, Known):
            return self._update(found, seen, content)
        try:
            return self._create(found, seen, content)
        except Conflict:
            # Another server of this user was quicker, with the file or with the id.
            found = identify(seen, self._repository)
            if isinstance(found, Known):
                return self._update(found, seen, content)
            return self._create(found, seen, content)

    def _update(self, found: Known, seen: Sighting, content: Mapping[str, Any]) -> NotebookSummary:
        if found.moved:
            self._repository.bind(found.id, seen.path)
        previous = None if _has_ids(content) else self._repository.find_by_id(found.id)
        mapped = map_notebook(content, previous=previous.cells if previous is not None else ())
        return self._repository.save(found.id, _saved(mapped, seen))

    def _create(self, found: New, seen: Sighting, content: Mapping[str, Any]) -> NotebookSummary:
        saved = _saved(map_notebook(content), seen)
        if found.copied_from is not None:
            axon = {**saved.metadata.extra.get("axon", {}), "copied_from": found.copied_from}
            saved.metadata.extra = {**saved.metadata.extra, "axon": axon}
        name = notebook_name(seen.path)
        new = NewNotebook(id=found.id, user_id=seen.owner, name=name, path=seen.path, origin=seen.origin)
        created = self._repository.create_saved(new, saved)
        summary = self._repository.find_summary(created.id)
        if summary is None:
            raise NotFound("notebook", created.id)
        return summary

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


def _saved(mapped: Any, seen: Sighting) -> SavedNotebook:
    return SavedNotebook(
        cells=mapped.cells,
        metadata=mapped.metadata,
        status=mapped.status,
        synced_at=now(),
        embedded_id=seen.embedded_id,
        file=seen.file,
    )


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


def _resolved(path: str) -> str:
    """A file's real path; what is no absolute path is not a file's, and stays."""
    return os.path.realpath(path) if os.path.isabs(path) else path


def _fingerprint(path: str) -> dict[str, int]:
    try:
        found = os.stat(path)
    except OSError:
        return {}
    return {"size": found.st_size, "mtime": found.st_mtime_ns}


def _was_changed(binding: Binding) -> bool:
    """Whether the file a record is bound to is there and not as it was when it was last read."""
    if binding.path is None or not os.path.isabs(binding.path):
        return False
    found = _fingerprint(binding.path)
    return bool(found) and found != binding.file
