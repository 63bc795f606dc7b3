"""The checks of ``jupyter axon doctor``, which change nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from jupyter_core.paths import jupyter_config_path

from ..errors import AxonError, InvalidData, NotFound, RecordDamaged, StoreError
from ..repository import Binding
from ..repository.parts import content_ids
from ..states import StateStorage
from ..states.folders import format_size, free_bytes
from ..states.layout import NOTE, split_state_path
from ..states.roots import paths_below
from ..store.codec import decode, plain_text
from ..store.postgresql.health import ServerHealth, connect_to_server, examine_server
from ..store.postgresql.passfile import find_ignored
from ..store.schema import CHECKPOINTS, COLLECTIONS, CONTENTS, SCHEMA_VERSION, VERSIONS, Schema
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
from .output import plural
from .session import Session

_PACKAGES = ("jupyter-axon-notebooks", "jupyter_server", "tinydb", "sqlalchemy", "psycopg")
_EXTENSION = "jupyter_axon_notebooks"
#: Free space that is reported as little, and wasted space that is reported, in bytes.
LITTLE_SPACE = 100 * 1024**2
MUCH_SPACE = 100 * 1000**2
#: Seconds for which a folder without a record may belong to a checkpoint that is being created.
_GRACE = 3600
_MAX_PATHS = 8
_UNREADABLE = (
    RecordDamaged,
    sa.exc.SQLAlchemyError,
    sqlite3.Error,
    ValueError,
    KeyError,
    TypeError,
)


#: Notebook id, checkpoint id, and the path and the size of each state file that is recorded.
_RecordedStates = tuple[str, str, dict[str, tuple[str, int | None]]]


class Problem(NamedTuple):
    """A problem: a code for scripts, what was found, what it means, and what to do."""

    code: str
    what: str
    means: str
    do: str


@dataclass
class Diagnosis:
    """The facts by section, as JSON, and the problems."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, code: str, what: str, means: str, do: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(code, what, means, do))


def diagnose(session: Session, progress: Callable[[], None] = lambda: None) -> Diagnosis:
    """Check the installation, the store and the state files.

    ``progress`` is called for each document that is read and each folder of state files.
    """
    found = Diagnosis()
    settings = session.settings
    found.facts["versions"] = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):  # the driver is an extra
            found.facts["versions"][name] = version(name)
    _check_extension(found, session)
    found.facts["store"] = {
        "url": shown_url(session.url),
        "url from": settings.sources["store_url"],
        "engine": shown_url(session.url).split(":", 1)[0].split("+", 1)[0],
        "user": settings.user_id,
        "user from": settings.sources["user_id"],
        "origin": None,
    }
    _check_origin(found, settings.data_folder)
    if settings.config_error is not None:
        found.add(
            "pointer-ignored",
            f"{settings.config_file} is ignored: {settings.config_error}",
            "kernels and commands that no server started may use another store than the user's "
            "server",
            f"remove {settings.config_file} and start a server, which writes a new one",
        )
    path = file_of(session.url)
    health = examine_file(path) if path is not None else None
    if health is not None:
        _check_file(found, health, progress)
    elif found.facts["store"]["engine"] == "postgresql":
        _check_server(found, session.url, progress)
    elif session.url != "memory://":
        found.add(
            "unknown-store",
            unsupported_url(session.url),
            "nothing is recorded",
            "correct c.AxonNotebooks.store_url",
        )
    _check_states(found, session, health, progress)
    _check_other_origins(found, session, health)
    return found


def _check_extension(found: Diagnosis, session: Session) -> None:
    from jupyter_server.extension.config import ExtensionConfigManager

    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    configured = session.files.ServerApp.get("jpserver_extensions", {})
    enabled = bool({**manager.get_jpserver_extensions(), **configured}.get(_EXTENSION, False))
    found.facts["server extension"] = {"enabled": enabled}
    if not enabled:
        found.add(
            "extension-not-enabled",
            "the server extension is not enabled",
            "Jupyter servers with this configuration do not record saves",
            f"run `jupyter server extension enable {_EXTENSION}`, and restart the server",
        )


