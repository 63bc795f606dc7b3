"""``jupyter axon doctor``: is everything in order?"""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from ...printable import printable
from ...states.folders import format_size
from ..diagnosis import diagnose
from ..findings import Problem
from ..group import FAILED
from ..output import fields, progress, write, write_json
from ..rebinding import rebind_records
from ..session import Session, with_session

_BYTES = ("size", "log size", "unused", "used", "free", "largest notebook")


@click.command()
@with_session
@click.option(
    "--rebind",
    is_flag=True,
    help="First bind files here to your records of them under an origin that was lost.",
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="With --rebind: take the records under this origin alone, even if another machine seems to use it.",
)
@click.option("--json", "as_json", is_flag=True, help="Facts and problems as a JSON object.")
def command(session: Session, rebind: bool, origins: tuple[str, ...], as_json: bool) -> None:
    """Look for what is wrong with the installation, the store and the state files.

    Changes nothing, unless asked to by --rebind. The exit code is 1 if there is a problem.

    Records are bound to files by a path and the origin of your Jupyter data folder. If the origin was lost, --rebind binds your
    records to the present one: those whose file is here, and whose other origin nobody seems to use. Of two records of one file
    the one that was created first gets it; the other is kept, with all its checkpoints, and bound to no file.
    """
    if origins and not rebind:
        raise click.UsageError("--origin is for --rebind")
    rebound = rebind_records(session, origins) if rebind else None
    with progress("Looking") as bar:
        task = bar.add_task("", total=None)
        found = diagnose(session, lambda: bar.advance(task))
    if as_json:
        report = {
            "facts": found.facts,
            "problems": [problem._asdict() for problem in found.problems],
        }
        write_json(report if rebound is None else {"rebound": rebound, **report})
    else:
        for section, facts in found.facts.items():
            pairs = (
                (f"  {name}", _readable(section, name, value)) for name, value in facts.items()
            )
            write(Text(section, style="bold"), fields(pairs))
        _write_problems(found.problems)
    if found.problems:
        raise click.exceptions.Exit(FAILED)


def _readable(section: str, name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if (name in _BYTES or section == "sizes") and isinstance(value, int):
        return format_size(value)
    if isinstance(value, list):
        if value and name == "folders left by processes that are gone":
            return f"{len(value)}; what they left is removed by a server that starts an hour later, or after that"
        return "; ".join(value) if name == "integrity" else len(value)
    return value


def _write_problems(problems: list[Problem]) -> None:
    if not problems:
        write("", Text("No problems found.", style="green"))
        return
    for problem in problems:
        write(
            "",
            Text(f"Problem: {printable(problem.what)}", style="bold red"),
            fields([("  means", problem.means), ("  do", problem.do)]),
        )
