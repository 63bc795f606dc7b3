"""What has to be looked up when the package is first imported, since scripts and notebooks change it afterwards."""

from __future__ import annotations

import os


def _working_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return None


#: The working directory at the first import.
imported_in = _working_folder()
