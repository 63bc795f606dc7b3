"""The origin: a random id for one Jupyter data folder, that is, for one person on one machine.

Records are bound to files by origin and path, so equal paths on two machines that share a database stay apart.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import StoreError
from ..records import new_id


def read_origin(folder: Path) -> str:
    """The origin kept in ``folder``, made on first use; two processes that make it at once agree.

    Raises
    ------
    StoreError
        When it can neither be read nor written.
    """
    file = folder / "origin"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not file.exists():
            _publish(file, new_id())
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"the origin of this data folder, {file}, cannot be used: {error}") from error


def _publish(file: Path, origin: str) -> None:
    """Put ``origin`` into ``file`` whole, unless another process was first."""
    draft = file.with_name(f"origin.{origin}")
    with draft.open("x", encoding="ascii") as stream:
        stream.write(origin + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
