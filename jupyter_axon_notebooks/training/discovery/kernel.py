"""The kernel that this process is, if it is one: which, who launched it, and what runs in it.

What a kernel finds in its environment is inherited by whatever it starts, so that a script or another program's kernel
under it finds the same. None of it counts but in the kernel that it was meant for.
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
#: The variable in which a launcher gives its own process id.
_PARENT: Final = "JPY_PARENT_PID"
#: Bytes beyond which it is no connection file.
_LONGEST: Final = 1 << 16
_KERNEL_ID: Final = re.compile(r"kernel-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.json")


def connection_file() -> str | None:
    """The connection file of the kernel that this process is, or was spawned by; None where it is none."""
    module = sys.modules.get("ipykernel.kernelapp")
    app = getattr(module, "IPKernelApp", None)
    with suppress(Exception):  # what stands in for ipykernel may lack anything
        if app is not None and app.initialized():
            file = getattr(app.instance(), "abs_connection_file", None)
            if isinstance(file, str):
                return file
    # Other kernels, and processes that multiprocessing spawned, which have their parent's arguments.
    for flag, file in zip(sys.argv, sys.argv[1:], strict=False):
        if flag == "-f" and _is_connection_file(file):
            return os.path.abspath(file)
    return None


def _is_connection_file(file: str) -> bool:
    # The flag may be any program's, and name anything.
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(read_regular(file, _LONGEST))
        return isinstance(content, dict) and {"shell_port", "key"} <= content.keys()
    return False


def kernel_id(file: str) -> str | None:
    """The id that a server knows a kernel by, from its connection file's name; None for another launcher's."""
    match = _KERNEL_ID.fullmatch(os.path.basename(file))
    return None if match is None else match[1]


def launcher() -> psutil.Process | None:
    """Who launched this kernel, if that can be seen from here."""
    with suppress(ValueError, OverflowError, psutil.Error):
        return psutil.Process(int(os.environ.get(_PARENT, "")))
    return None


def session_name() -> str | None:
    """The path that a server started this kernel for: the notebook's, unless it was renamed since."""
    name = os.environ.get(_SESSION_NAME)
    process = launcher()
    if name and process is not None:
        with suppress(psutil.Error, OSError):
            if process.environ().get(_SESSION_NAME) == name:
                return None  # what launched this kernel was started in that session, and this kernel is not of it
    return name or None


def executed_sources() -> list[str]:
    """The sources of the cells that were executed here, in order, with the one that is running."""
    history = getattr(current_shell(), "history_manager", None)
    return [str(source) for source in (getattr(history, "input_hist_raw", None) or [""])[1:]]
