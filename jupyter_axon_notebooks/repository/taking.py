"""Documents of a file stored as they are, where they are not there yet; what differs is noted and left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from ..errors import Conflict, RecordDamaged
from ..store import Document, Store, document
from ..store.dumpformat import canonical, dumped
from .dump import Fault, dumped_id
from .loaded import Loaded

#: Seconds after which a short transaction takes up nothing more, and documents that it takes up at once.
_TURN = 0.05
_FEW = 50


class Taking:
    """How documents get into a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, loaded: Loaded, table: str, given: Mapping[str, dict[str, Any]]) -> None:
        """Store what is not there yet, and see what is."""
        new, there = self._stored(table, given)
        _count(loaded, table, given, new, there)

    def _stored(
        self, table: str, given: Mapping[str, dict[str, Any]]
    ) -> tuple[set[str], dict[str, Document]]:
        """Store what is not there yet; the ids of that, and all as they are there then."""
        rows = self._store.table(table)
        there = {str(one.doc_id): one for one in rows.get(doc_ids=list(given))}
        new = [document(id, one) for id, one in given.items() if id not in there]
        if new:
            rows.insert_new(*new)
            there.update(
                (str(one.doc_id), one) for one in rows.get(doc_ids=[one.doc_id for one in new])
            )
        return {str(one.doc_id) for one in new}, there

    # In short transactions

    def take_in_turns(
        self,
        loaded: Loaded,
        table: str,
        given: Mapping[str, dict[str, Any]],
        hold: Callable[[], object],
    ) -> set[str]:
        """As :meth:`take`, in transactions that hold up others only for a moment; ``hold`` is called in each.

        A document that cannot be stored is named and left out. Returns the ids of those that are there then.
        """
        done: set[str] = set()
        left, most = list(given.items()), len(given)
        while left:
            turn = left[:most]
            try:
                new, there = self._store.retry(partial(self._turn, table, turn, hold))
            except (Conflict, RecordDamaged) as error:
                if most > 1:
                    most = 1  # to find out which it is
                    continue
                faults = loaded.conflicts if isinstance(error, Conflict) else loaded.damaged
                faults.append(Fault(table, dumped_id(table, *turn[0]), str(error)))
                left = left[1:]
                continue
            taken = {id: one for id, one in turn if id in there}
            _count(loaded, table, taken, new, there)
            left = left[len(taken) :]
            done |= taken.keys()
        return done

    def _turn(
        self, table: str, given: list[tuple[str, dict[str, Any]]], hold: Callable[[], object]
    ) -> tuple[set[str], dict[str, Document]]:
        """As :meth:`_stored`, as many as a short transaction takes, the first first."""
        new: set[str] = set()
        there: dict[str, Document] = {}
        ends = time.monotonic() + _TURN
        with self._store.transaction():
            hold()
            for start in range(0, len(given), _FEW):
                more, found = self._stored(table, dict(given[start : start + _FEW]))
                new |= more
                there |= found
                if time.monotonic() >= ends:
                    break
        return new, there


def _count(
    loaded: Loaded,
    table: str,
    given: Mapping[str, dict[str, Any]],
    new: Collection[str],
    there: Mapping[str, Document],
) -> None:
    """Note what became of ``given`` of which ``new`` were not there before."""
    tally = loaded.tables[table]
    tally.added += len(new)
    for id, one in given.items():
        if id not in new:
            if canonical(there[id]) != canonical(one):
                reason = "the store has it, and it differs"
                loaded.conflicts.append(Fault(table, dumped_id(table, id, one), reason))
                continue
            tally.unchanged += 1
        tally.read.add(dumped(id, one))
        tally.found.add(dumped(id, there[id]))
