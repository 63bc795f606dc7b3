"""The pointer file: where a server records, for kernels that it did not start.

It is a JSON object: ``version``, those of the settings that are known to hold for whoever reads it, and the origin of the
data folder, whose second copy it is. It is believed only if nobody else could have written it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .atomic_files import write_atomic
from .errors import InvalidData
from .records import is_record_id
from .userfiles import FileTooLarge, open_regular, read_at_most

#: The form's version; a file of another one is ignored.
_VERSION: Final = 1
#: Bytes beyond which it is no pointer file.
_LONGEST: Final = 1 << 16
_NAMES: Final = ("store_url", "states_root", "user_id", "origin")
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def write_kernel_config(file: Path, settings: Mapping[str, str]) -> None:
    """Leave ``settings`` in ``file``, readable by its owner alone; whoever reads meanwhile finds all of it or the old one.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = os.path.abspath(file.parent)
    text = json.dumps({"version": _VERSION, "folder": folder, **settings}, indent=1) + "\n"
    write_atomic(file, text.encode())


def read_kernel_config(file: Path) -> dict[str, str]:
    """What a server left in ``file``; empty where there is none.

    If its folder was moved or copied since, paths that led into the old folder lead into the new one.

    Raises
    ------
    InvalidData
        When it is damaged, or somebody else could have written it.
    """
    try:
        with open_regular(file, follow_links=False) as stream:
            _check_trust(os.fstat(stream.fileno()))
            text = read_at_most(stream, _LONGEST, file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except FileTooLarge:
        text = b""
    except OSError as error:
        raise InvalidData("$", f"it cannot be read: {error.strerror}") from error
    content: Any = None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    left = _checked(content)
    return _followed(left, content.get("folder"), os.path.abspath(file.parent))


def _followed(left: dict[str, str], folder: Any, now: str) -> dict[str, str]:
    """What a server left, with ``now`` in place of the folder that it was left in."""
    if not isinstance(folder, str) or not os.path.isabs(folder) or folder == now:
        return left
    followed = dict(left)
    for name, prefix in (("store_url", "sqlite:///"), ("states_root", "")):
        before = f"{prefix}{folder}{os.sep}"
        if name in left and left[name].startswith(before):
            followed[name] = f"{prefix}{now}{os.sep}{left[name][len(before) :]}"
    return followed


def is_absolute_url(url: str) -> bool:
    """Whether a store's URL means the same in every folder: it names no file by a relative path."""
    path = url.removeprefix("sqlite:///")
    return path == url or os.path.isabs(path)


def _check_trust(found: os.stat_result) -> None:
    if hasattr(os, "geteuid"):
        if found.st_uid != os.geteuid():
            raise InvalidData("$", "it belongs to another user")
        if found.st_mode & _OTHERS_WRITE:
            raise InvalidData("$", "other users may write to it")


def _checked(content: Any) -> dict[str, str]:
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        raise InvalidData("$", "it is damaged")
    if content["version"] != _VERSION:
        raise InvalidData("$", "it was written by another version of this package")
    left = {name: content[name] for name in _NAMES if name in content}
    if not all(isinstance(value, str) and value and "\0" not in value for value in left.values()):
        raise InvalidData("$", "it is damaged")
    if "origin" in left and not is_record_id(left["origin"]):
        raise InvalidData("$", "it is damaged")
    if not os.path.isabs(left.get("states_root", "/")) or not is_absolute_url(
        left.get("store_url", "")
    ):
        raise InvalidData("$", "it names a relative path")
    return left
