"""Mapping between notebooks (nbformat) and records.

All functions are pure and do not change their input. A valid version 4 notebook comes back from
its record exactly as nbformat's reader returns it. What the data model cannot express (an unknown
output type, an unknown key) is kept in ``metadata.extra["nbformat"]``, and used on export unless
the record was edited.
"""

from __future__ import annotations

from .cell_ids import has_own_ids, is_valid_id
from .cells import cell_status, notebook_status
from .files import (
    find_fault,
    notebook_file_name,
    notebook_name,
    notebook_text,
    read_for_import,
    read_notebook,
)
from .notebooks import MappedNotebook, detect_framework, export_notebook, map_notebook

__all__ = [
    "MappedNotebook",
    "cell_status",
    "detect_framework",
    "export_notebook",
    "find_fault",
    "has_own_ids",
    "is_valid_id",
    "map_notebook",
    "notebook_file_name",
    "notebook_name",
    "notebook_status",
    "notebook_text",
    "read_for_import",
    "read_notebook",
]