def _check_origin(found: Diagnosis, folder: Path) -> None:
    file = origin_file(folder)
    try:
        origin = stored_origin(folder)
    except OSError as error:
        found.add(
            "origin-unreadable",
            f"the origin file {file} cannot be read: {error.strerror}",
            "servers and kernels cannot open the store",
            "make the file readable, or restore a copy of it",
        )
        return
    found.facts["store"]["origin"] = origin or kernel_config_origin(folder)
    if os.path.isdir(file):
        found.add(
            "origin-damaged",
            f"the origin file {file} is a folder",
            "servers and kernels cannot open the store",
            "remove the folder and start a server, which restores the file if kernels.json "
            "names the origin",
        )
    elif origin is None and os.path.lexists(file):
        found.add(
            "origin-damaged",
            f"the origin file {file} is damaged",
            "the next server or kernel replaces it with the origin in kernels.json, if there "
            "is one, or with a new one",
            "start a server, then run this command again",
        )


# The store


def _check_file(found: Diagnosis, health: FileHealth, progress: Callable[[], None]) -> None:
    path, store = health.path, found.facts["store"]
    free = free_bytes(str(path.parent)) if health.exists else None
    is_sound = health.exists and not health.faults and not health.obstacle
    store |= {
        "exists": health.exists,
        "schema version": health.schema_version,
        "journal": health.journal,
        "size": health.size,
        "log size": health.wal_size,
        "unused": health.free if health.exists else None,
        "free": free,
        "permissions": f"{health.mode:04o}" if health.exists else None,
        "file system": health.file_system or None,
        "integrity": "ok" if is_sound else (health.faults or None),
        **health.counts,
    }
    if health.sizes:
        found.facts["sizes"] = dict(health.sizes)
    if health.network:
        found.add(
            "network-file-system",
            f"the store is on a network file system ({health.file_system})",
            "it works, but slowly, and for one process at a time",
            "set c.AxonNotebooks.store_url to a file on a local disk",
        )
    if not health.exists:
        store["nothing yet"] = _NO_STORE
        return
    if not health.readable or not health.writable:
        found.add(
            "no-permission",
            f"{path} cannot be {'written' if health.readable else 'read'} by this user",
            "nothing is recorded there",
            "check who owns the file and its folder, or set c.AxonNotebooks.store_url to a "
            "file of your own",
        )
    if os.name == "posix" and health.mode & 0o077 and health.folder_mode & 0o011:
        found.add(
            "readable-by-others",
            f"{path} has the permissions {health.mode:04o}",
            "other users of this machine can read the notebooks in it",
            f"run `chmod 600 {path}`",
        )
    if health.obstacle:
        found.add(
            "not-examined",
            f"the store cannot be examined: {health.obstacle}",
            "its integrity is unknown, and nothing may be recorded as long as this lasts",
            "close the program that locks the store, free some space, or name a regular file in "
            "c.AxonNotebooks.store_url; then run this command again",
        )
    elif health.faults:
        found.add(
            "damaged",
            f"the store is damaged: {'; '.join(health.faults[:3])}",
            "it cannot be used; saves and trainings continue, but saves and checkpoints are not "
            "recorded",
            f"stop the servers that use it, and restore a backup of {path}. Without a backup, "
            f"run `jupyter axon doctor "
            "--start-over`, which moves it aside and creates a new store, and then `jupyter "
            "axon recover`",
        )
    elif health.schema_version is None and health.readable and health.size:
        found.add(
            "no-store",
            f"{path} is a database, but not a store of jupyter-axon-notebooks",
            "nothing can be recorded there",
            "set c.AxonNotebooks.store_url to another file",
        )
    _check_version(found, health.schema_version)
    if health.wal_size > MUCH_SPACE:
        found.add(
            "long-log",
            f"the log beside the store has grown to {format_size(health.wal_size)}",
            "reading becomes slower: a program has been reading for a long time, or was killed",
            "close the programs that have the store open; a running server shortens the log "
            "within an hour",
        )
    if health.free > max(MUCH_SPACE, health.size // 4):
        vacuum = f"`sqlite3 {path} 'PRAGMA auto_vacuum=2; VACUUM'`"
        found.add(
            "unused-space",
            f"{format_size(health.free)} of the store's {format_size(health.size)} are unused",
            "they take up disk space",
            "start a server, which frees the space gradually"
            if health.shrinks
            else f"stop the servers that use it and run {vacuum}",
        )
    if free is not None and free < LITTLE_SPACE:
        found.add(
            "little-space-for-store",
            f"{format_size(free)} are free on the disk of the store",
            "soon, saves can no longer be recorded",
            "free some space, or set c.AxonNotebooks.store_url to a file on another disk",
        )
    if not health.faults and not health.obstacle and health.schema_version == SCHEMA_VERSION:
        try:
            with connect_to_file(path) as connection:
                _check_records(found, connection, progress)
        except _UNREADABLE as error:
            _add_unreadable(found, error)


_NO_STORE = (
    "there is no store yet; it is created when a Jupyter server with the extension "
    "starts, or by `jupyter axon import`"
)


def _add_unreadable(found: Diagnosis, error: Exception) -> None:
    found.add(
        "unreadable-records",
        f"the content of the store cannot be read: {error}",
        "records are damaged",
        "restore a backup of the store",
    )


def _check_version(found: Diagnosis, schema_version: int | None) -> None:
    if (schema_version or 0) > SCHEMA_VERSION:
        found.add(
            "too-new",
            f"the store has schema version {schema_version}, and this version of the package "
            f"reads up to {SCHEMA_VERSION}",
            "a newer version of the package wrote it; this one cannot use it",
            "run `pip install --upgrade jupyter-axon-notebooks`",
        )


def _check_server(found: Diagnosis, url: str, progress: Callable[[], None]) -> None:
    with suppress(sa.exc.ArgumentError, ImportError, ValueError):  # reported when it is opened
        if (ignored := find_ignored(sa.make_url(url))) is not None:
            passfile, fault = ignored
            found.add(
                "passfile-ignored",
                f"{passfile} is ignored because {fault.why}",
                "a database that asks for a password refuses the login",
                fault.do,
            )
    store = found.facts["store"]
    try:
        with connect_to_server(url) as connection:
            health = examine_server(connection)
            store |= {
                "exists": health.exists,
                "schema version": health.schema_version,
                "server": health.server,
                "database": health.database,
                "role": health.role,
                "may read": health.may_read,
                "may write": health.may_write,
                "size": health.size,
                **health.counts,
            }
            if health.sizes:
                found.facts["sizes"] = dict(health.sizes)
            if not health.exists and health.may_write:
                store["nothing yet"] = _NO_STORE
            _check_role(found, health, store["user"])
            _check_version(found, health.schema_version)
            if health.may_read and health.schema_version == SCHEMA_VERSION:
                _check_records(found, connection, progress)
    except _UNREADABLE as error:
        _add_unreadable(found, error)
    except StoreError as error:
        found.add(
            "store-out-of-reach",
            str(error),
            "nothing is recorded there",
            "check c.AxonNotebooks.store_url, and that its server is running and accepts this user",
        )


def _check_role(found: Diagnosis, health: ServerHealth, user: str) -> None:
    role = health.role
    init_db = f"ask the owner of the tables to run `jupyter axon init-db` for {role}"
    if health.exists and not (health.may_read and health.may_write):
        action = "write to" if health.may_read else "read"
        found.add(
            "no-permission",
            f"the role {role} may not {action} the tables of the store",
            "nothing is recorded there" + ("" if health.may_read else ", and nothing is shown"),
            init_db,
        )
    elif not health.may_write:
        found.add(
            "no-permission",
            f"the role {role} may not create the tables of the store",
            "nothing is recorded there",
            f"ask the owner of the database to grant CREATE on the schema to {role}, or to run "
            f"`jupyter axon init-db`",
        )
    if health.shown_user == "":
        found.add(
            "role-of-nobody",
            f"the role {role} belongs to no user of this store",
            "nothing is recorded there, and nothing is shown",
            init_db,
        )
    elif health.shown_user is not None and health.shown_user != user:
        found.add(
            "another-users-role",
            f"the role {role} belongs to the user {health.shown_user}, and this server's user "
            f"is {user}",
            f"nothing of {user} can be recorded there, and nothing is shown",
            f'set c.AxonNotebooks.user_id = "{health.shown_user}", or log in with the role of '
            f"{user}",
        )


def _check_records(
    found: Diagnosis, connection: sa.Connection, progress: Callable[[], None]
) -> None:
    """Check that documents can be decoded, and that what they refer to exists."""
    schema = Schema()
    ids: dict[str, set[str]] = {}
    references: list[tuple[str, str, set[str]]] = []
    damaged: list[str] = []
    for collection in COLLECTIONS:
        c = schema.tables[collection.name].sql.c
        kind = collection.name.removeprefix("axonml_").removesuffix("s")
        known = ids.setdefault(collection.name, set())
        document = c.document if collection is not CONTENTS else sa.literal("{}")
        rows = sa.select(c.id, document).execution_options(yield_per=500)
        for stored_id, text in connection.execute(rows):
            progress()
            id = plain_text(stored_id)
            known.add(id)
            try:
                decoded = decode(text)
                if collection is VERSIONS:
                    references.append((f"version {id}", CONTENTS.name, content_ids(decoded)))
                elif version_id := decoded.get("version_id"):
                    references.append((f"{kind} {id}", VERSIONS.name, {version_id}))
            except (RecordDamaged, InvalidData, AttributeError, LookupError, TypeError, ValueError):
                damaged.append(f"{kind} {id}")
    if damaged:
        found.add(
            "damaged-records",
            f"{plural(len(damaged), 'record')} damaged; the first: {damaged[0]}",
            "they cannot be read; the others are not affected",
            "`jupyter axon dump` saves the others; restore a backup of the store for these",
        )
    missing = [name for name, table, listed in references if not listed <= ids[table]]
    if missing:
        found.add(
            "missing-contents",
            f"{plural(len(missing), 'version, notebook or checkpoint')} incomplete in the "
            f"store; the first: {missing[0]}",
            "their cells cannot be read",
            "restore a backup of the store, or save the notebooks again",
        )


@contextmanager
def _reading(
    found: Diagnosis, session: Session, health: FileHealth | None
) -> Iterator[sa.Connection | None]:
    """Connect to the store, None where there is none yet; raise StoreError if it cannot be read."""
    if health is not None:
        if health.exists and (health.faults or health.obstacle or not health.readable):
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


def _check_other_origins(found: Diagnosis, session: Session, health: FileHealth | None) -> None:
    origin = found.facts["store"]["origin"] or ""
    bound: list[Binding] = []
    try:
        with _reading(found, session, health) as connection:
            for stored in (
                notebook_documents(connection, session.settings.user_id) if connection else ()
            ):
                with suppress(msgspec.ValidationError):  # reported as damaged
                    bound.append(msgspec.convert(stored, Binding))
    except (sqlite3.Error, sa.exc.SQLAlchemyError, StoreError):  # reported above
        return
    here = {binding.path: binding for binding in bound if binding.origin == origin}
    elsewhere = [binding for binding in bound if binding.origin != origin]
    others = find_other_origins(
        elsewhere, here.get, origin_created_at(session.settings.data_folder)
    )
    found.facts["store"]["other origins"] = [
        {"origin": other.origin, "notebooks here": len(other.here), "in use": other.in_use}
        for other in others
    ]
    for other in others:
        if not other.in_use:
            found.add(
                "other-origin",
                f"records of {plural(len(other.here), 'notebook')} here have the origin "
                f"{other.origin}; the first: "
                f"{other.here[0].path}",
                "if no other machine has this origin, this data folder has lost it, and saves "
                "create new records",
                "run `jupyter axon doctor --rebind`, unless these files belong to another machine",
            )


# The state files


def _check_states(
    found: Diagnosis, session: Session, health: FileHealth | None, progress: Callable[[], None]
) -> None:
    states = session.states()
    root = states.root
    known: list[_RecordedStates] = []
    is_known = True
    damaged: list[str] = []
    sees_all = True
    try:
        with _reading(found, session, health) as connection:
            for notebook_id, checkpoint_id, parts in (
                checkpoint_states(connection) if connection else ()
            ):
                progress()
                known.append((notebook_id, checkpoint_id, parts or {}))
                damaged += [checkpoint_id] if parts is None else []
            if connection is not None and connection.dialect.name == "postgresql":
                restricted = sa.select(sa.func.row_security_active(CHECKPOINTS.name))
                sees_all = not connection.scalar(restricted)
    except (sqlite3.Error, sa.exc.SQLAlchemyError, StoreError):  # reported above
        is_known = False
    if damaged:
        found.add(
            "unreadable-checkpoints",
            f"{plural(len(damaged), 'checkpoint')} damaged; the first: {damaged[0]}",
            "they cannot be read, and their state files cannot be checked",
            "restore a backup of the store for these",
        )
    folders = _list_folders(root, progress)
    names = {(one[0], one[1]) for one in known} if is_known and sees_all else None
    unknown = [
        one for one in folders if names is not None and one.ids not in names and not one.has_note
    ]
    old = [one.path for one in unknown if one.changed < time.time() - _GRACE]
    recent = [one.path for one in unknown if one.path not in old]
    unrecorded = [one.path for one in folders if one.has_note]
    files = _compare_files(states, known)
    free = free_bytes(next(str(one) for one in (Path(root), *Path(root).parents) if one.is_dir()))
    found.facts["state files"] = {
        "root": root,
        "root from": session.settings.sources["states_root"],
        "exists": os.path.isdir(root),
        "used": sum(one.size for one in folders),
        "free": free,
        "checkpoint folders": len(folders),
        "folders without a record": old if names is not None else None,
        "folders being written": recent if names is not None else None,
        "folders to be recorded": unrecorded,
        **{kind: listed if is_known else None for kind, listed in files.items()},
    }
    _add_file_problems(found, root, files)
    if unrecorded:
        found.add(
            "unrecorded-checkpoints",
            f"{plural(len(unrecorded), 'checkpoint')} not recorded when created; the first: "
            f"{unrecorded[0]}",
            "their state files are complete, but they are not listed",
            "run `jupyter axon recover`",
        )
    if old:
        found.add(
            "folders-without-record",
            f"{plural(len(old), 'folder')} of state files without a record here; the first: "
            f"{old[0]}",
            "they take up space: their checkpoints were not recorded, or belong to another "
            "store or user",
            "restart the server, which removes the remains of interrupted writes to its store. "
            "Keep the others if another "
            "store, or another user's server, uses this root; otherwise they can be removed",
        )
    if os.path.isdir(root) and not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        found.add(
            "states-no-permission",
            f"{root} cannot be read and written by this user",
            "checkpoints with state files fail",
            "check who owns the folder, or set c.AxonNotebooks.states_root to one of your own",
        )
    if free is not None and free < LITTLE_SPACE:
        found.add(
            "little-space",
            f"{format_size(free)} are free on the disk of the state files",
            "checkpoints will soon fail",
            "free some space, or set c.AxonNotebooks.states_root to a folder on another disk",
        )


class _CheckpointFolder(NamedTuple):
    ids: tuple[str, str]
    path: str
    size: int
    changed: float
    has_note: bool


def _list_folders(root: str, progress: Callable[[], None]) -> list[_CheckpointFolder]:
    folders = []
    for notebook in _subfolders(root):
        for folder in _subfolders(notebook.path):
            progress()
            size, changed = 0, 0.0
            with suppress(OSError), os.scandir(folder.path) as entries:
                changed = os.stat(folder.path).st_mtime
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    changed = max(changed, found.st_mtime)
                    size += found.st_size if entry.is_file(follow_symlinks=False) else 0
            has_note = os.path.lexists(os.path.join(folder.path, NOTE))
            ids = notebook.name, folder.name
            folders.append(_CheckpointFolder(ids, folder.path, size, changed, has_note))
    return sorted(folders, key=lambda one: one.path)


def _subfolders(path: str) -> Iterable[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _compare_files(
    states: StateStorage, known: list[_RecordedStates]
) -> dict[str, list[dict[str, Any]]]:
    """Compare recorded state files with those on the disk."""
    former = dict.fromkeys(states.list_former_roots())
    for notebook_id, _, parts in known:
        for path, _ in parts.values():
            names = split_state_path(path) if os.path.isabs(path) else None
            if names is not None and names[0] == notebook_id:
                former[Path(path).parents[len(names) - 1].as_posix()] = None
    own = os.path.realpath(states.root)
    former_roots = [root for root in former if os.path.realpath(root) != own]
    missing, elsewhere, refused, altered = [], [], [], []
    for notebook_id, checkpoint_id, parts in known:
        for path, size in parts.values():
            full = states.full_path(path)
            named = {"checkpoint_id": checkpoint_id, "notebook_id": notebook_id, "path": full}
            try:
                place = states.find_path(path, notebook_id)
                now = os.path.getsize(place)
                if size is not None and now != size:
                    altered.append({**named, "path": place, "size": now, "recorded size": size})
            except (InvalidData, NotFound) as error:
                left = paths_below(former_roots, path, notebook_id)
                there = [(root, file) for root, file in left.items() if os.path.isfile(file)]
                if there:
                    elsewhere.append({**named, "root": there[0][0], "found": there[0][1]})
                elif os.path.isfile(full):
                    refused.append({**named, "reason": str(error)})
                else:
                    places = [*states.candidate_paths(path, notebook_id), *left.values()]
                    missing.append({**named, "looked for": list(dict.fromkeys(places))})
            except (AxonError, OSError) as error:
                refused.append({**named, "reason": str(error)})
    return {
        "missing files": missing,
        "files elsewhere": elsewhere,
        "files out of reach": refused,
        "altered files": altered,
    }


def _add_file_problems(found: Diagnosis, root: str, files: dict[str, list[dict[str, Any]]]) -> None:
    if missing := files["missing files"]:
        places = missing[0]["looked for"][1:]
        searched = "".join(f"; also not at {place}" for place in places[:_MAX_PATHS])
        if len(places) > _MAX_PATHS:
            searched += f", nor at {len(places) - _MAX_PATHS} more places"
        found.add(
            "missing-state-files",
            f"{plural(len(missing), 'recorded state file')} missing; the first: "
            f"{missing[0]['path']}{searched}",
            "these checkpoints cannot be restored; their metrics are still there",
            f"copy the files back into {root} (check that all disks are mounted and all "
            "folders were copied), or set "
            "c.AxonNotebooks.states_root to the folder that has them",
        )
    if elsewhere := files["files elsewhere"]:
        roots = list(dict.fromkeys(one["root"] for one in elsewhere))
        move = "; ".join(f"copy or move the content of {other} to {root}" for other in roots)
        setting = f", or set c.AxonNotebooks.states_root or AXON_STATES_ROOT to {roots[0]}"
        found.add(
            "state-files-elsewhere",
            f"{plural(len(elsewhere), 'recorded state file')} not below {root}, but below "
            f"{', '.join(roots)}; the first: "
            f"{elsewhere[0]['found']}",
            "these checkpoints cannot be restored or downloaded until the files are below the "
            "configured folder",
            move + (setting if len(roots) == 1 else ""),
        )
    if refused := files["files out of reach"]:
        found.add(
            "state-files-out-of-reach",
            f"{plural(len(refused), 'recorded state file')} not readable; the first: "
            f"{refused[0]['path']} "
            f"({refused[0]['reason']})",
            "these checkpoints cannot be restored or downloaded: state files are read only "
            "below the configured folders",
            "add the folder of the files to c.AxonNotebooks.extra_states_roots; replace "
            "symbolic links with the files",
        )
    if altered := files["altered files"]:
        first = altered[0]
        found.add(
            "altered-state-files",
            f"{plural(len(altered), 'recorded state file')} changed; the first: "
            f"{first['path']} has {first['size']} bytes "
            f"instead of {first['recorded size']}",
            "these checkpoints cannot be restored; their metrics are still there",
            "copy the files again from a backup",
        )
