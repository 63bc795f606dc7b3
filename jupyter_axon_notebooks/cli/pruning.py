"""The command prune: remove state files that are no longer needed."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Table

from ..repository import NotebookRepository, Prunable, PrunePlan
from ..repository.retention import Best, Every, Newest, Rule, Tagged, has_state
from ..states.folders import format_size
from .checkpoints import format_metrics, is_minimized
from .lookup import find_notebook_id
from .output import (
    local_time,
    note,
    numeric,
    progress,
    short_ids,
    single_line,
    table,
    write,
    write_json,
)
from .session import Session, with_session

_COUNT = click.IntRange(min=1)


@click.command()
@with_session
@click.argument("which", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Prune all your records.")
@click.option("--keep-newest", metavar="N", type=_COUNT, help="Keep the newest N.")
@click.option(
    "--keep-best",
    metavar="METRIC[:min|max][:K]",
    multiple=True,
    help="Keep the best, or the K best, by a metric. May be repeated.",
)
@click.option(
    "--keep-every", metavar="N", type=_COUNT, help="Keep those whose step is a multiple of N."
)
@click.option("--keep-tagged", is_flag=True, help="Keep those that have a tag.")
@click.option("--yes", is_flag=True, help="Remove the files. Without it, they are only listed.")
@click.option("--json", "as_json", is_flag=True, help="Print the checkpoints as a JSON object.")
def prune(
    session: Session,
    which: tuple[str, ...],
    everything: bool,
    keep_newest: int | None,
    keep_best: tuple[str, ...],
    keep_every: int | None,
    keep_tagged: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove the state files of checkpoints that no --keep option keeps.

    Without --yes, they are only listed.

    WHICH are records: ids, beginnings of ids, or paths of notebook files; the options apply to each
    by itself. The records and metrics of the checkpoints are kept. A record in which no checkpoint
    has the METRIC is skipped. State files of pinned checkpoints, of the newest of a record, and of
    the newest of a run that is not completed, are never removed, nor are those outside states_root.
    """
    if bool(which) == everything:
        raise click.UsageError("name records, or give --all")
    parsed = [*map(_parse_best, keep_best)]
    rules: list[Rule] = [
        *([Newest(keep_newest)] if keep_newest is not None else []),
        *([Every(keep_every)] if keep_every is not None else []),
        *([Tagged()] if keep_tagged else []),
    ]
    if not (rules or parsed):
        raise click.UsageError(
            "give at least one of --keep-newest, --keep-best, --keep-every and --keep-tagged"
        )
    with session.with_states() as (repository, _):
        if everything:
            owned = repository.list_by_user(session.settings.user_id)
            ids = [summary.id for summary in owned]
        else:
            ids = list(dict.fromkeys(find_notebook_id(repository, one) for one in which))
        best = [
            Best(
                metric,
                is_minimized(repository, ids, metric, mode, f"`{metric}:min` or `{metric}:max`"),
                count,
            )
            for metric, mode, count in parsed
        ]
        skipped = _without_metric(repository, ids, best)
        rules += best
        with progress("Looking") as bar:
            plans = [
                repository.retention.plan(id, rules) for id in bar.track(ids) if id not in skipped
            ]
        removed = [one for plan in plans for one in plan.prunable]
        if yes:
            removed = _prune(repository, plans, rules)
    if as_json:
        size = sum(one.size for one in removed)
        listed = [_prunable_json(one) for one in removed]
        write_json({"pruned": yes, "bytes": size, "checkpoints": listed, "left_alone": skipped})
        return
    if removed:
        write(_table(removed))
    _note_result(plans, removed, yes)


def _parse_best(text: str) -> tuple[str, str | None, int]:
    """Return the metric, the direction if it is given, and the number of checkpoints to keep."""
    metric, count, mode = text, 1, None
    head, _, tail = metric.rpartition(":")
    if head and tail.isascii() and tail.isdigit():
        metric, count = head, int(tail)
        head, _, tail = metric.rpartition(":")
    if head and tail in ("min", "max"):
        metric, mode = head, tail
    if not count:
        raise click.UsageError(f"--keep-best {text} keeps none; give a K of at least 1")
    return metric, mode, count


def _without_metric(
    repository: NotebookRepository, ids: Sequence[str], best: Sequence[Best]
) -> list[str]:
    """Return, and report, the records in which no checkpoint has one of the metrics."""
    skipped = []
    for id in ids if best else ():
        stored = [one for one in repository.list_checkpoints(id) if has_state(one)]
        missing = [rule.metric for rule in best if not rule(stored)]
        if stored and missing:
            skipped.append(id)
            summary = repository.find_summary(id)
            name = id if summary is None else f"{id} ({summary.name})"
            note(
                f"Skipped: {name}, where no checkpoint with state files has a number "
                f"{missing[0]!r}."
            )
    return skipped


def _prune(
    repository: NotebookRepository, plans: Sequence[PrunePlan], rules: Sequence[Rule]
) -> list[Prunable]:
    pruned: list[Prunable] = []
    with progress("Pruning") as bar:
        task = bar.add_task("", total=sum(len(plan.prunable) for plan in plans))
        try:
            for plan in plans:
                if plan.prunable:
                    before = len(pruned)
                    pruned += repository.retention.prune(
                        plan.notebook_id,
                        rules,
                        lambda done, _total: bar.update(task, completed=before + done),  # noqa: B023
                    )
        except KeyboardInterrupt:
            note("Some files were removed already. Run the command again to continue.")
            raise
    return pruned


def _table(removed: Sequence[Prunable]) -> Table:
    found = [one.checkpoint for one in removed]
    short = short_ids([one.id for one in found])
    notebooks = short_ids([one.notebook_id for one in found])
    columns = [
        single_line("record"),
        numeric("epoch"),
        numeric("step"),
        "metrics",
        numeric("size"),
        single_line("created"),
        single_line("checkpoint"),
    ]
    rows = [
        [
            notebooks[one.checkpoint.notebook_id],
            one.checkpoint.epoch,
            one.checkpoint.step,
            format_metrics(one.checkpoint.metrics),
            format_size(one.size),
            local_time(one.checkpoint.created_at),
            short[one.checkpoint.id],
        ]
        for one in removed
    ]
    return table(columns, rows)


def _note_result(plans: Sequence[PrunePlan], removed: Sequence[Prunable], yes: bool) -> None:
    size = format_size(sum(one.size for one in removed))
    files = f"the state files of {len(removed)} checkpoints, {size}"
    planned = sum(len(plan.prunable) for plan in plans)
    kept = sum(plan.kept for plan in plans) + planned - len(removed)
    if yes and planned:
        note(f"Removed {files}. Checkpoints that keep their state files: {kept}.")
    elif removed:
        note(
            f"Would remove {files}. Checkpoints that would keep their state files: {kept}. "
            "Add --yes to remove the files."
        )
    else:
        note(f"Nothing to remove: {kept} checkpoints keep their state files.")


def _prunable_json(one: Prunable) -> dict[str, object]:
    return {
        "id": one.checkpoint.id,
        "notebook_id": one.checkpoint.notebook_id,
        "bytes": one.size,
        "epoch": one.checkpoint.epoch,
        "step": one.checkpoint.step,
        "files": sorted(one.paths.values()),
    }
