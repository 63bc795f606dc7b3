"""The checks of ``jupyter axon doctor``, which change nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from jupyter_core.paths import jupyter_config_path

from ..errors import AxonError, InvalidData, NotFound, RecordDamaged, StoreError
from ..records import NotebookCheckpoint
from ..repository import Binding
from ..repository.parts import content_ids
from ..states.folders import format_size, free_bytes
from ..states.layout import NOTE, PARTS, split_state_path
from ..store.codec import decode, plain_text
from ..store.garbage_queries import select_lost_runs
from ..store.postgresql.health import ServerHealth, connect_to_server, examine_server
from ..store.postgresql.passfile import find_ignored
from ..store.schema import (
    CHECKPOINTS,
    COLLECTIONS,
    CONTENTS,
    NOTEBOOKS,
    SCHEMA_VERSION,
    VERSIONS,
    Schema,
)
from ..store.sqlite.health import FileHealth, connect_to_file, examine_file
from ..store.urls import file_of, shown_url, unsupported_url
from ..sync.origin import (
    find_other_origins,
    kernel_config_origin,
    origin_created_at,
    origin_file,
    stored_origin,
)
from .output import plural
from .session import Session, read_configuration_files

_PACKAGES = ("jupyter-axon-notebooks", "jupyter_server", "tinydb", "sqlalchemy", "psycopg")
#: Free space that is reported as little, in bytes.
LITTLE_SPACE = 100 * 1024**2
#: Seconds for which a folder without a record may belong to a checkpoint that is being created.
_GRACE = 3600
_NO_STORE = (
    "there is no store yet; it is created when a Jupyter server with the extension "
    "starts, or by `jupyter axon import`"
)
_INVALID = (
    RecordDamaged,
    InvalidData,
    msgspec.MsgspecError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
_RESTORE_BACKUP = "restore a backup of the store; `jupyter axon dump` saves what can be read"

#: What to do about a problem, by its code.
_ADVICE: Final = {
    "altered-state-files": "copy the files again from a backup",
    "another-users-role": 'set c.AxonNotebooks.user_id = "{owner}", or log in with the role of '
    "{user}",
    "damaged": "stop the servers that use it, and restore a backup of {path}. Without a backup, "
    "run `jupyter axon doctor --start-over`, which moves it aside and creates a new store, and "
    "then `jupyter axon recover`",
    "damaged-records": _RESTORE_BACKUP,
    "extension-not-enabled": "run `jupyter server extension enable jupyter_axon_notebooks`, and "
    "restart the server",
    "folders-without-record": "restart the server, which removes the remains of interrupted "
    "writes to its store. Remove the others, unless another store or user has them",
    "little-space": "free some space, or set c.AxonNotebooks.{setting} to a path on another disk",
    "lost-runs": "restart the server, which removes these rows",
    "missing-contents": "save the notebooks again, or restore a backup of the store",
    "missing-rights": "ask the owner of the database to run `jupyter axon init-db` for this role",
    "missing-state-files": "copy the files back into {root}, or set c.AxonNotebooks.states_root "
    "or AXON_STATES_ROOT to the folder that has them; check that all disks are mounted",
    "no-permission": "check who owns it, or set c.AxonNotebooks.{setting} to a path of your own",
    "no-store": "set c.AxonNotebooks.store_url to another file",
    "not-examined": "close the program that locks the store, free some space, or name a regular "
    "file in c.AxonNotebooks.store_url; then run this command again",
    "origin-damaged": "make it readable, or remove it and start a server, which restores it if "
    "kernels.json names the origin",
    "other-origin": "if this data folder has lost this origin, run `jupyter axon doctor --rebind`",
    "passfile-ignored": "{remedy}",
    "pointer-ignored": "remove it and start a server, which writes a new one",
    "readable-by-others": "run `chmod 600 {path}`",
    "role-of-nobody": "ask the owner of the database to run `jupyter axon init-db` for this role",
    "state-files-elsewhere": "copy or move the content of {roots} to {root}, or set "
    "c.AxonNotebooks.states_root or AXON_STATES_ROOT to the folder that has the files",
    "state-files-out-of-reach": "add their folder to c.AxonNotebooks.extra_states_roots; replace "
    "symbolic links with the files",
    "store-out-of-reach": "check c.AxonNotebooks.store_url, and that its server is running and "
    "accepts this user",
    "too-old": "start a server, or run `jupyter axon list`, which migrates the store; then run "
    "this command again",
    "too-new": "run `pip install --upgrade jupyter-axon-notebooks`",
    "unknown-store": "correct c.AxonNotebooks.store_url",
    "unrecorded-checkpoints": "run `jupyter axon recover`",
}


@dataclass(frozen=True)
class Problem:
    """A problem: a code for scripts, what was found and where, and what to do."""

    code: str
    message: str
    advice: str
    items: list[str]


@dataclass
class Diagnosis:
    """The facts by section, as JSON, and the problems."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, code: str, message: str, items: Sequence[str] = (), **values: object) -> None:
        """Add a problem that concerns ``items``; ``values`` are inserted into its advice."""
        advice = _ADVICE[code].format(**values)
        self.problems.append(Problem(code, message, advice, list(items)))

    def add_items(
        self, code: str, noun: str, fault: str, items: Sequence[str], **values: object
    ) -> None:
        """Add a problem that concerns ``items``, if there are any."""
        if items:
            message = f"{plural(len(items), noun)} {fault}; the first: {items[0]}"
            self.add(code, message, items, **values)


