"""The two state files of a checkpoint: of the model, and of the training.

A model has one format per kind of model. The file of a training has its optimizer, other objects,
and the random generators.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from ..distributed import process_rank
from ..messages import print_message
from . import arrays, objects
from .arrays import type_name
from .restore_plan import PendingRestore, RestorePlan, copy_values, list_immutable
from .rng import check_rng_states, get_rng_states, seed_rank, select_rank, set_rng_states
from .scikit import SkopsFormat, is_skops
from .tensor_files import Source, TensorFile, corrupt
from .tree import TreeWriter, read_tree


class EncodedState(Protocol):
    """A state to be written, which refers to the tensors instead of copying them."""

    @property
    def format(self) -> str:
        """``safetensors`` or ``skops``."""
        ...

    @property
    def size(self) -> int:
        """The exact number of bytes of :meth:`chunks`."""
        ...

    def chunks(self) -> Iterator[memoryview]:
        """Yield the bytes of the file; can be called again."""
        ...


class Format(Protocol):
    """The file format of one kind of models; all are listed in ``_FORMATS``.

    A format must recognize its models without importing their framework, by ``sys.modules``.
    """

    #: The models, for error messages.
    models: str

    def recognizes(self, model: Any) -> bool:
        """Return whether ``model`` is stored in this format."""
        ...

    def encode(self, model: Any) -> EncodedState:
        """Encode the file of ``model``; raise TypeError if it cannot be saved."""
        ...

    def prepare(self, source: Source, model: Any, *, trusted: bool) -> PendingRestore:
        """Read a file and compare it with ``model``, or prepare to return a new model."""
        ...


class TreeFormat:
    """Nested dicts, lists and tuples of arrays: mappings of NumPy, pytrees of JAX, state dicts."""

    models = "mappings, lists and tuples of arrays (NumPy, JAX), tensors or modules"

    def recognizes(self, model: Any) -> bool:
        """Return whether ``model`` is a tree, an array, or an object with a state."""
        is_tree = isinstance(model, (Mapping, list, tuple)) or objects.is_stateful(model)
        return is_tree or arrays.is_numeric(model)

    def encode(self, model: Any) -> TensorFile:
        """Encode the file of ``model``."""
        writer = TreeWriter()
        return writer.make_file(writer.encode(model, ""), None)

    def prepare(
        self,
        source: Source,
        model: Any,
        *,
        trusted: bool,  # noqa: ARG002 - reading is always safe
    ) -> PendingRestore:
        """Read and compare a file that restores ``model``."""
        stored = read_tree(source)
        plan = RestorePlan()
        if model is None:
            return PendingRestore(plan.begin, lambda: copy_values(stored))
        step = plan.fit(model, stored, "model", strict=True)
        plan.check("model")
        return PendingRestore(plan.begin, step)


class ModuleFormat(TreeFormat):
    """PyTorch modules: a file of their state dict, which other programs can read as such."""

    models = "PyTorch modules"

    def recognizes(self, model: Any) -> bool:
        """Return whether ``model`` is a module."""
        return objects.is_module(model)

    def encode(self, model: Any) -> TensorFile:
        """Encode the file of ``model``."""
        writer = TreeWriter()
        return writer.make_file(writer.encode_state(model, ""), "pt")


_SKOPS: Final = SkopsFormat()
_TREES: Final = TreeFormat()
#: The largest number of places in a message.
_MAX_LISTED: Final = 4
#: The first format that recognizes a model is used.
_FORMATS: Final[tuple[Format, ...]] = (ModuleFormat(), _SKOPS, _TREES)


def encode_model(model: Any) -> EncodedState:
    """Encode the state file of a model; raise TypeError if it cannot be saved."""
    return _find_format(model).encode(model)


def prepare_model(source: Source, model: Any | None, *, trusted: bool = False) -> PendingRestore:
    """Read and compare a file that restores ``model``, in place where possible, and returns it.

    Without a model it returns the stored values. Nothing changes before the result is called, so
    that either all files of a checkpoint are restored or none.

    With ``trusted``, create all types that a skops file names, also if another user wrote it.
    Raises InvalidData if the model does not fit the file, or the file is not trusted.
    """
    if model is None:
        format: Format = _SKOPS if is_skops(source) else _TREES
    else:
        format = _find_format(model)
    return format.prepare(source, model, trusted=trusted)


def _find_format(model: Any) -> Format:
    for format in _FORMATS:
        if format.recognizes(model):
            return format
    supported = "; ".join(format.models for format in _FORMATS)
    raise TypeError(f"model: a {type_name(model)} cannot be saved; supported are: {supported}")


class RestoredTraining(NamedTuple):
    """The restored objects; stored values for objects that were not given."""

    optimizer: Any
    extra: Any


def encode_training(optimizer: Any, extra: Any, *, ranks: list[Any] | None = None) -> TensorFile:
    """Encode the state file of a training, with the states of the random generators.

    ``ranks`` are the states of the generators of the other processes by rank; None where unknown.
    Raises TypeError if something cannot be saved; says where it is and what to do.
    """
    writer = TreeWriter()
    states = get_rng_states()
    if ranks is not None:
        states["ranks"] = ranks
    tree = {
        "optimizer": writer.encode(optimizer, "optimizer"),
        "extra": writer.encode(extra, "extra"),
        "rng": writer.encode(states, "rng"),
    }
    return writer.make_file(tree, None)


def prepare_training(
    source: Source, optimizer: Any | None, extra: Any | None, *, rng: bool
) -> PendingRestore:
    """Read and compare a file that restores ``optimizer``, ``extra`` and the random generators.

    ``extra`` may have less than is stored: the rest is added to its dicts and lists. Raises
    InvalidData if the objects do not fit the file, and StateCorrupt or StateError if the file is
    not valid, or cannot be read.
    """
    tree = read_tree(source)
    if not isinstance(tree, dict) or tree.keys() != {"optimizer", "extra", "rng"}:
        raise corrupt(source.path, "it is not the state of a training")
    states = tree["rng"]
    own, message, here = None, "", process_rank()
    if rng:
        check_rng_states(source.path, states)
        own, message = select_rank(states, here.rank, here.size)
        if own is not None:
            check_rng_states(source.path, own)
    plan = RestorePlan()
    steps = []
    for name, target in (("optimizer", optimizer), ("extra", extra)):
        stored = tree[name]
        if target is None:
            steps.append(plan.copy(stored))
        elif stored is None:
            plan.refuse(f"it has no {name}")
        else:
            steps.append(plan.fit(target, stored, name, strict=name == "optimizer"))
        plan.check(name)

    def finish() -> RestoredTraining:
        restored = RestoredTraining(*(step() for step in steps))
        if rng:
            if own is not None:
                set_rng_states(own)
            else:
                seed_rank(states, here.rank)
            if message and here.rank == 0:
                print_message(message)
        return restored

    return PendingRestore(plan.begin, finish)


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
        f"{', '.join(found[:_MAX_LISTED])} cannot be set in place: arrays of JAX, "
        "tuples, numbers and texts are immutable. "
        "Pass in_place=False and use what is returned: if resumed: "
        f"{', '.join(variables[name] for name in names)} = "
        f"{', '.join(f'resumed.{name}' for name in names)}"
    )
