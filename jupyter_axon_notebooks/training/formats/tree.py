"""Nested values, as JSON and tensors beside it, and back with their exact types.

JSON's own values stand for themselves; everything else is an object with its kind under ``"$"``::

    {"lr": 0.1, "betas": {"$": "tuple", "items": [0.9, 0.999]}, "exp_avg": {"$": "tensor", "name": "optimizer.exp_avg"}}

The tensors are in the same safetensors file, one for all names of the same memory. Reading makes none but the kinds listed
here, so nothing that a file says runs code.
"""

from __future__ import annotations

import collections
import json
import math
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from . import arrays, stateful
from .arrays import Described, type_name
from .tensorfile import OpenedFile, Tensor, TensorFile, corrupt, open_tensors, parse_json

#: Where in a file's metadata the JSON is, and the newest form of it that is known here.
_KEY: Final = "axon"
_VERSION: Final = 1
#: Levels of nesting that are written and read; the interpreter itself gives up at some hundreds.
_DEEPEST: Final = 64
_KIND: Final = "$"
#: From here on JSON's integers are not everybody's.
_PLAIN_INTEGER: Final = 1 << 63


#: What comes of values that are not what they should be.
_MISTAKES: Final = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class State(NamedTuple):
    """The state of an object that can be set back to it, ``kind`` the object's type."""

    kind: str
    state: Any


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
            return {_KIND: _ATOMS[kind], "value": _ATOM_TEXTS[kind](value)}
        if arrays.is_tensor(value):
            return self._tensor(value, where, name)
        if arrays.is_array(value):
            return self._array(value, where, name)
        if arrays.is_scalar(value):
            return self._scalar(value, where)
        if len(self._above) >= _DEEPEST:
            raise TypeError(f"{where}: nested more than {_DEEPEST} levels deep, which is not kept")
        if id(value) in self._above:
            raise TypeError(f"{where}: refers back to what it is part of, which is not kept")
        self._above.append(id(value))
        try:
            return self._branch(value, where, name)
        finally:
            self._above.pop()

    def file(self, tree: Any, framework: str | None) -> TensorFile:
        """The file of all that was collected, with ``tree`` to say what it is."""
        text = json.dumps({"version": _VERSION, "tree": tree}, separators=(",", ":"))
        metadata = {"format": framework} if framework else {}
        return TensorFile(self._tensors, {**metadata, _KEY: text})

    def _branch(self, value: Any, where: str, name: str) -> Any:
        kind = type(value)
        if kind is list:
            return self._items(value, where, name)
        if kind is dict:
            return self._dict(value, where, name)
        if kind in (set, frozenset) and any(map(arrays.is_tensor, value)):
            raise TypeError(f"{where}: a set of tensors is not kept; make it a list")
        if kind in _SEQUENCES:
            tagged = {_KIND: _SEQUENCES[kind], "items": self._items(value, where, name)}
            return {**tagged, "longest": value.maxlen} if kind is collections.deque else tagged
        if kind in _MAPPINGS:
            return {_KIND: _MAPPINGS[kind], "items": self._pairs(value, where, name)}
        if kind is collections.defaultdict and value.default_factory in _FACTORIES:
            items = self._pairs(value, where, name)
            return {_KIND: "defaultdict", "of": _FACTORIES[value.default_factory], "items": items}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return {_KIND: "namedtuple", "items": self._items(value, where, name)}
        if torch_kind := _torch_kind(value):
            return {
                _KIND: torch_kind,
                "value": [*value] if torch_kind == "size" else arrays.torch_name(value),
            }
        if stateful.is_stateful(value):
            state = self.value(stateful.state_of(value), where, name)
            return {_KIND: "state", "of": stateful.kind_of(value), "state": state}
        if isinstance(value, Mapping) and not isinstance(value, dict):
            return self._dict(dict(value), where, name)
        what = "a function" if callable(value) and hasattr(value, "__code__") else f"a {type_name(value)}"
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
        if all(type(key) is str for key in values) and _KIND not in values:
            return {
                key: self.value(item, f"{where}[{_quoted(key)}]", _joined(name, key))
                for key, item in values.items()
            }
        return {_KIND: "dict", "items": self._pairs(values, where, name)}

    def _pairs(self, values: Mapping[Any, Any], where: str, name: str) -> list[list[Any]]:
        if any(arrays.is_tensor(key) or stateful.is_stateful(key) for key in values):
            raise TypeError(f"{where}: tensors and objects as keys are not kept; use names or numbers")
        return [
            [
                self.value(key, f"the key {key!r} of {where}", _joined(name, "key")),
                self.value(item, f"{where}[{_quoted(key)}]", _joined(name, str(key))),
            ]
            for key, item in values.items()
        ]

    def _tensor(self, value: Any, where: str, name: str) -> dict[str, Any]:
        tagged = self._stored("tensor", arrays.describe_tensor, value, where, name)
        if value.requires_grad:
            tagged["requires_grad"] = True
        if type(value).__name__ == "Parameter":
            tagged["parameter"] = True
        return tagged

    def _array(self, value: Any, where: str, name: str) -> dict[str, Any]:
        return self._stored("array", arrays.describe_array, value, where, name)

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
        return {_KIND: kind, "name": known, **({"dtype": described.note} if described.note else {})}

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
        return {_KIND: "scalar", "dtype": dtype, "value": arrays.scalar_bytes(value).hex()}


