"""One kill, and everything that is claimed of it."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from support.factories import check_contents

from jupyter_axon_notebooks import garbage
from jupyter_axon_notebooks.records import Record
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, open_store

from .hands import Hands
from .model import Key, Model
from .nursery import RETURNED, Death, Life, Nursery
from .observed import difference, integrity, observe, unlisted_contents
from .plans import Operation, Plan
from .points import Kill

_KINDS = {
    "TrainingNotebook": "notebook",
    "NotebookSummary": "notebook",
    "NotebookCheckpoint": "checkpoint",
    "TrainingRun": "run",
}
#: Seconds in which a database server notices that a client was killed.
_PATIENCE = 60


class Server(Protocol):
    """A database server that can be killed."""

    def crash(self) -> None:
        """Kill it."""

    def start(self) -> None:
        """Start it again; returns when it takes connections."""


@dataclass
class NotebookLocation:
    """Where trials are held: a store that goes through all of them, and its state files.

    ``server`` is that of the store's database, where it can be killed.
    """

    url: str
    states_root: Path
    server: Server | None = None

    @contextmanager
    def opened(self, *, swept: bool = True) -> Iterator[Opened]:
        """The store, opened anew when nobody has it open any more; ``swept``: what a server does at its start is done."""
        store = open_store(self.url)
        if self.url.startswith("postgresql"):
            _wait_for_others(store)
        try:
            states = StateStorage(self.states_root, store_id=store.id)
            opened = Opened(store, NotebookRepository(store, states=states), states)
            if swept:
                opened.sweep()
            yield opened
        finally:
            store.close()


def _wait_for_others(store: Store) -> None:
    """Return when the database has noticed that whoever was killed is gone, and ended what it was about."""
    others = (
        "SELECT query FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    ends = time.monotonic() + _PATIENCE
    with store._database.engine.connect() as connection:
        while busy := connection.exec_driver_sql(others).scalars().all():
            assert time.monotonic() < ends, f"somebody still has the store open: {busy}"
            connection.exec_driver_sql("SELECT pg_sleep(0.001)")


@dataclass
class Opened:
    """A store in use."""

    store: Store
    repository: NotebookRepository
    states: StateStorage

    def sweep(self) -> None:
        """Remove what killed processes left, as a server does at its start, but however young it is."""
        report = garbage.sweep(
            self.states, self.repository.checkpoints.list_state_names, older_than=-1
        )
        assert not report.problems, report.problems
        for id in self.repository.garbage.list_staged():
            for _ in self.repository.garbage.remove_staged(id):
                pass

    def follow(self, plan: Sequence[Operation], model: Model) -> None:
        """Do what a plan says, and note it."""
        hands = Hands(self.repository, self.states)
        for operation in plan:
            hands.do(operation)
            model.apply(operation)

    def observe(self) -> dict[str, Any]:
        return observe(self.store, self.repository, Path(self.states.root))

    def assert_like(self, *possible: Model) -> Model:
        """Hold the store to what there must be, or to one of two things where either may be; that one."""
        faults = integrity(self.store)
        assert faults == ["ok"], faults
        seen = self.observe()
        differences = []
        for model in possible:
            differences.append(difference(model.plain(), seen))
            if not differences[-1]:
                return model
        raise AssertionError(f"nearest to it:\n{min(differences, key=len)}")

    def assert_whole(self, model: Model) -> None:
        """Hold the store to what there must be when nobody was killed: no content is left over either."""
        self.assert_like(model)
        unlisted = unlisted_contents(self.store)
        assert unlisted == set(), f"contents nobody lists: {unlisted}"
        check_contents(self.store)


class Acknowledged:
    """What operations returned, of each record the latest; none of one that was changed since."""

    def __init__(self) -> None:
        self._latest: dict[Key, tuple[str, Any]] = {}

    def note(self, changed: set[Key], kind: str | None = None, value: Any = None) -> None:
        for key in changed:
            self._latest.pop(key, None)
        if kind is not None:
            self._latest[_KINDS[kind], value["id"]] = (kind, value)

    def check(self, repository: NotebookRepository) -> None:
        """Every one of them is in the store exactly as it was acknowledged, times and all."""
        for (_, id), (kind, value) in self._latest.items():
            found: Record | None
            if kind == "TrainingRun":
                found = repository.runs.get(value["notebook_id"], id)
            else:
                found = {
                    "TrainingNotebook": repository.find_by_id,
                    "NotebookSummary": repository.find_summary,
                    "NotebookCheckpoint": repository.get_checkpoint,
                }[kind](id)
            assert found is not None, f"{kind} {id} was acknowledged and is gone"
            assert found.to_json() == value, difference(value, found.to_json())


def trial(
    place: NotebookLocation,
    nursery: Nursery,
    plan: Plan,
    kill: Kill,
    *,
    setup: Sequence[Operation] = (),
    instead: Operation | None = None,
    new: bool = False,
) -> Death:
    """Have a process follow ``plan`` and be killed, see what is left, and go on to the plan's end.

    ``setup`` is done before, by nobody who is killed; with ``new`` nobody so much as opened the store before. What was cut
    short is done once more, or something else ``instead``. In the end everything is deleted again, and nothing may be
    left.
    """
    model = Model()
    if not new:
        with place.opened() as before:
            before.follow(setup, model)
    with _crashing(place, kill) as pipe:
        death = nursery.live(Life(place.url, str(place.states_root), plan, kill, pipe))
    try:
        with place.opened() as after:
            done, model = _judge(after, model, plan, death)
            if instead is not None and death.took_effect is False:
                after.follow([instead], model)
                done += 1
            after.follow(plan[done:], model)
            after.assert_whole(model)
            for id in list(model.notebooks):
                after.repository.delete(id)
            after.assert_whole(Model())
            assert [file for file in place.states_root.rglob("*") if file.is_file()] == []
    except AssertionError as failure:
        raise AssertionError(f"{_story(plan, kill, death)}\n{failure}") from failure
    return death


@contextmanager
def _crashing(place: NotebookLocation, kill: Kill) -> Iterator[Path | None]:
    """Have the server killed and started again, when the named pipe says so or ``kill`` does."""
    if not kill.server:
        yield None
        return
    server, pipe = place.server, place.states_root.with_name("crash")
    assert server is not None
    os.mkfifo(pipe)

    def obey() -> None:
        if pipe.read_bytes():
            server.crash()
            server.start()
            pipe.write_bytes(b"")

    def crash() -> None:
        server.crash()
        server.start()

    obeying = threading.Thread(target=obey)
    obeying.start()
    timer = threading.Timer(kill.after, crash) if kill.after is not None else None
    if timer is not None:
        timer.start()
    try:
        yield pipe
    finally:
        if timer is not None:
            timer.join()
        if obeying.is_alive():
            pipe.write_bytes(b"")  # it did not come to that
        obeying.join()
        pipe.unlink()


def _judge(after: Opened, model: Model, plan: Plan, death: Death) -> tuple[int, Model]:
    """How many operations took effect, and the model that holds then."""
    acknowledged = Acknowledged()
    for operation, result in zip(plan, death.results, strict=False):
        acknowledged.note(model.apply(operation), *(result or ()))
    possible = [model]
    unfinished = plan[death.returned] if death.begun > death.returned else None
    if unfinished is not None:
        done = copy.deepcopy(model)
        acknowledged.note(done.apply(unfinished))
        possible = [done] if death.at == RETURNED and death.signal else [model, done]
    found = after.assert_like(*possible)
    acknowledged.check(after.repository)
    if unfinished is not None:
        death.took_effect = found is not model
    # Of a save of nothing but outputs, what was written ahead is not told from the outputs there are until the next
    # version begins, or replaces this one; so it is of the notebook that was being saved, and of that one alone.
    ahead = unlisted_contents(after.store)
    assert ahead <= ({unfinished.arguments["id"]} if unfinished else set()), (
        f"contents nobody lists: {ahead}"
    )
    return death.returned + (found is not model), found


def _story(plan: Plan, kill: Kill, death: Death) -> str:
    unfinished = plan[death.returned] if death.begun > death.returned else "between two operations"
    ended = f"refused with {death.refused}" if death.refused else f"ended before {death.at}"
    return f"{kill}: {ended}; {death.returned} operations had returned, then {unfinished}"
