"""What the processes do that work on one store at the same time.

Run as a module with a role and its arguments as JSON. It says ``ready``, waits for a line, works, and prints a ledger.
Workers and the saver do a number of operations; the reader and the sweeper go on until their standard input is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from kills.plans import LARGE
from support.factories import code, new_checkpoint, new_notebook, saved

from jupyter_axon_notebooks import garbage
from jupyter_axon_notebooks.errors import Conflict, Stale
from jupyter_axon_notebooks.records import NotebookCell
from jupyter_axon_notebooks.repository import NotebookRepository, versions
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import Store, open_store

from .ledger import Ledger, Save

#: The notebook that everybody works on, those that everybody saves, and one that is saved slowly.
SHARED = "shared"
SAVED = [f"saved-{number}" for number in range(4)]
SLOW = "saved-slowly"
#: The cells of the shared notebook that hold a number: raised in one step, and by reading first and writing then.
COUNTS = ("count", "checked")
#: The run that everybody adds checkpoints to, and the files that everybody wants to be bound to.
RUN = "the run"
ORIGIN = "an origin"
PATHS = [f"/{number}.ipynb" for number in range(8)]
#: Cells of its own that a worker keeps in the shared notebook; checkpoints it keeps; notebooks it keeps.
_KEPT = 4
#: Seconds that the saver waits for a sweep.
_PATIENCE = 60
#: Versions of each notebook that the sweeper keeps.
VERSIONS = 5


def prepare(repository: NotebookRepository) -> None:
    """Make the notebooks that all processes meet at."""
    repository.create(new_notebook(*(code(id, "0") for id in COUNTS), id=SHARED))
    for id in (*SAVED, SLOW):
        repository.create(new_notebook(id=id), saved(*stamped(Save("at-first"))))


def stamped(save: Save) -> list[NotebookCell]:
    """The cells of a save: each bears its stamp, at the beginning of what it printed if nowhere else."""
    source, length = "" if save.outputs_only else save.stamp, LARGE if save.large else 1
    return [code(f"c{n}", source, f"{save.stamp} {str(n) * length}", count=n) for n in range(5)]


class Worker:
    """Does operations of all kinds, and keeps a ledger of them."""

    def __init__(self, store: Store, states: StateStorage, name: str, seed: str) -> None:
        self.ledger = Ledger()
        self._repository = NotebookRepository(store, states=states)
        self._states = states
        self._name = name
        self._dice = random.Random(seed)
        self._made = 0
        self._epoch = 0

    def work(self, times: int) -> Ledger:
        kinds: dict[Callable[[], None], int] = {
            self._count: 8,
            self._count_checked: 4,
            self._save: 8,
            self._add_cell: 3,
            self._remove_cell: 3,
            self._checkpoint: 6,
            self._checkpoint_of_the_run: 3,
            self._state: 3,
            self._delete_checkpoint: 2,
            self._create: 2,
            self._bind: 3,
            self._delete: 1,
            self._orphan: 1,
        }
        began = time.perf_counter()
        for kind in self._dice.choices(list(kinds), list(kinds.values()), k=times):
            with self._timed(kind.__name__):
                kind()
        self.ledger.seconds = time.perf_counter() - began
        return self.ledger

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except Exception:  # noqa: BLE001 - whatever it is, the ledger is where it is looked for
            self.ledger.errors.append(f"{self._name}, {what}: {traceback.format_exc()}")
        self.ledger.operations += 1
        self.ledger.longest = max(self.ledger.longest, time.perf_counter() - began)

    def _fresh(self) -> str:
        self._made += 1
        return f"{self._name}-{self._made}"

    def _note_count(self, cell_id: str) -> None:
        self.ledger.counted[cell_id] = self.ledger.counted.get(cell_id, 0) + 1

    def _count(self) -> None:
        count_one(self._repository)
        self._note_count("count")

    def _count_checked(self) -> None:
        notebook = self._repository.find_by_id(SHARED)
        assert notebook is not None
        (number,) = [int(cell.source) for cell in notebook.cells if cell.id == "checked"]
        changed = code("checked", str(number + 1))
        with contextlib.suppress(Stale):
            self._repository.update_cell(SHARED, changed, expected_version=notebook.version_id)
            self._note_count("checked")

    def _save(self) -> None:
        id = self._dice.choice(SAVED)
        save = Save(
            self._fresh(), outputs_only=self._dice.random() < 0.5, large=self._dice.random() < 0.5
        )
        self._repository.save(id, saved(*stamped(save)))
        self.ledger.saves[id] = save

    def _add_cell(self) -> None:
        if len(self.ledger.cells) < _KEPT:
            id = self._fresh()
            self._repository.add_cell(SHARED, code(id, f"# {id}"), self._dice.randrange(10))
            self.ledger.cells[id] = f"# {id}"

    def _remove_cell(self) -> None:
        if self.ledger.cells:
            id = self._dice.choice(list(self.ledger.cells))
            self._repository.delete_cell(SHARED, id)
            del self.ledger.cells[id]

    def _checkpoint(self) -> None:
        id, loss = self._fresh(), self._dice.random()
        self._repository.create_checkpoint(new_checkpoint(SHARED, {"loss": loss}, id=id))
        self.ledger.losses[id] = loss

    def _checkpoint_of_the_run(self) -> None:
        self._epoch += 1  # as the others do, so that they meet at the same epochs
        id, loss = self._fresh(), self._dice.random()
        new = new_checkpoint(SHARED, {"loss": loss}, id=id, epoch=self._epoch, run_id=RUN)
        with contextlib.suppress(Conflict):
            self._repository.create_checkpoint(new)
            self.ledger.losses[id] = loss
            self.ledger.won.append(self._epoch)

    def _own(self) -> list[str]:
        """Its checkpoints that may be deleted again: not those of the run, which are counted."""
        return [
            id
            for id in self.ledger.losses
            if (self._repository.get_checkpoint(id) or _GONE).run_id is None
        ]

    def _state(self) -> None:
        ids = [id for id in self._own() if id not in self.ledger.digests]
        if ids:
            id = self._dice.choice(ids)
            with self._states.open_writer(SHARED, id, "model") as writer:
                writer.write(self._dice.randbytes(2000))
                writer.prepare()
                self._repository.checkpoints.attach_state(id, "model", writer.commit, writer.digest)
            self._states.mark_recorded(SHARED, id)
            self.ledger.digests[id] = writer.digest

    def _delete_checkpoint(self) -> None:
        ids = self._own()
        if len(ids) > _KEPT:
            id = self._dice.choice(ids)
            self._repository.delete_checkpoint(id)
            del self.ledger.losses[id]
            self.ledger.digests.pop(id, None)

    def _create(self) -> None:
        if len(self.ledger.notebooks) < _KEPT:
            id = self._fresh()
            path = self._dice.choice([None, *PATHS])
            with contextlib.suppress(Conflict):
                self._repository.create(
                    new_notebook(code("c", id), id=id, origin=ORIGIN, path=path)
                )
                self.ledger.notebooks.append(id)

    def _bind(self) -> None:
        if self.ledger.notebooks:
            id = self._dice.choice(self.ledger.notebooks)
            if self._dice.random() < 0.3:
                self._repository.bindings.unbind(id)
            else:
                self._repository.bindings.bind(id, self._dice.choice(PATHS))

    def _delete(self) -> None:
        if self.ledger.notebooks:
            id = self._dice.choice(self.ledger.notebooks)
            self._repository.delete(id)
            self.ledger.notebooks.remove(id)

    def _orphan(self) -> None:
        """Leave behind what a process leaves that was killed long ago, for the sweep."""
        with self._states.open_writer("nobody's", self._fresh(), "model") as writer:
            writer.write(b"orphaned")
            folder = Path(writer.commit().path).parent
        for path in (*folder.iterdir(), folder):
            with contextlib.suppress(FileNotFoundError):  # a sweep is already at it
                os.utime(path, (0, 0))


class _Gone(msgspec.Struct):
    run_id: str = RUN


_GONE = _Gone()


def count_one(repository: NotebookRepository) -> None:
    """Raise the number in the cell ``count`` of the shared notebook by one."""

    def one_more(cell: NotebookCell) -> NotebookCell:
        return msgspec.structs.replace(cell, source=str(int(cell.source) + 1))

    repository.change_cell(SHARED, "count", one_more)


def read(store: Store, states: StateStorage, until: Callable[[], bool], ledger: Ledger) -> None:
    """Look at everything again and again; what is seen must be whole."""
    repository = NotebookRepository(store, states=states)
    lowest = 0
    while not until():
        for id in (*SAVED, SLOW):
            notebook = repository.find_by_id(id)
            assert notebook is not None
            stamps = {
                (output.text or "").split()[0] for cell in notebook.cells for output in cell.outputs
            }
            assert (len(stamps), len(notebook.cells)) == (1, 5), notebook
            assert {cell.source for cell in notebook.cells} in ({""}, stamps), notebook
        shared = repository.find_by_id(SHARED)
        assert shared is not None
        cells = {cell.id: cell.source for cell in shared.cells}
        assert len(cells) == len(shared.cells), shared
        assert int(cells["count"]) >= lowest, "an acknowledged count went back"
        lowest = int(cells["count"])
        best = repository.checkpoints.list_best(SHARED, "loss", minimize=True, limit=3)
        assert [one.metrics["loss"] for one in best] == sorted(one.metrics["loss"] for one in best)
        paths = [summary.path for summary in repository.list_all() if summary.path is not None]
        assert len(paths) == len(set(paths)), paths
        ledger.operations += 1


def sweep(store: Store, states: StateStorage, until: Callable[[], bool], ledger: Ledger) -> None:
    """Sweep again and again, as a server does at its start and every hour, and once more when all is done."""
    repository, removed = NotebookRepository(store, states=states), Counter[str]()
    last = False
    while not last:
        last = until()
        report = garbage.sweep(states, repository.checkpoints.list_state_names)
        assert report.problems == [], report.problems
        removed["folders"] += len(report.folders)
        for id in repository.garbage.list_staged():
            removed["ahead"] += sum(done.contents for done in repository.garbage.remove_staged(id))
        for id in repository.garbage.list_notebooks(VERSIONS):
            for done in repository.garbage.remove_versions(id, VERSIONS):
                removed.update(done._asdict())
        ledger.operations += 1
    ledger.removed = dict(removed)


def save_slowly(store: Store, times: int) -> Ledger:
    """Save, each time waiting in the midst until a sweep has taken what was written ahead, where anything was."""
    ledger, repository = Ledger(), NotebookRepository(store)
    write_ahead = versions.VersionRepository.stage

    def and_wait(*arguments: Any) -> None:
        write_ahead(*arguments)
        ends = time.monotonic() + _PATIENCE
        while SLOW in repository.garbage.list_staged():
            assert time.monotonic() < ends, "nobody sweeps"

    versions.VersionRepository.stage = and_wait
    for number in range(times):
        ledger.saves[SLOW] = Save(f"slow-{number}", large=True)
        repository.save(SLOW, saved(*stamped(ledger.saves[SLOW])))
        ledger.operations += 1
    return ledger


def fork_and_count(store: Store, times: int, children: int) -> Ledger:
    """Count in threads, and meanwhile fork children that go on counting with what they inherit."""
    ledger = Ledger()
    repository = NotebookRepository(store)

    def count() -> None:
        for _ in range(times):
            count_one(repository)

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    pids = []
    for _ in range(children):
        count_one(repository)
        pid = os.fork()
        if pid == 0:
            try:
                count()
                os._exit(0)
            except BaseException:  # noqa: BLE001 - the parent is told
                traceback.print_exc()
                os._exit(1)
        pids.append(pid)
    for thread in threads:
        thread.join()
    ended = [os.waitpid(pid, 0)[1] for pid in pids]
    ledger.errors = [f"a child ended with {status}" for status in ended if status]
    ledger.counted["count"] = times * (len(threads) + children) + children
    ledger.operations = ledger.counted["count"]
    return ledger


def _main() -> None:
    task: dict[str, Any] = json.loads(sys.argv[1])
    versions._BATCH_LENGTH = LARGE  # so that of a save that is none each part is written ahead
    store = open_store(task["url"])
    states = StateStorage(Path(task["states_root"]), store_id=store.id)
    print("ready", flush=True)
    sys.stdin.readline()
    if task["role"] == "worker":
        ledger = Worker(store, states, task["name"], task["seed"]).work(task["times"])
    elif task["role"] == "saver":
        ledger = save_slowly(store, task["times"])
    elif task["role"] == "forker":
        ledger = fork_and_count(store, task["times"], task["children"])
    else:
        ledger = Ledger()
        try:
            {"reader": read, "sweeper": sweep}[task["role"]](store, states, _told_to_stop, ledger)
        except Exception:  # noqa: BLE001
            ledger.errors.append(f"{task['role']}: {traceback.format_exc()}")
    store.close()
    print(msgspec.json.encode(ledger).decode(), flush=True)


def _told_to_stop() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


if __name__ == "__main__":
    _main()
