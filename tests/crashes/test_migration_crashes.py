"""Tests that a migration killed anywhere leaves the store unchanged or migrated completely."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from store.test_migrations import BEFORE, LATER, MIGRATED, read_content, upgraded_package
from support.engines import ON_DISK, new_url

from jupyter_axon_notebooks.store import Store

#: Opens stores as a later version does, in processes killed before the call of the given number.
OPENING = (
    LATER
    + """
import os, signal, sys
from crashes.killing import Kill, KillPoints

def die(_what):
    os.kill(os.getpid(), signal.SIGKILL)

for line in sys.stdin:
    url, number = line.split()
    child = os.fork()
    if child == 0:
        try:
            KillPoints(Kill(call=int(number)), die)
            migrations.STEPS, document_store.SCHEMA_VERSION = later()
            document_store.Store(url).close()
            os._exit(0)
        finally:
            os._exit(1)
    print(os.waitpid(child, 0)[1], flush=True)
"""
)


@pytest.mark.parametrize("engine", ON_DISK)
def test_a_migration_killed_anywhere_is_atomic(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", OPENING]
    tests = Path(__file__).parents[1]
    seen = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tests
    ) as opener:
        assert opener.stdin is not None
        assert opener.stdout is not None
        status = signal.SIGKILL.value
        while status == signal.SIGKILL:
            url = new_url(engine, tmp_path / str(len(seen)), empty=False)
            store = Store(url)
            store.runs.insert({"n": 1})
            store.close()
            print(url, len(seen) + 1, file=opener.stdin, flush=True)
            status = int(opener.stdout.readline())
            seen.append(read_content(url))
            with upgraded_package(monkeypatch):
                Store(url).close()
                assert read_content(url) == MIGRATED
        opener.stdin.close()
    assert status == 0
    assert seen[-1] == MIGRATED
    assert seen == sorted(seen)
    assert seen.count(BEFORE) > 7
