"""Programs that execute notebooks, and name them on their command line or in a file only.

============================ =====================================================================
nbconvert, jupyter execute   the notebook on the command line; of several, the one that begins with
                             the cells that were executed so far
papermill                    the notebook that it writes, as that has the parameters. Without a
                             command line, the only notebook near the kernel whose metadata say
                             that papermill is executing it, and that begins with those cells
jupyter-scheduler            the copy that its database names for the job of the kernel's folder
============================ =====================================================================

Programs that use nbclient or nbconvert as a library leave no trace. What papermill and
jupyter-scheduler execute is a copy: :func:`find_source` returns the original.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import psutil
from jupyter_core.paths import jupyter_data_dir

from ...errors import AxonError
from ...mapping import map_notebook
from ...records import CellType
from ...sync.files import NOTEBOOK_SUFFIX, is_notebook_file, read_file
from ...userfiles import real_path

PAPERMILL: Final = "papermill"
SCHEDULER: Final = "jupyter-scheduler"
_PROGRAMS: Final = {
    "jupyter-nbconvert": "nbconvert",
    "nbconvert": "nbconvert",
    "jupyter-execute": "jupyter execute",
    "nbclient": "jupyter execute",
    "papermill": PAPERMILL,
}
#: Options whose values may be paths of other notebooks, and the number of their values.
_OPTIONS: Final = {
    "--output": 1,
    "--cwd": 1,
    "-p": 2,
    "-r": 2,
    "--parameters": 2,
    "--parameters_raw": 2,
}
#: Recent notebooks near a kernel above which none is read, and the largest that is, in bytes.
_MAX_RECENT: Final = 200
_MAX_SIZE: Final = 1 << 25
#: Seconds by which the times of files and processes may differ.
_CLOCK_TOLERANCE: Final = 2.0
#: The first line of the cell that papermill adds.
_INJECTED: Final = "# Parameters\n"


class Source(NamedTuple):
    """The original of a notebook that is executed as a copy; ``path`` is None if it is unknown."""

    program: str
    name: str
    path: str | None
    parameters: dict[str, Any]


class ExecutedNotebook(NamedTuple):
    """A notebook, and the name of the program that executes it."""

    program: str
    path: str


def find_executed_notebook(
    process: psutil.Process, executed: Sequence[str], folder: str | None = None
) -> ExecutedNotebook | None:
    """Return the notebook that ``process`` executes in this kernel; None if that is uncertain.

    Parameters
    ----------
    executed : sequence of str
        The sources of the cells that were executed so far.
    folder : str, optional
        The folder in which this kernel was started.
    """
    try:
        command = process.cmdline()
        launch_folder = _working_folder(process, command)
        program, arguments = _parse_command(command)
        if program is None:
            is_spawned = any("multiprocessing.spawn" in word for word in command)
            if is_spawned and (path := _find_job_notebook(folder)) is not None:
                return ExecutedNotebook(SCHEDULER, path)
            folders = {folder, launch_folder, process.environ().get("PWD")}
            path = _find_papermill_output(folders, executed)
            return None if path is None else ExecutedNotebook(PAPERMILL, path)
    except (psutil.Error, OSError):
        return None
    named = [real_path(os.path.join(launch_folder, path)) for path in _notebook_paths(arguments)]
    if program == PAPERMILL:
        named = named[-1:] if len(named) <= 2 else []
    elif len(named) > 1:
        named = [path for path in named if _begins_with(_read_notebook(path), executed)]
    if len(named) != 1 or not is_notebook_file(named[0]):
        return None
    return ExecutedNotebook(program, named[0])


def find_source(path: str, process: psutil.Process | None) -> Source | None:
    """Return the original of a notebook that was copied in order to be executed.

    Parameters
    ----------
    process : psutil.Process, optional
        The launcher of this kernel: papermill's paths are relative to its folder.
    """
    folder, name = os.path.split(path)
    if (job := _read_job(folder)) is not None and job[0] == name:
        return Source(SCHEDULER, name, None, _as_json(job[1]))
    with suppress(AxonError, KeyError, TypeError):
        note = read_file(path)["metadata"]["papermill"]
        original = note["input_path"]
        if os.path.basename(note["output_path"]) != name or not isinstance(original, str):
            return None
        folders = [folder]
        with suppress(psutil.Error, OSError):
            if process is not None:
                started = process.environ().get("PWD")
                folders = [_working_folder(process, process.cmdline()), started or folder, folder]
        paths = [real_path(os.path.join(root, original)) for root in folders]
        found = next((one for one in paths if os.path.isfile(one)), None)
        if found != path:  # else it is executed in place
            name = os.path.basename(original) or original
            return Source(PAPERMILL, name, found, _as_json(note.get("parameters")))
    return None


def injected_parameters(executed: Sequence[str]) -> dict[str, Any]:
    """Return the parameters in the cell that papermill added to the notebook."""
    cell = next((source for source in executed if source.startswith(_INJECTED)), "")
    found: dict[str, Any] = {}
    with suppress(SyntaxError, ValueError, RecursionError):
        for statement in ast.parse(cell).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    try:
                        found[name] = ast.literal_eval(value)
                    except ValueError:  # such as float("nan")
                        found[name] = ast.unparse(value)
                case _:
                    return {}
    return _as_json(found)


def _as_json(parameters: Any) -> dict[str, Any]:
    """Return parameters with their ``repr`` in place of values that are not JSON."""
    found: dict[str, Any] = {}
    for name, value in parameters.items() if isinstance(parameters, dict) else ():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            value = repr(value)
        found[str(name)] = value
    return found


def _working_folder(process: psutil.Process, command: Sequence[str]) -> str:
    # With --cwd papermill changes to that folder to start its kernel.
    started = process.environ().get("PWD") if "--cwd" in command else None
    return str(started or process.cwd())


def _parse_command(command: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Return the program of a command line, if it is one of ours, and its arguments."""
    for at, word in enumerate(command[:3]):
        is_module = at > 0 and command[at - 1] == "-m"
        name = word if is_module else os.path.basename(word).removesuffix(".exe")
        if (is_module or at < 2) and name in _PROGRAMS:
            return _PROGRAMS[name], command[at + 1 :]
    return None, ()