class _StateFile(NamedTuple):
    notebook_id: str
    path: str
    size: int | None


@dataclass
class _Content:
    """The content of the store that other checks need; empty if there is no store yet."""

    checkpoints: set[tuple[str, str]] = field(default_factory=set)
    state_files: list[_StateFile] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    is_complete: bool = True


def diagnose(session: Session, progress: Callable[[], None] = lambda: None) -> Diagnosis:
    """Check the store and the state files.

    ``progress`` is called for each document that is read and each folder of state files.
    """
    found = Diagnosis()
    settings = session.settings
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):  # the driver is an extra
            versions[name] = version(name)
    found.facts["versions"] = versions
    found.facts["store"] = {
        "url": shown_url(session.url),
        "url from": settings.sources["store_url"],
        "user": settings.user_id,
        "user from": settings.sources["user_id"],
        "origin": _check_origin(found, settings.data_folder),
    }
    found.facts["server extension"] = {"enabled": _check_extension(found)}
    if settings.config_error is not None:
        message = f"{settings.config_file} is ignored: {settings.config_error}"
        found.add("pointer-ignored", message)
    content = _check_store(found, session, progress)
    _check_states(found, session, content, progress)
    if content is not None:
        _check_other_origins(found, session, content.bindings)
    return found


def _check_extension(found: Diagnosis) -> bool:
    from jupyter_server.extension.config import ExtensionConfigManager

    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    configured = read_configuration_files().ServerApp.get("jpserver_extensions", {})
    extensions = {**manager.get_jpserver_extensions(), **configured}
    is_enabled = bool(extensions.get("jupyter_axon_notebooks", False))
    if not is_enabled:
        message = "the server extension is not enabled, so Jupyter servers record no saves"
        found.add("extension-not-enabled", message)
    return is_enabled


def _check_origin(found: Diagnosis, folder: Path) -> str | None:
    file = origin_file(folder)
    try:
        origin = stored_origin(folder)
        if origin is None and os.path.lexists(file):
            found.add("origin-damaged", f"the origin file {file} is damaged")
    except OSError as error:
        message = f"the origin file {file} cannot be read: {error.strerror}"
        found.add("origin-damaged", message)
        return None
    return origin or kernel_config_origin(folder)


# The store


