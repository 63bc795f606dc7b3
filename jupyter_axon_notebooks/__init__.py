"""Durable training-notebook records and checkpoints for Jupyter."""

from __future__ import annotations

import sys
from typing import Any

from ._version import __version__

__all__ = ["__version__"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter Server finds the extension."""
    from .extension import AxonExtension

    return [{"module": "jupyter_axon_notebooks", "app": AxonExtension}]


def _watch_kernel() -> None:
    """Note from now on what the kernel executes, where this is imported in one."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if get_ipython is None else get_ipython()
    if shell is not None:
        from .training.executed import watch

        watch(shell)


_watch_kernel()
