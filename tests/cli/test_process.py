"""The installed command: in a pipe, on a terminal, with and without colours."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

from jupyter_axon_notebooks.records import NewNotebook, NotebookStatus
from jupyter_axon_notebooks.repository import NotebookRepository

from .conftest import EXECUTABLE, USER, Axon

LONG = "a" * 150


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Return the output of the command on a terminal with 80 columns."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [EXECUTABLE, "axon", *arguments],
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    written = b""
    with running, os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(4096):
                written += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
    assert running.returncode == 0, written
    return written.decode()


def test_a_pipe_gets_plain_text_in_full(process: Axon, records: NotebookRepository) -> None:
    path = f"/{LONG}/train.ipynb"
    new = NewNotebook(
        user_id=USER, name=LONG, path=path, origin="here", status=NotebookStatus.FAILED
    )
    notebook_id = records.create(new).id
    ran = process("list")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[2].split()[0] == LONG
    assert ran.stdout.splitlines()[2].endswith(f"{notebook_id}   {path}")
    assert "\x1b" not in ran.stdout


def test_a_terminal_gets_colours_unless_it_wants_none(records: NotebookRepository) -> None:
    records.create(NewNotebook(user_id=USER, name=LONG, status=NotebookStatus.FAILED))
    coloured = on_a_terminal("list")
    assert "\x1b[31mfailed" in coloured
    plain = on_a_terminal("list", NO_COLOR="1")
    assert "failed" in plain
    assert not re.search(r"\x1b\[[0-9;]*3\dm", plain)
    lines = re.sub(r"\x1b\[[0-9;]*m|\r", "", plain).splitlines()
    assert {len(line) for line in lines} == {80}


def test_text_that_the_encoding_lacks_does_not_stop_a_command(
    process: Axon, records: NotebookRepository
) -> None:
    records.create(NewNotebook(user_id=USER, name="Übung"))
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
