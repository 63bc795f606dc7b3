"""Programs that execute notebook files, and tell their kernels nothing of it: it is on their command line.

============================ ==========================================================================================
nbconvert, jupyter execute   the file that is executed, wherever the outcome goes. Of several the one whose cells begin
                             with what was executed so far, if that is true of one alone
papermill                    the file that it writes: it is what has the parameters. One notebook executed with many
                             parameters is many notebooks, and a training that is started again goes on with its own
============================ ==========================================================================================

Where a program uses these as libraries its command line names nothing, and nothing is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import psutil

from ..errors import AxonError
from ..mapping import map_notebook
from ..records import CellType
from ..sync.files import NOTEBOOK_SUFFIX, is_notebook_file, read_file
from ..userfiles import real_path

_NAMES: Final = {
    "jupyter-nbconvert": "nbconvert",
    "nbconvert": "nbconvert",
    "jupyter-execute": "jupyter execute",
    "nbclient": "jupyter execute",
    "papermill": "papermill",
}
#: Options whose value may be the path of a notebook that is not the one executed, and how many values they have.
_VALUES: Final = {
    "--output": 1,
    "--cwd": 1,
    "-p": 2,
    "-r": 2,
    "--parameters": 2,
    "--parameters_raw": 2,
}


class Launched(NamedTuple):
    """The notebook that a program executes, and the program's name."""

    program: str
    path: str


def launched_by(process: psutil.Process, executed: Sequence[str]) -> Launched | None:
    """The notebook file that ``process`` executes here, where ``executed`` ran so far; None where that is not certain."""
    try:
        command = process.cmdline()
        folder = _folder(process, command)
    except (psutil.Error, OSError):
        return None
    program, arguments = _program(command)
    if program is None:
        return None
    named = [real_path(os.path.join(folder, path)) for path in _notebooks(arguments)]
    if program == "papermill":
        found = named[-1:] if len(named) <= 2 else []
    else:
        found = named if len(named) == 1 else [path for path in named if _begins_with(path, executed)]
    return Launched(program, found[0]) if len(found) == 1 and is_notebook_file(found[0]) else None


def _folder(process: psutil.Process, command: Sequence[str]) -> str:
    """Where ``process`` was started: papermill goes elsewhere for its kernel if it is told to."""
    started = process.environ().get("PWD") if "--cwd" in command else None
    return str(started or process.cwd())


def _program(command: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Which of the programs a command line runs, and what it gives to it."""
    for at, word in enumerate(command[:3]):
        is_module = at > 0 and command[at - 1] == "-m"
        name = word if is_module else os.path.basename(word).removesuffix(".exe")
        if (is_module or at < 2) and name in _NAMES:
            return _NAMES[name], command[at + 1 :]
    return None, ()


def _notebooks(arguments: Sequence[str]) -> Iterator[str]:
    waiting = 0
    for argument in arguments:
        if waiting:
            waiting -= 1
        elif argument in _VALUES:
            waiting = _VALUES[argument]
        elif argument.endswith(NOTEBOOK_SUFFIX) and not argument.startswith("-"):
            yield argument


def _begins_with(path: str, executed: Sequence[str]) -> bool:
    try:
        cells = map_notebook(read_file(path)).cells
    except AxonError:
        return False
    code = (cell.source for cell in cells if cell.cell_type is CellType.CODE)
    sources = [source.rstrip("\n") for source in code if source.strip()]  # as IPython keeps them
    return bool(executed) and sources[: len(executed)] == list(executed)
