"""IPython's shell, if this process has one."""

from __future__ import annotations

import sys
from typing import Any


def current_shell() -> Any:
    """Return IPython's shell; None where there is none, or where something else stands in for it.

    Consoles of editors, other kernels and tests have a ``get_ipython`` that returns objects of their own. They promise
    none of what an ``InteractiveShell`` has, so that a process with one of them is treated as a plain script.
    IPython is not imported for this.
    """
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    kind = getattr(sys.modules.get("IPython.core.interactiveshell"), "InteractiveShell", None)
    if get_ipython is None or not isinstance(kind, type):
        return None
    try:
        shell = get_ipython()
        return shell if isinstance(shell, kind) else None
    except Exception:  # noqa: BLE001 - whatever else raises here, it is no shell
        return None
