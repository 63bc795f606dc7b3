"""Garbage collection of old versions, of contents that no version lists, and of rows without a run.

It works in steps of at most one short transaction, and each step leaves a consistent store. The
caller may wait or stop between steps.

A version is removed in the same transaction as the contents that only it lists. To find them, all
versions of the notebook are read without a lock, which takes long. Each transaction locks the
notebook and checks with a short query that these are still its versions. If not, nothing is removed
and the new versions are read.

Contents that were staged for a save in progress may be removed: with the notebook locked, the save
writes missing contents again (:meth:`.VersionRepository.write`). The collector leaves them alone
where it can, only because writing them again makes the save's last transaction longer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from tinydb import where

from ..errors import RecordDamaged
from ..store import Store, retried
from .versions import VersionRepository

#: A transaction removes no further version after this number of seconds.
_TRANSACTION_TIME = 0.03
#: The number of versions that are read, or of contents that are removed, at once.
_PAGE = 200


class Removal(NamedTuple):
    """The number of versions, of contents, and of rows of lost runs that a step removed."""

    versions: int = 0
    contents: int = 0
    rows: int = 0


class GarbageRepository:
    """The old versions, unused contents, and rows of lost runs of a store."""

    def __init__(self, store: Store, versions: VersionRepository) -> None:
        self._store = store
        self._versions = versions

    def list_notebooks(self, keep: int, user_id: str | None = None) -> list[str]:
        """Return the ids of notebooks, optionally of one user, with versions to remove."""
        garbage = self._store.garbage
        candidates = garbage.notebooks_over_limit(keep, user_id)
        return [id for id in candidates if garbage.superseded_versions(id, keep, limit=1)]

    def remove_versions(self, id: str, keep: int) -> Iterator[Removal]:
        """Remove versions, except the newest ``keep`` and those that checkpoints refer to.

        Contents that no version lists are removed too. Yields the result of each step.
        """
        history = _History(self._store, self._versions, id)
        yield from history.read()
        while (removal := self._remove_versions(id, keep, history)) != Removal():
            yield from history.read() if removal is None else [removal]
        for page in _pages(history.find_unlisted()):
            while (removal := self._remove_contents(id, history, page)) is None:
                yield from history.read()
            yield removal

    @retried
    def _remove_versions(self, id: str, keep: int, history: _History) -> Removal | None:
        """Remove the oldest versions in one short transaction.

        Return None, and remove nothing, if the history has changed.
        """
        versions = contents = 0
        with self._store.transaction():
            record = self._store.notebooks.get_for_update(id)
            if record is None:
                return Removal()
            if not history.is_current(record):
                return None
            deadline = time.monotonic() + _TRANSACTION_TIME  # without the wait for the lock
            for version_id in self._store.garbage.superseded_versions(id, keep, limit=_PAGE):
                if version_id == record["version_id"]:
                    continue
                unlisted = [id for id in history.forget(version_id) if not history.lists(id)]
                self._store.versions.remove([version_id])
                self._store.contents.remove(unlisted)
                versions, contents = versions + 1, contents + len(unlisted)
                if time.monotonic() >= deadline:
                    break
        return Removal(versions, contents)

    @retried
    def _remove_contents(
        self, id: str, history: _History, content_ids: Sequence[str]
    ) -> Removal | None:
        """Remove contents that no version lists; return None if the history has changed."""
        with self._store.transaction():
            record = self._store.notebooks.get_for_update(id)
            if record is None:
                return Removal()
            if not history.is_current(record):
                return None
            unlisted = [id for id in content_ids if not history.lists(id)]
            self._store.contents.remove(unlisted)
        return Removal(contents=len(unlisted))

    def list_staged(self) -> set[str]:
        """Return the ids of notebooks with staged contents, which no version lists yet.

        A large save is in progress or was killed. A record with such an id may not exist.
        """
        return self._store.garbage.notebooks_with_unlisted_contents()

    def remove_staged(self, id: str) -> Iterator[Removal]:
        """Remove the contents staged for a notebook, in steps.

        A save in progress writes them again.
        """
        while (removal := self._remove_staged(id)).contents:
            yield removal

    @retried
    def _remove_staged(self, id: str) -> Removal:
        with self._store.transaction():
            if self._store.notebooks.get_for_update(id) is None:
                # Take the lock of `create`, which may have committed the record just now.
                self._store.lock(f"notebook {id}")
                if self._store.notebooks.contains(doc_id=id):
                    return Removal()
            staged = self._store.garbage.unlisted_contents(id, limit=_PAGE)
            self._store.contents.remove(staged)
        return Removal(contents=len(staged))

    def remove_lost_runs(self) -> Iterator[Removal]:
        """Remove values, summaries, series and offsets whose run is gone, in steps."""
        for notebook_id, run in self._store.garbage.lost_runs():
            yield self._remove_lost_run(notebook_id, run)

    @retried
    def _remove_lost_run(self, notebook_id: str, run: int) -> Removal:
        with self._store.transaction() as connection:
            self._store.notebooks.get_for_update(notebook_id)
            self._store.mark_written()
            removed = self._store.garbage.remove_lost_run(connection, notebook_id, run)
        return Removal(rows=removed)


class _History:
    """The contents that the versions of a notebook list, as of the last :meth:`read`."""

    def __init__(self, store: Store, versions: VersionRepository, notebook_id: str) -> None:
        self._store = store
        self._versions = versions
        self._id = notebook_id
        self._lists: dict[str, tuple[str, ...]] = {}
        self._uses: Counter[str] = Counter()
        self._interned: dict[str, str] = {}  # versions list mostly the same contents

    def read(self) -> Iterator[Removal]:
        """Update to the current versions, in steps without locks."""
        present = self._store.garbage.version_ids(self._id)
        for version_id in self._lists.keys() - present:
            self.forget(version_id)
        yield Removal()
        for page in _pages(present - self._lists.keys()):
            for version_id, content_ids in self._versions.content_ids(page).items():
                listed = tuple(self._interned.setdefault(id, id) for id in content_ids)
                self._lists[version_id] = listed
                self._uses.update(listed)
            yield Removal()

    def is_current(self, record: Mapping[str, Any]) -> bool:
        """Return whether the versions that were read are those of the locked notebook."""
        present = self._store.garbage.version_ids(self._id)
        if record["version_id"] not in present:
            raise RecordDamaged(f"version {record['version_id']} is missing from the store")
        return present == self._lists.keys()

    def forget(self, version_id: str) -> tuple[str, ...]:
        """Forget a version; return the ids of the contents that it listed."""
        listed = self._lists.pop(version_id)
        self._uses.subtract(listed)
        return listed

    def lists(self, content_id: str) -> bool:
        """Return whether any version lists a content."""
        return self._uses[content_id] > 0

    def find_unlisted(self) -> list[str]:
        """Return the contents that no version lists, without staged ones."""
        contents = self._store.contents.ids(where("notebook_id") == self._id)
        staged = self._store.garbage.unlisted_contents(self._id)
        return [id for id in contents if id not in staged and not self.lists(id)]


def _pages(ids: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(ids)
    while page := list(islice(remaining, _PAGE)):
        yield page