def read_tree(path: str) -> Any:
    """What the file at ``path`` holds. Arrays and tensors in it are views of the file's memory.

    Of a file that is not ours, the tensors by name.

    Raises
    ------
    NotFound, StateCorrupt, StateError
        As :func:`.tensorfile.open_tensors` does, and if the file says what it cannot mean.
    """
    file = open_tensors(path)
    if _KEY not in file.metadata:
        kind = _foreign_kind(file)
        return _Reader(file).value({name: {_KIND: kind, "name": name} for name in file.entries})
    index = parse_json(path, "index", file.metadata[_KEY])
    version = index.get("version") if isinstance(index, dict) else None
    if type(version) is not int or version < 1 or "tree" not in index:
        raise corrupt(path, "its index is none of ours")
    if version > _VERSION:
        raise corrupt(
            path,
            f"its index is of version {version}, from a newer version of this package; upgrade to read it",
        )
    reader = _Reader(file)
    tree = reader.value(index["tree"])
    if strays := sorted(file.entries.keys() - reader.used):
        raise corrupt(path, f"its index does not mention tensor {strays[0]!r}")
    return tree


def _foreign_kind(file: OpenedFile) -> str:
    told = {"pt": "tensor", "np": "array"}.get(file.metadata.get("format", ""))
    return told or ("tensor" if "torch" in sys.modules else "array")


class _Reader:
    """Makes values of JSON that may have been written to do harm."""

    def __init__(self, file: OpenedFile) -> None:
        self._file = file
        self._made: dict[tuple[Any, ...], Any] = {}

    @property
    def used(self) -> set[str]:
        """The names of the tensors that were asked for."""
        return {key[1] for key in self._made}

    def value(self, found: Any, depth: int = 0) -> Any:
        if depth > _DEEPEST + 1:  # the parts of a training are a level of their own
            raise corrupt(self._file.path, f"its index is nested more than {_DEEPEST} levels deep")
        if isinstance(found, list):
            return [self.value(item, depth + 1) for item in found]
        if not isinstance(found, dict):
            return found
        if _KIND not in found:
            return {key: self.value(item, depth + 1) for key, item in found.items()}
        kind = found[_KIND]
        make = _KINDS.get(kind) if isinstance(kind, str) else None
        if make is None:
            raise corrupt(self._file.path, f"its index has a value of the unknown kind {kind!r}")
        try:
            return make(self, found, depth + 1)
        except ImportError as error:
            raise corrupt(self._file.path, f"it holds a {kind}, and {error.name} is not installed") from error
        except _MISTAKES as error:
            reason = f"nothing under {error}" if isinstance(error, KeyError) else error
            raise corrupt(self._file.path, f"its index has a {kind} that is none: {reason}") from error

    def items(self, found: dict[str, Any], depth: int) -> list[Any]:
        if not isinstance(found["items"], list):
            raise TypeError("its items are no list")
        return [self.value(item, depth) for item in found["items"]]

    def pairs(self, found: dict[str, Any], depth: int) -> dict[Any, Any]:
        pairs = [(self.value(key, depth), self.value(item, depth)) for key, item in found["items"]]
        made = dict(pairs)
        if len(made) < len(pairs):
            raise ValueError("it has a key twice")
        return made

    def stored(self, found: dict[str, Any]) -> Any:
        """The array or tensor that ``found`` names; the same one each time it is named."""
        kind, name, note = found[_KIND], found["name"], found.get("dtype")
        flags = (found.get("parameter") is True, found.get("requires_grad") is True)
        if not isinstance(name, str) or name not in self._file.entries:
            raise ValueError(f"there is no tensor {name!r} in the file")
        if note is not None and not isinstance(note, str):
            raise TypeError(f"its type is {note!r}")
        key = (kind, name, note, *flags)
        if key not in self._made:
            entry = self._file.entries[name]
            if kind == "array":
                self._made[key] = arrays.read_array(self._file, entry, note)
            else:
                self._made[key] = _with_flags(arrays.read_tensor(self._file, entry, note), *flags)
        return self._made[key]


