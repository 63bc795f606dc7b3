"""The names state files go by. All come from here; none is ever a client's text."""

from __future__ import annotations

import os
import re
from pathlib import PureWindowsPath
from typing import Final, Literal, get_args

from ..errors import InvalidData

#: What a checkpoint can have a state file of.
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

#: Every name a finished state file can have.
STATE_NAMES: Final = frozenset(
    f"{part}.{extension}" for part in PARTS for extension in (*_EXTENSIONS.values(), _UNKNOWN)
)

#: In a checkpoint's folder, or a notebook's: no record vouches for what is below. Says which store's would: only that
#: store may sweep it.
MARK: Final = ".store"
#: The same of the state file of one part, where it does not hold of the whole folder.
PART_MARKS: Final = {part: f".{part}.store" for part in PARTS}
MARKS: Final = frozenset({MARK, *PART_MARKS.values()})

#: The name of a checkpoint's note.
NOTE: Final = "unrecorded.json"

_TEMPORARY = re.compile(rf"\.(?:{'|'.join(PARTS)}|{re.escape(NOTE)})\.[0-9a-f]{{32}}\.tmp")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


def state_name(part: Part, format: str | None) -> str:
    """The name of the finished file: ``model.safetensors``; of an unknown format ``model.bin``."""
    if part not in PARTS:
        raise InvalidData("$.part", f"expected {' or '.join(PARTS)}, got {part!r}")
    return f"{part}.{_EXTENSIONS.get(format or '', _UNKNOWN)}"


def other_names(name: str) -> list[str]:
    """The names the same part has in the other formats."""
    part = name.partition(".")[0]
    return sorted(
        other for other in STATE_NAMES if other != name and other.partition(".")[0] == part
    )


def is_temporary(name: str) -> bool:
    """Whether ``name`` is that of a temporary file of a state file or a note."""
    return _TEMPORARY.fullmatch(name) is not None


def check_id(id: str, field: str) -> str:
    """``id``, if it can be the name of a folder on every system.

    Raises
    ------
    InvalidData
        If it is empty, hidden, longer than 255 bytes, not text, or has a character that some file system
        gives a meaning to (separators, NUL, wildcards, a drive's colon).
    """
    if not id:
        reason = "is empty"
    elif id.startswith("."):
        reason = "starts with a dot"
    elif id.endswith((".", " ")):
        reason = "ends with a dot or a space"
    elif match := _FORBIDDEN.search(id):
        reason = f"contains {match[0]!r}"
    elif (length := _length(id)) is None:
        reason = "contains a lone surrogate"
    elif length > 255:
        reason = f"is {length} bytes long, more than 255"
    else:
        return id
    raise InvalidData(field, f"cannot name a folder of state files: it {reason}")


def can_name_folders(*ids: str) -> bool:
    """Whether each of ``ids`` can name a folder; where one cannot, no state file was ever written under it."""
    try:
        for id in ids:
            check_id(id, "$.id")
    except InvalidData:
        return False
    return True


def _length(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def split_state_path(path: str) -> tuple[str, str, str] | None:
    """Return notebook id, checkpoint id and file name if ``path`` ends as those of written state files do.

    The path may be another operating system's.
    """
    names = PureWindowsPath(path).parts[-3:]  # whose separators are those of all systems
    if len(names) == 3 and names[2] in STATE_NAMES and can_name_folders(*names[:2]):
        return names[0], names[1], names[2]
    return None


def is_path_text(path: str) -> bool:
    """Whether the operating system can be asked about ``path`` at all."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False
