"""The command doctor: find problems, and say what to do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from functools import partial
from typing import Any

import click
from rich.text import Text

from ..errors import Conflict, NotFound, StoreError
from ..printable import printable
from ..states.folders import format_size
from ..store.sqlite.files import move_aside
from ..store.sqlite.health import examine_file
from ..store.urls import file_of
from ..sync.origin import find_other_origins, origin_created_at
from . import options
from .checks import Diagnosis, diagnose
from .group import FAILED
from .output import fields, note, plural, progress, write, write_json
from .session import Session, with_session


@click.command()
@with_session
@click.option(
    "--rebind",
    is_flag=True,
    help="First bind files on this machine to their records from an origin that was lost.",
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="With --rebind: use the records of this origin only, even if another machine seems to "
    "use it.",
)
@click.option(
    "--start-over",
    is_flag=True,
    help="First move a damaged SQLite store aside, and create a new one.",
)
@options.as_json
def doctor(
    session: Session, rebind: bool, origins: tuple[str, ...], start_over: bool, as_json: bool
) -> None:
    """Check the store and the state files, and say what to do about problems.

    Changes nothing without --rebind and --start-over. The exit code is 1 if there is a problem.

    Records are bound to files by a path and the origin of your Jupyter data folder. If the origin
    was lost, --rebind binds your records to the present one: those whose file exists here, and
    whose other origin nobody seems to use. If a file has two records, it gets the one that was
    created first. The other is kept, with its checkpoints, and bound to no file.
    """
    if origins and not rebind:
        raise click.UsageError("--origin needs --rebind")
    changes: dict[str, Any] = {}
    if start_over:
        changes["moved_to"] = _start_over(session)
    if rebind:
        changes["rebound"] = _rebind(session, origins)
    with progress("Checking") as bar:
        task = bar.add_task("", total=None)
        found = diagnose(session, lambda: bar.advance(task))
    if as_json:
        write_json({**changes, **asdict(found)})
    else:
        _report(found)
    if found.problems:
        raise click.exceptions.Exit(FAILED)


def _report(found: Diagnosis) -> None:
    for section, facts in found.facts.items():
        pairs = (
            (f"  {name}", format_size(fact) if _is_size(name, fact) else fact)
            for name, fact in facts.items()
        )
        write(Text(section, style="bold"), fields(pairs))
    if not found.problems:
        write("", Text("No problems found.", style="green"))
    for problem in found.problems:
        title = Text(f"Problem: {printable(problem.message)}", style="bold red")
        write("", title, fields([("  do", problem.advice)]))


def _is_size(name: str, fact: object) -> bool:
    return isinstance(fact, int) and name in ("size", "free")


def _start_over(session: Session) -> str:
    """Move a damaged store aside, create a new one, and return where the old one is now."""
    path = file_of(session.url)
    if path is None or not path.exists():
        raise StoreError("--start-over needs an existing store file")
    health = examine_file(path)
    if health.obstacle:
        raise StoreError(f"the store {path} cannot be examined: {health.obstacle}")
    if not health.faults:
        raise Conflict(f"the store {path} is not damaged, so --start-over leaves it as it is")
    moved = str(move_aside(path))
    note(f"The damaged store was moved to {moved}.")
    with session.open(create=True):
        pass
    note(
        "A new store was created. Restart the servers that use it, load an archive if you have "
        "one, and then run `jupyter axon recover` to record the checkpoints that are waiting."
    )
    return moved


def _rebind(session: Session, origins: Collection[str]) -> list[dict[str, Any]]:
    """Bind the user's records to the present origin, and return what was done as JSON.

    Without ``origins``, the records of all that nobody seems to use.
    """
    rebound: list[dict[str, Any]] = []
    with session.open(for_writing=True) as opened:
        bindings, origin = opened.repository.bindings, opened.origin
        others = find_other_origins(
            bindings.list_other_origins(session.settings.user_id, origin),
            partial(bindings.find_by_path, origin),
            origin_created_at(session.settings.data_folder),
        )
        for missing in set(origins) - {other.origin for other in others}:
            message = f"none of your files on this machine has a record under the origin {missing}"
            raise NotFound("origin", missing, message)
        for other in others:
            if other.in_use and other.origin not in origins:
                note(
                    f"Skipped: records of {plural(len(other.here), 'notebook')} under the "
                    f"origin {other.origin}, which another machine seems to use. --rebind "
                    f"--origin {other.origin} binds them anyway."
                )
            elif not origins or other.origin in origins:
                for binding in other.here:
                    released = bindings.change_origin(binding.id, origin)
                    done = {"path": binding.path, "id": binding.id, "from": other.origin}
                    kept = ""
                    if released is not None:
                        done["released"] = released.id
                        kept = f"; {released.id}, which was created later, is kept, unbound"
                    rebound.append(done)
                    note(f"{binding.path}: bound to the record {binding.id}{kept}")
    note(f"{plural(len(rebound), 'notebook')} bound to their records under the origin {origin}.")
    return rebound
