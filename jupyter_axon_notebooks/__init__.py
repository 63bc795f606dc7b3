"""Durable training-notebook records and checkpoints for Jupyter."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter Server finds the extension."""
    from .extension import AxonExtension

    return [{"module": "jupyter_axon_notebooks", "app": AxonExtension}]
