"""Which notebook is this? Asked from inside, where nobody says it outright.

The first of these that tells it:

==================== ==================================================================================================
found by             how
==================== ==================================================================================================
``use``              the user said so, :func:`use`
``AXON_NOTEBOOK``    the environment says so: a path, or a record's id
``session``          a server of this user has a session of this kernel (by the id in the connection file's name). Right
                     after a rename as well. JupyterLab, Notebook 7, and whatever else starts its kernels by sessions
``JPY_SESSION_NAME`` what the server said when it started the kernel; outdated by a rename
``VS Code``          the variable that VS Code puts into the kernel
nbconvert, …         the program that executes the notebook names it on its command line, or leaves it in a folder of the
                     job (:mod:`.launchers`)
``script``           this is no kernel, and runs a Python file
``nothing``          none of them: a library executes the notebook, a gateway, a prompt, ``python -c``
==================== ==================================================================================================

A relative path in the environment, or of a script, is resolved once, against the folder that the process was started in:
``%cd`` changes no notebook. Never a guess that could take one notebook for another: where several would do, none is taken. What a session or a variable
names but is not there (VS Code makes up names for its sessions) gives way to what is.
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
from ...startup import imported_in
from ...sync.files import NOTEBOOK_SUFFIX
from ...userfiles import real_path
from ..execution.shell import current_shell
from .kernel import connection_file, executed_sources, kernel_id, launcher, session_name
from .launchers import launched_by
from .servers import RunningServer, sessions_of

#: The environment variable in which a user says which notebook it is.
NOTEBOOK: Final = "AXON_NOTEBOOK"
_VSCODE: Final = "__vsc_ipynb_file__"


@dataclass(frozen=True)
class NotebookLocation:
    """Where training happens.

    Attributes
    ----------
    path : str or None
        The real path of the notebook's file, or the script's. It may be gone: renamed since it was named.
    record_id : str or None
        The record's id, where that is what was named, or where the notebook is no file.
    """

    kind: Literal["notebook", "script", "unknown"]
    found_by: str
    path: str | None = None
    record_id: str | None = None

    @property
    def is_named(self) -> bool:
        """Whether the user said it; what is named and not there is an error then."""
        return self.found_by in ("use", NOTEBOOK)


_used: NotebookLocation | None = None


def use(path_or_id: str | os.PathLike[str] | None) -> NotebookLocation | None:
    """Say which notebook this is: the path of its file, or of a script, or the id of a record. None takes it back.

    Raises
    ------
    NotFound
        When there is no such file. A record is looked for when it is needed.
    """
    global _used
    place = None if path_or_id is None else _named(os.fspath(path_or_id), "use")
    if place is not None and place.path is not None and not os.path.isfile(place.path):
        raise NotFound("file", place.path)
    _used = place
    return place


@contextmanager
def using(path_or_id: str | os.PathLike[str]) -> Iterator[None]:
    """Say which notebook this is, as :func:`use` does; taken back if what follows fails."""
    global _used
    before = _used
    use(path_or_id)
    try:
        yield
    except BaseException:
        _used = before
        raise


def find_location() -> NotebookLocation:
    """Which notebook this is; never fails, and takes some seconds at most where servers do not answer."""
    if _used is not None:
        return _used
    if named := os.environ.get(NOTEBOOK):
        return _named(named if is_record_id(named) else _absolute(named), NOTEBOOK)
    file = connection_file()
    if file is None:
        return _script() or NotebookLocation("unknown", "nothing")
    missing = None
    for place in _of_kernel(file):
        if place.record_id is not None or os.path.isfile(place.path or ""):
            return place
        if place.kind == "notebook":  # a console's name looks like a file's as well
            missing = missing or place
    return missing or NotebookLocation("unknown", "nothing")


def _named(path_or_id: str, found_by: str) -> NotebookLocation:
    if is_record_id(path_or_id):
        return NotebookLocation("notebook", found_by, record_id=path_or_id)
    return _at(os.path.expanduser(path_or_id), found_by)


def _at(path: str, found_by: str) -> NotebookLocation:
    kind: Literal["notebook", "script"] = "notebook" if path.endswith(NOTEBOOK_SUFFIX) else "script"
    try:
        return NotebookLocation(kind, found_by, real_path(path))
    except OSError:  # relative to a working directory that was deleted
        return NotebookLocation(kind, found_by, path)


#: Relative paths of the environment and of scripts that were resolved before.
_resolved: dict[str, str] = {}


def _absolute(path: str) -> str:
    """Resolve a path against the folder that this process was started in; the answer stays the same after ``chdir``.

    A file that is only in the working directory is that file: the variable may have been set after a ``chdir``.
    """
    path = os.path.expanduser(path)
    if os.path.isabs(path):
        return path
    if path not in _resolved:
        started = os.path.join(_started_in() or "", path)
        is_elsewhere = not os.path.isfile(started) and os.path.isfile(path)
        _resolved[path] = real_path(path) if is_elsewhere else started
    return _resolved[path]


def _started_in() -> str | None:
    """Return the folder that this process was started in, as far as it can be told after ``chdir``."""
    if isinstance(folder := getattr(current_shell(), "starting_dir", None), str):
        return folder
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if isinstance(script, str) and os.path.isabs(script):
        for argument in (
            *sys.orig_argv[1:],
            *sys.argv[:1],
        ):  # Python joined folder and argument when it started
            name = argument.removeprefix(f".{os.sep}")
            if name and not os.path.isabs(name) and script.endswith(os.sep + name):
                return script[: -len(name)]
    if (
        multiprocessing.parent_process() is not None
    ):  # a spawned child is told where its parent was started
        folder = getattr(sys.modules.get("multiprocessing.process"), "ORIGINAL_DIR", None)
        if isinstance(folder, str):
            return folder
    return imported_in


def _of_kernel(file: str) -> Iterator[NotebookLocation]:
    """What can be known of the notebook of a kernel with this connection file, best first."""
    process = launcher()
    id = kernel_id(file)
    is_in_session = False
    if id is not None:
        folders = dict.fromkeys([os.path.dirname(file), jupyter_runtime_dir()])
        found = sessions_of(id, folders, None if process is None else process.pid)
        if found is not None:
            for place in _in_session(*found):
                is_in_session = True
                yield place
    # The session has the present name, even of a file that is gone; the variable may name what is another's by now.
    if not is_in_session and (name := session_name()) and os.path.isabs(name):
        yield _at(name, "JPY_SESSION_NAME")
    variable = (getattr(current_shell(), "user_ns", None) or {}).get(_VSCODE)
    if isinstance(variable, str) and os.path.isabs(variable):
        yield _at(variable, "VS Code")
    launched = None if process is None else launched_by(process, executed_sources(), _started_in())
    if launched is not None:
        yield _at(launched.path, launched.program)


def _in_session(
    server: RunningServer, sessions: list[dict[str, Any]]
) -> Iterator[NotebookLocation]:
    notebooks = [session for session in sessions if session.get("type") == "notebook"] or sessions
    paths = {session["path"]: server.file(session["path"]) for session in notebooks}
    if len(paths) > 1:  # several notebooks share a kernel: it is of the one that it was started for
        name = os.path.realpath(session_name() or "")
        paths = {path: real for path, real in paths.items() if real == name}
    for path, real in paths.items():
        if real is not None:
            yield _at(real, "session")
        elif (id := server.record_id(path)) is not None:
            yield NotebookLocation("notebook", "session", record_id=id)
        elif path.endswith(NOTEBOOK_SUFFIX):
            yield _at(server.path(path), "session")


def _script() -> NotebookLocation | None:
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(path, str) or not os.path.isfile(path := _absolute(path)):
        return None
    place = _at(path, "script")
    # What is installed is a tool, as pytest is: everything that it runs would be one record.
    return None if _is_installed(str(place.path)) else place


def _is_installed(path: str) -> bool:
    folders = {
        os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "scripts")
    }
    parts = path.split(os.sep)
    return (
        "site-packages" in parts
        or "dist-packages" in parts
        or any(path.startswith(f + os.sep) for f in folders)
    )
