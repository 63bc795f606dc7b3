"""The crash suite and the concurrency suite of the tests, for the scripts that run them for longer."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from engines import new_url  # noqa: E402
from kills.model import Model  # noqa: E402
from kills.nursery import Death, Nursery, nursery  # noqa: E402
from kills.plans import random_plan  # noqa: E402
from kills.points import Kill  # noqa: E402
from kills.servers import MortalServer, mortal_server  # noqa: E402
from kills.trial import Place, trial  # noqa: E402
from together.crowd import crowd  # noqa: E402
from together.ledger import Ledger  # noqa: E402

__all__ = [
    "Death",
    "Kill",
    "Ledger",
    "Model",
    "MortalServer",
    "Nursery",
    "Place",
    "crowd",
    "mortal_server",
    "new_url",
    "nursery",
    "random_plan",
    "trial",
]
