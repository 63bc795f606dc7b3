"""Write the files that are named on the command line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..atomic_files import open_atomic
from ..errors import Conflict
from ..userfiles import check_regular


@contextmanager
def new_file(path: Path, *, force: bool, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is complete.

    Parameters
    ----------
    mode : int, optional
        Its permissions; by default those of the file that is replaced, or the usual ones.

    Raises
    ------
    Conflict
        If the file exists and ``force`` is false.
    OSError
        If it cannot be written.
    """
    if path.is_symlink() and force:
        path = Path(os.path.realpath(path))
    exists = Conflict(f"{path} exists already; --force replaces it")
    if os.path.lexists(path) and not force:
        raise exists
    if path.exists():
        check_regular(path, path.stat())  # a rename would replace a device or a pipe
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
    try:
        with open_atomic(path, overwrite=force, mode=mode) as file:
            yield file
    except FileExistsError:
        raise exists from None
