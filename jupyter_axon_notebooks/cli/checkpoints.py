"""Checkpoints on the command line: pins, which way a metric is better, and how they are shown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import click

from ..errors import NotFound
from ..metrics import (
    describe_direction,
    direction,
    finite_metrics,
    flatten_metrics,
    format_number,
    resolve,
    suggest_names,
)
from ..records import NotebookCheckpoint, UpdateCheckpoint
from ..repository import NotebookRepository
from ..states.folders import format_size
from .output import Column, local_time, note, short_ids, table
from .which import find_checkpoint

#: What ``--run`` takes.
RUN_HELP: Final = "its id, its key (the newest run with it), or the beginning of its id."


def set_pins(repository: NotebookRepository, checkpoints: Sequence[str], *, pinned: bool) -> None:
    """Pin the checkpoints that are named so, or unpin them; none of them where one is not found."""
    for found in [find_checkpoint(repository, which) for which in checkpoints]:
        repository.checkpoints.update(found.id, UpdateCheckpoint(pinned=pinned))


class NoMetric(NotFound):
    """No checkpoint has a metric that can be ranked; the message names those that are like it."""

    def __init__(
        self,
        repository: NotebookRepository,
        ids: Iterable[str],
        metric: str,
        run_id: str | None = None,
    ) -> None:
        super().__init__("metric", metric)
        names = set[str]()
        for id in ids:
            if run_id is None:
                names |= repository.checkpoints.list_metric_names(id)
            else:
                listed = repository.list_checkpoints(id, run_id=run_id)
                names.update(*(finite_metrics(one.metrics) for one in listed))
        self.suggestion = suggest_names(metric, sorted(names))
        self.args = (
            f"no checkpoint{of_run(run_id)} has a finite number {metric!r}{self.suggestion}",
        )


def of_run(run_id: str | None) -> str:
    """Which run, for a message; empty of all."""
    return "" if run_id is None else f" of the run {run_id}"


def is_minimized(
    repository: NotebookRepository,
    ids: Collection[str],
    metric: str,
    mode: str | None,
    options: str,
) -> bool:
    """Return whether the smallest value of ``metric`` is the best: as ``mode`` says, else as its name does, which is noted.

    Parameters
    ----------
    ids : collection of str
        The records whose checkpoints are ranked.

    Raises
    ------
    NoMetric
        When there are checkpoints, and none of them has the metric.
    UsageError
        When neither says it, asking for one of ``options``.
    """
    has_metric = any(repository.get_best_checkpoint(id, metric, True) is not None for id in ids)
    if not has_metric and any(map(repository.checkpoints.count, ids)):
        raise NoMetric(repository, ids, metric)
    known = mode or direction(metric)
    if known is None:
        raise click.UsageError(f"{metric!r} does not say which way it is better: add {options}")
    minimize = known == "min"
    if mode is None:
        note(f"{metric}: {describe_direction('min' if minimize else 'max')}.")
    return minimize


def checkpoint_table(found: Sequence[NotebookCheckpoint], *, first: Sequence[str] = ()) -> Any:
    """A table of checkpoints; metrics named in ``first`` come before the others."""
    short = short_ids([one.id for one in found])
    short_runs = short_ids([one.run_id for one in found if one.run_id is not None])
    columns: list[Column] = [
        ("epoch", {"justify": "right", "no_wrap": True}),
        ("step", {"justify": "right", "no_wrap": True}),
        "metrics",
        ("run", {"no_wrap": True}),
        "tags",
        ("pinned", {"no_wrap": True}),
        ("size", {"justify": "right", "no_wrap": True}),
        ("created", {"no_wrap": True}),
        ("id", {"no_wrap": True}),
    ]
    rows = [
        [
            one.epoch,
            one.step,
            metrics_text(one.metrics, first),
            short_runs.get(one.run_id or "", ""),
            ", ".join(one.tags),
            "pinned" if one.pinned else "",
            state_text(one),
            local_time(one.created_at),
            short[one.id],
        ]
        for one in found
    ]
    return table(columns, rows)


def state_text(checkpoint: NotebookCheckpoint) -> str:
    """The size of a checkpoint's state files, or that they were pruned; empty where it never had any."""
    if checkpoint.pruned_at is not None:
        return "pruned"
    return format_size(sum(checkpoint.sizes.values())) if checkpoint.sizes else ""


def metrics_text(metrics: Any, first: Sequence[str] = (), most: int = 4) -> str:
    """The numbers in ``metrics``, nested ones too, the first few of them; those named in ``first`` before the others."""
    if not isinstance(metrics, dict):
        return ""
    numbers = [
        f"{name}={format_number(value)}"
        for name in dict.fromkeys((*first, *flatten_metrics(metrics)))
        if isinstance(value := resolve(metrics, name), (int, float)) and not isinstance(value, bool)
    ]
    return " ".join(numbers[:most]) + (" …" if len(numbers) > most else "")
