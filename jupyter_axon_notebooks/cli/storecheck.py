"""What ``doctor`` makes of the store: of its file or its server, and of what is in its tables. Reads only."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from ..errors import RecordDamaged, StoreError
from ..states.folders import format_size, free_bytes
from ..store.health import FileHealth, examining
from ..store.passfile import find_ignored
from ..store.schema import SCHEMA_VERSION
from ..store.server import ServerHealth, examine_server, reaching
from .census import Census, take
from .findings import Diagnosis, Problem

#: Bytes below which a disk is called full.
LITTLE_SPACE = 100 * 1024 * 1024
#: Bytes from which on it is told that they serve nobody.
_MUCH = 100 * 1000**2
#: Versions of one notebook, and characters in its contents, from which on it is told that they make things slow.
_MANY_VERSIONS = 10_000
_LARGE = 1000**3


# What reading a damaged table raises, where no single record can be named.
_UNREADABLE = (RecordDamaged, sa.exc.SQLAlchemyError, ValueError, KeyError, TypeError)


def look_at_file(found: Diagnosis, health: FileHealth, progress: Callable[[], None]) -> None:
    """A store in a file."""
    free = free_bytes(str(health.path.parent)) if health.exists else None
    found.facts["store"] |= {
        "exists": health.exists,
        "schema version": health.schema_version,
        "journal": health.journal,
        "size": health.size,
        "log size": health.wal_size,
        "unused": health.free if health.exists else None,
        "free": free,
        "permissions": f"{health.mode:04o}" if health.exists else None,
        "file system": health.file_system or None,
        "integrity": "ok" if health.exists and not health.faults else (health.faults or None),
        **health.counts,
    }
    if not health.exists:
        found.facts["store"]["nothing yet"] = _NOTHING_YET
    if health.sizes:
        found.facts["sizes"] = dict(health.sizes)
    found.problems += _file_problems(health, free)
    if health.exists and not health.faults and health.schema_version == SCHEMA_VERSION:
        try:
            with examining(health.path) as connection:
                _look_inside(found, connection, progress)
        except (sqlite3.Error, *_UNREADABLE) as error:
            found.problems.append(_unreadable(error))


def look_at_server(found: Diagnosis, url: str, progress: Callable[[], None]) -> None:
    """A store on a database server."""
    found.problems += _passfile_problems(url)
    try:
        with reaching(url) as connection:
            health = examine_server(connection)
            found.facts["store"] |= {
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
                found.facts["store"]["nothing yet"] = _NOTHING_YET
            found.problems += _server_problems(health, found.facts["store"]["user"])
            if health.may_read and health.schema_version == SCHEMA_VERSION:
                _look_inside(found, connection, progress)
    except _UNREADABLE as error:
        found.problems.append(_unreadable(error))
    except StoreError as error:
        found.problems.append(
            Problem(
                "store-out-of-reach",
                str(error),
                "nothing is recorded there",
                "check c.AxonNotebooks.store_url, and that its server runs and lets this user in",
            )
        )


def _passfile_problems(url: str) -> Iterator[Problem]:
    try:
        ignored = find_ignored(sa.make_url(url))
    except (
        sa.exc.ArgumentError,
        ImportError,
        ValueError,
    ):  # a wrong URL, or no driver, which opening it tells
        return
    if ignored is not None:
        passfile, fault = ignored
        yield Problem(
            "passfile-ignored",
            f"{passfile} is ignored because {fault.why}",
            "a database that asks for a password refuses the login",
            fault.do,
        )


_NOTHING_YET = (
    "there is no store there yet; a Jupyter server with the extension makes it when it starts, "
    "and so does `jupyter axon import`"
)


def _unreadable(error: Exception) -> Problem:
    return Problem(
        "unreadable-records",
        f"what is in the store cannot be read: {error}",
        "records are damaged",
        "restore a backup of the store",
    )


def _look_inside(found: Diagnosis, connection: sa.Connection, progress: Callable[[], None]) -> None:
    census = take(connection, progress)
    found.facts["contents"] = {
        "listed by no version": census.unlisted,
        "most versions of a notebook": census.most_versions.versions
        if census.most_versions
        else None,
        "largest notebook": census.largest.size if census.largest else None,
    }
    found.problems += _content_problems(census)


def _file_problems(health: FileHealth, free: int | None) -> Iterator[Problem]:
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
        yield _too_new(health.schema_version)
    if health.wal_size > _MUCH:
        yield Problem(
            "long-log",
            f"the log beside the store has grown to {format_size(health.wal_size)}",
            "reading gets slower: some program has been reading for long, or was killed",
            "close the programs that have the store open; a running server shortens the log within the hour",
        )
    if health.free > max(_MUCH, health.size // 4):
        shrink = (
            f"stop the servers that use it and run `sqlite3 {path} 'PRAGMA auto_vacuum=2; VACUUM'`"
        )
        yield Problem(
            "unused-space",
            f"{format_size(health.free)} of the store's {format_size(health.size)} are unused",
            "they take up space on the disk",
            "start a server: it gives them back little by little" if health.shrinks else shrink,
        )
    if free is not None and free < LITTLE_SPACE:
        yield Problem(
            "little-space-for-store",
            f"{format_size(free)} are free where the store is",
            "saves will soon go unrecorded",
            "free some space, or set c.AxonNotebooks.store_url to a file on another disk",
        )


def _server_problems(health: ServerHealth, user: str) -> Iterator[Problem]:
    if health.exists and not health.may_read:
        yield Problem(
            "no-permission",
            f"the role {health.role} may not read the tables of the store",
            "nothing is recorded there, and nothing is shown",
            f"have their owner run `jupyter axon init-db` for {health.role}",
        )
    elif not health.may_write:
        who, does = (
            ("the owner of the tables", f"run `jupyter axon init-db` for {health.role}")
            if health.exists
            else (
                "the owner of the database",
                f"grant CREATE on the schema to {health.role}, or run `jupyter axon init-db`",
            )
        )
        yield Problem(
            "no-permission",
            f"the role {health.role} may not {'write to' if health.exists else 'make'} the tables of the store",
            "nothing is recorded there",
            f"have {who} {does}",
        )
    if health.shown_user == "":
        yield Problem(
            "role-of-nobody",
            f"the role {health.role} stands for no user in this store",
            "nothing is recorded there, and nothing is shown",
            f"have the owner of the tables run `jupyter axon init-db` for {health.role}",
        )
    elif health.shown_user is not None and health.shown_user != user:
        yield Problem(
            "another-users-role",
            f"the role {health.role} stands for the user {health.shown_user}, and this server's user is {user}",
            f"nothing of {user}'s can be recorded there, and nothing is shown",
            f'set c.AxonNotebooks.user_id = "{health.shown_user}", or log in with the role of {user}',
        )
    if (health.schema_version or 0) > SCHEMA_VERSION:
        yield _too_new(health.schema_version)


def _too_new(version: int | None) -> Problem:
    return Problem(
        "too-new",
        f"the store has schema version {version}, this package knows up to {SCHEMA_VERSION}",
        "a newer version of this package wrote it; this one cannot use it",
        "run `pip install --upgrade jupyter-axon-notebooks`",
    )


def _content_problems(census: Census) -> Iterator[Problem]:
    if census.damaged:
        yield Problem(
            "damaged-records",
            f"{len(census.damaged)} records are damaged; the first: {census.damaged[0]}",
            "they cannot be read; the others are not affected",
            "`jupyter axon dump` saves the others; restore a backup of the store for these",
        )
    if census.unreadable or census.without_version:
        broken = [*census.unreadable, *census.without_version]
        yield Problem(
            "missing-contents",
            f"{len(broken)} versions, notebooks or checkpoints refer to what is not there; the first: {broken[0]}",
            "these cannot be read",
            "restore a backup of the store, or save the notebooks again",
        )
    if lost := census.without_provenance:
        yield Problem(
            "missing-provenance",
            f"{len(lost)} checkpoints, or lists of what was executed, refer to what is not there; the first: {lost[0]}",
            "nobody can tell which code these came from",
            "restore a backup of the store",
        )
    if census.strays:
        counts = ", ".join(f"{count} {name}" for name, count in census.strays.items())
        yield Problem(
            "rows-without-notebook",
            f"the store has {counts} of notebooks that it has not",
            "they take up space and are shown nowhere; something else than this package has changed the store",
            "restore a backup of the store, if anything is missed",
        )
    if census.unlisted_size > _MUCH:
        yield Problem(
            "unlisted-contents",
            f"{census.unlisted} sources and outputs, {format_size(census.unlisted_size)}, are listed by no version",
            "they take up space: a large notebook is being saved just now, or a save was killed",
            "keep a server running: at its second look, after an hour, it removes them",
        )
    if census.missing_indexes:
        yield Problem(
            "missing-indexes",
            f"{len(census.missing_indexes)} indexes of the store are missing",
            "lists and look-ups are slow, and clashes go unnoticed",
            f"stop the servers that use it and run this SQL in it: {'; '.join(census.missing_indexes)}",
        )
    if (most := census.most_versions) is not None and most.versions > _MANY_VERSIONS:
        yield Problem(
            "many-versions",
            f"notebook {most.notebook_id} has {most.versions} versions",
            "tidying it takes long",
            "delete checkpoints of it that are no longer needed, or set c.AxonNotebooks.history_limit lower",
        )
    if (largest := census.largest) is not None and largest.size > _LARGE:
        yield Problem(
            "large-notebook",
            f"the sources and outputs of notebook {largest.notebook_id} take up {format_size(largest.size)}",
            "its history takes up most of that: each save with other outputs may begin a version",
            "set c.AxonNotebooks.history_limit lower, or write less into its outputs",
        )
