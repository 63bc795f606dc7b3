"""Programs that execute notebook files, and tell their kernels nothing of it: it is on their command line.

============================ ==========================================================================================
nbconvert, jupyter execute   the file that is executed, wherever the outcome goes. Of several the one whose cells begin
                             with what was executed so far, if that is true of one alone
papermill                    the file that it writes: it is what has the parameters. One notebook executed with many
                             parameters is many notebooks, and a training that is started again goes on with its own.
                             Used as a library it names nothing: the one file near the kernel that says papermill is just
                             executing it, and begins with what was executed so far
jupyter-scheduler            the copy of the input that its database names for the job in whose folder the kernel was started
============================ ==========================================================================================

Where another program uses nbclient or nbconvert as a library, nothing is found. What papermill and jupyter-scheduler
execute is a copy: :func:`find_source` tells of which notebook, and with which parameters.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

import psutil
from jupyter_core.paths import jupyter_data_dir

from ...errors import AxonError
from ...mapping import map_notebook
from ...records import CellType
from ...sync.files import NOTEBOOK_SUFFIX, is_notebook_file, read_file
from ...userfiles import open_regular, real_path

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


PAPERMILL: Final = "papermill"
SCHEDULER: Final = "jupyter-scheduler"
#: Entries of the folders near a kernel that are looked at for papermill's output.
_MOST_ENTRIES: Final = 2000
#: Seconds by which the times of files and processes may differ.
_SAME_TIME: Final = 2.0
#: Recently written notebooks there beyond which none is looked into.
_MOST_RECENT: Final = 200
#: Bytes at the end of a notebook in which papermill's note is looked for; notebooks are written with their metadata last.
_TAIL: Final = 1 << 18
#: Bytes of a notebook beyond which its cells are not compared with what was executed.
_LARGEST_READ: Final = 1 << 25
_NOTE: Final = re.compile(r'"papermill"\s*:\s*(?=\{)')
#: The first line of the cell that papermill adds.
_INJECTED: Final = "# Parameters"


class Source(NamedTuple):
    """The notebook that a program executes a copy of; ``path`` is None where only its name is known."""

    program: str
    name: str
    path: str | None
    parameters: dict[str, Any]


class Launched(NamedTuple):
    """The notebook that a program executes, and the program's name."""

    program: str
    path: str


def launched_by(
    process: psutil.Process, executed: Sequence[str], folder: str | None = None
) -> Launched | None:
    """Return the notebook file that ``process`` executes here; None where that is not certain.

    Parameters
    ----------
    executed : sequence of str
        What ran so far.
    folder : str, optional
        Where the kernel was started.
    """
    try:
        command = process.cmdline()
        launched_in = _folder(process, command)
        program, arguments = _program(command)
        if program is None:
            is_spawned = any("multiprocessing.spawn" in word for word in command)
            if is_spawned and (path := _staged(folder)) is not None:
                return Launched(SCHEDULER, path)
            path = _written_by_papermill(
                [folder, launched_in, process.environ().get("PWD")], executed
            )
            return None if path is None else Launched(PAPERMILL, path)
    except (psutil.Error, OSError):
        return None
    named = [real_path(os.path.join(launched_in, path)) for path in _notebooks(arguments)]
    if program == PAPERMILL:
        found = named[-1:] if len(named) <= 2 else []
    else:
        found = (
            named if len(named) == 1 else [path for path in named if _begins_with(path, executed)]
        )
    return Launched(program, found[0]) if len(found) == 1 and is_notebook_file(found[0]) else None


def find_source(path: str, process: psutil.Process | None) -> Source | None:
    """Return the notebook that the one at ``path`` is a copy of, made to be executed; None where it is none.

    Parameters
    ----------
    process : psutil.Process, optional
        What launched this kernel: papermill notes paths relative to where it was started.
    """
    if (job := _job(os.path.dirname(path))) is not None and job[0] == os.path.basename(path):
        return Source(SCHEDULER, job[0], None, _as_json(job[1]))
    noted = _noted_by_papermill(path)
    named = noted.get("input_path")
    if not isinstance(named, str) or os.path.basename(
        str(noted.get("output_path"))
    ) != os.path.basename(path):
        return None
    folders = [os.path.dirname(path)]
    with suppress(psutil.Error, OSError):
        if process is not None:
            folders = [
                _folder(process, process.cmdline()),
                *filter(None, [process.environ().get("PWD")]),
                *folders,
            ]
    paths = [real_path(os.path.join(folder, named)) for folder in folders]
    found = next((one for one in paths if os.path.isfile(one)), None)
    if found == path:
        return None  # executed in place
    return Source(
        PAPERMILL, os.path.basename(named) or named, found, _as_json(noted.get("parameters"))
    )


def _as_json(parameters: Any) -> dict[str, Any]:
    """Return parameters as JSON can have them: a number that is not finite becomes a text."""
    found: dict[str, Any] = {}
    for name, value in parameters.items() if isinstance(parameters, dict) else ():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            value = repr(value)
        found[str(name)] = value
    return found


