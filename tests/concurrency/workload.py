"""The work of each process, and the log of what was acknowledged to it."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from support.factories import code, new_checkpoint, new_notebook, new_save
from support.sites import OpenSite, Site

from jupyter_axon_notebooks.errors import Conflict, Stale
from jupyter_axon_notebooks.garbage import sweep
from jupyter_axon_notebooks.records import NotebookCell
from jupyter_axon_notebooks.repository import NotebookRepository, versions

#: The notebook that all workers edit, those that all save, and one that is saved slowly.
SHARED = "shared"
SAVED = [f"saved-{number}" for number in range(4)]
SLOW = "saved-slowly"
#: Cells of the shared notebook that hold a number. The first is incremented atomically, the second
#: with optimistic locking.
COUNTERS = ("count", "checked")
#: The run to which all workers add checkpoints.
RUN = "the run"
#: The number of versions that the collector keeps of each notebook.
VERSIONS = 5
#: A worker keeps at most so many cells and checkpoints of its own.
_KEPT = 4
_LARGE_OUTPUT = 1500


@dataclass(frozen=True)
class Save:
    """A save of a notebook in which every cell has the same stamp.

    With ``outputs_only`` the sources are equal to those of other such saves. Parts of a ``large``
    save are staged.
    """

    stamp: str
    outputs_only: bool = False
    large: bool = False

    def cells(self) -> list[NotebookCell]:
        source = "" if self.outputs_only else self.stamp
        length = _LARGE_OUTPUT if self.large else 1
        return [code(f"c{n}", source, f"{self.stamp} {str(n) * length}", count=n) for n in range(5)]


@dataclass
class Log:
    """The acknowledged operations of one process, and the duration of its work."""

    #: The number of calls that returned, refusals included.
    operations: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    #: The number of increments by cell of the shared notebook.
    increments: Counter[str] = field(default_factory=Counter)
    #: The sources of the cells that it added to the shared notebook and did not delete, by id.
    cells: dict[str, str] = field(default_factory=dict)
    #: The loss of each of its checkpoints, and the SHA-256 of their model states, by id.
    losses: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    #: The epochs of the shared run for which its checkpoint was accepted.
    epochs: list[int] = field(default_factory=list)
    #: Its last save of each saved notebook.
    saves: dict[str, Save] = field(default_factory=dict)
    #: What the collector removed: versions, contents, staged contents, and folders of state files.
    removed: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def prepare(repository: NotebookRepository) -> None:
    """Create the notebooks that all processes work on."""
    repository.create(new_notebook(*(code(id, "0") for id in COUNTERS), id=SHARED))
    for id in (*SAVED, SLOW):
        repository.create(new_notebook(id=id), new_save(*Save("initial").cells()))


def run_process(
    site: Site, role: str, options: dict[str, Any], barrier: Barrier, stop: Event, parent: Any
) -> None:
    """Open the store, wait for the other processes, work, and send the log to the parent."""
    versions._BATCH_LENGTH = _LARGE_OUTPUT
    log = Log()
    try:
        with site.open(clean=False) as opened:
            barrier.wait(60)
            _ROLES[role](opened, log, stop, **options)
    except Exception:  # noqa: BLE001 - reported by the parent
        log.errors.append(f"{role}: {traceback.format_exc()}")
    parent.send(log)


class Worker:
    """A process that executes random operations."""

    def __init__(self, site: OpenSite, log: Log, name: str, seed: str) -> None:
        self._repository = site.repository
        self._states = site.states
        self._log = log
        self._name = name
        self._dice = random.Random(seed)
        self._count = 0
        self._epoch = 0

    def work(self, times: int) -> None:
        kinds: dict[Callable[[], None], int] = {
            self._increment: 8,
            self._increment_checked: 4,
            self._save: 8,
            self._add_cell: 3,
            self._delete_cell: 3,
            self._create_checkpoint: 6,
            self._add_to_the_run: 3,
            self._attach_state: 3,
            self._delete_checkpoint: 2,
            self._leave_orphan: 1,
        }
        began = time.perf_counter()
        for kind in self._dice.choices(list(kinds), list(kinds.values()), k=times):
            with self._timed(kind.__name__):
                kind()
        self._log.seconds = time.perf_counter() - began

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except Exception:  # noqa: BLE001 - reported by the parent
            self._log.errors.append(f"{self._name}, {name}: {traceback.format_exc()}")
        self._log.operations += 1
        self._log.longest = max(self._log.longest, time.perf_counter() - began)

    def _new_id(self) -> str:
        self._count += 1
        return f"{self._name}-{self._count}"

    def _increment(self) -> None:
        increment(self._repository)
        self._log.increments["count"] += 1

    def _increment_checked(self) -> None:
        notebook = self._repository.find_by_id(SHARED)
        assert notebook is not None
        (number,) = [int(cell.source) for cell in notebook.cells if cell.id == "checked"]
        cell = code("checked", str(number + 1))
        with contextlib.suppress(Stale):
            self._repository.update_cell(SHARED, cell, expected_version=notebook.version_id)
            self._log.increments["checked"] += 1

    def _save(self) -> None:
        id = self._dice.choice(SAVED)
        outputs_only, large = self._dice.random() < 0.5, self._dice.random() < 0.5
        save = Save(self._new_id(), outputs_only=outputs_only, large=large)
        self._repository.save(id, new_save(*save.cells()))
        self._log.saves[id] = save

    def _add_cell(self) -> None:
        if len(self._log.cells) < _KEPT:
            id = self._new_id()
            self._repository.add_cell(SHARED, code(id, f"# {id}"), self._dice.randrange(10))
            self._log.cells[id] = f"# {id}"

    def _delete_cell(self) -> None:
        if self._log.cells:
            id = self._dice.choice(list(self._log.cells))
            self._repository.delete_cell(SHARED, id)
            del self._log.cells[id]

    def _create_checkpoint(self) -> None:
        id, loss = self._new_id(), self._dice.random()
        self._repository.create_checkpoint(new_checkpoint(SHARED, {"loss": loss}, id=id))
        self._log.losses[id] = loss

    def _add_to_the_run(self) -> None:
        self._epoch += 1  # all workers compete for the same epochs
        id, loss = self._new_id(), self._dice.random()
        new = new_checkpoint(SHARED, {"loss": loss}, id=id, epoch=self._epoch, run_id=RUN)
        with contextlib.suppress(Conflict):
            self._repository.create_checkpoint(new)
            self._log.losses[id] = loss
            self._log.epochs.append(self._epoch)

    def _deletable(self) -> list[str]:
        """Return its checkpoints outside the shared run."""
        ids = []
        for id in self._log.losses:
            checkpoint = self._repository.get_checkpoint(id)
            if checkpoint is not None and checkpoint.run_id is None:
                ids.append(id)
        return ids

    def _attach_state(self) -> None:
        ids = [id for id in self._deletable() if id not in self._log.digests]
        if ids:
            id = self._dice.choice(ids)
            with self._states.open_writer(SHARED, id, "model") as writer:
                writer.write(self._dice.randbytes(2000))
                writer.prepare()
                self._repository.checkpoints.attach_state(id, "model", writer.commit, writer.digest)
            self._states.mark_recorded(SHARED, id)
            self._log.digests[id] = writer.digest

    def _delete_checkpoint(self) -> None:
        ids = self._deletable()
        if len(ids) > _KEPT:
            id = self._dice.choice(ids)
            self._repository.delete_checkpoint(id)
            del self._log.losses[id]
            self._log.digests.pop(id, None)

    def _leave_orphan(self) -> None:
        """Leave an old state file without a record, for the collector."""
        with self._states.open_writer("unknown", self._new_id(), "model") as writer:
            writer.write(b"orphaned")
            folder = Path(writer.commit().path).parent
        for path in (*folder.iterdir(), folder):
            with contextlib.suppress(FileNotFoundError):  # the collector was faster
                os.utime(path, (0, 0))


def increment(repository: NotebookRepository) -> None:
    """Increment the number in the cell ``count`` of the shared notebook."""
    while True:
        notebook = repository.find_by_id(SHARED)
        assert notebook is not None
        [cell] = [one for one in notebook.cells if one.id == "count"]
        cell.source = str(int(cell.source) + 1)
        with contextlib.suppress(Stale):
            repository.update_cell(SHARED, cell, expected_version=notebook.version_id)
            return


def _work(site: OpenSite, log: Log, _stop: Event, *, name: str, seed: str, times: int) -> None:
    Worker(site, log, name, seed).work(times)


def _read(site: OpenSite, log: Log, stop: Event) -> None:
    """Read everything until told to stop, and assert that every record is consistent."""
    repository = site.repository
    lowest = 0
    while not stop.is_set():
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
        assert int(cells["count"]) >= lowest, "an acknowledged increment was lost"
        lowest = int(cells["count"])
        best = repository.checkpoints.list_best(SHARED, "loss", True, 3)
        assert [one.metrics["loss"] for one in best] == sorted(one.metrics["loss"] for one in best)
        log.operations += 1


def _collect(site: OpenSite, log: Log, stop: Event) -> None:
    """Collect garbage until told to stop, and once more then."""
    garbage = site.repository.garbage
    is_last = False
    while not is_last:
        is_last = stop.is_set()
        report = sweep(site.states, site.repository.checkpoints.list_state_names)
        assert report.problems == [], report.problems
        log.removed["folders"] += len(report.folders)
        for id in garbage.list_staged():
            log.removed["staged"] += sum(done.contents for done in garbage.remove_staged(id))
        for id in garbage.list_notebooks(VERSIONS):
            for done in garbage.remove_versions(id, VERSIONS):
                log.removed.update(done._asdict())
        log.operations += 1


def _save_slowly(site: OpenSite, log: Log, _stop: Event, *, times: int) -> None:
    """Save large outputs, and wait after staging until the staged contents are collected."""
    stage = versions.VersionRepository.stage

    def stage_and_wait(*arguments: Any) -> None:
        stage(*arguments)
        deadline = time.monotonic() + 60
        while SLOW in site.repository.garbage.list_staged():
            assert time.monotonic() < deadline, "no garbage is collected"

    versions.VersionRepository.stage = stage_and_wait  # type: ignore[method-assign]
    for number in range(times):
        log.saves[SLOW] = Save(f"slow-{number}", large=True)
        site.repository.save(SLOW, new_save(*log.saves[SLOW].cells()))
        log.operations += 1


def _fork(site: OpenSite, log: Log, _stop: Event, *, times: int, children: int) -> None:
    """Increment in threads, and fork children that increment with the inherited repository."""
    repository = site.repository

    def increment_often() -> None:
        for _ in range(times):
            increment(repository)

    threads = [threading.Thread(target=increment_often) for _ in range(2)]
    for thread in threads:
        thread.start()
    pids = []
    for _ in range(children):
        increment(repository)
        pid = os.fork()
        if pid == 0:
            try:
                increment_often()
                os._exit(0)
            except BaseException:  # noqa: BLE001 - reported by the parent
                traceback.print_exc()
                os._exit(1)
        pids.append(pid)
    for thread in threads:
        thread.join()
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    log.errors += [f"a child ended with status {status}" for status in statuses if status]
    log.increments["count"] = log.operations = times * (len(threads) + children) + children


_ROLES: dict[str, Callable[..., None]] = {
    "worker": _work,
    "reader": _read,
    "collector": _collect,
    "slow saver": _save_slowly,
    "forker": _fork,
}
