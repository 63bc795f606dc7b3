"""What ``doctor`` looks at, and what it makes of it. Reads only."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_core.paths import jupyter_config_path, jupyter_data_dir

from ..states.folders import free_bytes, size_text
from ..store.health import FileHealth, checkpoint_states, examine, file_of, shown_url
from ..store.schema import SCHEMA_VERSION
from .session import Session
from .survey import Known, States, survey

_PACKAGES = ("jupyter-axon-notebooks", "jupyter_server", "tinydb", "sqlalchemy")
_EXTENSION = "jupyter_axon_notebooks"
#: Bytes below which a disk is called full: less than that no state file is written.
_LITTLE_SPACE = 100 * 1024 * 1024


class Problem(NamedTuple):
    """Something that is wrong.

    ``code`` is for scripts; ``what`` was seen, what it ``means``, and what to ``do``.
    """

    code: str
    what: str
    means: str
    do: str


@dataclass
class Diagnosis:
    """What was found: ``facts`` by section, plain JSON; and the problems in it."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def diagnose(session: Session, progress: Callable[[], None] = lambda: None) -> Diagnosis:
    """Look at everything. ``progress`` is called for each checkpoint and each folder of one."""
    found = Diagnosis()
    found.facts["versions"] = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in _PACKAGES},
    }
    _look_at_extension(found, session)
    path = file_of(session.url)
    health = examine(path) if path is not None else None
    _look_at_store(found, session, health)
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


def _look_at_store(found: Diagnosis, session: Session, health: FileHealth | None) -> None:
    origin = Path(jupyter_data_dir(), "axon_notebooks", "origin")
    facts: dict[str, Any] = {
        "url": shown_url(session.url),
        "engine": session.url.split(":", 1)[0].split("+", 1)[0],
        "user": session.config.user_id,
        "origin": _first_line(origin),
    }
    found.facts["store"] = facts
    if health is None:
        if facts["engine"] not in ("memory", "sqlite"):
            facts["looked at"] = "no: only stores in a file are"
        return
    facts |= {
        "exists": health.exists,
        "schema version": health.schema_version,
        "journal": health.journal,
        "size": health.size,
        "log size": health.wal_size,
        "permissions": f"{health.mode:04o}" if health.exists else None,
        "file system": health.file_system or None,
        "integrity": "ok" if health.exists and not health.faults else (health.faults or None),
        **health.counts,
    }
    found.problems += _store_problems(health)


def _store_problems(health: FileHealth) -> Iterator[Problem]:
    path = health.path
    if health.network:
        yield Problem(
            "network-file-system",
            f"the store lies on a network file system ({health.file_system})",
            "it works, but slowly, and one process at a time",
            "set c.AxonNotebooks.store_url to a file on a local disk",
        )
    if not health.exists:
        return
    if not health.readable or not health.writable:
        yield Problem(
            "no-permission",
            f"{path} cannot be {'written' if health.readable else 'read'} by this user",
            "nothing is recorded there",
            "check who owns the file and its folder, or set c.AxonNotebooks.store_url to a file of your own",
        )
    if os.name == "posix" and health.mode & 0o077 and health.folder_mode & 0o011:
        yield Problem(
            "readable-by-others",
            f"{path} has the permissions {health.mode:04o}",
            "other users of this machine can get at the notebooks in it",
            f"run `chmod 600 {path}`",
        )
    if health.faults:
        yield Problem(
            "damaged",
            f"the store is damaged: {'; '.join(health.faults[:3])}",
            "records may be lost, and operations fail",
            f"stop the servers that use it, keep a copy of {path} and the files beside it, and restore a backup",
        )
    elif health.schema_version is None and health.readable and health.size:
        yield Problem(
            "no-store",
            f"{path} is a database, but not a store of jupyter-axon-notebooks",
            "nothing can be recorded there",
            "set c.AxonNotebooks.store_url to another file",
        )
    elif (health.schema_version or 0) > SCHEMA_VERSION:
        yield Problem(
            "too-new",
            f"the store has schema version {health.schema_version}, this package knows up to {SCHEMA_VERSION}",
            "a newer version of this package wrote it; this one cannot use it",
            "run `pip install --upgrade jupyter-axon-notebooks`",
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
            "they take up space: checkpoints whose recording failed, or those of another store",
            "keep them if another store uses this root; else take them in with `jupyter axon recover`, "
            "or remove them",
        )
    if os.path.isdir(root) and not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield Problem(
            "states-no-permission",
            f"{root} cannot be read and written by this user",
            "checkpoints with state files fail",
            "check who owns the folder, or set c.AxonNotebooks.states_root to one of your own",
        )
    if free is not None and free < _LITTLE_SPACE:
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
