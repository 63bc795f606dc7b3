"""``jupyter axon prune``: state files that nobody needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import click
from rich.progress import Progress, TaskID
from rich.table import Table

from ...repository import NotebookRepository, Prunable, PrunePlan
from ...repository.retention import Best, Every, Newest, Rule, Tagged, has_state
from ...states.folders import format_size
from ..checkpoints import is_minimized, metrics_text
from ..output import Column, local_time, note, progress, short_ids, table, write, write_json
from ..session import Session, with_session
from ..which import find_id

_COUNT = click.IntRange(min=1)


@click.command()
@with_session
@click.argument("which", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All records of one's own.")
@click.option("--keep-newest", metavar="N", type=_COUNT, help="Keep the newest N.")
@click.option(
    "--keep-best",
    metavar="METRIC[:min|max][:K]",
    multiple=True,
    help="Keep the best, or the K best, by a metric. May be repeated.",
)
@click.option("--keep-every", metavar="N", type=_COUNT, help="Keep those at every Nth step.")
@click.option("--keep-tagged", is_flag=True, help="Keep those that have a tag.")
@click.option("--yes", is_flag=True, help="Do it. Without, it is only shown what would be done.")
@click.option("--json", "as_json", is_flag=True, help="What goes, as a JSON object.")
def command(
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
    """Remove the state files of checkpoints that no --keep option keeps. Shows what would go, unless told --yes.

    WHICH are records: ids, beginnings of ids, or paths of notebook files; each is looked at by itself. Checkpoints keep
    their records and metrics. A record where no checkpoint has a METRIC is left alone. Never removed are state files of pinned checkpoints, of a record's newest, and of the newest of
    a run that is not completed; nor any that does not lie in states_root.
    """
    if bool(which) == everything:
        raise click.UsageError("name records, or give --all")
    ranked = [*map(_ranked, keep_best)]
    rules: list[Rule] = [
        *([Newest(keep_newest)] if keep_newest is not None else []),
        *([Every(keep_every)] if keep_every is not None else []),
        *([Tagged()] if keep_tagged else []),
    ]
    if not (rules or ranked):
        raise click.UsageError(
            "say what to keep: --keep-newest, --keep-best, --keep-every or --keep-tagged"
        )
    with session.with_states() as (repository, _):
        if everything:
            ids = [summary.id for summary in repository.list_by_user(session.config.user_id)]
        else:
            ids = list(dict.fromkeys(find_id(repository, one) for one in which))
        best = [_best(repository, ids, *asked) for asked in ranked]
        spared = _without(repository, ids, best)
        rules += best
        plans = _plans(repository, [id for id in ids if id not in spared], rules)
        going = [one for plan in plans for one in plan.prunable]
        if yes:
            going = _prune(repository, plans, rules)
    if as_json:
        size = sum(one.size for one in going)
        write_json(
            {"pruned": yes, "bytes": size, "checkpoints": _json(going), "left_alone": spared}
        )
        return
    if going:
        write(_table(going))
    _sum_up(plans, going, yes)


def _ranked(text: str) -> tuple[str, str | None, int]:
    """Read what --keep-best is given: a metric, which way it is better, if that is said, and how many are kept."""
    metric, count, mode = text, 1, None
    head, _, tail = metric.rpartition(":")
    if head and tail.isascii() and tail.isdigit():
        metric, count = head, int(tail)
        head, _, tail = metric.rpartition(":")
    if head and tail in ("min", "max"):
        metric, mode = head, tail
    if not count:
        raise click.UsageError(f"--keep-best {text} keeps none")
    return metric, mode, count


def _best(
    repository: NotebookRepository, ids: Sequence[str], metric: str, mode: str | None, count: int
) -> Best:
    options = f"`:min` or `:max`, as in {metric}:max"
    return Best(metric, is_minimized(repository, ids, metric, mode, options), count)


def _without(repository: NotebookRepository, ids: Sequence[str], best: Sequence[Best]) -> list[str]:
    """Return, and note, the records that have state files, and none that is the best by one of the rules."""
    spared = []
    for id in ids if best else ():
        saved = [one for one in repository.list_checkpoints(id) if has_state(one)]
        missing = [rule.metric for rule in best if not rule(saved)]
        if saved and missing:
            spared.append(id)
            found = repository.find_summary(id)
            named = id if found is None else f"{id} ({found.name})"
            note(
                f"Left alone: {named}, where no checkpoint with state files has a number {missing[0]!r}."
            )
    return spared


def _plans(
    repository: NotebookRepository, ids: Sequence[str], rules: Sequence[Rule]
) -> list[PrunePlan]:
    with progress("Looking") as bar:
        return [repository.retention.plan(id, rules) for id in bar.track(ids)]


def _prune(
    repository: NotebookRepository, plans: Sequence[PrunePlan], rules: Sequence[Rule]
) -> list[Prunable]:
    pruned: list[Prunable] = []
    total = sum(len(plan.prunable) for plan in plans)
    with progress("Pruning") as bar:
        task = bar.add_task("", total=total)
        try:
            for plan in plans:
                if plan.prunable:
                    show = partial(_show, bar, task, len(pruned))
                    pruned += repository.retention.prune(plan.notebook_id, rules, show)
        except KeyboardInterrupt:
            note("What was removed is gone. Prune again to go on.")
            raise
    return pruned


def _show(bar: Progress, task: TaskID, before: int, done: int, _total: int) -> None:
    bar.update(task, completed=before + done)


def _table(going: Sequence[Prunable]) -> Table:
    found = [one.checkpoint for one in going]
    short = short_ids([one.id for one in found])
    notebooks = short_ids([one.notebook_id for one in found])
    columns: list[Column] = [
        ("record", {"no_wrap": True}),
        ("epoch", {"justify": "right", "no_wrap": True}),
        ("step", {"justify": "right", "no_wrap": True}),
        "metrics",
        ("size", {"justify": "right", "no_wrap": True}),
        ("created", {"no_wrap": True}),
        ("checkpoint", {"no_wrap": True}),
    ]
    rows = [
        [
            notebooks[one.checkpoint.notebook_id],
            one.checkpoint.epoch,
            one.checkpoint.step,
            metrics_text(one.checkpoint.metrics),
            format_size(one.size),
            local_time(one.checkpoint.created_at),
            short[one.checkpoint.id],
        ]
        for one in going
    ]
    return table(columns, rows)


def _sum_up(plans: Sequence[PrunePlan], going: Sequence[Prunable], done: bool) -> None:
    of = f"the state files of {len(going)} checkpoints, {format_size(sum(one.size for one in going))}"
    planned = sum(len(plan.prunable) for plan in plans)
    staying = sum(plan.kept for plan in plans) + planned - len(going)
    if done and planned:
        note(f"Removed {of}. {staying} keep theirs.")
    elif going:
        note(f"Would remove {of}; {staying} would keep theirs. Nothing was removed; --yes does it.")
    else:
        note(f"Nothing to remove: {staying} checkpoints keep their state files.")


def _json(going: Sequence[Prunable]) -> list[dict[str, object]]:
    return [
        {
            "id": one.checkpoint.id,
            "notebook_id": one.checkpoint.notebook_id,
            "bytes": one.size,
            **_place(one),
        }
        for one in going
    ]


def _place(one: Prunable) -> dict[str, object]:
    return {
        "epoch": one.checkpoint.epoch,
        "step": one.checkpoint.step,
        "files": sorted(one.paths.values()),
    }
