"""What ``doctor`` looks at, and what it makes of it. Reads only."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_path, jupyter_data_dir

from ..states.folders import free_bytes, size_text
from ..store.health import FileHealth, checkpoint_states, examine
from ..store.urls import file_of, shown_url
from .findings import Diagnosis, Problem
from .session import Session
from .storecheck import LITTLE_SPACE, look_at_file, look_at_server
from .survey import Known, States, survey

_PACKAGES = ("jupyter-axon-notebooks", "jupyter_server", "tinydb", "sqlalchemy")
_EXTENSION = "jupyter_axon_notebooks"


def diagnose(session: Session, progress: Callable[[], None] = lambda: None) -> Diagnosis:
    """Look at everything. ``progress`` is called for each notebook, each checkpoint and each folder of one."""
    found = Diagnosis()
    found.facts["versions"] = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in _PACKAGES},
    }
    _look_at_extension(found, session)
    found.facts["store"] = {
        "url": shown_url(session.url),
        "engine": shown_url(session.url).split(":", 1)[0].split("+", 1)[0],
        "user": session.config.user_id,
        "origin": _first_line(Path(jupyter_data_dir(), "axon_notebooks", "origin")),
    }
    path = file_of(session.url)
    health = examine(path) if path is not None else None
    if health is not None:
        look_at_file(found, health, progress)
    elif found.facts["store"]["engine"] == "postgresql":
        look_at_server(found, session.url, progress)
    _look_at_states(found, session, health, progress)
    return found


def _look_at_extension(found: Diagnosis, session: Session) -> None:
    from jupyter_server.extension.config import ExtensionConfigManager

    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    listed = {
        **manager.get_jpserver_extensions(),
        **session.files.ServerApp.get("jpserver_extensions", {}),
    }
    enabled = bool(listed.get(_EXTENSION, False))
    found.facts["server extension"] = {"enabled": enabled}
    if not enabled:
        found.problems.append(
            Problem(
                "extension-not-enabled",
                "the server extension is not enabled",
                "Jupyter servers with this configuration record no saves",
                f"run `jupyter server extension enable {_EXTENSION}`, and start the server anew",
            )
        )


def _look_at_states(
    found: Diagnosis, session: Session, health: FileHealth | None, progress: Callable[[], None]
) -> None:
    root = session.config.states_root
    known: list[Known] | None = []
    if health is None or health.faults or not health.readable:
        known = None if health is None or health.exists else []
    elif health.schema_version is not None:
        try:
            known = list(_counted(checkpoint_states(health.path), progress))
        except (sqlite3.Error, ValueError) as error:
            known = None
            found.problems.append(
                Problem(
                    "unreadable-checkpoints",
                    f"the checkpoints cannot be read: {error}",
                    "records are damaged",
                    "restore a backup of the store",
                )
            )
    states = survey(root, known, progress)
    free = free_bytes(_existing(root))
    found.facts["state files"] = {
        "root": root,
        "exists": os.path.isdir(root),
        "used": states.used,
        "free": free,
        "checkpoint folders": states.folders,
        "folders without a record": states.unknown if known is not None else None,
        "folders being written": states.unfinished if known is not None else None,
        "missing files": states.missing if known is not None else None,
    }
    found.problems += _states_problems(root, states, free)


def _states_problems(root: str, states: States, free: int | None) -> Iterator[Problem]:
    if states.missing:
        first = states.missing[0]
        count = f"{len(states.missing)} state file" + ("s" if len(states.missing) > 1 else "")
        yield Problem(
            "missing-state-files",
            f"{count} named by records cannot be found; the first: {first['path']}",
            "these checkpoints cannot be restored; their metrics are still there",
            "put the files back (a disk that is not mounted?), or delete the checkpoints",
        )
    if states.unknown:
        count = f"{len(states.unknown)} folder" + ("s" if len(states.unknown) > 1 else "")
        yield Problem(
            "folders-without-record",
            f"{count} of state files belong to no record here; the first: {states.unknown[0]}",
            "they take up space: checkpoints whose recording failed, or those of another store or user",
            "keep them if another store, or another user's server, uses this root, otherwise they can be removed",
        )
    if os.path.isdir(root) and not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield Problem(
            "states-no-permission",
            f"{root} cannot be read and written by this user",
            "checkpoints with state files fail",
            "check who owns the folder, or set c.AxonNotebooks.states_root to one of your own",
        )
    if free is not None and free < LITTLE_SPACE:
        yield Problem(
            "little-space",
            f"{size_text(free)} are free where the state files are",
            "checkpoints will soon fail",
            "free some space, or set c.AxonNotebooks.states_root to a folder on another disk",
        )


def _counted(items: Iterator[Any], progress: Callable[[], None]) -> Iterator[Any]:
    for item in items:
        progress()
        yield item


def _existing(path: str) -> str:
    """``path``, or the nearest folder above it that is there."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
