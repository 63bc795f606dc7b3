"""Names of state files and their folders. Clients cannot choose the names of files."""

from __future__ import annotations

import os
import re
from pathlib import PureWindowsPath
from typing import Final, Literal, get_args

from ..errors import InvalidData

#: The parts of a checkpoint that have a state file.
Part = Literal["model", "optimizer"]
PARTS: Final[tuple[str, ...]] = get_args(Part)

_EXTENSIONS: Final = {
    "safetensors": "safetensors",
    "torch": "pt",
    "pytorch": "pt",
    "keras": "keras",
    "skops": "skops",
    "joblib": "joblib",
    "npz": "npz",
    "numpy": "npz",
    "onnx": "onnx",
    "hdf5": "h5",
}
_UNKNOWN: Final = "bin"

#: All names that a complete state file can have.
STATE_NAMES: Final = frozenset(
    f"{part}.{extension}" for part in PARTS for extension in (*_EXTENSIONS.values(), _UNKNOWN)
)

#: The file that marks the folder of a checkpoint or notebook as unrecorded. It contains the id of
#: the store that wrote the folder: only that store may remove it.
MARK: Final = ".store"
#: The same for the state file of one part of a recorded checkpoint.
PART_MARKS: Final = {part: f".{part}.store" for part in PARTS}
MARKS: Final = frozenset({MARK, *PART_MARKS.values()})
#: The note of a checkpoint that the store has not recorded yet.
NOTE: Final = "unrecorded.json"

_TEMPORARY = re.compile(rf"\.(?:{'|'.join(PARTS)}|{re.escape(NOTE)})\.[0-9a-f]{{32}}\.tmp")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


def state_name(part: Part, format: str | None) -> str:
    """Return the name of a state file, as ``model.safetensors``; ``model.bin`` if unknown."""
    if part not in PARTS:
        raise InvalidData("$.part", f"expected {' or '.join(PARTS)}, got {part!r}")
    return f"{part}.{_EXTENSIONS.get(format or '', _UNKNOWN)}"


def other_names(name: str) -> list[str]:
    """Return the names that the same part has in other formats."""
    part = name.partition(".")[0]
    return sorted(
        other for other in STATE_NAMES if other != name and other.partition(".")[0] == part
    )


def is_temporary(name: str) -> bool:
    """Return whether ``name`` is that of the temporary file of a state file or note."""
    return _TEMPORARY.fullmatch(name) is not None


def check_id(id: str, field: str) -> str:
    """Return ``id`` if it can name a folder on every system.

    Raises InvalidData if it is empty, hidden, longer than 255 bytes, not text, or has a character
    with a special meaning on some file system.
    """
    if not id:
        reason = "is empty"
    elif id.startswith("."):
        reason = "starts with a dot"
    elif id.endswith((".", " ")):
        reason = "ends with a dot or a space"
    elif match := _FORBIDDEN.search(id):
        reason = f"contains {match[0]!r}"
    else:
        try:
            length = len(id.encode())
        except UnicodeEncodeError:
            reason = "contains a lone surrogate"
        else:
            if length <= 255:
                return id
            reason = f"is {length} bytes long, more than 255"
    raise InvalidData(field, f"cannot name a folder of state files: it {reason}")


def can_name_folders(*ids: str | None) -> bool:
    """Return whether each of ``ids`` that is not None can name a folder."""
    try:
        for id in ids:
            if id is not None:
                check_id(id, "$.id")
    except InvalidData:
        return False
    return True


def split_state_path(path: str) -> tuple[str, str, str] | None:
    """Return notebook id, checkpoint id and file name if ``path`` ends like that of a state file.

    The path may be one of another operating system.
    """
    names = PureWindowsPath(path).parts[-3:]  # accepts the separators of all systems
    if len(names) == 3 and names[2] in STATE_NAMES and can_name_folders(*names[:2]):
        return names[0], names[1], names[2]
    return None


def is_path_text(path: str) -> bool:
    """Return whether the operating system accepts ``path`` as a path."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False
