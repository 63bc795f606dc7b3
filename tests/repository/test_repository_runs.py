"""Runs: leases, the status of their notebook, and replaced checkpoints."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from support.factories import (
    RecordedStates,
    code,
    count_rows,
    create_notebooks,
    new_checkpoint,
    new_notebook,
    new_save,
)

from jupyter_axon_notebooks.errors import Conflict
from jupyter_axon_notebooks.records import (
    NotebookStatus,
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
    return repository.create(new_notebook(id="nb"), new_save(code("a", "1"))).id


def read_status(repository: NotebookRepository, id: str = "nb") -> str:
    """Return the status of a notebook, the same for all ways to read it."""
    (listed,) = (one for one in repository.list_all() if one.id == id)
    assert listed.status is repository.find_summary(id).status is repository.find_by_id(id).status
    return listed.status.value


def save(repository: NotebookRepository, status: NotebookStatus = NotebookStatus.DRAFT) -> str:
    return repository.save("nb", new_save(code("a", "1"), status=status)).status.value


def read_stored_status(store: Store, id: str, notebook_id: str = "nb") -> str:
    return str(store.runs.get(doc_id=run_key(notebook_id, id))["status"])


def test_an_expired_run_ended_with_its_lease(
    repository: NotebookRepository, notebook_id: str
) -> None:
    repository.runs.start("nb", id="lapsed", lease_until=LONG_AGO)
    repository.runs.start("nb", id="alive", lease_until=FAR_AHEAD)
    repository.runs.start("nb", id="unleased")
    repository.runs.start("nb", id="stopped")
    repository.runs.update_status("nb", "stopped", RunStatus.STOPPED)
    lapsed = repository.runs.get("nb", "lapsed")
    assert (lapsed.status, lapsed.ended_at) == (RunStatus.STOPPED, LONG_AGO)
    for status, ids in (
        (RunStatus.RUNNING, ["unleased", "alive"]),
        (RunStatus.STOPPED, ["stopped", "lapsed"]),
        (RunStatus.COMPLETED, []),
    ):
        runs = repository.runs.list("nb", status=status)
        assert [(run.id, run.status) for run in runs] == [(id, status) for id in ids]
        assert repository.runs.count("nb", status=status) == len(ids)
        page = repository.runs.list("nb", 1, 1, status=status)
        assert [run.id for run in page] == ids[1:]
    assert repository.runs.count("nb") == 4


# The status of the notebook


def test_a_notebook_is_running_while_a_run_is_running(
    repository: NotebookRepository, notebook_id: str
) -> None:
    before = repository.find_summary("nb")
    repository.runs.start("nb", id="r", lease_until=FAR_AHEAD)
    assert read_status(repository) == "running"
    assert repository.find_summary("nb").updated_at > before.updated_at
    assert save(repository, NotebookStatus.FAILED) == "running"
    repository.runs.update_status("nb", "r", RunStatus.COMPLETED)
    assert read_status(repository) == "completed"
    assert save(repository, NotebookStatus.FAILED) == "failed"


@pytest.mark.parametrize("ended", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED])
def test_a_notebook_gets_the_status_of_its_last_run(
    repository: NotebookRepository, notebook_id: str, ended: RunStatus
) -> None:
    for id in "rs":
        repository.runs.start("nb", id=id)
    repository.runs.update_status("nb", "r", RunStatus.COMPLETED)
    assert (read_status(repository), save(repository)) == ("running", "running")
    repository.runs.update_status("nb", "s", ended)
    assert read_status(repository) == ended.value
    repository.runs.update_status("nb", "r", RunStatus.RUNNING)
    assert read_status(repository) == "running"


def test_a_notebook_is_stopped_after_a_killed_run_until_its_next_save(
    repository: NotebookRepository, store: Store, notebook_id: str
) -> None:
    repository.runs.start("nb", id="r", lease_until=FAR_AHEAD)
    repository.runs.renew("nb", "r", LONG_AGO)
    assert (read_status(repository), read_stored_status(store, "r")) == ("stopped", "running")
    assert save(repository, NotebookStatus.COMPLETED) == read_status(repository) == "completed"
    assert read_stored_status(store, "r") == "stopped"


def test_expired_runs_are_stored_as_stopped(
    repository: NotebookRepository, store: Store, notebook_id: str
) -> None:
    create_notebooks(repository, "other", "third")
    runs = (("nb", "r"), ("other", "s"), ("other", "t"), ("third", "u"))
    for notebook, id in runs:
        repository.runs.start(notebook, id=id, lease_until=FAR_AHEAD)
    for notebook, id in (("nb", "r"), ("other", "s"), ("third", "u")):
        repository.runs.renew(notebook, id, LONG_AGO)
    repository.update_status("third", NotebookStatus.COMPLETED)
    assert repository.runs.finish_expired() == 3
    stored = [read_stored_status(store, id, notebook) for notebook, id in runs]
    assert stored == ["stopped", "stopped", "running", "stopped"]
    found = {one.id: one.status.value for one in repository.list_all()}
    assert found == {"nb": "stopped", "other": "running", "third": "completed"}
    assert [one.id for one in repository.list_all(status=NotebookStatus.STOPPED)] == ["nb"]
    assert repository.runs.finish_expired() == 0


def test_a_status_set_by_the_user_survives_the_run(
    repository: NotebookRepository, notebook_id: str
) -> None:
    repository.runs.start("nb", id="r")
    repository.update_status("nb", NotebookStatus.DRAFT)
    repository.runs.update_status("nb", "r", RunStatus.FAILED)
    assert read_status(repository) == "draft"
    repository.update_status("nb", NotebookStatus.RUNNING)
    assert read_status(repository) == "running"
    assert save(repository) == "draft"


def test_a_run_started_by_a_checkpoint_expires_after_an_hour(
    repository: NotebookRepository, store: Store, notebook_id: str
) -> None:
    def create_checkpoint(epoch: int) -> TrainingRun:
        repository.create_checkpoint(new_checkpoint("nb", epoch=epoch, run_id="r"))
        run = repository.runs.get("nb", "r")
        assert run.lease_until is not None
        return run

    assert create_checkpoint(0).status is RunStatus.RUNNING
    assert read_status(repository) == "running"
    repository.runs.renew("nb", "r", now() + timedelta(minutes=5))
    renewed = create_checkpoint(1).lease_until
    assert renewed is not None
    assert renewed > now() + timedelta(minutes=55)
    repository.runs.renew("nb", "r", LONG_AGO)
    repository.runs.finish_expired()
    assert read_status(repository) == "stopped"
    assert create_checkpoint(2).status is RunStatus.RUNNING
    assert read_status(repository) == "running"
    repository.runs.update_status("nb", "r", RunStatus.COMPLETED)
    assert create_checkpoint(3).status is RunStatus.COMPLETED


# Replaced checkpoints


def test_a_checkpoint_replaces_that_of_the_same_position(
    repository: NotebookRepository, store: Store, states: RecordedStates, notebook_id: str
) -> None:
    for id, run in (("other run", "s"), ("no run", None), ("old", "r")):
        repository.create_checkpoint(new_checkpoint("nb", {"loss": 0}, epoch=1, id=id, run_id=run))
    before = count_rows(store)
    new = repository.create_checkpoint(
        new_checkpoint("nb", {"loss": 1}, id="new", epoch=1, run_id="r"), overwrite=True
    )
    assert count_rows(store) == before
    assert repository.get_checkpoint("old") is None
    assert repository.get_checkpoint("new") == new == repository.checkpoints.get_latest("nb")
    assert states.removed == [("nb", "old")]
    best = repository.checkpoints.list_best("nb", "loss", True, 9)
    assert [one.id for one in best] == ["other run", "no run", "new"]


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
