"""Nested dicts, lists and tuples of arrays: NumPy's mappings, JAX's pytrees, state dicts, several modules by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import arrays, stateful
from .reader import read_tree
from .template import PendingRestore, Plan, owned
from .tensorfile import Source, TensorFile
from .tree import Writer

NAMES = "mappings, lists and tuples of arrays (NumPy, JAX), tensors or modules"


def recognises(model: Any) -> bool:
    """Whether ``model`` is one of those, a single array, or another object that gives its state and takes it back."""
    is_tree = isinstance(model, (Mapping, list, tuple)) or stateful.is_stateful(model)
    return is_tree or arrays.is_array(model) or arrays.is_tensor(model)


def encode(model: Any) -> TensorFile:
    """The file of ``model``."""
    writer = Writer()
    return writer.file(writer.value(model, "model", ""), None)


def prepare(source: Source, model: Any, *, trusted: bool) -> PendingRestore:  # noqa: ARG001 - safe whoever wrote it
    """What puts what the file in ``source`` has into ``model`` and returns it; of None, what was stored.

    Raises
    ------
    InvalidData
        If the two do not fit.
    StateCorrupt
        If the file is none.
    """
    stored = read_tree(source)
    plan = Plan()
    if model is None:
        return PendingRestore(plan.begin, lambda: owned(stored))
    step = plan.fit(model, stored, "model", strict=True)
    plan.check("model")
    return PendingRestore(plan.begin, step)
