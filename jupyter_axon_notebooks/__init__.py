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

from . import startup  # noqa: F401 - notes the working directory before code can change it
from ._version import __version__

if TYPE_CHECKING:
    from .training.api import (
        best,
        checkpoint,
        checkpoints,
        get,
        latest,
        log,
        notebook,
        pin,
        resume,
        runs,
        start_run,
        use,
    )
    from .training.checkpoint import Checkpoint
    from .training.run_object import Run

__all__ = [
    "Checkpoint",
    "Run",
    "__version__",
    "best",
    "checkpoint",
    "checkpoints",
    "get",
    "latest",
    "log",
    "notebook",
    "pin",
    "resume",
    "runs",
    "start_run",
    "use",
]


def __getattr__(name: str) -> Any:
    # The API is imported when it is first used: a server does not need it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = {"Checkpoint": ".training.checkpoint", "Run": ".training.run_object"}
    module = modules.get(name, ".training.api")
    value = getattr(importlib.import_module(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Return the entry point of the server extension."""
    from .extension import AxonExtension

    return [{"module": "jupyter_axon_notebooks", "app": AxonExtension}]


def _watch_kernel() -> None:
    """Record what this kernel executes from now on, if this process is one."""
    if "IPython" in sys.modules:
        from .training.execution.shell import current_recorder

        current_recorder()


_watch_kernel()
