"""The command prune: remove state files that are no longer needed."""

from __future__ import annotations

import click

from ..repository import NotebookRepository, Prunable
from ..repository.retention import has_state
from ..repository.retention_rules import Best, Every, Newest, Rule, Tagged, parse_best
from ..states.folders import format_size
from . import options
from .checkpoints import checkpoint_table, is_minimized, name_runs
from .lookup import find_notebook_id
from .output import note, progress, write, write_json
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
@options.as_json
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
    rules: list[Rule] = [
        *([Newest(keep_newest)] if keep_newest is not None else []),
        *([Every(keep_every)] if keep_every is not None else []),
        *([Tagged()] if keep_tagged else []),
    ]
    if not (rules or keep_best):
        raise click.UsageError(
            "give at least one of --keep-newest, --keep-best, --keep-every and --keep-tagged"
        )
    parsed = [parse_best(text) for text in keep_best]
    for text, (_, _, count) in zip(keep_best, parsed, strict=True):
        if not count:
            raise click.UsageError(f"--keep-best {text} keeps none; give a K of at least 1")
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
        skipped = [id for id in ids if _lacks_metric(repository, id, best)]
        rules += best
        removed: list[Prunable] = []
        planned = kept = 0
        with progress("Pruning" if yes else "Looking") as bar:
            for id in bar.track([id for id in ids if id not in skipped]):
                plan = repository.retention.plan(id, rules)
                planned += len(plan.prunable)
                kept += plan.kept
                if yes and plan.prunable:
                    try:
                        removed += repository.retention.prune(id, rules)
                    except KeyboardInterrupt:
                        note("Some files were removed already. Run the command again to continue.")
                        raise
                elif not yes:
                    removed += plan.prunable
        names = name_runs(repository, [one.checkpoint for one in removed])
    kept += planned - len(removed)
    size = sum(one.size for one in removed)
    if as_json:
        listed = [_prunable_json(one) for one in removed]
        write_json({"pruned": yes, "bytes": size, "checkpoints": listed, "left_alone": skipped})
        return
    if removed:
        write(checkpoint_table([one.checkpoint for one in removed], runs=names, with_record=True))
    files = f"the state files of {len(removed)} checkpoints, {format_size(size)}"
    if not planned:
        note(f"Nothing to remove: {kept} checkpoints keep their state files.")
    elif yes:
        note(f"Removed {files}. Checkpoints that keep their state files: {kept}.")
    else:
        note(
            f"Would remove {files}. Checkpoints that would keep their state files: {kept}. "
            "Add --yes to remove the files."
        )


def _lacks_metric(repository: NotebookRepository, id: str, best: list[Best]) -> bool:
    """Return, and report, whether no checkpoint of a record has one of the metrics."""
    stored = [one for one in repository.list_checkpoints(id) if has_state(one)] if best else []
    missing = [rule.metric for rule in best if stored and not rule(stored)]
    if missing:
        summary = repository.find_summary(id)
        name = id if summary is None else f"{id} ({summary.name})"
        note(f"Skipped: {name}, where no checkpoint with state files has a number {missing[0]!r}.")
    return bool(missing)


def _prunable_json(one: Prunable) -> dict[str, object]:
    return {
        "id": one.checkpoint.id,
        "notebook_id": one.checkpoint.notebook_id,
        "bytes": one.size,
        "epoch": one.checkpoint.epoch,
        "step": one.checkpoint.step,
        "files": sorted(one.paths.values()),
    }
