"""Garbage collection: remove data that no record needs, in short steps that delay no save.

* :class:`GarbageCollector`: the policy, run by the server in the background
* :mod:`.state_folders`: the removal of state files of killed processes and deleted checkpoints

Old versions and unused contents are found and removed by
:mod:`jupyter_axon_notebooks.repository.garbage`, free pages of a SQLite file by
:meth:`.Store.vacuum`. Nothing else is ever deleted.
"""

from __future__ import annotations

from .collector import GarbageCollector, Pace, log_errors
from .state_folders import SweepReport, sweep

__all__ = ["GarbageCollector", "Pace", "SweepReport", "log_errors", "sweep"]
