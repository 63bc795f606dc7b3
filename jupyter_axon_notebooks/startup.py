"""The state of the process when this package was imported, before scripts change it."""

from __future__ import annotations

import os


def _working_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return None


#: The working directory at the first import.
WORKING_FOLDER = _working_folder()
