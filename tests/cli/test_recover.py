"""`recover`: notes that cannot be recorded are reported and do not affect others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.factories import new_checkpoint

from jupyter_axon_notebooks.records import now
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.states.notes import NOTE
from jupyter_axon_notebooks.training.recovery import UnrecordedCheckpoint

from .conftest import USER, Axon

NOTEBOOK = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, db: Path) -> None:
    monkeypatch.setenv("AXON_STORE_URL", f"sqlite:///{db}")


def leave(root: Path, db: Path, id: str, epoch: int, owner: str = USER, **values: Any) -> Path:
    """Leave a checkpoint that no store has, its note with other values; the note."""
    states = StateStorage(root)
    with states.open_writer(NOTEBOOK if owner == USER else f"of-{owner}", id, "model") as writer:
        writer.write(b"weights")
        stored = writer.commit()
    new = new_checkpoint(
        NOTEBOOK if owner == USER else f"of-{owner}",
        {"loss": 1.0},
        id=id,
        epoch=epoch,
        step=epoch,
        model_state_path=stored.path,
        digests={"model": stored.digest},
        sizes={"model": stored.size},
    )
    noted = UnrecordedCheckpoint(
        checkpoint=new, made_at=now(), store_url=f"sqlite:///{db}", owner=owner
    )
    noted.write(states)
    note = Path(stored.path).with_name(NOTE)
    note.write_text(json.dumps({**noted.to_json(), **values}))
    return note


def test_hostile_notes_are_told_one_by_one(
    axon: Axon, root: Path, db: Path, records: NotebookRepository
) -> None:
    leave(root, db, "a", 0)
    leave(root, db, "b", 1, made_at="9999-12-31T23:59:59.999999Z")
    leave(root, db, "c", 2, made_at="0001-01-01T00:00:00Z")
    hostile = {
        "d": leave(root, db, "d", 3, path="/\x1b]0;x\x07\0"),
        "e": leave(root, db, "e", 4, made_at=["soon"]),
        "f": leave(root, db, "f", 5),
        "g": leave(root, db, "g", 6),
    }
    hostile["f"].write_text('{"half')
    hostile["g"].unlink()
    hostile["g"].mkdir()
    for form in ([], ["--json"]):
        listed = axon("recover", "--dry-run", *form)
        assert listed.exit_code == 1
        assert all(str(note.parent) in listed.stderr for note in hostile.values())
        assert "\x1b" not in listed.stdout + listed.stderr
    assert {one["id"] for one in listed.json} == {"a", "b", "c"}
    ran = axon("recover", "--json")
    assert ran.exit_code == 1
    assert {one["epoch"] for one in ran.json["recorded"]} == {0, 1, 2}
    assert {Path(where).name for where in ran.json["troubles"]} == hostile.keys()
    assert records.checkpoints.get_latest(NOTEBOOK).id in ("a", "b")  # type: ignore[union-attr]
    assert len(axon("recover").stderr.splitlines()) == len(hostile)


def test_what_would_be_recorded_is_listed_with_its_metrics_time_and_store(
    axon: Axon, root: Path, db: Path
) -> None:
    note = leave(root, db, "a", 3)
    [listed] = axon("recover", "--dry-run", "--json").json
    assert listed == {
        "id": "a",
        "path": None,
        "epoch": 3,
        "step": 3,
        "metrics": {"loss": 1.0},
        "made_at": json.loads(note.read_text())["made_at"],
        "store_url": f"sqlite:///{db}",
    }


def test_other_users_checkpoints_are_recorded_for_them_when_asked_for(
    axon: Axon, root: Path, db: Path, records: NotebookRepository
) -> None:
    leave(root, db, "mine", 0)
    leave(root, db, "theirs", 1, owner="bob")
    ran = axon("recover", "--json")
    assert [one["id"] for one in ran.json["recorded"]] == ["mine"]
    assert "--all-users" in ran.stderr
    ran = axon("recover", "--all-users", "--json")
    (theirs,) = ran.json["recorded"]
    assert records.find_summary(theirs["notebook_id"]).user_id == "bob"  # type: ignore[union-attr]
    assert [one.user_id for one in records.list_all()].count("bob") == 1


def test_no_checkpoint_gets_into_another_users_notebook(
    axon: Axon, root: Path, db: Path, records: NotebookRepository
) -> None:
    leave(root, db, "a", 0)
    assert axon("recover").exit_code == 0
    for claimed in (USER, "bob"):
        note = leave(root, db, f"by-{claimed}", 1, owner="bob")
        document = json.loads(note.read_text())
        folder = root / NOTEBOOK / note.parent.name
        note.parent.rename(folder)
        (folder / NOTE).write_text(json.dumps({**document, "owner": "bob", "record_id": NOTEBOOK}))
    ran = axon("recover", "--all-users", "--json")
    assert ran.exit_code == 1
    assert all("does not belong to bob" in trouble for trouble in ran.json["troubles"].values())
    assert [one.id for one in records.list_checkpoints(NOTEBOOK)] == ["a"]


def test_what_was_recorded_already_is_not_counted(axon: Axon, root: Path, db: Path) -> None:
    note = leave(root, db, "a", 0)
    content = note.read_text()
    assert axon("recover").stdout == "Recorded 1 checkpoint.\n"
    note.write_text(content)
    ran = axon("recover")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "", "There is nothing to record.\n")
    assert not note.exists()
