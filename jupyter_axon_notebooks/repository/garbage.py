"""Housekeeping: history goes down to its limit, and what interrupted writes left behind goes.

Everything here happens in steps, each at most one short transaction under the notebook's lock; between two the caller
may wait as long as it likes, or stop for good. What a step leaves is always a whole store: versions go together with
the contents that no other version lists.

Saves go on meanwhile, in this process and others. What a save has written ahead of its version is listed by nobody,
and yet a sweep that takes it does no harm: under the lock, the save looks once more for every content that its version
is going to list (:meth:`.VersionRepository.write`), and writes those that are missing. So no age and no clock decides about
what may go. That the sweep leaves alone what may belong to a save under way only keeps that save's last transaction
a short one.

What a long history lists takes long to read, and is read while nothing is locked. Under the lock it takes one short
question to see that nobody has changed the history since; otherwise the step is given up, and reading goes on.
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

#: Seconds after which a transaction takes up nothing more.
_TURN = 0.03
#: Versions that are looked at together, and contents that are removed together.
_PAGE = 200


class Removal(NamedTuple):
    """The numbers of versions and contents that a step removed."""

    versions: int = 0
    contents: int = 0


class GarbageRepository:
    """The old versions and unused contents of a store."""

    def __init__(self, store: Store, versions: VersionRepository) -> None:
        self._store = store
        self._versions = versions

    def list_notebooks(self, keep: int, user_id: str | None = None) -> list[str]:
        """The notebooks, of one user or of all, of which :meth:`remove_versions` with ``keep`` would remove versions."""
        leftovers = self._store.leftovers
        return [
            id for id in leftovers.crowded(keep, user_id) if leftovers.superseded(id, keep, limit=1)
        ]

    def remove_versions(self, id: str, keep: int) -> Iterator[Removal]:
        """Bring the history of a notebook down to its limit, then remove contents that nobody lists."""
        lists = _Lists(self._store, self._versions, id)
        yield from lists.read()
        while (done := self._remove_versions(id, keep, lists)) != Removal():
            yield from lists.read() if done is None else [done]
        for page in _pages(lists.unlisted()):
            while (done := self._remove_contents(id, lists, page)) is None:
                yield from lists.read()
            yield done

    @retried
    def _remove_versions(self, id: str, keep: int, lists: _Lists) -> Removal | None:
        """Remove the oldest versions beyond the limit, as many as a short transaction takes.

        None where the versions are no longer those that were read.
        """
        versions = contents = 0
        with self._store.transaction():
            record = self._store.notebooks.locked(id)
            if record is None:
                return Removal()
            if not lists.are_true(record):
                return None
            ends = time.monotonic() + _TURN  # waiting for the lock has held up nobody
            for version_id in self._store.leftovers.superseded(id, keep, limit=_PAGE):
                if version_id == record["version_id"]:
                    continue
                unlisted = lists.forget(version_id)
                self._store.versions.discard([version_id])
                self._store.contents.discard(unlisted)
                versions, contents = versions + 1, contents + len(unlisted)
                if time.monotonic() >= ends:
                    break
        return Removal(versions, contents)

    @retried
    def _remove_contents(
        self, id: str, lists: _Lists, content_ids: Sequence[str]
    ) -> Removal | None:
        """Remove those that nobody lists; None where the versions are no longer those that were read."""
        with self._store.transaction():
            record = self._store.notebooks.locked(id)
            if record is None:
                return Removal()
            if not lists.are_true(record):
                return None
            unlisted = [content_id for content_id in content_ids if lists.lack(content_id)]
            self._store.contents.discard(unlisted)
        return Removal(contents=len(unlisted))

    def list_staged(self) -> set[str]:
        """The ids under which contents wait for a version to list them."""
        return self._store.leftovers.ahead()

    def remove_staged(self, id: str) -> Iterator[Removal]:
        """Remove what was written ahead of a notebook's next version, or of a notebook."""
        while (done := self._drop_ahead(id)).contents:
            yield done

    @retried
    def _drop_ahead(self, id: str) -> Removal:
        with self._store.transaction():
            if self._store.notebooks.locked(id) is None:
                # As whoever makes the record does, who may be done just now.
                self._store.lock(f"notebook {id}")
                if self._store.notebooks.contains(doc_id=id):
                    return Removal()
            waiting = self._store.leftovers.ahead_of(id, limit=_PAGE)
            self._store.contents.discard(waiting)
        return Removal(contents=len(waiting))


class _Lists:
    """Which contents the versions of a notebook list, as they were when they were read."""

    def __init__(self, store: Store, versions: VersionRepository, notebook_id: str) -> None:
        self._store = store
        self._versions = versions
        self._id = notebook_id
        self._numbers: dict[str, int] = {}
        self._total = 0  # of the numbers of those in self._lists
        self._lists: dict[str, tuple[str, ...]] = {}
        self._uses: Counter[str] = Counter()
        self._one: dict[str, str] = {}  # of equal texts, the one that is kept

    def read(self) -> Iterator[Removal]:
        """Get to know what is there now, in steps; nothing is locked meanwhile."""
        present = self._store.leftovers.numbers(self._id)
        for version_id in self._lists.keys() - present.keys():
            self._forget(version_id)
        self._numbers = present
        self._total = sum(present[version_id] for version_id in self._lists)
        yield Removal()
        for page in _pages(present.keys() - self._lists.keys()):
            for version_id, listed in self._versions.listed(page).items():
                self._lists[version_id] = tuple(self._one.setdefault(id, id) for id in listed)
                self._uses.update(self._lists[version_id])
                self._total += self._numbers[version_id]
            yield Removal()

    def are_true(self, record: Mapping[str, Any]) -> bool:
        """Whether all versions that are there are known, and no others; asked under the notebook's lock.

        What a save adds has a higher number than all before, and is the record's version as long as none follows. So
        the same number of versions with the same sum of numbers are the same versions, unless those of another history
        took their place: then the record's is not known either.
        """
        if self._store.leftovers.tally(self._id) != (len(self._lists), self._total):
            return False
        newest = record["version_id"]
        if newest not in self._lists and not self._store.versions.present([newest]):
            raise RecordDamaged(f"version {newest} is missing from the store")
        return newest in self._lists

    def forget(self, version_id: str) -> list[str]:
        """Take a version for gone; the contents that nobody lists any more."""
        return [id for id in self._forget(version_id) if self.lack(id)]

    def _forget(self, version_id: str) -> tuple[str, ...]:
        listed = self._lists.pop(version_id)
        self._uses.subtract(listed)
        self._total -= self._numbers[version_id]
        return listed

    def lack(self, content_id: str) -> bool:
        """Whether no version lists a content."""
        return not self._uses[content_id]

    def unlisted(self) -> set[str]:
        """The contents that no version lists, but for those that a save may have written ahead."""
        contents = self._store.contents.ids(where("notebook_id") == self._id)
        return set(filter(self.lack, contents)) - self._store.leftovers.ahead_of(self._id)


def _pages(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while page := list(islice(left, _PAGE)):
        yield page
