"""What a state is on disk.

Tensors are kept in safetensors, everything else as JSON in its metadata, so that a state is one file that other programs read
too; scikit-learn estimators by skops. Nothing is ever pickled, and no framework is imported that is not in use.

* :mod:`.tensorfile`: safetensors files, written piece by piece, and checked before they are read
* :mod:`.arrays`: NumPy arrays and PyTorch tensors in them
* :mod:`.tree`, :mod:`.reader`: nested values, as JSON and tensors
* :mod:`.stateful`, :mod:`.pytorch`: objects that give their state and take it back
* :mod:`.template`: what was read, put into objects that are there
* :mod:`.modules`, :mod:`.scikit`, :mod:`.pytree`: models by framework; another one is a further module in the table below
* :mod:`.training`, :mod:`.rng`: the optimizer, what else has state, and the random generators
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final, Protocol

from . import modules, pytree, scikit
from .arrays import type_name
from .template import PendingRestore, list_immutable, list_replaced
from .tensorfile import Source, reading
from .training import RestoredTraining, encode_training, prepare_training

__all__ = [
    "EncodedState",
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
    "restore_model",
    "restore_training",
]


class EncodedState(Protocol):
    """A state ready to be written. It refers to tensors rather than copying them: what changes them changes it.

    What :meth:`StateStorage.writer` is to be told is known before the first byte.
    """

    @property
    def format(self) -> str:
        """``safetensors`` or ``skops``."""
        ...

    @property
    def size(self) -> int:
        """The bytes that :meth:`chunks` will give, exactly."""
        ...

    def chunks(self) -> Iterator[memoryview]:
        """The bytes of the file, piece by piece; can be asked for again."""
        ...


class Format(Protocol):
    """How the models of a framework are kept. It knows them without importing it, by what is in ``sys.modules``."""

    #: The models it is for, for a person.
    NAMES: str

    def recognises(self, model: Any) -> bool: ...

    def encode(self, model: Any) -> EncodedState: ...

    def prepare(self, source: Source, model: Any, *, trusted: bool) -> PendingRestore: ...


#: The first that recognises a model keeps it.
_FORMATS: Final[tuple[Format, ...]] = (modules, scikit, pytree)
#: Places that a message names.
_MOST_LISTED: Final = 4


def encode_model(model: Any) -> EncodedState:
    """The file of a model.

    Raises
    ------
    TypeError
        If it is none that can be kept, or has something that cannot; says what, where, and what to do.
    """
    return _format_of(model).encode(model)


def prepare_model(source: Source, model: Any | None, *, trusted: bool = False) -> PendingRestore:
    """What sets ``model`` to what the file in ``source`` has, in place where it can be, and returns it.

    Of None, what returns what was stored. All is read and compared here, so that several files are restored or none; see :class:`PendingRestore`.

    Parameters
    ----------
    trusted : bool
        Whether to make whatever a skops file asks for, also if this user did not write it. Only of use for scikit-learn.

    Raises
    ------
    InvalidData
        If the two do not fit, or it is another's and skops does not trust what is in it.
    TypeError
        If it is no model that can be kept.
    StateCorrupt, StateError
        If the file is none, or cannot be read.
    """
    if model is None:
        known: Format = scikit if scikit.is_skops(source) else pytree
        return known.prepare(source, None, trusted=trusted)
    return _format_of(model).prepare(source, model, trusted=trusted)


def restore_model(path: str, model: Any | None, *, trusted: bool = False) -> Any:
    """Do what :func:`prepare_model` prepares, at once, with the file at ``path``.

    Raises as it does, and :class:`NotFound` if there is none; then nothing has changed but objects that were set before one that refused its state.
    """
    with leave_inference_mode():
        with reading(path) as source:
            restore = prepare_model(source, model, trusted=trusted)
        return restore()


def restore_training(
    path: str, optimizer: Any | None, extra: Any | None, *, rng: bool, trusted: bool = False
) -> RestoredTraining:
    """Do what :func:`prepare_training` prepares, at once, with the file at ``path``; raises as :func:`restore_model` does."""
    with leave_inference_mode():
        with reading(path) as source:
            restore = prepare_training(source, optimizer, extra, rng=rng, trusted=trusted)
        restored: RestoredTraining = restore()
        return restored


def explain_immutable(model: Any, optimizer: Any, extra: Any) -> str | None:
    """Say what of a training cannot be set in place, such as a tuple of JAX arrays, and what to do; None if all can be."""
    given = {"model": model, "optimizer": optimizer, "extra": extra}
    found = [
        place
        for name, template in given.items()
        if name != "model" or pytree.recognises(template)
        for place in list_immutable(template, name)
    ]
    if not found:
        return None
    more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    names = [name for name, template in given.items() if template is not None]
    variables = {"model": "params", "optimizer": "opt_state", "extra": "extra"}
    return (
        f"{', '.join(found[:_MOST_LISTED])}{more} cannot be set in place: arrays of JAX, tuples, numbers and texts do not change. "
        "Give in_place=False and take what is restored: if resumed: "
        f"{', '.join(variables[name] for name in names)} = {', '.join(f'resumed.{name}' for name in names)}"
    )


def explain_replaced(model: Any, optimizer: Any, extra: Any) -> str | None:
    """Say which entries of the dicts and lists of a training were replaced, and where they are; None if there are none.

    A tree of parameters, whose entries are arrays of JAX, is used by itself; arrays beside other things, as in ``extra``, and
    tuples have variables of their own.
    """
    given = {"model": model, "optimizer": optimizer, "extra": extra}
    found = [
        f"resumed.{name}{place}"
        for name, template in given.items()
        for place in list_replaced(template, arrays_too=name == "extra")
    ]
    if not found:
        return None
    more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    return (
        "Variables still hold the old values of what cannot be set in place and was replaced in a dict or list. "
        f"Take the restored values from {', '.join(found[:_MOST_LISTED])}{more}."
    )


@contextlib.contextmanager
def leave_inference_mode() -> Iterator[None]:
    """Leave PyTorch's inference mode meanwhile: tensors that are made in it cannot be trained on after it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def _format_of(model: Any) -> Format:
    for format in _FORMATS:
        if format.recognises(model):
            return format
    raise TypeError(
        f"model: a {type_name(model)} cannot be kept; what can: {'; '.join(format.NAMES for format in _FORMATS)}"
    )
