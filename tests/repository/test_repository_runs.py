"""Runs: leases, the live status of their notebook, and checkpoints in place of others."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from support.factories import (
    RecordedStates,
    code,
    create_ids,
    new_checkpoint,
    new_notebook,
    rows,
    saved,
)

from jupyter_axon_notebooks.errors import Conflict, NotFound
from jupyter_axon_notebooks.records import (
    NotebookStatus,
    RunProcess,
    RunStatus,
    TrainingRun,
    UpdateCheckpoint,
    now,
)
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.runs import run_key
from jupyter_axon_notebooks.store import Store

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
FAR_AHEAD = datetime(2999, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def notebook_id(repository: NotebookRepository) -> str:
    return repository.create(new_notebook(id="nb"), saved(code("a", "1"))).id


def status(repository: NotebookRepository, id: str = "nb") -> str:
    """What every way of reading says."""
    (listed,) = (one for one in repository.list_all() if one.id == id)
    summary, whole = repository.find_summary(id), repository.find_by_id(id)
    assert summary is not None
    assert whole is not None
    assert listed.status is summary.status is whole.status
    return summary.status.value


def save(repository: NotebookRepository, status: NotebookStatus = NotebookStatus.DRAFT) -> str:
    return repository.save("nb", saved(code("a", "1"), status=status)).status.value


def stored_run(store: Store, id: str, notebook_id: str = "nb") -> str:
    return str(store.runs.get(doc_id=run_key(notebook_id, id))["status"])


def test_a_run_stores_its_process_and_lease(
    repository: NotebookRepository, notebook_id: str
) -> None:
    process = RunProcess(host="gpu1", pid=7, started_at=LONG_AGO)
    run = repository.runs.start("nb", id="r", process=process, lease_until=FAR_AHEAD)
    assert (run.process, run.lease_until, run.status) == (process, FAR_AHEAD, RunStatus.RUNNING)
    assert repository.runs.get("nb", "r") == run


def test_the_lease_of_a_living_run_is_extended(
    repository: NotebookRepository, notebook_id: str
) -> None:
    repository.runs.start("nb", id="r", lease_until=now() + timedelta(hours=1))
    assert repository.runs.renew("nb", "r", FAR_AHEAD).lease_until == FAR_AHEAD
    ended = repository.runs.update_status("nb", "r", RunStatus.FAILED)
    assert (
        repository.runs.renew("nb", "r", FAR_AHEAD + timedelta(days=1))
        == ended
        == repository.runs.get("nb", "r")
    )
    reopened = repository.runs.update_status("nb", "r", RunStatus.RUNNING, lease_until=FAR_AHEAD)
    assert (reopened.status, reopened.lease_until, reopened.ended_at) == (
        RunStatus.RUNNING,
        FAR_AHEAD,
        None,
    )
    assert repository.runs.update_status("nb", "r", RunStatus.RUNNING) == reopened
    with pytest.raises(NotFound, match="run x not found"):
        repository.runs.renew("nb", "x", FAR_AHEAD)


def test_an_expired_run_is_stopped_since_the_end_of_its_lease(
    repository: NotebookRepository, store: Store, notebook_id: str
) -> None:
    repository.runs.start("nb", id="lapsed", lease_until=LONG_AGO)
    repository.runs.start("nb", id="alive", lease_until=FAR_AHEAD)
    repository.runs.start("nb", id="unleased")
    repository.runs.start("nb", id="stopped")
    repository.runs.update_status("nb", "stopped", RunStatus.STOPPED)
    lapsed = repository.runs.get("nb", "lapsed")
    assert lapsed is not None
    assert (lapsed.status, lapsed.ended_at) == (RunStatus.STOPPED, LONG_AGO)

    def listed(status: RunStatus) -> list[str]:
        found = repository.runs.list("nb", status=status)
        assert repository.runs.count("nb", status=status) == len(found)
        assert {run.status for run in found} <= {status}
        return [run.id for run in found]

    assert listed(RunStatus.RUNNING) == ["unleased", "alive"]
    assert listed(RunStatus.STOPPED) == ["stopped", "lapsed"]
    assert listed(RunStatus.COMPLETED) == []
    assert repository.runs.count("nb") == 4
    assert [run.id for run in repository.runs.list("nb", 1, 1, status=RunStatus.STOPPED)] == [
        "lapsed"
    ]


def test_an_expired_run_that_is_stored_as_running_can_be_renewed(
    repository: NotebookRepository, notebook_id: str
) -> None:
    repository.runs.start("nb", id="r", lease_until=FAR_AHEAD)
    repository.runs.renew("nb", "r", LONG_AGO)
    assert status(repository) == "stopped"
    repository.runs.renew("nb", "r", FAR_AHEAD)
    assert status(repository) == "running"


# The status of the record


def test_a_record_is_running_while_a_run_lives_whatever_its_saves_say(
    repository: NotebookRepository, notebook_id: str
) -> None:
    before = repository.find_summary("nb")
    assert before is not None
    repository.runs.start("nb", id="r", lease_until=FAR_AHEAD)
    assert status(repository) == "running"
    began = repository.find_summary("nb")
    assert began is not None
    assert began.updated_at > before.updated_at
    assert save(repository, NotebookStatus.FAILED) == "running"
    repository.runs.update_status("nb", "r", RunStatus.COMPLETED)
    assert status(repository) == "completed"
    assert save(repository, NotebookStatus.FAILED) == "failed"


@pytest.mark.parametrize("ended", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED])
def test_the_record_takes_the_status_of_the_last_living_run(
    repository: NotebookRepository, notebook_id: str, ended: RunStatus
) -> None:
    for id in "rs":
        repository.runs.start("nb", id=id)
    repository.runs.update_status("nb", "r", RunStatus.COMPLETED)
    assert (status(repository), save(repository)) == ("running", "running")
    repository.runs.update_status("nb", "s", ended)
    assert status(repository) == ended.value
    repository.runs.update_status("nb", "r", RunStatus.RUNNING)
    assert status(repository) == "running"


def test_a_killed_run_leaves_its_record_stopped_and_the_next_save_decides(
    repository: NotebookRepository, store: Store, notebook_id: str
) -> None:
    repository.runs.start("nb", id="r", lease_until=FAR_AHEAD)
    repository.runs.renew("nb", "r", LONG_AGO)
    assert (status(repository), stored_run(store, "r")) == ("stopped", "running")
    assert save(repository, NotebookStatus.COMPLETED) == status(repository) == "completed"
    assert stored_run(store, "r") == "stopped"


def test_expired_runs_are_stored(
    repository: NotebookRepository, store: Store, notebook_id: str
) -> None:
    create_ids(repository, "other", "third")
    made = (("nb", "r"), ("other", "s"), ("other", "t"), ("third", "u"))
    for notebook, id in made:
        repository.runs.start(notebook, id=id, lease_until=FAR_AHEAD)
    for notebook, id in (("nb", "r"), ("other", "s"), ("third", "u")):
        repository.runs.renew(notebook, id, LONG_AGO)
    repository.update_status("third", NotebookStatus.COMPLETED)
    assert repository.runs.finish_expired() == 3
    assert [stored_run(store, id, notebook) for notebook, id in made] == [
        "stopped",
        "stopped",
        "running",
        "stopped",
    ]
    found = {one.id: one.status.value for one in repository.list_all()}
    assert found == {"nb": "stopped", "other": "running", "third": "completed"}
    assert [one.id for one in repository.list_all(status=NotebookStatus.STOPPED)] == ["nb"]
    assert repository.runs.finish_expired() == 0


def test_a_status_set_by_hand_survives_the_run(
    repository: NotebookRepository, notebook_id: str
) -> None:
    repository.runs.start("nb", id="r")
    repository.update_status("nb", NotebookStatus.DRAFT)
    repository.runs.update_status("nb", "r", RunStatus.FAILED)
    assert status(repository) == "draft"
    repository.update_status("nb", NotebookStatus.RUNNING)
    assert status(repository) == "running"
    assert save(repository) == "draft"


def test_a_run_started_by_a_checkpoint_expires_after_an_hour(
    repository: NotebookRepository, store: Store, notebook_id: str
) -> None:
    def take(epoch: int) -> TrainingRun:
        repository.create_checkpoint(new_checkpoint("nb", epoch=epoch, run_id="r"))
        run = repository.runs.get("nb", "r")
        assert run is not None
        assert run.lease_until is not None
        return run

    assert take(0).status is RunStatus.RUNNING
    assert status(repository) == "running"
    repository.runs.renew("nb", "r", now() + timedelta(minutes=5))
    renewed = take(1).lease_until
    assert renewed is not None
    assert renewed > now() + timedelta(minutes=55)
    repository.runs.renew("nb", "r", LONG_AGO)
    repository.runs.finish_expired()
    assert status(repository) == "stopped"
    assert take(2).status is RunStatus.RUNNING
    assert status(repository) == "running"
    repository.runs.update_status("nb", "r", RunStatus.COMPLETED)
    assert take(3).status is RunStatus.COMPLETED


# Checkpoints in place of others


def test_a_checkpoint_replaces_that_of_the_same_position(
    repository: NotebookRepository, store: Store, states: RecordedStates, notebook_id: str
) -> None:
    for id, run in (("other", "s"), ("loose", None), ("old", "r")):
        repository.create_checkpoint(new_checkpoint("nb", {"loss": 0}, epoch=1, id=id, run_id=run))
    before = rows(store)
    place = {"epoch": 1, "run_id": "r"}
    new = repository.create_checkpoint(
        new_checkpoint("nb", {"loss": 1}, id="new", **place), overwrite=True
    )
    assert rows(store) == before
    assert repository.get_checkpoint("old") is None
    assert repository.get_checkpoint("new") == new == repository.checkpoints.get_latest("nb")
    assert states.removed == [("nb", "old")]
    best = repository.checkpoints.list_best("nb", "loss", True, 9)
    assert [one.id for one in best] == ["other", "loose", "new"]


def test_overwrite_without_an_earlier_checkpoint_stores_it(
    repository: NotebookRepository, states: RecordedStates, notebook_id: str
) -> None:
    for run_id in ("r", None, None):
        repository.create_checkpoint(new_checkpoint("nb", run_id=run_id), overwrite=True)
    assert repository.checkpoints.count("nb") == 3
    assert states.removed == []


def test_a_pinned_checkpoint_is_not_replaced(
    repository: NotebookRepository, states: RecordedStates, notebook_id: str
) -> None:
    repository.create_checkpoint(new_checkpoint("nb", id="old", run_id="r"))
    pinned = repository.checkpoints.update("old", UpdateCheckpoint(pinned=True))
    with pytest.raises(Conflict, match=r"run r .*epoch 0, step 0, which is pinned"):
        repository.create_checkpoint(new_checkpoint("nb", run_id="r"), overwrite=True)
    with pytest.raises(Conflict, match="checkpoint old exists already"):
        repository.create_checkpoint(new_checkpoint("nb", id="old", run_id="r"), overwrite=True)
    assert repository.list_checkpoints("nb") == [pinned]
    assert states.removed == []
