"""The command doctor: find problems, and say what to do."""

from __future__ import annotations

from collections.abc import Collection
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
from .checks import Problem, diagnose
from .group import FAILED
from .output import fields, note, plural, progress, write, write_json
from .session import Session, with_session

_SIZES = ("size", "log size", "unused", "used", "free")


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
@click.option("--json", "as_json", is_flag=True, help="Print facts and problems as a JSON object.")
def doctor(
    session: Session, rebind: bool, origins: tuple[str, ...], start_over: bool, as_json: bool
) -> None:
    """Check the installation, the store and the state files.

    Changes nothing without --rebind and --start-over. The exit code is 1 if there is a problem.

    Records are bound to files by a path and the origin of your Jupyter data folder. If the origin
    was lost, --rebind binds your records to the present one: those whose file exists here, and
    whose other origin nobody seems to use. If a file has two records, it gets the one that was
    created first. The other is kept, with its checkpoints, and bound to no file.
    """
    if origins and not rebind:
        raise click.UsageError("--origin needs --rebind")
    moved = _start_over(session) if start_over else None
    rebound = _rebind(session, origins) if rebind else None
    with progress("Checking") as bar:
        task = bar.add_task("", total=None)
        found = diagnose(session, lambda: bar.advance(task))
    if as_json:
        changes = {"moved_to": moved, "rebound": rebound}
        write_json(
            {
                **{name: value for name, value in changes.items() if value is not None},
                "facts": found.facts,
                "problems": [problem._asdict() for problem in found.problems],
            }
        )
    else:
        for section, facts in found.facts.items():
            pairs = ((f"  {name}", _format(section, name, one)) for name, one in facts.items())
            write(Text(section, style="bold"), fields(pairs))
        _write_problems(found.problems)
    if found.problems:
        raise click.exceptions.Exit(FAILED)


def _format(section: str, name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (name in _SIZES or section == "sizes"):
        return format_size(value)
    if isinstance(value, list):
        return "; ".join(value) if name == "integrity" else len(value)
    return value


def _write_problems(problems: list[Problem]) -> None:
    if not problems:
        write("", Text("No problems found.", style="green"))
    for problem in problems:
        title = Text(f"Problem: {printable(problem.what)}", style="bold red")
        write("", title, fields([("  means", problem.means), ("  do", problem.do)]))


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

    Parameters
    ----------
    origins : collection of str
        The origins whose records are used; by default all that nobody seems to use.
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
                    f"origin {other.origin}, which "
                    f"another machine seems to use. --rebind --origin {other.origin} binds "
                    f"them anyway."
                )
            for binding in (
                other.here if other.origin in origins or not (origins or other.in_use) else ()
            ):
                try:
                    released = bindings.change_origin(binding.id, origin)
                except (Conflict, NotFound) as error:  # changed meanwhile
                    note(f"{binding.path}: {error}")
                    continue
                done = {"path": binding.path, "id": binding.id, "from": other.origin}
                kept = ""
                if released is not None:
                    done["released"] = released.id
                    kept = f"; {released.id}, which was created later, is kept and bound to no file"
                rebound.append(done)
                note(f"{binding.path}: bound to the record {binding.id}{kept}")
    note(f"{plural(len(rebound), 'notebook')} bound to their records under the origin {origin}.")
    return rebound
