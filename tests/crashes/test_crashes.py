"""Tests that killed operations are atomic, and acknowledged ones durable."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from support.engines import ON_DISK
from support.factories import code
from support.sites import Site, new_site

from jupyter_axon_notebooks.records import CellStatus

from .checks import check_everything_goes, check_kill, expected_states
from .killing import Kill, execute_and_kill
from .observation import Observation, find_unlisted, observe
from .operations import (
    SCENARIOS,
    Operation,
    cells_after,
    execute,
    large_cells,
    op,
)
from .servers import CrashingServer

#: Scenarios with several transactions or files. PostgreSQL only sees that a connection is closed.
SEVERAL_STEPS = (
    "save new sources",
    "delete",
    "record a checkpoint",
    "attach a state",
    "replace a checkpoint",
    "prune",
)


@pytest.mark.parametrize(
    ("engine", "name"),
    [("sqlite", name) for name in SCENARIOS] + [("postgresql", name) for name in SEVERAL_STEPS],
)
def test_an_operation_killed_anywhere_is_atomic(engine: str, name: str, tmp_path: Path) -> None:
    site = new_site(engine, tmp_path)
    setup, operation = SCENARIOS[name]
    before, after = expected_states(site, setup, operation)
    number, is_killed = 0, True
    while is_killed:
        number += 1
        with site.open() as opened:
            execute(opened, *setup)
        outcome = check_kill(site, operation, Kill(call=number), before, after)
        is_killed = outcome.signal is not None
        with site.open() as opened:
            check_everything_goes(opened)
    assert len(outcome.calls) == number - 1 > 2


def test_staged_outputs_of_a_killed_save_are_removed_with_the_next_version(tmp_path: Path) -> None:
    site = new_site("sqlite", tmp_path)
    setup, operation = SCENARIOS["save new outputs, staged"]
    before, after = expected_states(site, setup, operation)
    number, is_killed = 0, True
    while is_killed:
        number += 1
        with site.open() as opened:
            execute(opened, *setup)
        kill = Kill(call=number)
        is_killed = check_kill(site, operation, kill, before, after, complete=False).signal
        with site.open() as opened:
            execute(opened, op("save", "nb", cells=cells_after(1)[1:]))
            opened.clean()
            assert find_unlisted(opened.store) == set()
            check_everything_goes(opened)


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_store_whose_creation_was_killed_is_created_by_the_next_process(
    engine: str, tmp_path: Path
) -> None:
    _, operation = SCENARIOS["create"]
    before, after = expected_states(new_site(engine, tmp_path, empty=True), [], operation)
    number, is_killed = 0, True
    while is_killed:
        number += 1
        site = new_site(engine, tmp_path / str(number), empty=True)
        outcome = check_kill(site, operation, Kill(call=number), before, after)
        is_killed = outcome.signal is not None
    assert sum(call.startswith("CREATE") for call in outcome.calls) > 10


@pytest.fixture(scope="module")
def server() -> Iterator[CrashingServer]:
    started = CrashingServer()
    yield started
    started.close()


@pytest.mark.parametrize("name", ["save new sources", "record a checkpoint", "delete"])
def test_a_database_server_killed_in_an_operation_loses_nothing_acknowledged(
    name: str, tmp_path: Path, server: CrashingServer
) -> None:
    site = Site(server.url(server.new_database()), tmp_path / "states", server)
    setup, operation = SCENARIOS[name]
    before, after = expected_states(site, setup, operation)
    with site.open() as opened:
        execute(opened, *setup)
    undisturbed = execute_and_kill(site, operation, Kill())
    dice = random.Random(name)
    for kill in (
        Kill(call=dice.randint(1, len(undisturbed.calls)), server=True),
        Kill(call=len(undisturbed.calls), server=True),
        Kill(after=dice.uniform(0, undisturbed.seconds), server=True),
    ):
        with site.open() as opened:
            check_everything_goes(opened)
            execute(opened, *setup)
        check_kill(site, operation, kill, before, after)


class CrashMachine(RuleBasedStateMachine):
    """Random operations, some killed; a second store executes the same operations undisturbed."""

    engine = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="axon-crash-"))
        self.folder.chmod(0o755)
        self.site = new_site(self.engine, self.folder)
        self.reference = Site(f"sqlite:///{self.folder}/reference.db", self.folder / "reference")
        with self.reference.open() as opened:
            self.seen = observe(opened)
        self.count = 0

    @rule(data=st.data())
    def execute_and_kill(self, data: st.DataObject) -> None:
        operation = data.draw(self.operations(), label="operation")
        kill = data.draw(self.kills(), label="kill")
        before = self.seen
        with self.reference.open() as opened:
            execute(opened, operation)
            self.seen = observe(opened)
        check_kill(self.site, operation, kill, before, self.seen)

    def kills(self) -> st.SearchStrategy[Kill]:
        kills = [
            st.builds(Kill, call=st.integers(1, 40)),
            st.builds(Kill, after=st.floats(0.0, 0.3)),
        ]
        if self.engine == "sqlite":
            kills.append(st.builds(Kill, file_size=st.integers(30_000, 300_000)))
        return st.one_of(kills)

    def operations(self) -> st.SearchStrategy[Operation]:
        """Return the operations that are possible now."""
        self.count += 1
        return st.one_of(_operations(self.seen, f"{self.count:03}"))

    def teardown(self) -> None:
        with self.site.open() as opened:
            check_everything_goes(opened)
        shutil.rmtree(self.folder)


class PostgresqlCrashMachine(CrashMachine):
    engine = "postgresql"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("machine", "examples"), [(CrashMachine, 10), (PostgresqlCrashMachine, 3)])
def test_random_operations_killed_at_random_moments_are_atomic(
    machine: type[CrashMachine], examples: int
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _operations(seen: Observation, new_id: str) -> list[st.SearchStrategy[Operation]]:
    notebooks, checkpoints, runs = seen["notebooks"], seen["checkpoints"], seen["runs"]
    paths = st.sampled_from([f"/{number}.ipynb" for number in range(6)])
    free = paths.filter(
        lambda path: all(notebook["path"] != path for notebook in notebooks.values())
    )
    cells = st.one_of(
        st.builds(large_cells, st.integers(0, 99)),
        st.builds(cells_after, st.integers(0, 99), size=st.sampled_from([0, 100, 5000])),
    )

    def build(name: str, id: st.SearchStrategy[str], **arguments: Any) -> Any:
        return st.fixed_dictionaries({"id": id, **arguments}).map(
            lambda arguments: Operation(name, arguments)
        )

    kinds = [
        build(
            "create_saved",
            st.just(f"nb-{new_id}"),
            cells=cells,
            path=st.none() if len(notebooks) > 4 else free,
        )
    ]
    if notebooks:
        id = st.sampled_from(sorted(notebooks))
        new = st.just(f"cp-{new_id}")
        metrics = st.fixed_dictionaries({"loss": st.floats(0, 1)})
        epoch = st.just(int(new_id))
        contents = st.binary(max_size=3000)
        states = st.dictionaries(st.sampled_from(["model", "optimizer"]), contents, min_size=1)
        position = {"notebook_id": id, "epoch": epoch, "step": epoch, "metrics": metrics}
        kinds += [
            build("save", id, cells=cells),
            build("save", id, cells=cells),
            build("update", id, description=st.text("ab", max_size=3), tags=st.just(["t"])),
            build("bind", id, path=paths),
            build("unbind", id),
            build("delete", id),
            build("remove_versions", id, keep=st.integers(1, 3)),
            build("create_checkpoint", new, **position),
            build("record_checkpoint", new, **position, states=states),
            build("start_run", st.just(f"run-{new_id}"), notebook_id=id),
        ]
        kinds += [
            edit
            for notebook_id, notebook in notebooks.items()
            if notebook["cells"]
            for edit in _edits(notebook_id, [cell["id"] for cell in notebook["cells"]], new_id)
        ]
    free_parts = [
        (id, part)
        for id, checkpoint in sorted(checkpoints.items())
        for part in ("model", "optimizer")
        if part not in checkpoint["files"] and not checkpoint["pruned"]
    ]
    if free_parts:
        kinds.append(
            st.tuples(st.sampled_from(free_parts), st.binary(max_size=3000)).map(
                lambda drawn: op("attach_state", drawn[0][0], part=drawn[0][1], content=drawn[1])
            )
        )
    if checkpoints:
        id = st.sampled_from(sorted(checkpoints))
        kinds += [
            build("update_checkpoint", id, tags=st.just(["kept"]), pinned=st.booleans()),
            build("delete_checkpoint", id),
        ]
    if runs:
        kinds.append(
            st.tuples(st.sampled_from(sorted(runs)), st.sampled_from(["completed", "failed"])).map(
                lambda drawn: op(
                    "update_run_status",
                    drawn[0],
                    notebook_id=runs[drawn[0]][0],
                    status=drawn[1],
                )
            )
        )
    return kinds


def _edits(
    notebook_id: str, cell_ids: list[str], new_id: str
) -> list[st.SearchStrategy[Operation]]:
    new = code(f"cell-{new_id}", "pass")

    def edit(cell_id: str, name: str) -> Operation:
        if name == "update_cell":
            cell = code(cell_id, "edited", status=CellStatus.RUNNING)
            return op(name, notebook_id, cell=cell)
        if name == "change_cell":
            return op(name, notebook_id, cell_id=cell_id, more="\n# more")
        if name == "delete_cell":
            return op(name, notebook_id, cell_id=cell_id)
        return op(name, notebook_id, cell=new, position=len(cell_ids) // 2)

    names = ["add_cell", "update_cell", "change_cell", "delete_cell"]
    return [st.builds(edit, st.sampled_from(cell_ids), st.sampled_from(names))]