def injected_parameters(executed: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that papermill added to a notebook, by the cell that it had executed."""
    cell = next((source for source in executed if source.startswith(f"{_INJECTED}\n")), "")
    found: dict[str, Any] = {}
    with suppress(SyntaxError, ValueError, RecursionError):
        for statement in ast.parse(cell).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    found[name] = _value(value)
                case _:
                    return {}
    return _as_json(found)


def _value(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:  # such as float("nan")
        return ast.unparse(value)


def _noted_by_papermill(path: str) -> Mapping[str, Any]:
    try:
        noted = read_file(path)["metadata"]["papermill"]
    except (AxonError, KeyError, TypeError):
        return {}
    return noted if isinstance(noted, dict) else {}


#: By process, the file that papermill writes for it, and files that it executes in other kernels. Neither changes: papermill
#: writes its file before the first cell is executed, and executes one file in a kernel.
_written_for: dict[int, str] = {}
_not_for: set[tuple[int, str]] = set()


def _written_by_papermill(folders: Sequence[str | None], executed: Sequence[str]) -> str | None:
    """Return the file that papermill writes for this kernel, in one of ``folders`` or a folder there, if it is one alone.

    This is asked in each cell of a kernel that is not identified. So only the ends of the files are read, and of those that
    papermill is just executing the whole.
    """
    pid = os.getpid()
    if (known := _written_for.get(pid)) is not None and is_notebook_file(known):
        return known
    begun = psutil.Process().create_time()
    recent = {
        path
        for folder in {os.path.realpath(folder) for folder in folders if folder}
        for path in _written_since(folder, begun - _SAME_TIME)
        if (pid, path) not in _not_for
    }
    if len(recent) > _MOST_RECENT:
        return None
    found = []
    is_certain = True
    for path in recent:
        noted, size = _noted_at_end(path)
        if noted is None:  # it is being written, or damaged
            is_certain = False
        elif _is_being_executed(noted, path, begun + _SAME_TIME):
            if size > _LARGEST_READ:
                return None
            fits = _begins_with(path, executed)
            if fits:
                found.append(path)
            elif fits is None:
                is_certain = False
            elif executed:
                _not_for.add((pid, path))
    if len(found) != 1:
        return None
    if is_certain:
        _written_for[pid] = found[0]
    return found[0]


def _noted_at_end(path: str) -> tuple[Mapping[str, Any] | None, int]:
    """Return what papermill noted in a notebook, by the end of the file, and its size; None of a file that is not whole."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _TAIL))
            end = file.read(_TAIL).decode(errors="replace")
    except OSError:
        return None, 0
    for key in reversed([*_NOTE.finditer(end)]):
        with suppress(ValueError, RecursionError):
            noted, _ = json.JSONDecoder().raw_decode(end, key.end())
            if "output_path" in noted:  # cells have notes of papermill's as well
                return cast(dict[str, Any], noted), size
    return ({} if end.rstrip().endswith("}") else None), size


def _written_since(folder: str, moment: float) -> Iterator[str]:
    """Find the notebooks that were written since a moment, in a folder and in those below it."""
    waiting, seen = [(folder, 0)], 0
    while waiting:
        at, depth = waiting.pop()
        with suppress(OSError), os.scandir(at) as entries:
            for entry in entries:
                seen += 1
                if seen > _MOST_ENTRIES:
                    return
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if depth == 0:
                        waiting.append((entry.path, 1))
                elif entry.name.endswith(NOTEBOOK_SUFFIX) and entry.stat().st_mtime >= moment:
                    yield real_path(entry.path)


def _is_being_executed(noted: Mapping[str, Any], path: str, latest: float) -> bool:
    """Whether papermill says that it executes a file, and has since before ``latest``."""
    if os.path.basename(str(noted.get("output_path"))) != os.path.basename(path) or noted.get(
        "end_time"
    ):
        return False
    try:
        return (
            datetime.fromisoformat(noted["start_time"].replace("Z", "+00:00")).timestamp() <= latest
        )
    except (KeyError, AttributeError, ValueError):
        return False


def _staged(folder: str | None) -> str | None:
    """Return the notebook of the job that jupyter-scheduler runs in ``folder``, or in a folder there."""
    for at in [] if folder is None else [folder, os.path.dirname(folder)]:
        if (job := _job(at)) is not None and is_notebook_file(
            path := real_path(os.path.join(at, job[0]))
        ):
            return path
    return None


def _job(folder: str) -> tuple[str, dict[str, Any]] | None:
    """Return the input's name and the parameters of the job that is staged in a folder, by jupyter-scheduler's database."""
    database = os.path.join(jupyter_data_dir(), "scheduler.sqlite")
    if not os.path.isfile(database):
        return None
    try:
        with closing(
            sqlite3.connect(f"file:{quote(database)}?mode=ro", uri=True, timeout=1)
        ) as jobs:
            query = "SELECT input_filename, parameters FROM jobs WHERE job_id = ?"
            row = jobs.execute(query, [os.path.basename(folder)]).fetchone()
    except sqlite3.Error:
        return None
    if row is None or not isinstance(row[0], str):
        return None
    try:
        parameters = json.loads(row[1] or "{}")
    except (TypeError, ValueError):
        parameters = {}
    return os.path.basename(row[0]), parameters if isinstance(parameters, dict) else {}


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


def _begins_with(path: str, executed: Sequence[str]) -> bool | None:
    """Whether a notebook begins with what was executed; None of one that cannot be read."""
    try:
        cells = map_notebook(read_file(path)).cells
    except AxonError:
        return None
    code = (cell.source for cell in cells if cell.cell_type is CellType.CODE)
    sources = [source.rstrip("\n") for source in code if source.strip()]  # as IPython keeps them
    return bool(executed) and sources[: len(executed)] == list(executed)
