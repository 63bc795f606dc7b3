"""The crash suite and the concurrency suite of the tests, for the scripts that run them for longer."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kills.model import Model
from kills.nursery import Death, Nursery, nursery
from kills.plans import random_plan
from kills.points import Kill
from kills.servers import MortalServer, mortal_server
from kills.trial import Place, trial
from support.engines import new_url
from together.crowd import OTHERS, crowd
from together.ledger import Ledger

__all__ = [
    "OTHERS",
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
