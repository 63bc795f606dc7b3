"""The removal of a run's state files while it is trained, by the run's own rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..metrics import finite_metrics
from ..records import TrainingRun
from ..repository.retention import has_state
from ..repository.retention_rules import Every, RunRule, parse_rules
from .messages import print_message, warn

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .tracker import Tracker


class RunPruner:
    """Prunes a run after each of its checkpoints.

    Only checkpoints that a further one may replace among the newest or the best are remembered, so
    that the time for pruning does not grow with the number of checkpoints.
    """

    def __init__(self, tracker: Tracker, run: TrainingRun) -> None:
        self._tracker = tracker
        self._run = run
        self._candidates: dict[str, Checkpoint] = {}
        self._missing_metric: str | None = None
        self._has_reported_metric = False
        self._has_warned = False

    def prune(self, made: Checkpoint) -> None:
        """Prune what the rules no longer keep after a checkpoint; errors never stop a training."""
        if self._run.keep is None:
            return
        if has_state(made.record):
            self._candidates[made.id] = made
        try:
            if made.is_recorded:
                self._prune(made, parse_rules(self._run.keep))
        except StoreError:
            return  # the next checkpoint tries again
        except Exception as error:  # noqa: BLE001 - no error of tracking may stop a training
            if not self._has_warned:
                self._has_warned = True
                warn(f"state files of {self._run.display_name} cannot be removed: {error}")

    def _prune(self, made: Checkpoint, rules: Sequence[RunRule]) -> None:
        missing = self._missing_metric
        if missing is not None and missing not in finite_metrics(made.metrics):
            self._report_missing(missing, rules)
            return
        recorded = {id: one for id, one in self._candidates.items() if one.is_recorded}
        result = self._tracker.prune(self._run, list(recorded.values()), rules)
        for id in recorded.keys() - result.candidates:
            del self._candidates[id]
        self._missing_metric = result.missing_metric

    def _report_missing(self, metric: str, rules: Sequence[RunRule]) -> None:
        """Tell the user once, when there are more checkpoints than the rules would keep."""
        count = sum(rule.count for rule in rules if not isinstance(rule, Every))
        if not self._has_reported_metric and len(self._candidates) > count:
            self._has_reported_metric = True
            print_message(
                f"No state files of {self._run.display_name} are removed until a checkpoint has a "
                f"finite number {metric}, by which `keep` chooses the best."
            )
