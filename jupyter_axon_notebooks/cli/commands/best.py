"""``jupyter axon best``: the best checkpoints of a record."""

from __future__ import annotations

import click

from ..checkpoints import RUN_HELP, NoMetric, checkpoint_table, is_minimized
from ..output import write, write_json
from ..session import Session, with_session
from ..which import find_id, find_run


@click.command()
@with_session
@click.argument("which")
@click.argument("metric")
@click.option("--run", metavar="RUN", help=f"Only of this run: {RUN_HELP}")
@click.option("--min", "mode", flag_value="min", help="The smallest value is the best.")
@click.option("--max", "mode", flag_value="max", help="The largest value is the best.")
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=1, show_default=True, help="So many."
)
@click.option("--json", "as_json", is_flag=True, help="The checkpoints as a JSON array.")
def command(
    session: Session,
    which: str,
    metric: str,
    run: str | None,
    mode: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Show the best checkpoints of a record by METRIC, the best first.

    WHICH is the record's id, the beginning of its id, or the path of its notebook file. Dots in METRIC lead into nested
    metrics. Which way is better is known of usual names, such as val_loss and accuracy; --min or --max says it of others.
    """
    with session.reading() as repository:
        id = find_id(repository, which)
        run_id = find_run(repository, id, run).id if run is not None else None
        minimize = is_minimized(repository, [id], metric, mode, "--min or --max")
        found = repository.checkpoints.list_best(id, metric, minimize, count, run_id=run_id)
        if not found:
            raise NoMetric(repository, [id], metric, run_id)
    if as_json:
        write_json([one.to_json() for one in found])
    else:
        write(checkpoint_table(found, first=[metric]))
