"""The notebook or script that this process executes.

It is taken from the first of these sources that has it:

==================== ===============================================================================
source               how
==================== ===============================================================================
``use``              the user called :func:`use`
``AXON_NOTEBOOK``    the environment variable: a path, or the id of a record
``session``          a server of this user has a session with this kernel, which has the notebook's
                     present name; JupyterLab and Notebook 7 use sessions
``JPY_SESSION_NAME`` the server's variable with the name that the notebook had at the start
``VS Code``          the variable that VS Code sets in the kernel
nbconvert, …         the program that executes the notebook (:mod:`.launchers`)
``script``           this is not a kernel, and runs a Python file
``nothing``          none of them, as with a gateway, a prompt or ``python -c``
==================== ===============================================================================

A relative path in the environment, or of a script, is relative to the folder in which the process
was started. If several notebooks are possible, none is taken. A notebook that does not exist gives
way to the next source.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from jupyter_core.paths import jupyter_runtime_dir

from ...errors import NotFound
from ...records import is_record_id
from ...startup import WORKING_FOLDER
from ...sync.files import NOTEBOOK_SUFFIX
from ...userfiles import real_path
from ..execution.shell import current_shell
from .kernel import connection_file, executed_sources, kernel_id, launcher, session_name
from .launchers import find_executed_notebook
from .servers import RunningServer, find_sessions

#: The environment variable in which a user names the notebook.
NOTEBOOK: Final = "AXON_NOTEBOOK"
_VSCODE: Final = "__vsc_ipynb_file__"


@dataclass(frozen=True)
class NotebookLocation:
    """The file or record that a process trains in.

    Attributes
    ----------
    source : str
        What named it, see the module's table.
    path : str or None
        The real path of the notebook or script, which may have been renamed or deleted since.
    record_id : str or None
        The id of the record, if the user named that, or if the notebook is not a file.
    """

    kind: Literal["notebook", "script", "unknown"]
    source: str
    path: str | None = None
    record_id: str | None = None

    @property
    def is_explicit(self) -> bool:
        """True if the user named it, so that it is an error if it does not exist."""
        return self.source in ("use", NOTEBOOK)


_UNKNOWN: Final = NotebookLocation("unknown", "nothing")
_used: NotebookLocation | None = None
#: Relative paths that were resolved before, as the answer must not change with ``chdir``.
_resolved: dict[str, str] = {}


def use(path_or_id: str | os.PathLike[str] | None) -> NotebookLocation | None:
    """Set the notebook by the path of its file, or the id of its record; None unsets it.

    Raises
    ------
    NotFound
        If there is no such file. A record is looked up when it is needed.
    """
    global _used
    found = None if path_or_id is None else _explicit(os.fspath(path_or_id), "use")
    if found is not None and found.path is not None and not os.path.isfile(found.path):
        raise NotFound("file", found.path)
    _used = found
    return found


@contextmanager
def use_if_valid(path_or_id: str | os.PathLike[str]) -> Iterator[None]:
    """Set the notebook as :func:`use` does; undo that if the block fails."""
    global _used
    previous = _used
    use(path_or_id)
    try:
        yield
    except BaseException:
        _used = previous
        raise


def find_location() -> NotebookLocation:
    """Return what this process executes; this may take seconds if servers do not answer."""
    if _used is not None:
        return _used
    if named := os.environ.get(NOTEBOOK):
        return _explicit(named if is_record_id(named) else _absolute_path(named), NOTEBOOK)
    file = connection_file()
    if file is None:
        return _find_script() or _UNKNOWN
    missing = None
    for found in _of_kernel(file):
        if found.record_id is not None or os.path.isfile(found.path or ""):
            return found
        if found.kind == "notebook":  # the session of a console has a name like a script's
            missing = missing or found
    return missing or _UNKNOWN


def _explicit(path_or_id: str, source: str) -> NotebookLocation:
    if is_record_id(path_or_id):
        return NotebookLocation("notebook", source, record_id=path_or_id)
    return _at(os.path.expanduser(path_or_id), source)


def _at(path: str, source: str) -> NotebookLocation:
    kind: Literal["notebook", "script"] = "notebook" if path.endswith(NOTEBOOK_SUFFIX) else "script"
    try:
        return NotebookLocation(kind, source, real_path(path))
    except OSError:  # relative to a working directory that was deleted
        return NotebookLocation(kind, source, path)


def _absolute_path(path: str) -> str:
    """Resolve a path relative to the folder in which this process was started.

    A file that is only in the working directory is taken: the variable may have been set after a
    ``chdir``.
    """
    path = os.path.expanduser(path)
    if os.path.isabs(path):
        return path
    if path not in _resolved:
        started = os.path.join(_start_folder() or "", path)
        is_elsewhere = not os.path.isfile(started) and os.path.isfile(path)
        _resolved[path] = real_path(path) if is_elsewhere else started
    return _resolved[path]


def _start_folder() -> str | None:
    """Return the folder in which this process was started, as far as it is known."""
    if isinstance(folder := getattr(current_shell(), "starting_dir", None), str):
        return folder
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if isinstance(script, str) and os.path.isabs(script):
        # Python has joined the folder and the argument.
        for argument in (*sys.orig_argv[1:], *sys.argv[:1]):
            name = argument.removeprefix(f".{os.sep}")
            if name and not os.path.isabs(name) and script.endswith(os.sep + name):
                return script[: -len(name)]
    if multiprocessing.parent_process() is not None:
        folder = getattr(sys.modules.get("multiprocessing.process"), "ORIGINAL_DIR", None)
        if isinstance(folder, str):
            return folder
    return WORKING_FOLDER


def _of_kernel(file: str) -> Iterator[NotebookLocation]:
    """Yield the possible notebooks of the kernel with this connection file, best first."""
    process = launcher()
    id = kernel_id(file)
    has_session = False
    if id is not None:
        folders = dict.fromkeys([os.path.dirname(file), jupyter_runtime_dir()])
        found = find_sessions(id, folders, None if process is None else process.pid)
        if found is not None:
            for location in _of_sessions(*found):
                has_session = True
                yield location
    # The variable may name a file that is another notebook's by now.
    if not has_session and (name := session_name()) and os.path.isabs(name):
        yield _at(name, "JPY_SESSION_NAME")
    variable = (getattr(current_shell(), "user_ns", None) or {}).get(_VSCODE)
    if isinstance(variable, str) and os.path.isabs(variable):
        yield _at(variable, "VS Code")
    if process is not None:
        executed = find_executed_notebook(process, executed_sources(), _start_folder())
        if executed is not None:
            yield _at(executed.path, executed.program)


def _of_sessions(
    server: RunningServer, sessions: list[dict[str, Any]]
) -> Iterator[NotebookLocation]:
    notebooks = [session for session in sessions if session.get("type") == "notebook"] or sessions
    paths = {session["path"]: server.find_file(session["path"]) for session in notebooks}
    if len(paths) > 1:  # a shared kernel belongs to the notebook that it was started for
        name = os.path.realpath(session_name() or "")
        paths = {path: file for path, file in paths.items() if file == name}
    for path, file in paths.items():
        if file is not None:
            yield _at(file, "session")
        elif (id := server.record_id(path)) is not None:
            yield NotebookLocation("notebook", "session", record_id=id)
        elif path.endswith(NOTEBOOK_SUFFIX):
            yield _at(server.real_path(path), "session")


def _find_script() -> NotebookLocation | None:
    """Return the script of this process, unless it is an installed tool such as pytest."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(path, str) or not os.path.isfile(path := _absolute_path(path)):
        return None
    script = _at(path, "script")
    return None if _is_installed(str(script.path)) else script


def _is_installed(path: str) -> bool:
    if {"site-packages", "dist-packages"} & set(path.split(os.sep)):
        return True
    folders = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "scripts"))
    return any(path.startswith(os.path.realpath(folder) + os.sep) for folder in folders)
