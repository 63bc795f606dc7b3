"""The kernel that this process is, if it is one: its id, launcher and history.

A process inherits environment variables from the kernel that started it. So they are used in the
kernel that they were meant for only.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from typing import Final

import psutil

from ...userfiles import read_regular
from ..execution.shell import current_shell

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


def executed_sources() -> list[str]:
    """Return the sources of the executed cells, the running one last."""
    history = getattr(current_shell(), "history_manager", None)
    return [str(source) for source in (getattr(history, "input_hist_raw", None) or [""])[1:]]
