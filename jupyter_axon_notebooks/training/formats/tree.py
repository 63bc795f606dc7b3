"""Nested values, as JSON and tensors beside it, and back with their exact types.

JSON's own values stand for themselves; everything else is an object with its kind under ``"$"``::

    {"lr": 0.1, "betas": {"$": "tuple", "items": [0.9, 0.999]}, "exp_avg": {"$": "tensor", "name": "optimizer.exp_avg"}}

The tensors are in the same safetensors file, one for all names of the same memory. :mod:`.reader` makes values of it again,
none but of the kinds that are listed there, so nothing that a file says runs code.
"""

from __future__ import annotations

import collections
import json
import math
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from . import arrays, sharding, stateful
from .arrays import Described, type_name
from .tensorfile import Tensor, TensorFile

#: Where in a file's metadata the JSON is, and the newest form of it that is known here.
KEY: Final = "axon"
VERSION: Final = 1
#: Levels of nesting that are written and read; the interpreter itself gives up at some hundreds.
DEEPEST: Final = 64
#: The key that tells of what kind an object is.
KIND: Final = "$"
#: From here on JSON's integers are not everybody's.
_PLAIN_INTEGER: Final = 1 << 63


class Writer:
    """Collects values, and the tensors in them."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._held: list[Any] = []
        self._above: list[int] = []

    def value(self, value: Any, where: str, name: str) -> Any:
        """The JSON that stands for ``value``.

        Parameters
        ----------
        where : str
            What a person calls the value, for errors: ``extra["scheduler"]``.
        name : str
            What its tensors are named after.

        Raises
        ------
        TypeError
            For what cannot be kept; says where it is and what to do.
        """
        kind = type(value)
        if value is None or kind is bool or (kind is int and abs(value) < _PLAIN_INTEGER):
            return value
        if kind is str or (kind is float and math.isfinite(value)):
            return value
        if kind in _ATOMS:
            return {KIND: _ATOMS[kind], "value": _ATOM_TEXTS[kind](value)}
        if arrays.is_tensor(value):
            return self._tensor(value, where, name)
        if arrays.is_key(value):
            return self._key(value, where, name)
        if arrays.is_array(value):
            return self._array(value, where, name)
        if arrays.is_scalar(value):
            return self._scalar(value, where)
        if len(self._above) >= DEEPEST:
            raise TypeError(f"{where}: nested more than {DEEPEST} levels deep, which is not kept")
        if id(value) in self._above:
            raise TypeError(f"{where}: refers back to what it is part of, which is not kept")
        self._above.append(id(value))
        try:
            return self._branch(value, where, name)
        finally:
            self._above.pop()

    def file(self, tree: Any, framework: str | None) -> TensorFile:
        """The file of all that was collected, with ``tree`` to say what it is."""
        text = json.dumps({"version": VERSION, "tree": tree}, separators=(",", ":"))
        metadata = {"format": framework} if framework else {}
        return TensorFile(self._tensors, {**metadata, KEY: text})

    def _branch(self, value: Any, where: str, name: str) -> Any:
        kind = type(value)
        if kind is list:
            return self._items(value, where, name)
        if kind is dict:
            return self._dict(value, where, name)
        if kind in (set, frozenset) and any(map(arrays.is_tensor, value)):
            raise TypeError(f"{where}: a set of tensors is not kept; make it a list")
        if kind in _SEQUENCES:
            tagged = {KIND: _SEQUENCES[kind], "items": self._items(value, where, name)}
            return {**tagged, "longest": value.maxlen} if kind is collections.deque else tagged
        if kind in _MAPPINGS:
            return {KIND: _MAPPINGS[kind], "items": self._pairs(value, where, name)}
        if kind is collections.defaultdict and value.default_factory in FACTORIES:
            items = self._pairs(value, where, name)
            return {KIND: "defaultdict", "of": FACTORIES[value.default_factory], "items": items}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            of = [kind.__module__, kind.__qualname__]
            return {KIND: "namedtuple", "of": of, "items": self._items(value, where, name)}
        if torch_kind := _torch_kind(value):
            return {
                KIND: torch_kind,
                "value": [*value] if torch_kind == "size" else arrays.torch_name(value),
            }
        if stateful.is_stateful(value):
            try:
                whole = stateful.whole_state_of(value)
            except TypeError as error:
                raise TypeError(f"{where}: {error}") from None
            state = self.value(whole, where, name)
            return {KIND: "state", "of": stateful.kind_of(value), "state": state}
        if isinstance(value, Mapping) and not isinstance(value, dict):
            return self._dict(dict(value), where, name)
        what = (
            "a function"
            if callable(value) and hasattr(value, "__code__")
            else f"a {type_name(value)}"
        )
        raise TypeError(
            f"{where}: {what} cannot be kept. Leave it out and make it anew when you restore, keep its parts as numbers, "
            "texts, arrays, lists or dicts, or give its class state_dict() and load_state_dict()"
        )

    def _items(self, values: Iterable[Any], where: str, name: str) -> list[Any]:
        return [
            self.value(item, f"{where}[{place}]", _joined(name, str(place)))
            for place, item in enumerate(values)
        ]

    def _dict(self, values: dict[Any, Any], where: str, name: str) -> Any:
        if all(type(key) is str for key in values) and KIND not in values:
            return {
                key: self.value(item, f"{where}[{_quoted(key)}]", _joined(name, key))
                for key, item in values.items()
            }
        return {KIND: "dict", "items": self._pairs(values, where, name)}

    def _pairs(self, values: Mapping[Any, Any], where: str, name: str) -> list[list[Any]]:
        if any(arrays.is_tensor(key) or stateful.is_stateful(key) for key in values):
            raise TypeError(
                f"{where}: tensors and objects as keys are not kept; use names or numbers"
            )
        return [
            [
                self.value(key, f"the key {key!r} of {where}", _joined(name, "key")),
                self.value(item, f"{where}[{_quoted(key)}]", _joined(name, str(key))),
            ]
            for key, item in values.items()
        ]

    def _tensor(self, value: Any, where: str, name: str) -> dict[str, Any]:
        value = sharding.gathered(value)
        tagged = self._stored("tensor", arrays.describe_tensor, value, where, name)
        if value.requires_grad:
            tagged["requires_grad"] = True
        if type(value).__name__ == "Parameter":
            tagged["parameter"] = True
        return tagged

    def _array(self, value: Any, where: str, name: str) -> dict[str, Any]:
        return self._stored("array", arrays.describe_array, value, where, name)

    def _key(self, value: Any, where: str, name: str) -> dict[str, Any]:
        try:
            generator, numbers = arrays.key_parts(value)
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from None
        return {KIND: "key", "of": generator, "numbers": self._array(numbers, where, name)}

    def _stored(
        self, kind: str, describe: Callable[[Any], Described], value: Any, where: str, name: str
    ) -> dict[str, Any]:
        try:
            described = describe(value)
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from None
        known = None if described.identity is None else self._names.get(described.identity)
        if known is None:
            known = self._free(name)
            self._tensors[known] = described.tensor
            if described.identity is not None:
                self._names[described.identity] = known
                self._held.append(value)  # no other array may come to the same address
        return {KIND: kind, "name": known, **({"dtype": described.note} if described.note else {})}

    def _free(self, name: str) -> str:
        """``name``, or one like it if another tensor has it; with nothing in it that a header cannot hold."""
        name = name.encode(errors="backslashreplace").decode()
        free, number = name, 2
        while free in self._tensors or free in ("", "__metadata__"):
            free, number = f"{name}#{number}", number + 1
        return free

    def _scalar(self, value: Any, where: str) -> dict[str, Any]:
        try:
            dtype = arrays.numpy_name(value.dtype)
            arrays.numpy_dtype(dtype)
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from None
        return {KIND: "scalar", "dtype": dtype, "value": arrays.scalar_bytes(value).hex()}


def _torch_kind(value: Any) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    for kind, of in (("size", torch.Size), ("dtype", torch.dtype), ("device", torch.device)):
        if isinstance(value, of):
            return kind
    return None


def _float_text(value: float) -> str:
    return struct.pack(">d", value).hex()


def _quoted(key: Any) -> str:
    return json.dumps(key, ensure_ascii=False) if isinstance(key, str) else repr(key)


def _joined(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


#: Single values that JSON has not, and how they are put as text. A bit for a bit, for the payload of a NaN too.
_ATOMS: Final[dict[type, str]] = {
    int: "int",
    float: "float",
    complex: "complex",
    bytes: "bytes",
    bytearray: "bytearray",
}
_ATOM_TEXTS: Final[dict[type, Callable[[Any], str]]] = {
    int: lambda value: format(value, "x"),  # decimal digits are limited in number
    float: _float_text,
    complex: lambda value: _float_text(value.real) + _float_text(value.imag),
    bytes: bytes.hex,
    bytearray: bytearray.hex,
}
_SEQUENCES: Final[dict[type, str]] = {
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    collections.deque: "deque",
}
_MAPPINGS: Final[dict[type, str]] = {
    collections.OrderedDict: "ordereddict",
    collections.Counter: "counter",
}
#: What a dict's missing values can be made by, and its name.
FACTORIES: Final[dict[Any, str | None]] = {
    None: None,
    **{kind: kind.__name__ for kind in (dict, float, int, list, set, str, tuple)},
}
