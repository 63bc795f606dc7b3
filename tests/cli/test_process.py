"""The installed command: in a pipe, on a terminal, with and without colours."""

from __future__ import annotations

from pathlib import Path

from support.factories import new_notebook

from jupyter_axon_notebooks.records import NotebookStatus
from jupyter_axon_notebooks.repository import NotebookRepository

from .conftest import Axon

LONG = "a" * 150


def test_a_pipe_gets_plain_text_in_full(process: Axon, records: NotebookRepository) -> None:
    path = f"/{LONG}/train.ipynb"
    new = new_notebook(name=LONG, path=path, origin="here", status=NotebookStatus.FAILED)
    notebook_id = records.create(new).id
    ran = process("list")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[2].split()[0] == LONG
    assert ran.stdout.splitlines()[2].endswith(f"{notebook_id}   {path}")
    assert "\x1b" not in ran.stdout


def test_text_that_the_encoding_lacks_does_not_stop_a_command(
    process: Axon, records: NotebookRepository
) -> None:
    records.create(new_notebook(name="Übung"))
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert "\\xdcbung" in process("list", **ascii_only).stdout
    assert process("list", "--json", **ascii_only).json[0]["name"] == "Übung"


def test_errors_are_lines_without_a_traceback(process: Axon, db: Path) -> None:
    ran = process("show", "abc")
    assert (ran.exit_code, ran.stdout) == (3, "")
    assert (
        ran.stderr
        == f"Error: there is no store at sqlite:///{db} yet: nothing has been recorded there\n"
    )
