"""Comparison of runs: configuration, metrics, executed code and environment. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..provenance import CheckpointDiff
from ..records import MetricSummary, Record, TrainingRun
from .run_queries import flat_config

_T = TypeVar("_T")


class ComparedRun(Record, kw_only=True):
    """A run of a comparison, and the checkpoint by which its code is compared."""

    id: str
    notebook_id: str
    name: str
    number: int | None = None
    checkpoint_id: str | None = None


class ComparedValue(Record, kw_only=True):
    """A configuration key whose values differ; None where a run does not have it."""

    name: str
    values: list[Any]


class ComparedMetric(Record, kw_only=True):
    """A metric of the runs; None where a run does not have it."""

    name: str
    values: list[MetricSummary | None]


class RunComparison(Record, kw_only=True):
    """The differences between runs.

    Attributes
    ----------
    runs : list of ComparedRun
        In the order of all other lists.
    config : list of ComparedValue
        The keys whose values differ.
    metrics : list of ComparedMetric
    changes : list of CheckpointDiff or None
        The changes of code and environment from the first run to each of the others, by their last
        checkpoints; None if one of the two has no checkpoint.
    """

    runs: list[ComparedRun]
    config: list[ComparedValue]
    metrics: list[ComparedMetric]
    changes: list[CheckpointDiff | None]


def compare_runs(
    runs: Sequence[TrainingRun],
    checkpoint_ids: Sequence[str | None],
    diff: Callable[[str, str], CheckpointDiff],
) -> RunComparison:
    """Return the differences between runs.

    Parameters
    ----------
    checkpoint_ids : sequence of str or None
        The last checkpoint of each run.
    diff : callable
        Returns the differences between two checkpoints.
    """
    first = checkpoint_ids[0]
    configs = [flat_config(run) for run in runs]
    metrics = _align([run.metrics or {} for run in runs])
    return RunComparison(
        runs=[
            ComparedRun(
                id=run.id,
                notebook_id=run.notebook_id,
                name=run.display_name,
                number=run.number,
                checkpoint_id=checkpoint_id,
            )
            for run, checkpoint_id in zip(runs, checkpoint_ids, strict=True)
        ],
        config=[
            ComparedValue(name=name, values=[config.get(name) for config in configs])
            for name in differing_keys(configs)
        ],
        metrics=[ComparedMetric(name=name, values=values) for name, values in metrics.items()],
        changes=[
            None if first is None or other is None else diff(first, other)
            for other in checkpoint_ids[1:]
        ],
    )


def differing_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of flat configurations that do not have the same value in all."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [
        key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)
    ]


def _align(rows: Sequence[dict[str, _T]]) -> dict[str, list[_T | None]]:
    """Return the values of each name in all rows, in the order in which names occur."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
