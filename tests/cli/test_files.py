"""`import` and `export`: from a notebook file to a record and back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.factories import new_notebook

from jupyter_axon_notebooks.records import NotebookCell, UpdateNotebook
from jupyter_axon_notebooks.repository import NotebookRepository

from .conftest import CORPUS, EXECUTABLE, USER, Axon

EMPTY = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def write(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps({**EMPTY, **changes}))
    return path


@pytest.mark.parametrize(
    "name", ["test4.ipynb", "test4.5.ipynb", "test4custom.ipynb", "many_tracebacks.ipynb"]
)
def test_an_imported_notebook_is_exported_as_it_was(axon: Axon, name: str) -> None:
    file = CORPUS / "nbformat" / name
    notebook_id = axon("import", file).stdout.strip()
    assert axon("export", notebook_id, "-o", "back.ipynb").exit_code == 0
    assert nbformat.read("back.ipynb", nbformat.NO_CONVERT) == nbformat.read(
        file, nbformat.NO_CONVERT
    )
    text = Path("back.ipynb").read_text(encoding="utf-8")
    assert axon("export", notebook_id, "-o", "-").stdout == text
    assert text.startswith('{\n "cells": [\n')


def test_a_file_that_is_no_notebook_is_named_and_the_others_are_imported(
    axon: Axon, tmp_path: Path
) -> None:
    files = [
        write(tmp_path / "a.ipynb"),
        tmp_path / "bad.ipynb",
        tmp_path / "none.ipynb",
        write(tmp_path / "b.ipynb"),
    ]
    files[1].write_text("not a notebook")
    ran = axon("import", *files)
    assert ran.exit_code == 1
    assert [line.split("  ")[1] for line in ran.stdout.splitlines()] == [
        str(files[0]),
        str(files[3]),
    ]
    assert f"{files[1]}: not a valid notebook: not JSON" in ran.stderr
    assert f"{files[2]}: No such file or directory\n" in ran.stderr
    assert {one["name"] for one in axon("list", "--json").json} == {"a", "b"}


def test_an_import_belongs_to_whoever_imports_and_is_bound_to_no_file(
    axon: Axon, tmp_path: Path
) -> None:
    notebook_id = axon("import", write(tmp_path / "a.ipynb"), "--name", "spirals").stdout.strip()
    record = axon("show", notebook_id, "--json").json
    assert (record["name"], record["user_id"], record["cells"]) == ("spirals", USER, [])
    assert not record.keys() & {"path", "origin", "synced_at"}
    assert axon("import", "a", "b", "--name", "x").exit_code == 2


def test_an_export_replaces_a_file_only_by_force(axon: Axon, records: NotebookRepository) -> None:
    notebook_id = records.create(new_notebook(name="a/b: c")).id
    ran = axon("export", notebook_id)
    assert ran.stdout == "a_b_ c.ipynb\n"
    written = Path("a_b_ c.ipynb")
    written.write_text("precious")
    refused = axon("export", notebook_id)
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: a_b_ c.ipynb exists already; --force replaces it\n",
    )
    assert written.read_text() == "precious"
    written.chmod(0o640)
    assert axon("export", notebook_id, "--force").exit_code == 0
    assert nbformat.read(written, 4).cells
    assert written.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in Path().iterdir()] == ["a_b_ c.ipynb"]


def test_an_older_version_is_exported(axon: Axon, records: NotebookRepository) -> None:
    old = records.create(new_notebook(NotebookCell(source="old"), name="a"))
    new = records.update(old.id, UpdateNotebook(cells=[NotebookCell(source="new")]))
    exported = json.loads(axon("export", old.id, "-o", "-", "--version", old.version_id).stdout)
    assert exported["cells"][0]["source"] == ["old"]
    assert '"new"' in axon("export", old.id, "-o", "-", "--version", new.version_id[:8]).stdout
    missing = axon("export", old.id, "-o", "-", "--version", "none")
    assert (missing.exit_code, missing.stderr) == (3, "Error: version none not found\n")


_CODE = {"cell_type": "code", "metadata": {}, "source": "1", "outputs": [], "execution_count": None}


@pytest.mark.parametrize(
    ("cells", "repaired"),
    [
        ([_CODE], "$.cells: no id in cell 0; recorded with made ids"),
        ([{**_CODE, "id": "a"}] * 2, "$.cells[1].id: 'a' is already the id of cell 0; recorded as"),
        ([{**_CODE, "id": "a b"}], "$.cells[0].id: 'a b' is not a valid cell id; recorded as"),
        ([{**_CODE, "id": "a", "outputs": 1}], "$.cells[0].outputs: not a list; recorded as empty"),
    ],
)
def test_what_jupyter_opens_is_imported_and_its_repairs_are_said_in_one_line(
    axon: Axon, tmp_path: Path, cells: list[Any], repaired: str
) -> None:
    file = write(tmp_path / "a.ipynb", cells=cells)
    ran = axon("import", file)
    assert ran.exit_code == 0
    [line] = ran.stderr.splitlines()
    assert line.startswith(f"{file}: imported with repairs: {repaired}")
    record = axon("show", ran.stdout.strip(), "--json").json
    assert [cell["source"] for cell in record["cells"]] == [cell["source"] for cell in cells]
    [result] = axon("import", file, "--json").json
    assert result["repaired"][0].startswith(repaired)


def test_an_import_of_a_whole_notebook_with_keys_of_others_repairs_nothing(
    axon: Axon, tmp_path: Path
) -> None:
    file = write(tmp_path / "a.ipynb", cells=[{**_CODE, "id": "a", "theirs": 1}])
    ran = axon("import", file)
    assert (ran.exit_code, ran.stderr) == (0, "")


def test_a_pipe_that_the_shell_opened_is_imported(jupyter: Path, tmp_path: Path) -> None:
    command = [EXECUTABLE, "axon", "import", "/dev/stdin"]
    ran = subprocess.run(
        command,
        input=write(tmp_path / "a.ipynb").read_bytes(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
