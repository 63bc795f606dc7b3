"""Durable training-notebook records and checkpoints for Jupyter.

In a notebook::

    import jupyter_axon_notebooks as axon

    resumed = axon.resume(model, optimizer)
    for epoch in range(resumed.epoch + 1 if resumed else 0, 20):
        ...
        axon.checkpoint(model, optimizer, epoch=epoch, metrics={"val_loss": val_loss})

    axon.best("val_loss").restore(model, optimizer)
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from . import startup  # noqa: F401 - while the process is where it was started
from ._version import __version__

if TYPE_CHECKING:
    from .training.api import best, checkpoint, checkpoints, get, latest, notebook, pin, resume, use
    from .training.checkpoint import Checkpoint

#: The notebook API, and where it lies: imported when it is first asked for, since a server has no use for it, and a
#: notebook's first cell should not wait for it.
_API = dict.fromkeys(
    ("best", "checkpoint", "checkpoints", "get", "latest", "notebook", "pin", "resume", "use"),
    ".training.api",
) | {"Checkpoint": ".training.checkpoint"}

__all__ = [
    "Checkpoint",
    "__version__",
    "best",
    "checkpoint",
    "checkpoints",
    "get",
    "latest",
    "notebook",
    "pin",
    "resume",
    "use",
]


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_API[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter Server finds the extension."""
    from .extension import AxonExtension

    return [{"module": "jupyter_axon_notebooks", "app": AxonExtension}]


def _watch_kernel() -> None:
    """Note from now on what the kernel executes, where this is imported in one."""
    if "IPython" in sys.modules:
        from .training.execution import watch_shell

        watch_shell()


_watch_kernel()
