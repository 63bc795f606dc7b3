"""What ``doctor`` looks at, and what it makes of it. Reads only."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from jupyter_core.paths import jupyter_config_path

from ..errors import StoreError
from ..repository import Binding
from ..states.folders import format_size, free_bytes
from ..store.postgresql.health import connect_to_server
from ..store.schema import CHECKPOINTS
from ..store.sqlite.health import (
    FileHealth,
    checkpoint_states,
    connect_to_file,
    examine_file,
    notebook_documents,
)
from ..store.urls import file_of, shown_url, unsupported_url
from ..sync.origin import (
    find_other_origins,
    kernel_config_origin,
    origin_created_at,
    origin_file,
    stored_origin,
)
from .findings import Diagnosis, Problem
from .session import Session
from .storecheck import LITTLE_SPACE, look_at_file, look_at_server
from .survey import Known, States, survey

_PACKAGES = ("jupyter-axon-notebooks", "jupyter_server", "tinydb", "sqlalchemy", "psycopg")
_EXTENSION = "jupyter_axon_notebooks"
#: Places where a missing file was looked for that are shown.
_MOST_PLACES = 8


def diagnose(session: Session, progress: Callable[[], None] = lambda: None) -> Diagnosis:
    """Look at everything. ``progress`` is called for each notebook, each checkpoint and each folder of one."""
    found = Diagnosis()
    found.facts["versions"] = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **dict(_package_versions()),
    }
    _look_at_extension(found, session)
    found.facts["store"] = {
        "url": shown_url(session.url),
        "url from": session.sources["store_url"],
        "engine": shown_url(session.url).split(":", 1)[0].split("+", 1)[0],
        "user": session.config.user_id,
        "user from": session.sources["user_id"],
        "origin": None,
    }
    _look_at_origin(found, session.data_folder)
    if session.pointer_fault is not None:
        found.problems.append(
            Problem(
                "pointer-ignored",
                f"{session.pointer} is ignored: {session.pointer_fault}",
                "kernels and commands that no server started may use another store than the user's server",
                f"remove {session.pointer} and start a server, which writes it anew",
            )
        )
    path = file_of(session.url)
    health = examine_file(path) if path is not None else None
    if health is not None:
        look_at_file(found, health, progress)
    elif found.facts["store"]["engine"] == "postgresql":
        look_at_server(found, session.url, progress)
    elif session.url != "memory://":
        found.problems.append(
            Problem(
                "unknown-store",
                unsupported_url(session.url),
                "nothing is recorded",
                "correct c.AxonNotebooks.store_url",
            )
        )
    _look_at_states(found, session, health, progress)
    _look_at_other_origins(found, session, health)
    return found


def _package_versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):  # the driver is an extra
            yield name, version(name)


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


def _look_at_origin(found: Diagnosis, folder: Path) -> None:
    file = origin_file(folder)
    try:
        origin = stored_origin(folder)
    except OSError as error:
        found.problems.append(
            Problem(
                "origin-unreadable",
                f"the origin file {file} cannot be read: {error.strerror}",
                "servers and kernels cannot open the store",
                "make the file readable, or put a copy of it back",
            )
        )
        return
    found.facts["store"]["origin"] = origin or kernel_config_origin(folder)
    if os.path.isdir(file):
        found.problems.append(
            Problem(
                "origin-damaged",
                f"the origin file {file} is a folder",
                "servers and kernels cannot open the store",
                "remove the folder, then start a server: it restores the file while kernels.json names the origin",
            )
        )
    elif origin is None and os.path.lexists(file):
        found.problems.append(
            Problem(
                "origin-damaged",
                f"the origin file {file} is damaged",
                "the next server or kernel replaces it: by the origin that its copy in kernels.json names, else by a new one",
                "start a server, then run this command again",
            )
        )


def _look_at_other_origins(found: Diagnosis, session: Session, health: FileHealth | None) -> None:
    origin = found.facts["store"]["origin"] or ""
    try:
        with _reading(found, session, health) as connection:
            documents = (
                () if connection is None else notebook_documents(connection, session.config.user_id)
            )
            bound = list(_bindings(documents))
    except (sqlite3.Error, sa.exc.SQLAlchemyError, StoreError):  # which was told above
        return
    here = {binding.path: binding for binding in bound if binding.origin == origin}
    elsewhere = [binding for binding in bound if binding.origin != origin]
    others = find_other_origins(elsewhere, here.get, origin_created_at(session.data_folder))
    found.facts["store"]["other origins"] = [
        {"origin": other.origin, "notebooks here": len(other.here), "in use": other.in_use}
        for other in others
    ]
    for other in others:
        if other.in_use:
            continue
        count = (
            "1 notebook here has its record"
            if len(other.here) == 1
            else f"{len(other.here)} notebooks here have their records"
        )
        found.problems.append(
            Problem(
                "other-origin",
                f"{count} under the origin {other.origin}; the first: {other.here[0].path}",
                "if that is no other machine's, the origin of this data folder was lost, and saves begin new records beside these",
                "run `jupyter axon doctor --rebind`, unless those files are another machine's",
            )
        )


def _bindings(documents: Iterable[dict[str, Any]]) -> Iterator[Binding]:
    for document in documents:
        with suppress(msgspec.ValidationError):  # a damaged one, which is told elsewhere
            yield msgspec.convert(document, Binding)


def _look_at_states(
    found: Diagnosis, session: Session, health: FileHealth | None, progress: Callable[[], None]
) -> None:
    root = session.config.states_root
    known: list[Known] | None
    damaged: list[str] = []
    is_all = True
    try:
        with _reading(found, session, health) as connection:
            known = []
            for notebook_id, checkpoint_id, files in (
                checkpoint_states(connection) if connection else ()
            ):
                progress()
                known.append((notebook_id, checkpoint_id, files or {}))
                damaged += [checkpoint_id] if files is None else []
            is_all = connection is None or not _is_held_back(connection)
    except (sqlite3.Error, sa.exc.SQLAlchemyError, StoreError):  # which was told above
        known = None
    if damaged:
        count = "1 checkpoint is" if len(damaged) == 1 else f"{len(damaged)} checkpoints are"
        found.problems.append(
            Problem(
                "unreadable-checkpoints",
                f"{count} damaged; the first: {damaged[0]}",
                "they cannot be read, and whether their state files are there cannot be told",
                "restore a backup of the store for these",
            )
        )
    state_files = session.states()
    states = survey(state_files, known, progress, former_roots=state_files.list_former_roots())
    if not is_all:
        states = states._replace(unknown=[], unfinished=[], interrupted=[])
    free = free_bytes(_existing(root))
    found.facts["state files"] = {
        "root": root,
        "root from": session.sources["states_root"],
        "exists": os.path.isdir(root),
        "used": states.used,
        "free": free,
        "checkpoint folders": states.folders,
        "folders without a record": states.unknown if known is not None and is_all else None,
        "folders being written": states.unfinished if known is not None and is_all else None,
        "folders left by processes that are gone": states.interrupted
        if known is not None and is_all
        else None,
        "folders to be recorded": states.noted,
        "missing files": states.missing if known is not None else None,
        "files elsewhere": states.elsewhere if known is not None else None,
        "files out of reach": states.refused if known is not None else None,
        "altered files": states.altered if known is not None else None,
    }
    found.problems += _states_problems(root, states, free)


@contextmanager
def _reading(
    found: Diagnosis, session: Session, health: FileHealth | None
) -> Iterator[sa.Connection | None]:
    """A connection to what has the checkpoints; None where there are none yet.

    Raises
    ------
    StoreError
        When they cannot be read.
    """
    if health is not None:
        if health.exists and (health.faults or not health.readable):
            raise StoreError(f"{health.path} cannot be read")
        if health.schema_version is None:
            yield None
            return
        with connect_to_file(health.path) as connection:
            yield connection
        return
    if "exists" not in found.facts["store"]:
        raise StoreError(f"{shown_url(session.url)} was not reached")
    with connect_to_server(session.url) as connection:
        yield connection if found.facts["store"]["exists"] else None


def _is_held_back(connection: sa.Connection) -> bool:
    """Whether the database shows this user some of the checkpoints only."""
    if connection.dialect.name != "postgresql":
        return False
    return bool(connection.scalar(sa.select(sa.func.row_security_active(CHECKPOINTS.name))))


def _states_problems(root: str, states: States, free: int | None) -> Iterator[Problem]:
    if states.missing:
        first = states.missing[0]
        places = first["looked for"][1:]
        looked_for = "".join(f"; looked for at {place} as well" for place in places[:_MOST_PLACES])
        if len(places) > _MOST_PLACES:
            looked_for += f", and at {len(places) - _MOST_PLACES} more places"
        yield Problem(
            "missing-state-files",
            f"{_files(states.missing)} named by records cannot be found; the first: {first['path']}{looked_for}",
            "these checkpoints cannot be restored; their metrics are still there",
            f"put the files back into {root} (a disk that is not mounted? a folder that was not copied along?), or set "
            "c.AxonNotebooks.states_root to the folder that has them",
        )
    if states.elsewhere:
        first = states.elsewhere[0]
        roots = dict.fromkeys(one["root"] for one in states.elsewhere)
        move = "; ".join(f"copy or move what is in {other} to {root}" for other in roots)
        setting = "c.AxonNotebooks.states_root or AXON_STATES_ROOT"
        configure = f", or set {setting} to {next(iter(roots))}" if len(roots) == 1 else ""
        yield Problem(
            "state-files-elsewhere",
            f"{_files(states.elsewhere)} named by records are not below {root}, but were found below {', '.join(roots)}; "
            f"the first: {first['found']}",
            "these checkpoints cannot be restored or downloaded until the files are where they are looked for",
            f"{move}{configure}",
        )
    if states.refused:
        first = states.refused[0]
        yield Problem(
            "state-files-out-of-reach",
            f"{_files(states.refused)} named by records may not be read; the first: {first['path']} ({first['reason']})",
            "these checkpoints cannot be restored or downloaded: state files are read only below the configured folders",
            "add the folder of the files to c.AxonNotebooks.extra_states_roots; in place of a link, put the file itself",
        )
    if states.altered:
        first = states.altered[0]
        sizes = f"{first['size']} bytes, not the {first['recorded size']} that were stored"
        yield Problem(
            "altered-state-files",
            f"{_files(states.altered)} named by records are not what was stored; the first: {first['path']} has {sizes}",
            "these checkpoints cannot be restored; their metrics are still there",
            "copy the files again from where they are whole, such as a backup",
        )
    if states.noted:
        count = f"{len(states.noted)} checkpoint" + ("s" if len(states.noted) > 1 else "")
        yield Problem(
            "unrecorded-checkpoints",
            f"{count} could not be recorded when they were made; the first: {states.noted[0]}",
            "their state files are whole, but no list shows them",
            "run `jupyter axon recover`",
        )
    if states.unknown:
        count = f"{len(states.unknown)} folder" + ("s" if len(states.unknown) > 1 else "")
        yield Problem(
            "folders-without-record",
            f"{count} of state files belong to no record here; the first: {states.unknown[0]}",
            "they take up space: checkpoints whose recording failed, or those of another store or user",
            "restart the server, which removes what interrupted writes to its store left behind. Keep the others if another store, "
            "or another user's server, uses this root, otherwise they can be removed",
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
            f"{format_size(free)} are free where the state files are",
            "checkpoints will soon fail",
            "free some space, or set c.AxonNotebooks.states_root to a folder on another disk",
        )


def _files(found: list[dict[str, Any]]) -> str:
    return f"{len(found)} state file" + ("s" if len(found) > 1 else "")


def _existing(path: str) -> str:
    """``path``, or the nearest folder above it that is there."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path
