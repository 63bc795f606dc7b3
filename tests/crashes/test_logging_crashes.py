"""Tests that every logged row is stored once, whatever is killed and whenever."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support import logged_rows
from support.engines import ON_DISK, eventually, new_url
from support.server_processes import Server

from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store

from .servers import CrashingServer

#: It pauses, so that the number of rows stays small on a slow machine.
ENDLESS = """
import time
for step in range(10**9):
    log(step)
    time.sleep(0.001)
"""
ROUNDS = 2
PROCESSES = 3


class Trainings:
    """Training processes of one notebook that are killed at random times.

    Parameters
    ----------
    seed : int
        Of the times.
    """

    def __init__(self, url: str, folder: Path, seed: int) -> None:
        self.url, self.folder, self.dice = url, folder, random.Random(seed)
        self.data = folder / "data"
        self.notebook = folder / "root/train.ipynb"
        self.notebook.parent.mkdir()
        self.notebook.write_text(
            json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        )
        self.env = logged_rows.environment(self.data, self.notebook, AXON_STORE_URL=url)
        self.reports: list[Path] = []

    def run_and_kill(self) -> None:
        """Kill several processes, each at some time after its first row."""
        with ExitStack() as processes:
            for _ in range(PROCESSES):
                self.reports.append(self.folder / f"report-{len(self.reports)}")
                process = processes.enter_context(
                    logged_rows.start(
                        ENDLESS, self.reports[-1], self.env, stdin=None, stdout=None, stderr=None
                    )
                )
                processes.callback(process.kill)
            for report in self.reports[-PROCESSES:]:
                eventually(lambda report=report: logged_rows.acknowledged(report) > 0)  # type: ignore[misc]
            threading.Event().wait(self.dice.uniform(0, 1.2))

    def spools(self) -> list[Path]:
        return list(self.data.glob("axon_notebooks/spool/*"))

    def check(self) -> None:
        """Check that the store has what was acknowledged, and that no file is left."""
        assert self.spools() == []
        with closing(open_store(self.url)) as store:
            records = NotebookRepository(store)
            [notebook] = records.list_all()
            runs = records.runs.list(notebook.id)
            assert {run.status.value for run in runs} == {"stopped"}
            assert sorted(run.number or 0 for run in runs) == list(range(1, len(self.reports) + 1))
            rows = sorted(map(logged_rows.acknowledged, self.reports))
            for run, acknowledged in zip(
                sorted(runs, key=lambda run: run.step_count or 0), rows, strict=True
            ):
                logged_rows.assert_stored_once(store, run, acknowledged)


def resume(trainings: Trainings) -> None:
    """Have several kernels resume at once, of which some are killed meanwhile."""
    code = "import jupyter_axon_notebooks as axon; print(flush=True); axon.resume()"
    command = [sys.executable, "-c", code]
    with ExitStack() as processes:
        for kills in (True, False, True, False):
            process = processes.enter_context(
                subprocess.Popen(command, env=trainings.env, stdout=subprocess.PIPE)
            )
            if kills:
                assert process.stdout is not None
                process.stdout.readline()
                threading.Event().wait(trainings.dice.uniform(0.2, 0.6))
                process.kill()
    subprocess.run(command, env=trainings.env, check=True, stdout=subprocess.DEVNULL)


def recover(trainings: Trainings) -> None:
    """Execute the command several times at once."""
    threads = [threading.Thread(target=logged_rows.recover, args=(trainings.env,)) for _ in "123"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = logged_rows.recover(trainings.env)
    assert done.returncode == 0, done.stderr


def serve(trainings: Trainings) -> None:
    """Have two servers do their background work at once."""
    home = trainings.folder
    config = {"AxonNotebooks": {"store_url": trainings.url}}
    with ExitStack() as servers:
        for name in ("one", "two"):
            server = Server(home / name, root=home / "root", data=trainings.data, config=config)
            servers.enter_context(server.running())
            server.wait_for_its_store()
        eventually(lambda: trainings.spools() == [], within=60)


@pytest.mark.parametrize("way", [resume, recover, serve])
@pytest.mark.parametrize("engine", ON_DISK)
def test_rows_of_killed_trainings_are_stored_once(
    engine: str, way: Callable[[Trainings], None], tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # shown if the test fails
    trainings = Trainings(new_url(engine, tmp_path), tmp_path, seed)
    for _ in range(ROUNDS):
        trainings.run_and_kill()
        way(trainings)
    trainings.check()


def test_servers_that_start_and_stop_leave_a_training_its_file(tmp_path: Path) -> None:
    trainings = Trainings(new_url("sqlite", tmp_path), tmp_path, 0)
    report = tmp_path / "report"
    code = "for line in sys.stdin: log(int(line)); print(flush=True)"
    config = {"AxonNotebooks": {"store_url": trainings.url}}
    with logged_rows.start(code, report, trainings.env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for step in range(3):
            server = Server(tmp_path / "server", data=trainings.data, config=config)
            with server.running():
                server.wait_for_its_store()
                print(step, file=process.stdin, flush=True)
                process.stdout.readline()
        process.kill()
    trainings.reports.append(report)
    recover(trainings)
    trainings.check()


@pytest.fixture
def database() -> Iterator[CrashingServer]:
    started = CrashingServer()
    yield started
    started.close()


def test_a_training_goes_on_and_ends_while_the_database_is_away(
    database: CrashingServer, tmp_path: Path
) -> None:
    trainings = Trainings(database.url(database.new_database()), tmp_path, 0)
    code = """
for line in sys.stdin:
    for step in range(*map(int, line.split())):
        log(step)
    print(flush=True)
"""
    report = tmp_path / "report"
    trainings.reports.append(report)

    def log(rows: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        print(rows, file=process.stdin, flush=True)
        process.stdout.readline()

    with logged_rows.start(code, report, trainings.env) as process:
        log("0 100")
        database.crash()
        log("100 200")
        database.start()
        log("200 300")
        database.stop("immediate")
        log("300 400")
        _, errors = process.communicate()
    assert process.returncode == 0
    assert errors.count("logged values are not being stored") <= 2
    assert logged_rows.acknowledged(report) == 400
    database.start()
    recover(trainings)
    trainings.check()
