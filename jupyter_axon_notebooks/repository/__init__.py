"""The repository: operations on the records of notebooks, without Jupyter, HTTP or file formats.

:class:`NotebookRepository` is the entry point. Its attributes hold the operations by subject, each
in a module of its own.
"""

from __future__ import annotations

from .bindings import Binding
from .checkpoints import StatePart
from .garbage import Removal
from .notebooks import NotebookRepository
from .retention import Prunable, PrunePlan
from .saved import SavedNotebook
from .series import RunSeries
from .states import States

__all__ = [
    "Binding",
    "NotebookRepository",
    "Prunable",
    "PrunePlan",
    "Removal",
    "RunSeries",
    "SavedNotebook",
    "StatePart",
    "States",
]
