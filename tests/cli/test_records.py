"""`list` and `show`: what is recorded, for people and for scripts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.factories import new_checkpoint

from jupyter_axon_notebooks.cli.lookup import deleted_at
from jupyter_axon_notebooks.cli.output import local_time
from jupyter_axon_notebooks.records import (
    CellOutput,
    CellType,
    ConfigSource,
    NewNotebook,
    NotebookCell,
    NotebookStatus,
    UpdateNotebook,
)
from jupyter_axon_notebooks.repository import NotebookRepository

from .conftest import USER, Axon


def make(records: NotebookRepository, name: str = "train", **fields: object) -> str:
    return records.create(NewNotebook(**{"user_id": USER, "name": name, **fields})).id


def names(printed: str) -> list[str]:
    return [line.split()[0] for line in printed.splitlines()[2:]]


@pytest.mark.parametrize("command", [("list",), ("show", "abc"), ("export", "abc")])
def test_a_store_that_is_not_there_is_said_so_and_not_made(
    axon: Axon, db: Path, command: tuple[str]
) -> None:
    ran = axon(*command)
    assert (ran.exit_code, ran.stdout) == (3, "")
    assert ran.stderr.count("\n") == 1
    assert f"there is no store at sqlite:///{db} yet" in ran.stderr
    assert not db.parent.exists()


def test_one_sees_ones_own_records_unless_asked_for_more(
    axon: Axon, records: NotebookRepository
) -> None:
    make(records, "mine")
    make(records, "hers", user_id="grace")
    assert names(axon("list").stdout) == ["mine"]
    assert names(axon("list", "--user", "grace").stdout) == ["hers"]
    everybody = axon("list", "--all-users")
    assert names(everybody.stdout) == ["hers", "mine"]
    assert "grace" in everybody.stdout
    assert axon("list", "--all-users", "--user", "grace").exit_code == 2


def test_status_tag_and_search_narrow_the_list(axon: Axon, records: NotebookRepository) -> None:
    make(records, "Spirals", status=NotebookStatus.FAILED)
    tagged = make(records, "other", description="two spirals")
    records.update(tagged, UpdateNotebook(tags=["keep"]))
    make(records, "third")
    assert names(axon("list", "--status", "failed").stdout) == ["Spirals"]
    assert names(axon("list", "--tag", "keep").stdout) == ["other"]
    assert names(axon("list", "--search", "SPIRALS").stdout) == ["other", "Spirals"]
    assert axon("list", "--status", "great").exit_code == 2


def test_a_record_is_shown_by_id_by_its_beginning_and_by_its_file(
    axon: Axon, records: NotebookRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "work" / "train.ipynb"
    file.touch()
    notebook_id = make(records, origin="here", path=str(file))
    (tmp_path / "elsewhere").symlink_to(tmp_path / "work")
    ways = [
        notebook_id,
        notebook_id[:6],
        file,
        "train.ipynb",
        os.path.join("..", "elsewhere", "train.ipynb"),
    ]
    for which in ways:
        assert axon("show", which, "--json").json["id"] == notebook_id


def test_what_names_no_record_or_several_is_not_found(
    axon: Axon, records: NotebookRepository
) -> None:
    make(records, id="abc-1")
    make(records, id="abc-2")
    assert axon("show", "xyz").stderr == "Error: notebook xyz not found\n"
    several = axon("show", "abc")
    assert several.exit_code == 3
    assert "could be any of 2 notebooks: abc-" in several.stderr
    assert axon("show", "abc-2").exit_code == 0
    unbound = axon("show", "other.ipynb")
    assert unbound.exit_code == 3
    assert "no record is bound to the file" in unbound.stderr
    empty = axon("show", "")
    assert (empty.exit_code, "an empty name; give the id of a notebook" in empty.stderr) == (
        3,
        True,
    )


def test_a_deleted_file_still_names_its_record(axon: Axon, records: NotebookRepository) -> None:
    path = str(Path("gone.ipynb").absolute())
    notebook_id = make(records, "gone", origin="here", path=path)
    assert records.find_ids(notebook_id[:4]) == [notebook_id]
    deleted = records.bindings.unbind(notebook_id)
    ran = axon("show", "gone.ipynb")
    assert ran.stderr == f"The file {path} was deleted. This is its record.\n"
    moment = local_time(deleted_at(deleted))
    assert f"file deleted  {moment}\n" in ran.stdout
    assert axon("list").stdout.splitlines()[2].endswith(f"deleted {moment}")
    records.bindings.bind(make(records, "new", origin="here"), path)
    assert "new" in axon("show", "gone.ipynb").stdout


def test_a_record_is_shown_with_cells_outputs_and_checkpoints(
    axon: Axon, records: NotebookRepository
) -> None:
    cell = NotebookCell(
        source="\n  fit(model)\nmore",
        execution_count=7,
        outputs=[
            CellOutput(output_type="stream", name="stdout", text="a"),
            CellOutput(output_type="stream", name="stdout", text="b"),
            CellOutput(output_type="display_data", data={"text/plain": "x", "image/png": "aGk="}),
            CellOutput(output_type="error", error_name="ValueError"),
        ],
    )
    notebook_id = make(
        records, cells=[NotebookCell(source="# Title", cell_type=CellType.MARKDOWN), cell]
    )
    for epoch in range(9):
        metrics = {"loss": abs(epoch - 1.5), "note": "x"}
        records.create_checkpoint(new_checkpoint(notebook_id, metrics, epoch=epoch, step=epoch))
    shown = axon("show", notebook_id).stdout
    assert "checkpoints  9" in shown
    assert "versions     1" in shown
    (line,) = (line for line in shown.splitlines() if "fit(model)" in line)
    assert line.split() == [
        "2",
        "code",
        "idle",
        "7",
        "fit(model)",
        "2",
        "stdout,",
        "image/png,",
        "ValueError",
    ]
    epochs = [line.split("loss=")[0].split()[-2:] for line in shown.splitlines() if "loss=" in line]
    assert [epoch for epoch, _ in epochs] == ["8", "7", "6", "5", "4", "1"]
    assert (
        json.loads(axon("show", notebook_id, "--json").stdout)
        == records.find_by_id(notebook_id).to_json()
    )


def test_a_record_is_shown_with_its_runs_and_where_their_configuration_comes_from(
    axon: Axon, records: NotebookRepository
) -> None:
    notebook_id = make(records)
    for name, source in (
        (None, ConfigSource.DERIVED),
        ("wide", ConfigSource.GIVEN),
        (None, ConfigSource.PARAMETERS),
    ):
        config = {"lr": 0.1 + 0.2, "model": {"layers": [64, 64]}, "note": "x\x1b" * 1_000}
        records.runs.start(notebook_id, config=config, config_source=source, name=name)
    shown = axon("show", notebook_id).stdout
    lines = shown[shown.index("number ") :].splitlines()[2:]
    config = "lr=0.3, model.layers=[64, 64], note='x\\x1b"
    for line, begin in zip(
        lines,
        (f"3 run 3 running from parameters: {config}", f"2 wide running {config}",
         f"1 run 1 running derived from code: {config}"),
        strict=True,
    ):  # fmt: skip
        assert " ".join(line.split()).startswith(begin)
        assert len(line) < 260
    assert [run.display_name for run in records.runs.list(notebook_id)] == [
        "run 3", "wide", "run 1"
    ]  # fmt: skip