def _notebook_paths(arguments: Sequence[str]) -> Iterator[str]:
    skipped = 0
    for argument in arguments:
        if skipped:
            skipped -= 1
        elif argument in _OPTIONS:
            skipped = _OPTIONS[argument]
        elif argument.endswith(NOTEBOOK_SUFFIX) and not argument.startswith("-"):
            yield argument


class _NotebookContent(NamedTuple):
    papermill: Mapping[str, Any]
    sources: list[str]


def _read_notebook(path: str) -> _NotebookContent | None:
    with suppress(OSError):
        status = os.stat(path)
        return _read_once(path, status.st_mtime_ns, status.st_size)
    return None


@functools.lru_cache(maxsize=_MAX_RECENT)
def _read_once(path: str, _mtime: int, _size: int) -> _NotebookContent | None:
    """Return what is needed of a notebook; None if it is unreadable, as while it is written."""
    try:
        content = read_file(path)
        cells = map_notebook(content).cells
    except AxonError:
        return None
    code = (cell.source for cell in cells if cell.cell_type is CellType.CODE)
    note = content.get("metadata", {}).get("papermill")
    return _NotebookContent(
        note if isinstance(note, dict) else {},
        [source.rstrip("\n") for source in code if source.strip()],  # as in IPython's history
    )


def _begins_with(content: _NotebookContent | None, executed: Sequence[str]) -> bool:
    if content is None or not executed:
        return False
    return content.sources[: len(executed)] == list(executed)


def _find_papermill_output(folders: set[str | None], executed: Sequence[str]) -> str | None:
    """Return the only notebook in ``folders``, or one level below, that papermill executes here."""
    begin = psutil.Process().create_time()
    recent: set[str] = set()
    for folder in filter(None, folders):
        for pattern in ("*.ipynb", "*/*.ipynb"):
            for file in Path(folder).glob(pattern):
                with suppress(OSError):
                    status = file.stat()
                    is_recent = status.st_mtime >= begin - _CLOCK_TOLERANCE
                    if is_recent and status.st_size <= _MAX_SIZE:
                        recent.add(real_path(str(file)))
    if len(recent) > _MAX_RECENT:
        return None
    found = []
    for path in recent:
        content = _read_notebook(path)
        if content is None or not _begins_with(content, executed):
            continue
        if _is_being_executed(content.papermill, path, begin + _CLOCK_TOLERANCE):
            found.append(path)
    return found[0] if len(found) == 1 else None


def _is_being_executed(note: Mapping[str, Any], path: str, latest: float) -> bool:
    """Return whether papermill notes that it executes a file, and began to before ``latest``."""
    is_this = os.path.basename(str(note.get("output_path"))) == os.path.basename(path)
    if not is_this or note.get("end_time"):
        return False
    try:
        begin = datetime.fromisoformat(note["start_time"].replace("Z", "+00:00"))
    except (KeyError, AttributeError, ValueError):
        return False
    return begin.timestamp() <= latest


def _find_job_notebook(folder: str | None) -> str | None:
    """Return the notebook of the jupyter-scheduler job in ``folder``, or in its parent folder."""
    for root in [] if folder is None else [folder, os.path.dirname(folder)]:
        if (job := _read_job(root)) is not None:
            path = real_path(os.path.join(root, job[0]))
            if is_notebook_file(path):
                return path
    return None


def _read_job(folder: str) -> tuple[str, dict[str, Any]] | None:
    """Return the input's name and the parameters of the jupyter-scheduler job in a folder."""
    database = os.path.join(jupyter_data_dir(), "scheduler.sqlite")
    if not os.path.isfile(database):
        return None
    try:
        with closing(
            sqlite3.connect(f"file:{quote(database)}?mode=ro", uri=True, timeout=1)
        ) as jobs:
            query = "SELECT input_filename, parameters FROM jobs WHERE job_id = ?"
            row = jobs.execute(query, [os.path.basename(folder)]).fetchone()
        name, parameters = row
        return os.path.basename(name), json.loads(parameters or "{}")
    except (sqlite3.Error, TypeError, ValueError):
        return None
