"""The kernel that this process is, if it is one, and the program that launched it.

A process inherits environment variables from the kernel that started it. So they are used in the
kernel that they were meant for only. Some programs name the notebook that they execute on their
command line or in a file only:

============================ =====================================================================
nbconvert, jupyter execute   the notebook on the command line, if there is only one
papermill                    the notebook that it writes, as that has the parameters
jupyter-scheduler            the copy that its database names for the job of the kernel's folder
============================ =====================================================================

Programs that use nbclient, nbconvert or papermill as a library leave no trace. What papermill and
jupyter-scheduler execute is a copy: :func:`find_source` returns the original.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import psutil
from jupyter_core.paths import jupyter_data_dir

from ...errors import AxonError
from ...sync.files import NOTEBOOK_SUFFIX, is_notebook_file, read_file
from ...userfiles import read_regular, real_path

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
#: The variable in which a server names the notebook that it starts a kernel for.
_SESSION_NAME: Final = "JPY_SESSION_NAME"
#: The variable in which a launcher gives its process id.
_PARENT: Final = "JPY_PARENT_PID"
#: The largest connection file that is read, in bytes.
_MAX_SIZE: Final = 1 << 16
_FILE_NAME: Final = re.compile(r"kernel-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.json")


def connection_file() -> str | None:
    """Return the connection file of this kernel, or of the one that spawned this process."""
    module = sys.modules.get("ipykernel.kernelapp")
    app = getattr(module, "IPKernelApp", None)
    with suppress(Exception):  # an object in place of ipykernel may lack any attribute
        if app is not None and app.initialized():
            file = getattr(app.instance(), "abs_connection_file", None)
            if isinstance(file, str):
                return file
    # Other kernels, and processes of multiprocessing, which have their parent's arguments.
    for flag, file in zip(sys.argv, sys.argv[1:], strict=False):
        if flag == "-f" and _is_connection_file(file):
            return os.path.abspath(file)
    return None


def _is_connection_file(file: str) -> bool:
    with suppress(OSError, ValueError, RecursionError):  # any program may have such an option
        content = json.loads(read_regular(file, _MAX_SIZE))
        return isinstance(content, dict) and {"shell_port", "key"} <= content.keys()
    return False


def kernel_id(file: str) -> str | None:
    """Return the id that a server gave the kernel with this connection file, if one did."""
    match = _FILE_NAME.fullmatch(os.path.basename(file))
    return None if match is None else match[1]


def launcher() -> psutil.Process | None:
    """Return the process that launched this kernel, if it is visible."""
    with suppress(ValueError, OverflowError, psutil.Error):
        return psutil.Process(int(os.environ.get(_PARENT, "")))
    return None


def session_name() -> str | None:
    """Return the path of the notebook that a server started this kernel for."""
    name = os.environ.get(_SESSION_NAME)
    process = launcher()
    if name and process is not None:
        with suppress(psutil.Error, OSError):
            if process.environ().get(_SESSION_NAME) == name:
                return None  # inherited: the launcher itself was started in that session
    return name or None


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


def find_executed_notebook(process: psutil.Process, folder: str | None) -> ExecutedNotebook | None:
    """Return the notebook that ``process`` executes in this kernel; None if that is uncertain.

    ``folder`` is the one in which this kernel was started.
    """
    try:
        command = process.cmdline()
        program, arguments = _parse_command(command)
        launch_folder = _working_folder(process, command)
    except (psutil.Error, OSError):
        return None
    named = [real_path(os.path.join(launch_folder, path)) for path in _notebook_paths(arguments)]
    if program == PAPERMILL:
        named = named[-1:] if len(named) <= 2 else []
    elif program is None and any("multiprocessing.spawn" in word for word in command):
        program, named = SCHEDULER, _find_job_notebooks(folder)
    if program is None or len(named) != 1 or not is_notebook_file(named[0]):
        return None
    return ExecutedNotebook(program, named[0])


def find_source(path: str, process: psutil.Process | None) -> Source | None:
    """Return the original of a notebook that was copied in order to be executed.

    Papermill's paths are relative to the folder of ``process``, the launcher of this kernel.
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


def _find_job_notebooks(folder: str | None) -> list[str]:
    """Return the notebook of the jupyter-scheduler job in ``folder``, or in its parent folder."""
    folders = [] if folder is None else [folder, os.path.dirname(folder)]
    jobs = [(root, job) for root in folders if (job := _read_job(root)) is not None]
    return [real_path(os.path.join(root, name)) for root, (name, _) in jobs[:1]]


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