def _with_flags(tensor: Any, is_parameter: bool, requires_grad: bool) -> Any:
    import torch

    return torch.nn.Parameter(tensor, requires_grad) if is_parameter else tensor.requires_grad_(requires_grad)


def _torch_kind(value: Any) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    for kind, of in (("size", torch.Size), ("dtype", torch.dtype), ("device", torch.device)):
        if isinstance(value, of):
            return kind
    return None


def _torch_value(found: dict[str, Any]) -> Any:
    import torch

    kind, value = found[_KIND], found["value"]
    if kind == "size":
        return torch.Size(value)
    if kind == "device":
        return torch.device(_text(value))
    dtype = getattr(torch, _text(value))
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{value!r} is no type")
    return dtype


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _float_text(value: float) -> str:
    return struct.pack(">d", value).hex()


def _float(text: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


def _complex(text: str) -> complex:
    return complex(_float(text[:16]), _float(text[16:]))


def _deque(reader: _Reader, found: dict[str, Any], depth: int) -> collections.deque[Any]:
    return collections.deque(reader.items(found, depth), found["longest"])


def _defaultdict(reader: _Reader, found: dict[str, Any], depth: int) -> Any:
    factories = {name: factory for factory, name in _FACTORIES.items()}
    return collections.defaultdict(factories[found["of"]], reader.pairs(found, depth))


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
_FACTORIES: Final[dict[Any, str | None]] = {
    None: None,
    **{kind: kind.__name__ for kind in (dict, float, int, list, set, str, tuple)},
}

_KINDS: Final[dict[str, Callable[[_Reader, dict[str, Any], int], Any]]] = {
    "int": lambda _reader, found, _depth: int(_text(found["value"]), 16),
    "float": lambda _reader, found, _depth: _float(_text(found["value"])),
    "complex": lambda _reader, found, _depth: _complex(_text(found["value"])),
    "bytes": lambda _reader, found, _depth: bytes.fromhex(_text(found["value"])),
    "bytearray": lambda _reader, found, _depth: bytearray.fromhex(_text(found["value"])),
    "tuple": lambda reader, found, depth: tuple(reader.items(found, depth)),
    # Without a template of its class it is a plain tuple.
    "namedtuple": lambda reader, found, depth: tuple(reader.items(found, depth)),
    "set": lambda reader, found, depth: set(reader.items(found, depth)),
    "frozenset": lambda reader, found, depth: frozenset(reader.items(found, depth)),
    "deque": _deque,
    "dict": lambda reader, found, depth: reader.pairs(found, depth),
    "ordereddict": lambda reader, found, depth: collections.OrderedDict(reader.pairs(found, depth)),
    "counter": lambda reader, found, depth: collections.Counter(reader.pairs(found, depth)),
    "defaultdict": _defaultdict,
    "tensor": lambda reader, found, _depth: reader.stored(found),
    "array": lambda reader, found, _depth: reader.stored(found),
    "scalar": lambda _reader, found, _depth: arrays.scalar(
        _text(found["dtype"]), bytes.fromhex(_text(found["value"]))
    ),
    "state": lambda reader, found, depth: State(_text(found["of"]), reader.value(found["state"], depth)),
    "size": lambda _reader, found, _depth: _torch_value(found),
    "dtype": lambda _reader, found, _depth: _torch_value(found),
    "device": lambda _reader, found, _depth: _torch_value(found),
}
