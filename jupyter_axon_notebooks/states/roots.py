"""The list of roots that state files were written to, one absolute path per line.

Records contain paths relative to the root. When the setting has changed, messages use this list to
tell where missing files are. Nothing is read or removed because of it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..atomic_files import write_atomic
from ..defaults import KERNEL_CONFIG, default_states_root
from ..errors import InvalidData
from ..kernel_config import read_kernel_config
from ..userfiles import open_regular, read_at_most

#: The file in the folder of this package in Jupyter's data folder.
ROOTS: Final = "states_roots.txt"
#: The largest list that is read or written, in bytes.
_MAX_BYTES: Final = 1 << 18


def add_known_root(folder: Path, root: str) -> None:
    """Add ``root`` to the list in ``folder`` unless it is there; errors are suppressed."""
    line = os.fsencode(root)
    with suppress(OSError):
        lines = _read_lines(folder / ROOTS)
        content = b"".join(b"%b\n" % known for known in (*lines, line))
        if line not in lines and len(line.splitlines()) == 1 and len(content) <= _MAX_BYTES:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(folder / ROOTS, content)


def former_roots(folder: Path) -> list[str]:
    """Return the default root, that of the user's server, and those in the list."""
    roots = [default_states_root(os.fspath(folder.parent))]
    with suppress(InvalidData):
        roots += filter(None, [read_kernel_config(folder / KERNEL_CONFIG).get("states_root")])
    with suppress(OSError):
        lines = map(os.fsdecode, _read_lines(folder / ROOTS))
        roots += (line for line in lines if os.path.isabs(line) and "\0" not in line)
    return list(dict.fromkeys(roots))


def _read_lines(file: Path) -> list[bytes]:
    try:
        with open_regular(file, follow_links=False) as stream:
            return read_at_most(stream, _MAX_BYTES, file).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
