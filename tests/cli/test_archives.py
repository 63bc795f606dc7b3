"""`dump`, `load` and `bundle`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.factories import create_checkpoint_with_state, new_checkpoint, new_notebook

from jupyter_axon_notebooks.records import NewNotebook, NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage

from .conftest import EXECUTABLE, USER, Axon, repository


def make_record(records: NotebookRepository, name: str = "train", **fields: object) -> str:
    notebook = records.create(NewNotebook(**{"user_id": USER, "name": name, **fields}))
    records.create_checkpoint(
        new_checkpoint(
            notebook.id,
            {"loss": 0.5},
            epoch=1,
            step=2,
            model_state_path="/m.bin",
            run_id=f"run of {name}",
        )
    )
    return notebook.id


def make_large_records(records: NotebookRepository) -> None:
    """Create more than a pipe holds."""
    for number in range(5):
        text = os.urandom(100_000).hex()
        make_record(records, f"n{number}", cells=[NotebookCell(source=text)])


def read_records(path: str) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        tables: dict[str, Any] = json.loads(archive.read("records.json"))
    return tables


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    """The URL of a store that does not exist yet."""
    return f"sqlite:///{tmp_path}/elsewhere.db"


def test_a_store_is_dumped_and_loaded_elsewhere(
    axon: Axon, records: NotebookRepository, elsewhere: str
) -> None:
    id = make_record(records)
    ran = axon("dump", "all.zip")
    assert ran.exit_code == 0
    assert ["axonml_notebooks", "1"] in [line.split() for line in ran.stdout.splitlines()]
    assert ran.stderr == "State files that are not in the archive: 1. --with-states adds them.\n"
    assert Path("all.zip").stat().st_mode & 0o777 == 0o600
    loaded = axon("load", "all.zip", "--store-url", elsewhere)
    assert (loaded.exit_code, loaded.stderr) == (0, "")
    shown = axon("show", id, "--json", "--store-url", elsewhere)
    assert shown.json == axon("show", id, "--json").json
    result = axon("load", "all.zip", "--json", "--store-url", elsewhere).json
    assert result["verified"]
    assert result["tables"]["axonml_notebooks"] == {
        "in_file": 1,
        "added": 0,
        "unchanged": 1,
        "replaced": 0,
    }
    assert result["conflicts"] == result["damaged"] == result["foreign"] == []


def test_records_and_runs_are_chosen_by_name(axon: Axon, records: NotebookRepository) -> None:
    first, second, third = (make_record(records, name) for name in "abc")
    assert axon("dump", "some.zip", "--notebook", first, "--notebook", second[:9]).exit_code == 0
    found = read_records("some.zip")["axonml_notebooks"].values()
    assert {one["id"] for one in found} == {first, second}
    assert axon("dump", "run.zip", "--run", "run of c").exit_code == 0
    [found_run] = read_records("run.zip")["axonml_runs"].values()
    assert (found_run["id"], found_run["notebook_id"]) == ("run of c", third)
    ambiguous = axon("dump", "none.zip", "--run", "run of")
    assert ambiguous.exit_code == 3
    assert "could be any of 3 runs" in ambiguous.stderr
    for option in ("--notebook", "--run"):
        assert axon("dump", "none.zip", option, "nothing").exit_code == 3
    assert not Path("none.zip").exists()


def test_state_files_are_dumped_and_restored(
    axon: Axon, records: NotebookRepository, jupyter: Path, elsewhere: str, tmp_path: Path
) -> None:
    notebook_id = records.create(new_notebook(name="train")).id
    states = StateStorage(jupyter / "data" / "axon_notebooks" / "states")
    created = create_checkpoint_with_state(records, states, notebook_id, "c")
    state = Path(created.model_state_path)
    assert axon("dump", "all.zip", "--with-states").stderr == ""
    state.unlink()
    loaded = axon("load", "all.zip", "--store-url", elsewhere, "--owner", "grace")
    assert (loaded.exit_code, loaded.stderr) == (0, "State files restored: 1.\n")
    assert state.read_bytes() == b"weights"
    listed = axon("list", "--all-users", "--json", "--store-url", elsewhere).json
    assert [one["user_id"] for one in listed] == ["grace"]
    bundled = axon("bundle", "c", "-o", "best.zip")
    assert bundled.exit_code == 0
    assert bundled.stdout.splitlines() == zipfile.ZipFile("best.zip").namelist()
    assert axon("bundle", "c", "-o", "best.zip").exit_code == 1
    assert axon("bundle", "c", "-o", "best.zip", "--force").exit_code == 0


def test_a_dump_on_standard_output_is_the_archive_alone(
    process: Axon, records: NotebookRepository
) -> None:
    make_record(records)
    with subprocess.Popen(
        [EXECUTABLE, "axon", "dump", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as dumping:
        content, errors = dumping.communicate(timeout=60)
    Path("piped.zip").write_bytes(content)
    assert len(read_records("piped.zip")["axonml_notebooks"]) == 1
    assert errors.startswith(b"State files that are not in the archive: 1.")
    assert process("dump", "-", "--json").exit_code == 2


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (None, 3, "there is no file x.zip"),
        ("", 1, "x.zip cannot be loaded: the file is empty"),
        ("no json", 1, "x.zip cannot be loaded: it is not JSON"),
        ("{}", 1, "x.zip is not an archive: it has none of the tables"),
        ("PK\3\4", 1, "x.zip cannot be loaded: it is not a complete zip file"),
    ],
)
def test_other_files_are_refused_and_no_store_is_created(
    axon: Axon, db: Path, content: str | None, code: int, reason: str
) -> None:
    if content is not None:
        Path("x.zip").write_text(content)
    ran = axon("load", "x.zip")
    assert (ran.exit_code, ran.stdout) == (code, "")
    assert ran.stderr.startswith(f"Error: {reason}")
    assert ran.stderr.count("\n") == 1
    assert axon("load", ".").stderr == "Error: . is a folder; expected an archive\n"
    assert not db.exists()


def test_conflicts_and_invalid_documents_are_reported_and_set_the_exit_code(
    axon: Axon, records: NotebookRepository
) -> None:
    id = make_record(records)
    axon("dump", "all.zip")
    records.update(id, UpdateNotebook(name="newer"))
    ran = axon("load", "all.zip")
    assert ran.exit_code == 1
    assert ran.stderr.splitlines() == [
        f"axonml_notebooks {id}: it differs from the one in the store",
        "Conflicting records were left as they are. --overwrite replaces records that differ.",
    ]
    assert axon("show", id, "--json").json["name"] == "newer"
    assert axon("load", "all.zip", "--overwrite").exit_code == 0
    assert axon("show", id, "--json").json["name"] == "train"
    Path("hand.json").write_text('{"axonml_notebooks": {"1": {"id": "x"}}, "_default": {}}')
    ran = axon("load", "hand.json")
    assert ran.exit_code == 1
    assert ran.stderr.splitlines() == [
        "The table _default was not loaded: this version does not use it, or cannot load it "
        "without a manifest.",
        "axonml_notebooks x: $.user_id: required, but missing",
        "hand.json has no manifest, so it could not be verified that it is complete.",
    ]


@contextmanager
def after_statement(kind: str, number: int, action: Any) -> Iterator[None]:
    """Call ``action`` after the ``number``-th statement that begins with ``kind``."""
    left = number

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal left
        left -= statement.startswith(kind)
        if left == 0:
            left = -1
            action()

    sa.event.listen(sa.Engine, "after_cursor_execute", count)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", count)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_load_is_continued(
    axon: Axon, records: NotebookRepository, tmp_path: Path, elsewhere: str
) -> None:
    make_large_records(records)
    axon("dump", "all.zip")
    with after_statement("INSERT INTO axonml_notebooks", 3, interrupt):
        ran = axon("load", "all.zip", "--store-url", elsewhere)
    assert ran.exit_code == 130
    assert ran.stderr == (
        "Records that were loaded remain. Load the file again to continue.\nInterrupted.\n"
    )
    with repository(tmp_path / "elsewhere.db") as loaded:
        assert loaded.count() == 2
    tables = axon("load", "all.zip", "--json", "--store-url", elsewhere).json["tables"]
    assert (tables["axonml_notebooks"]["added"], tables["axonml_notebooks"]["unchanged"]) == (3, 2)


def test_a_file_is_replaced_only_by_force(axon: Axon, records: NotebookRepository) -> None:
    make_record(records)
    file = Path("all.zip")
    file.write_text("precious")
    refused = axon("dump", file)
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: all.zip exists already; --force replaces it\n",
    )
    assert axon("dump", "nowhere/all.zip").stderr == "Error: No such folder: nowhere\n"
    Path("folder").mkdir()
    assert axon("dump", "folder", "--force").stderr == "Error: Is a directory: folder\n"
    assert file.read_text() == "precious"
    assert axon("dump", file, "--force").exit_code == 0
    assert read_records("all.zip")
    assert sorted(path.name for path in Path().iterdir()) == ["all.zip", "folder"]


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_remains_of_a_file_that_was_not_finished(ends: signal.Signals) -> None:
    script = (
        "import signal\n"
        "from pathlib import Path\n"
        "from jupyter_axon_notebooks.cli.files import new_file\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs ignore it
        "with new_file(Path('new'), force=False) as file:\n"
        "    file.write(b'half')\n"
        "    print('written', flush=True)\n"
        "    signal.pause()\n"
    )
    command = [EXECUTABLE.with_name("python"), "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writing:
        assert writing.stdout is not None
        assert writing.stdout.readline() == b"written\n"
        writing.send_signal(ends)
    assert writing.returncode not in (0, None)
    assert os.listdir() == []