def _check_store(
    found: Diagnosis, session: Session, progress: Callable[[], None]
) -> _Content | None:
    """Return the content of the store; None if it cannot be read."""
    path = file_of(session.url)
    user_id = session.settings.user_id
    try:
        if path is not None:
            health = examine_file(path)
            _check_file(found, health)
            if not health.exists:
                return _Content()
            if health.faults or health.obstacle or health.schema_version != SCHEMA_VERSION:
                return None
            with connect_to_file(path) as connection:
                return _read_content(found, connection, user_id, progress)
        if session.url.startswith("postgresql"):
            _check_passfile(found, session.url)
            with connect_to_server(session.url) as connection:
                server = examine_server(connection)
                _check_server(found, server, user_id)
                if not server.exists:
                    return _Content()
                if not server.may_read or server.schema_version != SCHEMA_VERSION:
                    return None
                content = _read_content(found, connection, user_id, progress)
                content.is_complete = server.shown_user is None
                return content
    except StoreError as error:
        found.add("store-out-of-reach", str(error))
    except (sa.exc.SQLAlchemyError, sqlite3.Error, *_INVALID) as error:
        found.add("damaged-records", f"the content of the store cannot be read: {error}")
    else:
        if session.url != "memory://":
            found.add("unknown-store", unsupported_url(session.url))
    return None


def _add_health(found: Diagnosis, health: FileHealth | ServerHealth, **facts: object) -> None:
    found.facts["store"] |= {
        "schema version": health.schema_version,
        "size": health.size,
        **facts,
        **health.counts,
    }
    if not health.exists:
        found.facts["store"]["nothing yet"] = _NO_STORE
    if (health.schema_version or 0) > SCHEMA_VERSION:
        message = (
            f"the store has schema version {health.schema_version}, and this version of the "
            f"package reads up to {SCHEMA_VERSION}"
        )
        found.add("too-new", message)
    elif 0 < (health.schema_version or 0) < SCHEMA_VERSION:
        message = (
            f"the store has schema version {health.schema_version}, which is older than "
            f"{SCHEMA_VERSION}, so its records and their state files were not checked"
        )
        found.add("too-old", message)


def _check_file(found: Diagnosis, health: FileHealth) -> None:
    path = health.path
    free = free_bytes(str(path.parent)) if health.exists else None
    is_sound = health.exists and not health.faults and not health.obstacle
    _add_health(
        found,
        health,
        free=free,
        permissions=f"{health.mode:04o}" if health.exists else None,
        integrity="ok" if is_sound else "; ".join(health.faults) or None,
    )
    if not health.exists:
        return
    if not health.readable or not health.writable:
        action = "written" if health.readable else "read"
        message = f"{path} cannot be {action} by this user"
        found.add("no-permission", message, setting="store_url")
    if os.name == "posix" and health.mode & 0o077 and health.folder_mode & 0o011:
        message = f"{path} has the permissions {health.mode:04o}; others can read the notebooks"
        found.add("readable-by-others", message, path=path)
    if health.obstacle:
        found.add("not-examined", f"the store cannot be examined: {health.obstacle}")
    elif health.faults:
        message = f"the store is damaged and cannot be used: {'; '.join(health.faults[:3])}"
        found.add("damaged", message, path=path)
    elif health.schema_version is None and health.readable and health.size:
        found.add("no-store", f"{path} is a database, but not a store of jupyter-axon-notebooks")
    if free is not None and free < LITTLE_SPACE:
        message = f"{format_size(free)} are free on the disk of the store"
        found.add("little-space", message, setting="store_url")


def _check_passfile(found: Diagnosis, url: str) -> None:
    with suppress(sa.exc.ArgumentError, ImportError, ValueError):  # reported when it is opened
        if (ignored := find_ignored(sa.make_url(url))) is not None:
            passfile, fault = ignored
            message = f"{passfile} is ignored because {fault.why}"
            found.add("passfile-ignored", message, remedy=fault.do)


