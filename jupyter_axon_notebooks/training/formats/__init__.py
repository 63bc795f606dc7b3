"""The formats of state files.

A state is a safetensors file, which other programs can read; values other than tensors are JSON in
its metadata. scikit-learn estimators are skops files. Nothing is pickled, and no framework is
imported that is not in use.

* :mod:`.models`, :mod:`.training`: the two files of a checkpoint
* :mod:`.tensor_files`: safetensors files
* :mod:`.arrays`, :mod:`.sharding`: arrays and tensors
* :mod:`.tree`: nested values
* :mod:`.stateful`, :mod:`.pytorch`: objects with a state
* :mod:`.scikit`: estimators
* :mod:`.restore_plan`: restoring stored values into existing objects
* :mod:`.rng`: the states of random generators
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final

from .models import EncodedState, Format, TreeFormat, encode_model, prepare_model
from .restore_plan import PendingRestore, list_immutable, list_replaced
from .tensor_files import Source
from .training import RestoredTraining, encode_training, prepare_training

__all__ = [
    "EncodedState",
    "Format",
    "PendingRestore",
    "RestoredTraining",
    "Source",
    "encode_model",
    "encode_training",
    "explain_immutable",
    "explain_replaced",
    "leave_inference_mode",
    "prepare_model",
    "prepare_training",
]

#: The largest number of places in a message.
_MAX_LISTED: Final = 4


def explain_immutable(model: Any, optimizer: Any, extra: Any) -> str | None:
    """Explain which parts of a training cannot be set in place; return None if all can."""
    targets = {"model": model, "optimizer": optimizer, "extra": extra}
    found = [
        place
        for name, target in targets.items()
        if name != "model" or TreeFormat().recognizes(target)
        for place in list_immutable(target, name)
    ]
    if not found:
        return None
    names = [name for name, target in targets.items() if target is not None]
    variables = {"model": "params", "optimizer": "opt_state", "extra": "extra"}
    return (
        f"{_list_places(found)} cannot be set in place: arrays of JAX, tuples, numbers and texts "
        "are immutable. Pass in_place=False and use what is returned: if resumed: "
        f"{', '.join(variables[name] for name in names)} = "
        f"{', '.join(f'resumed.{name}' for name in names)}"
    )


def explain_replaced(model: Any, optimizer: Any, extra: Any) -> str | None:
    """Explain which entries of dicts and lists of a training were replaced; None if there are none.

    Only arrays in ``extra`` and tuples are reported, since the user often has them in variables,
    which still have the old values.
    """
    targets = {"model": model, "optimizer": optimizer, "extra": extra}
    found = [
        f"resumed.{name}{place}"
        for name, target in targets.items()
        for place in list_replaced(target, include_arrays=name == "extra")
    ]
    if not found:
        return None
    return (
        "Variables still have the old values of immutable entries that were replaced in a dict or "
        f"list. Take the restored values from {_list_places(found)}."
    )


def _list_places(found: list[str]) -> str:
    more = f" and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
    return ", ".join(found[:_MAX_LISTED]) + more


@contextlib.contextmanager
def leave_inference_mode() -> Iterator[None]:
    """Leave PyTorch's inference mode: tensors that are created in it cannot be trained later."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield
