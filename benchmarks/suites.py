"""The crash and concurrency suites of the tests, for the scripts that run them for longer."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from concurrency.processes import OTHERS, run_workload
from concurrency.workload import Log
from crashes.checks import check_everything_goes, check_kill, expected_states
from crashes.killing import Kill, Outcome, execute_and_kill
from crashes.operations import SCENARIOS, execute
from crashes.servers import CrashingServer
from support.many_runs import fill_store
from support.sites import Site, new_site

__all__ = [
    "OTHERS",
    "SCENARIOS",
    "CrashingServer",
    "Kill",
    "Log",
    "Outcome",
    "Site",
    "check_everything_goes",
    "check_kill",
    "execute",
    "execute_and_kill",
    "expected_states",
    "fill_store",
    "new_site",
    "run_workload",
]
