"""A full disk is reported, leaves no partial write, and does no harm once there is space."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import disks

from .conftest import Script, finish

COMMON = """
import shutil, sqlite3, sys
from pathlib import Path
from jupyter_axon_notebooks.errors import NoSpace
from jupyter_axon_notebooks.records import *
from jupyter_axon_notebooks.repository import NotebookRepository, SavedNotebook
from jupyter_axon_notebooks.store import open_store

disk = Path(sys.argv[1])
url = f"sqlite:///{disk}/axon/axon.db"
ballast = disk / "ballast"

def fill(leave=0):
    with ballast.open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - leave))

def has_no_space(act):
    try:
        act()
    except NoSpace as error:
        assert "the disk is full" in str(error) or "No space left" in str(error), error
        assert str(disk) in str(error), error
        return True
    return False

def is_sound():
    with sqlite3.connect(disk / "axon" / "axon.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
"""

WRITING = (
    COMMON
    + """
text = "x" * 30_000
def cells(text=text):
    return [NotebookCell(id=f"c{at}", source=f"{at} {text}") for at in range(8)]
def checkpoint(notes=text):
    return NewCheckpoint(notebook_id="kept", epoch=0, step=0, metrics={"notes": notes, "loss": 1})

store = open_store(url)
repository = NotebookRepository(store)
repository.create(NewNotebook(id="kept", user_id="ada", name="kept", cells=cells()))
repository.create(NewNotebook(id="gone", user_id="ada", name="gone", cells=cells("y" * 30_000)))
first = repository.create_checkpoint(checkpoint())
again = SavedNotebook(
    cells=cells("z" * 30_000), metadata=NotebookMetadata(),
    status=NotebookStatus.DRAFT, synced_at=now(),
)
writes = {
    "create": lambda: repository.create(
        NewNotebook(user_id="ada", name="new", cells=cells("v" * 30_000))
    ),
    "save": lambda: repository.save("kept", again),
    "checkpoint": lambda: repository.create_checkpoint(checkpoint()),
    "delete": lambda: repository.delete("gone"),
    "delete a checkpoint": lambda: repository.delete_checkpoint(first.id),
}
def state():
    tables = (store.notebooks, store.checkpoints, store.runs, store.versions, store.contents)
    return [sorted((d.doc_id, str(d)) for d in table.all()) for table in tables]

before = state()
write = writes[sys.argv[2]]
for leave in (0, 4096, 20_000):
    fill(leave)
    assert has_no_space(write), leave
    ballast.unlink()
    assert state() == before, leave
is_sound()
write()
assert state() != before
store.close()
is_sound()
opened = open_store(url)
opened.close()
print("done")
"""
)


@pytest.mark.parametrize("write", ["create", "save", "checkpoint", "delete", "delete a checkpoint"])
def test_writes_are_atomic(tmp_path: Path, process: Script, write: str) -> None:
    disk = tmp_path / "disk"
    with process(WRITING, str(disk), write, command=disks.small_disk(disk, "8m")) as running:
        assert finish(running) == ["done"]
