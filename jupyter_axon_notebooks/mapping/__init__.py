"""Notebooks (nbformat) to records, and back.

Pure: functions of their input, which they never change. A valid version 4 notebook comes back from
its record exactly as nbformat's reader sees it. Where the data model has no place for something
(an unknown output type, an unknown key), the original is kept word for word in
``metadata.extra["nbformat"]``, and is used again on export as long as the record still says the same.
"""

from __future__ import annotations

from .content import copied as copy_json
from .content import same as is_same_json
from .files import notebook_file_name, notebook_name, notebook_text, read_for_import, read_notebook
from .framework import detect_framework
from .identity import has_own_ids, is_valid_id
from .notebook import MappedNotebook, export_notebook, map_notebook
from .status import cell_status, notebook_status
from .trust import carry_trust

__all__ = [
    "MappedNotebook",
    "carry_trust",
    "cell_status",
    "copy_json",
    "detect_framework",
    "export_notebook",
    "has_own_ids",
    "is_same_json",
    "is_valid_id",
    "map_notebook",
    "notebook_file_name",
    "notebook_name",
    "notebook_status",
    "notebook_text",
    "read_for_import",
    "read_notebook",
]
