"""The kernel configuration file: where a server records, for processes that it did not start.

A server writes it into its folder in Jupyter's data folder. It is a JSON object with ``version``,
the settings that hold for every reader, the folder it was written to, and a second copy of the
origin. It is only used if no other user could have written it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from .atomic_files import write_atomic
from .errors import InvalidData
from .records import is_record_id
from .userfiles import FileTooLarge, open_regular, read_at_most

_VERSION: Final = 1
#: The largest file that is read, in bytes.
_MAX_SIZE: Final = 1 << 16
_SETTINGS: Final = ("store_url", "states_root", "user_id", "origin")


def write_kernel_config(file: Path, settings: Mapping[str, str]) -> None:
    """Write ``settings`` to ``file``, readable by its owner only; raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = {"version": _VERSION, "folder": os.path.abspath(file.parent), **settings}
    write_atomic(file, (json.dumps(content, indent=1) + "\n").encode())


def read_kernel_config(file: Path) -> dict[str, str]:
    """Return the settings in ``file``; empty if there is no file.

    If its folder was moved or copied since, paths into the old folder become paths into the new.

    Raises
    ------
    InvalidData
        If the file is damaged, or another user could have written it.
    """
    content: Any = None
    try:
        with open_regular(file, follow_links=False) as stream:
            _check_owner(os.fstat(stream.fileno()))
            with suppress(FileTooLarge, ValueError, RecursionError):
                content = json.loads(read_at_most(stream, _MAX_SIZE, file))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InvalidData("$", f"it cannot be read: {error.strerror}") from error
    settings = _checked_settings(content)
    return _relocate(settings, content.get("folder"), os.path.abspath(file.parent))


def is_absolute_url(url: str) -> bool:
    """Return whether the URL of a store means the same in every working directory."""
    path = url.removeprefix("sqlite:///")
    return path == url or os.path.isabs(path)


def _check_owner(status: os.stat_result) -> None:
    if hasattr(os, "geteuid"):
        if status.st_uid != os.geteuid():
            raise InvalidData("$", "it belongs to another user")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidData("$", "other users may write to it")


def _checked_settings(content: Any) -> dict[str, str]:
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        raise InvalidData("$", "it is damaged")
    if content["version"] != _VERSION:
        raise InvalidData("$", "it was written by another version of this package")
    settings = {name: content[name] for name in _SETTINGS if name in content}
    if not all(isinstance(text, str) and text and "\0" not in text for text in settings.values()):
        raise InvalidData("$", "it is damaged")
    if "origin" in settings and not is_record_id(settings["origin"]):
        raise InvalidData("$", "it is damaged")
    url, root = settings.get("store_url", ""), settings.get("states_root", os.sep)
    if not os.path.isabs(root) or not is_absolute_url(url):
        raise InvalidData("$", "it names a relative path")
    return settings


def _relocate(settings: dict[str, str], old_folder: Any, folder: str) -> dict[str, str]:
    if not isinstance(old_folder, str) or not os.path.isabs(old_folder) or old_folder == folder:
        return settings
    relocated = dict(settings)
    for name, prefix in (("store_url", "sqlite:///"), ("states_root", "")):
        old = f"{prefix}{old_folder}{os.sep}"
        if settings.get(name, "").startswith(old):
            relocated[name] = f"{prefix}{folder}{os.sep}{settings[name][len(old) :]}"
    return relocated