def _check_server(found: Diagnosis, health: ServerHealth, user: str) -> None:
    role = health.role
    _add_health(found, health, server=health.server, database=health.database, role=role)
    if not (health.may_read and health.may_write):
        action = (
            "read or create" if not health.may_read else "write to" if health.exists else "create"
        )
        found.add("missing-rights", f"the role {role} may not {action} the tables of the store")
    if health.shown_user == "":
        message = f"the role {role} belongs to no user of this store, and sees no records"
        found.add("role-of-nobody", message)
    elif health.shown_user is not None and health.shown_user != user:
        message = (
            f"the role {role} belongs to the user {health.shown_user}, and this server's user "
            f"is {user}, whose records it cannot see"
        )
        found.add("another-users-role", message, owner=health.shown_user, user=user)


def _read_content(
    found: Diagnosis, connection: sa.Connection, user_id: str, progress: Callable[[], None]
) -> _Content:
    """Check that documents can be decoded, and that what they refer to exists."""
    content = _Content()
    schema = Schema()
    ids: dict[str, set[str]] = {}
    references: list[tuple[str, str, set[str]]] = []
    damaged: list[str] = []
    for collection in COLLECTIONS:
        c = schema.tables[collection.name].sql.c
        kind = collection.name.removeprefix("axonml_").removesuffix("s")
        known = ids.setdefault(collection.name, set())
        owner = c.id if collection is NOTEBOOKS else c.notebook_id
        document = c.document if collection is not CONTENTS else sa.literal("{}")
        rows = sa.select(owner, c.id, document).execution_options(yield_per=500)
        for notebook_id, stored_id, text in connection.execute(rows):
            progress()
            id = plain_text(stored_id)
            known.add(id)
            if collection is CHECKPOINTS:
                content.checkpoints.add((plain_text(notebook_id or ""), id))
            try:
                decoded = decode(text)
                if collection is VERSIONS:
                    references.append((f"version {id}", CONTENTS.name, content_ids(decoded)))
                elif version_id := decoded.get("version_id"):
                    references.append((f"{kind} {id}", VERSIONS.name, {version_id}))
                if collection is NOTEBOOKS and decoded["user_id"] == user_id:
                    content.bindings.append(msgspec.convert(decoded, Binding))
                elif collection is CHECKPOINTS:
                    content.state_files += _state_files(NotebookCheckpoint.from_json(decoded))
            except _INVALID:
                damaged.append(f"{kind} {id}")
    found.add_items("damaged-records", "record", "damaged", damaged)
    missing = [name for name, table, listed in references if not listed <= ids[table]]
    noun = "version, notebook or checkpoint"
    found.add_items("missing-contents", noun, "incomplete in the store", missing)
    lost = [
        f"{run} of notebook {plain_text(notebook_id)}"
        for notebook_id, run in connection.execute(select_lost_runs(schema))
    ]
    found.add_items("lost-runs", "run", "gone, but not all of its rows", lost)
    return content


def _state_files(checkpoint: NotebookCheckpoint) -> Iterator[_StateFile]:
    for part in PARTS:
        if path := getattr(checkpoint, f"{part}_state_path"):
            yield _StateFile(checkpoint.notebook_id, path, (checkpoint.sizes or {}).get(part))


def _check_other_origins(found: Diagnosis, session: Session, bindings: list[Binding]) -> None:
    origin = found.facts["store"]["origin"] or ""
    here = {binding.path: binding for binding in bindings if binding.origin == origin}
    elsewhere = [binding for binding in bindings if binding.origin != origin]
    created_at = origin_created_at(session.settings.data_folder)
    for other in find_other_origins(elsewhere, here.get, created_at):
        if not other.in_use:
            paths = [str(binding.path) for binding in other.here]
            found.add_items("other-origin", "notebook", f"of the origin {other.origin} here", paths)


# The state files


class _Folder(NamedTuple):
    path: Path
    size: int
    changed: float
    has_note: bool


