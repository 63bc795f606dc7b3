"""PyTorch modules as models: a file of their state dict, which other programs read as one."""

from __future__ import annotations

from typing import Any

from . import arrays, stateful
from .pytree import prepare
from .tensorfile import TensorFile
from .tree import Writer

__all__ = ["NAMES", "encode", "prepare", "recognises"]

NAMES = "PyTorch modules"


def recognises(model: Any) -> bool:
    """Whether ``model`` is a module."""
    return stateful.is_module(model)


def encode(model: Any) -> TensorFile:
    """The file of ``model``."""
    try:
        state = stateful.whole_state_of(model)
    except TypeError as error:
        raise TypeError(f"model: {error}") from None
    # Tensors first, so that none within another value takes a name that is theirs.
    ordered = sorted(state.items(), key=lambda item: not arrays.is_tensor(item[1]))
    writer = Writer()
    return writer.file(writer.value(dict(ordered), "model", ""), "pt")
