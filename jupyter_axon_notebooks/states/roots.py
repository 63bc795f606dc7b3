"""The roots that state files of a data folder were written to, in a file of that folder: one absolute path per line.

Records name state files relative to the root. When the setting that named a root is gone, this file tells where they are. It is
read for messages only: nothing is restored, pruned or removed below a root because it is listed here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..defaults import KERNEL_CONFIG, default_states_root
from ..errors import InvalidData
from ..kernel_config import read_kernel_config
from ..userfiles import check_regular, open_regular, read_at_most
from .layout import split_state_path

#: The file, in this project's folder of Jupyter's data folder.
ROOTS: Final = "states_roots.txt"
#: Bytes beyond which nothing is added to it, or read from it.
_LONGEST: Final = 1 << 18
_APPEND: Final[int] = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


def add_known_root(folder: Path, root: str) -> None:
    """Add ``root`` to the file in ``folder`` unless it is there. Where that fails, nothing else does."""
    line = os.fsencode(root)
    if b"\n" in line or b"\r" in line:
        return
    with suppress(OSError):
        content = _content(folder / ROOTS)
        if line in content.splitlines():
            return
        # A line that another process was interrupted in stays apart.
        addition = (b"\n" if content and not content.endswith(b"\n") else b"") + line + b"\n"
        if len(content) + len(addition) > _LONGEST:
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(folder / ROOTS, _APPEND, 0o600)
        try:
            check_regular(folder / ROOTS, os.fstat(file))
            os.write(file, addition)  # at once, so that lines of several processes do not mix
        finally:
            os.close(file)


def former_roots(folder: Path) -> list[str]:
    """Return the roots that files may be left below: the default one, that of the user's server, and those in the file."""
    roots = [default_states_root(os.fspath(folder.parent))]
    with suppress(InvalidData):
        roots += filter(None, [read_kernel_config(folder / KERNEL_CONFIG).get("states_root")])
    with suppress(OSError):
        lines = map(os.fsdecode, _content(folder / ROOTS).splitlines())
        roots += (line for line in lines if os.path.isabs(line) and "\0" not in line)
    return list(dict.fromkeys(roots))


def paths_below(roots: Sequence[str], path: str, notebook_id: str) -> dict[str, str]:
    """Return where the state file that a record of ``notebook_id`` names would be below each of ``roots``."""
    names = split_state_path(path)
    if names is None or names[0] != notebook_id:
        return {}
    return {root: os.path.join(root, *names) for root in roots}


def _content(file: Path) -> bytes:
    try:
        with open_regular(file, follow_links=False) as stream:
            return read_at_most(stream, _LONGEST, file)
    except (FileNotFoundError, NotADirectoryError):
        return b""
