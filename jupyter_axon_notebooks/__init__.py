"""Durable training-notebook records and checkpoints for Jupyter."""

from __future__ import annotations

from typing import Any

from ._version import __version__

__all__ = ["__version__"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter Server finds the extension."""
    from .extension import AxonExtension

    return [{"module": "jupyter_axon_notebooks", "app": AxonExtension}]
