"""``jupyter axon checkpoints``: the checkpoints of a record."""

from __future__ import annotations

import click

from ..checkpoints import RUN_HELP, NoMetric, checkpoint_table, is_minimized
from ..output import note, write, write_json
from ..session import Session, with_session
from ..which import find_id, find_run


@click.command()
@with_session
@click.argument("which")
@click.option("--run", metavar="RUN", help=f"Only those of this run: {RUN_HELP}")
@click.option(
    "--sort", metavar="METRIC", help="Only those that have a number there, the best first."
)
@click.option(
    "--min", "mode", flag_value="min", help="With --sort: the smallest value is the best."
)
@click.option("--max", "mode", flag_value="max", help="With --sort: the largest value is the best.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="The checkpoints as a JSON array.")
def command(
    session: Session,
    which: str,
    run: str | None,
    sort: str | None,
    mode: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the checkpoints of a record, the newest first.

    WHICH is its id, the beginning of its id, or the path of its notebook file.
    """
    like = ""
    with session.reading() as repository:
        id = find_id(repository, which)
        run_id = find_run(repository, id, run).id if run is not None else None
        total = repository.checkpoints.count(id, run_id=run_id)
        if sort is None:
            found = repository.list_checkpoints(id, limit, run_id=run_id)
        else:
            try:
                minimize = is_minimized(repository, [id], sort, mode, "--min or --max")
            except NoMetric as missing:
                found, like = [], missing.suggestion
            else:
                found = repository.checkpoints.list_best(id, sort, minimize, limit, run_id=run_id)
    if as_json:
        write_json([one.to_json() for one in found])
    elif found:
        write(checkpoint_table(found, first=[sort] if sort is not None else []))
    elif total:
        note(f"None of {total} checkpoints has a number {sort!r}{like or '.'}")
    else:
        note("No checkpoints.")
    if len(found) == limit < total:
        note(f"{len(found)} of {total}; --limit shows more.")
