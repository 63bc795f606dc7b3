"""`dump` and `load`: a store as a file, and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import tinydb

from jupyter_axon_notebooks.records import NewCheckpoint, NewNotebook, NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store

from .conftest import EXECUTABLE, USER, Axon, repository


def make(records: NotebookRepository, name: str = "train", **fields: object) -> str:
    notebook = records.create(NewNotebook(**{"user_id": USER, "name": name, **fields}))
    records.create_checkpoint(
        NewCheckpoint(
            notebook_id=notebook.id,
            epoch=1,
            step=2,
            metrics={"loss": 0.5},
            model_state_path="/m.bin",
        )
    )
    return notebook.id


def elsewhere(tmp_path: Path) -> str:
    """The URL of a store that is not there yet."""
    return f"sqlite:///{tmp_path}/elsewhere.db"


def test_a_store_is_dumped_and_loaded_elsewhere(
    axon: Axon, records: NotebookRepository, tmp_path: Path
) -> None:
    id = make(records)
    ran = axon("dump", "all.json")
    assert ran.exit_code == 0
    assert [line.split() for line in ran.stdout.splitlines()[2:4]] == [
        ["axonml_notebooks", "1"],
        ["axonml_checkpoints", "1"],
    ]
    assert ran.stderr == "State files that its checkpoints name, and which are not in it: 1.\n"
    assert Path("all.json").stat().st_mode & 0o777 == 0o600
    loaded = axon("load", "all.json", "--store-url", elsewhere(tmp_path))
    assert (loaded.exit_code, loaded.stderr) == (0, "")
    assert loaded.stdout.splitlines()[2].split() == ["axonml_notebooks", "1", "1", "0", "0"]
    shown = [
        axon("show", id, "--json", *more).json
        for more in ([], ["--store-url", elsewhere(tmp_path)])
    ]
    assert shown[0] == shown[1]


def test_scripts_get_counts_and_sums(
    axon: Axon, records: NotebookRepository, tmp_path: Path
) -> None:
    make(records)
    dumped = axon("dump", "all.json", "--json").json
    assert (dumped["file"], dumped["state_files"], dumped["damaged"]) == ("all.json", 1, [])
    url = elsewhere(tmp_path)
    for added in (1, 0):
        loaded = axon("load", "all.json", "--json", "--store-url", url).json
        assert loaded["verified"]
        assert loaded["tables"]["axonml_notebooks"] == {
            "in_file": 1,
            "added": added,
            "unchanged": 1 - added,
            "replaced": 0,
            **dumped["tables"]["axonml_notebooks"],
        }
        assert loaded["conflicts"] == loaded["damaged"] == loaded["differing"] == []


def test_some_records_are_dumped_by_the_names_that_show_takes(
    axon: Axon, records: NotebookRepository
) -> None:
    first, second, _ = (make(records, name) for name in "abc")
    assert axon("dump", "some.json", "--notebook", first, "--notebook", second[:9]).exit_code == 0
    with tinydb.TinyDB("some.json") as database:
        assert {one["id"] for one in database.table("axonml_notebooks")} == {first, second}
    assert axon("dump", "none.json", "--notebook", "nothing").exit_code == 3
    assert not Path("none.json").exists()


def test_a_damaged_record_is_dumped_by_itself_as_among_others(
    axon: Axon, records: NotebookRepository, db: Path
) -> None:
    damaged, other = make(records, cells=[NotebookCell(source="1")]), make(records)
    with closing(open_store(f"sqlite:///{db}")) as store:
        store.contents.remove(tinydb.where("notebook_id") == damaged)
    some = axon("dump", "some.json", "--notebook", damaged[:12], "--notebook", other)
    assert some.exit_code == axon("dump", "all.json").exit_code == 1
    assert f"axonml_notebooks {damaged}: contents of notebook {damaged} are missing" in some.stderr
    tables = [json.loads(Path(name).read_text()) for name in ("some.json", "all.json")]
    assert [len(table["axonml_notebooks"]) for table in tables] == [2, 2]
    assert axon("show", damaged).exit_code == 4


def test_a_dump_on_standard_output_is_nothing_but_the_dump(
    process: Axon, records: NotebookRepository
) -> None:
    make(records)
    ran = process("dump", "-")
    assert ran.json["axonml_dump"]["1"]["format"] == 1
    assert ran.stderr == "State files that its checkpoints name, and which are not in it: 1.\n"
    assert process("dump", "-", "--json").exit_code == 2


def test_a_dump_replaces_a_file_only_by_force_and_when_it_is_whole(
    axon: Axon, records: NotebookRepository
) -> None:
    make(records)
    file = Path("all.json")
    file.write_text("precious")
    refused = axon("dump", file)
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: all.json is there already; --force replaces it\n",
    )
    assert axon("dump", "nowhere/all.json").stderr == "Error: No such folder: nowhere\n"
    Path("folder").mkdir()
    assert axon("dump", "folder", "--force").stderr == "Error: Is a directory: folder\n"
    assert file.read_text() == "precious"
    assert axon("dump", file, "--force").exit_code == 0
    assert json.loads(file.read_text())
    assert sorted(path.name for path in Path().iterdir()) == ["all.json", "folder"]


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (None, 3, "there is no file x.json"),
        ("", 1, "x.json cannot be loaded: the file is empty"),
        ("no json", 1, "x.json cannot be loaded: it is not JSON"),
        ("{}", 1, "x.json is not a dump: it has none of the tables"),
    ],
)
def test_what_is_no_dump_is_refused_and_no_store_made(
    axon: Axon, db: Path, content: str | None, code: int, reason: str
) -> None:
    if content is not None:
        Path("x.json").write_text(content)
    ran = axon("load", "x.json")
    assert (ran.exit_code, ran.stdout) == (code, "")
    assert ran.stderr.startswith(f"Error: {reason}")
    assert ran.stderr.count("\n") == 1
    assert axon("load", ".").stderr == "Error: . is a folder, not a dump\n"
    assert not db.exists()


def test_conflicts_and_damage_are_named_and_set_the_exit_code(
    axon: Axon, records: NotebookRepository
) -> None:
    id = make(records)
    axon("dump", "all.json")
    records.update(id, UpdateNotebook(name="newer"))
    ran = axon("load", "all.json")
    assert ran.exit_code == 1
    assert ran.stderr.splitlines() == [
        f"axonml_notebooks {id}: the store has it, and it differs",
        "Left as they are in the store: 1. --overwrite replaces records that differ.",
    ]
    assert axon("show", id, "--json").json["name"] == "newer"
    assert axon("load", "all.json", "--overwrite").exit_code == 0
    assert axon("show", id, "--json").json["name"] == "train"
    Path("hand.json").write_text('{"axonml_notebooks": {"1": {"id": "x"}}, "_default": {}}')
    ran = axon("load", "hand.json")
    assert ran.exit_code == 1
    assert ran.stderr.splitlines() == [
        "Left out: the table _default, which no store has.",
        "axonml_notebooks x: $.user_id: required, but missing",
        "Damaged, and not loaded: 1.",
        "hand.json does not say what a whole dump has, so whether it is one could not be verified.",
    ]


def large(records: NotebookRepository) -> None:
    """More than a pipe takes."""
    for number in range(5):
        make(records, f"n{number}", cells=[NotebookCell(source="x" * 100_000)])


def running(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [EXECUTABLE.with_name("jupyter-axon"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_an_interrupted_dump_says_that_it_is_not_whole(records: NotebookRepository) -> None:
    large(records)
    with running("dump", "-") as dumping:
        assert dumping.stdout is not None
        assert dumping.stdout.read(1) == b"{"
        dumping.send_signal(signal.SIGINT)
        rest, said = dumping.communicate(timeout=60)
    assert dumping.returncode == 130
    assert said == b"The dump is not whole.\nInterrupted.\n"
    assert not rest.endswith(b"}\n}\n")


class Interruption:
    """Does something when the statement that is the ``number``-th of its kind has been sent."""

    def __init__(self, kind: str, number: int, action: Any) -> None:
        self._kind, self._left, self._action = kind, number, action

    def __enter__(self) -> None:
        sa.event.listen(sa.Engine, "after_cursor_execute", self._note)

    def __exit__(self, *_: object) -> None:
        sa.event.remove(sa.Engine, "after_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._left -= statement.startswith(self._kind)
        if self._left == 0:
            self._left = -1
            self._action()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_dump_leaves_the_file_as_it_was(
    axon: Axon, records: NotebookRepository
) -> None:
    large(records)
    Path("all.json").write_text("precious")
    with Interruption("SELECT axonml_contents.seq", 1, interrupt):
        ran = axon("dump", "all.json", "--force")
    assert (ran.exit_code, ran.stderr) == (130, "all.json was not written.\nInterrupted.\n")
    assert Path("all.json").read_text() == "precious"
    assert os.listdir() == ["all.json"]


def test_an_interrupted_load_is_taken_up_again(
    axon: Axon, records: NotebookRepository, tmp_path: Path
) -> None:
    large(records)
    axon("dump", "all.json")
    url = elsewhere(tmp_path)
    with Interruption("INSERT INTO axonml_notebooks", 3, interrupt):
        ran = axon("load", "all.json", "--store-url", url)
    assert ran.exit_code == 130
    assert ran.stderr == "What was loaded stays. Load the file again to go on.\nInterrupted.\n"
    with repository(tmp_path / "elsewhere.db") as loaded:
        assert loaded.count() == 2
    tables = axon("load", "all.json", "--json", "--store-url", url).json["tables"]
    assert (tables["axonml_notebooks"]["added"], tables["axonml_notebooks"]["unchanged"]) == (3, 2)


def test_a_killed_dump_leaves_the_file_as_it_was(records: NotebookRepository, db: Path) -> None:
    large(records)
    Path("all.json").write_text("precious")
    script = (
        "import os, signal, sqlalchemy as sa\n"
        "from jupyter_axon_notebooks.cli import main\n"
        "@sa.event.listens_for(sa.Engine, 'after_cursor_execute')\n"
        "def kill(_connection, _cursor, statement, *_):\n"
        "    if 'axonml_provenance' in statement and 'document' in statement:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "main()\n"
    )
    python = EXECUTABLE.with_name("python")
    ended = subprocess.run([python, "-c", script, "dump", "all.json", "--force"], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert Path("all.json").read_text() == "precious"
    (left,) = {*os.listdir()} - {"all.json"}
    assert left.startswith(".all.json.")


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_of_a_file_that_was_not_finished(ends: signal.Signals) -> None:
    script = (
        "import signal\n"
        "from pathlib import Path\n"
        "from jupyter_axon_notebooks.cli.files import new_file\n"
        "with new_file(Path('new'), force=False) as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    print('written', flush=True)\n"
        "    signal.pause()\n"
    )
    python = EXECUTABLE.with_name("python")
    command = [python, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writing:
        assert writing.stdout is not None
        assert writing.stdout.readline() == b"written\n"
        writing.send_signal(ends)
    assert writing.returncode not in (0, None)
    assert os.listdir() == []


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_file_gets_its_name_when_it_is_whole(there: bool, force: bool, meanwhile: bool) -> None:
    file = Path("new")
    if there:
        file.write_text("old")
    script = (
        "from pathlib import Path\n"
        "from jupyter_axon_notebooks.cli.files import new_file\n"
        f"with new_file(Path('new'), force={force}, mode=0o640) as file:\n"
        "    file.write(b'new')\n"
        f"    {meanwhile} and Path('new').write_text('theirs')\n"
    )
    ended = subprocess.run(
        [EXECUTABLE.with_name("python"), "-c", script], capture_output=True, text=True, check=False
    )
    refused = not force and (there or meanwhile)
    assert ("Conflict: new is there already" in ended.stderr) == refused
    assert file.read_text() == (("old" if there else "theirs") if refused else "new")
    if not refused:
        assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir() == ["new"]