def _list_folders(root: Path, progress: Callable[[], None]) -> Iterator[_Folder]:
    for path in sorted(root.glob("*/*")):
        if path.parent.is_symlink() or path.is_symlink() or not path.is_dir():
            continue
        progress()
        with suppress(OSError):  # removed meanwhile, or not readable
            entries = {entry.name: entry.lstat() for entry in path.iterdir()}
            size = sum(entry.st_size for entry in entries.values())
            changed = max(entry.st_mtime for entry in (path.stat(), *entries.values()))
            yield _Folder(path, size, changed, NOTE in entries)


def _check_states(
    found: Diagnosis, session: Session, content: _Content | None, progress: Callable[[], None]
) -> None:
    root = Path(session.states().root)
    folders = list(_list_folders(root, progress))
    free = free_bytes(next(str(one) for one in (root, *root.parents) if one.is_dir()))
    found.facts["state files"] = {
        "root": str(root),
        "root from": session.settings.sources["states_root"],
        "checkpoint folders": len(folders),
        "size": sum(folder.size for folder in folders),
        "free": free,
    }
    if content is not None:
        _compare_files(found, session, content)
    unrecorded = [str(folder.path) for folder in folders if folder.has_note]
    found.add_items("unrecorded-checkpoints", "checkpoint", "not recorded when created", unrecorded)
    if content is not None and content.is_complete:
        before = time.time() - _GRACE
        strays = [
            str(folder.path)
            for folder in folders
            if folder.path.parts[-2:] not in content.checkpoints
            and not folder.has_note
            and folder.changed < before
        ]
        fault = "of state files without a record here"
        found.add_items("folders-without-record", "folder", fault, strays)
    if root.is_dir() and not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        message = f"{root} cannot be read and written by this user, so checkpoints fail"
        found.add("no-permission", message, setting="states_root")
    if free is not None and free < LITTLE_SPACE:
        message = f"{format_size(free)} are free on the disk of the state files"
        found.add("little-space", message, setting="states_root")


def _compare_files(found: Diagnosis, session: Session, content: _Content) -> None:
    """Compare recorded state files with those on the disk."""
    states = session.states()
    missing, elsewhere, refused, altered = [], {}, [], []
    for notebook_id, path, size in content.state_files:
        full = states.full_path(path)
        try:
            present = states.find_path(path, notebook_id)
            now = os.path.getsize(present)
            if size is not None and now != size:
                altered.append(f"{present} has {now} bytes instead of {size}")
        except (InvalidData, NotFound) as error:
            former = states.find_former_root(path, notebook_id) or _root_in_path(
                states.root, path, notebook_id
            )
            if former is not None:
                elsewhere[full] = former
            elif os.path.isfile(full):
                refused.append(f"{full} ({error})")
            else:
                missing.append(full)
        except (AxonError, OSError) as error:
            refused.append(f"{full} ({error})")
    noun = "recorded state file"
    found.add_items("missing-state-files", noun, "missing", missing, root=states.root)
    roots = list(dict.fromkeys(elsewhere.values()))
    fault = f"not below {states.root}, but below {', '.join(roots)}"
    found.add_items(
        "state-files-elsewhere",
        noun,
        fault,
        list(elsewhere),
        roots=", ".join(roots),
        root=states.root,
    )
    found.add_items("state-files-out-of-reach", noun, "not readable", refused)
    found.add_items("altered-state-files", noun, "changed", altered)


def _root_in_path(root: str, path: str, notebook_id: str) -> str | None:
    """Return the other root that a recorded absolute path names, if the state file is there."""
    names = split_state_path(path)
    if names is None or names[0] != notebook_id or not os.path.isabs(path):
        return None
    if Path(path).parts[-3:] != names:  # a path of another operating system
        return None
    former = Path(path).parents[2]
    is_other = os.path.isfile(path) and os.path.realpath(former) != os.path.realpath(root)
    return str(former) if is_other else None
