"""The state files of models, in one format per kind of model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from . import arrays, stateful
from .arrays import type_name
from .restore_plan import PendingRestore, RestorePlan, copy_values
from .scikit import SkopsFormat, is_skops
from .tensor_files import Source, TensorFile
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
        """Encode the file of ``model``; raise TypeError if it cannot be kept."""
        ...

    def prepare(self, source: Source, model: Any, *, trusted: bool) -> PendingRestore:
        """Read a file and compare it with ``model``, or prepare to return a new model."""
        ...


class TreeFormat:
    """Nested dicts, lists and tuples of arrays: mappings of NumPy, pytrees of JAX, state dicts."""

    models = "mappings, lists and tuples of arrays (NumPy, JAX), tensors or modules"

    def recognizes(self, model: Any) -> bool:
        """Return whether ``model`` is a tree, an array, or an object with a state."""
        is_tree = isinstance(model, (Mapping, list, tuple)) or stateful.is_stateful(model)
        return is_tree or arrays.is_numeric(model)

    def encode(self, model: Any) -> TensorFile:
        """Encode the file of ``model``."""
        writer = TreeWriter()
        return writer.make_file(writer.encode(model, "model", ""), None)

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
        return stateful.is_module(model)

    def encode(self, model: Any) -> TensorFile:
        """Encode the file of ``model``."""
        try:
            state = stateful.get_nested_state(model)
        except TypeError as error:
            raise TypeError(f"model: {error}") from None
        # Tensors first, so that no tensor within another value gets the name of one of them.
        ordered = sorted(state.items(), key=lambda item: not arrays.is_tensor(item[1]))
        writer = TreeWriter()
        return writer.make_file(writer.encode(dict(ordered), "model", ""), "pt")


_SKOPS: Final = SkopsFormat()
_TREES: Final = TreeFormat()
#: The first format that recognizes a model is used.
_FORMATS: Final[tuple[Format, ...]] = (ModuleFormat(), _SKOPS, _TREES)


def encode_model(model: Any) -> EncodedState:
    """Encode the state file of a model.

    Raises
    ------
    TypeError
        If it cannot be kept; says why, where, and what to do.
    """
    return _find_format(model).encode(model)


def prepare_model(source: Source, model: Any | None, *, trusted: bool = False) -> PendingRestore:
    """Read and compare a file that restores ``model``, in place where possible, and returns it.

    Without a model it returns the stored values. Nothing changes before the result is called, so
    that either all files of a checkpoint are restored or none.

    Parameters
    ----------
    trusted : bool
        Whether to create all types that a skops file names, also if another user wrote it.

    Raises
    ------
    InvalidData
        If the model does not fit the file, or skops does not trust the file of another user.
    TypeError
        If the model cannot be kept in any format.
    StateCorrupt, StateError
        If the file is not valid, or cannot be read.
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
    raise TypeError(f"model: a {type_name(model)} cannot be kept; supported are: {supported}")
