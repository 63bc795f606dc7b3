"""The order of events is kept even if the clock is set back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from support.factories import create_notebooks, new_checkpoint

from jupyter_axon_notebooks import records
from jupyter_axon_notebooks.records import RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
CLOCKS = {
    "stops": [NOON] * 6,
    "is set back": [NOON, NOON - DAY, NOON - 2 * DAY, NOON - DAY, NOON + DAY],
    "was years ahead": [NOON, NOON + 4000 * DAY, NOON, NOON + DAY],
}

SetClock = Callable[[datetime], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    def set_clock(moment: datetime) -> None:
        monkeypatch.setattr(records, "now", lambda: moment)

    set_clock(NOON)
    return set_clock


@pytest.fixture(params=CLOCKS)
def clock(request: pytest.FixtureRequest) -> list[datetime]:
    return CLOCKS[request.param]


def test_the_newest_checkpoint_is_the_last_one_created(
    repository: NotebookRepository, set_clock: SetClock, clock: list[datetime]
) -> None:
    create_notebooks(repository, "nb", "other")
    checkpoints = []
    for epoch, moment in enumerate(clock):
        set_clock(moment)
        new = new_checkpoint("nb", {"loss": 1}, run_id="r", epoch=epoch)
        checkpoints.insert(0, repository.create_checkpoint(new))
        assert repository.checkpoints.get_latest("nb") == checkpoints[0]
        assert repository.checkpoints.get_latest("nb", run_id="r") == checkpoints[0]
    assert repository.list_checkpoints("nb") == checkpoints
    assert repository.get_best_checkpoint("nb", "loss", minimize=True) == checkpoints[-1]
    times = [checkpoint.created_at for checkpoint in reversed(checkpoints)]
    assert times == sorted(set(times))
    assert all(time >= moment for time, moment in zip(times, clock, strict=True))
    set_clock(NOON)  # other notebooks are not affected
    assert repository.create_checkpoint(new_checkpoint("other")).created_at == NOON


def test_polling_since_the_newest_checkpoint_misses_nothing(
    repository: NotebookRepository, set_clock: SetClock, clock: list[datetime]
) -> None:
    create_notebooks(repository, "nb")
    created, polled = [], []
    for moment in clock:
        set_clock(moment)
        created += [repository.create_checkpoint(new_checkpoint("nb")) for _ in range(2)]
        since = polled[-1].created_at if polled else None
        polled += reversed(repository.list_checkpoints("nb", since=since))
        assert polled == created


def test_runs_are_ordered_by_start_and_end_after_it(
    repository: NotebookRepository, set_clock: SetClock, clock: list[datetime]
) -> None:
    create_notebooks(repository, "nb")
    runs = []
    for moment in clock:
        set_clock(moment)
        runs.insert(0, repository.runs.start("nb"))
    assert repository.runs.list("nb") == runs
    set_clock(NOON - 365 * DAY)
    ended = repository.runs.update_status("nb", runs[0].id, RunStatus.COMPLETED)
    assert ended.ended_at > ended.started_at
