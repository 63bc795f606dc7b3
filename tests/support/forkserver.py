"""Child processes that are forked from a process in which everything is already imported."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

_PRELOADED = ["pytest", "sqlite3", "psycopg", "crashes.killing", "concurrency.workload"]


@functools.cache
def forkserver_context() -> ForkServerContext:
    """Return the context that starts such processes, after starting the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    # The server ignores this process's sys.path when it preloads modules (Python < 3.14).
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context
