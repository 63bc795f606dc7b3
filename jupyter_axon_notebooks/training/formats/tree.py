"""Nested Python values as JSON and tensors in a safetensors file, restored with their exact types.

JSON values stand for themselves; other values are objects with their kind under ``"$"``::

    {"lr": 0.1, "betas": {"$": "tuple", "items": [0.9, 0.999]},
     "exp_avg": {"$": "tensor", "name": "optimizer.exp_avg"}}

The JSON is in the metadata of the file. Values that share memory share one tensor in the file.
Reading creates only values of the kinds in this module, so a malicious file cannot run code.
"""

from __future__ import annotations

import collections
import json
import math
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Final, NamedTuple

from . import arrays, sharding, stateful
from .arrays import ArrayEncoding, type_name
from .tensor_files import (
    OpenedFile,
    Source,
    Tensor,
    TensorFile,
    corrupt,
    open_tensors,
    parse_json,
)

#: The key of the JSON in a file's metadata, and the version that is written.
_KEY: Final = "axon"
_VERSION: Final = 1
#: The deepest nesting that is written and read; Python's own limit is some hundreds.
_MAX_DEPTH: Final = 64
#: The key of the kind of a value.
_KIND: Final = "$"
#: Integers of this size and more are not portable in JSON.
_LARGE_INTEGER: Final = 1 << 63


def _encode_float(value: float) -> str:
    return struct.pack(">d", value).hex()  # keeps the payload of NaNs


#: Simple values that JSON cannot express: their kind, and a function that returns their text.
_ATOMS: Final[dict[type, tuple[str, Callable[[Any], str]]]] = {
    int: ("int", lambda value: format(value, "x")),  # the number of decimal digits is limited
    float: ("float", _encode_float),
    complex: ("complex", lambda value: _encode_float(value.real) + _encode_float(value.imag)),
    bytes: ("bytes", bytes.hex),
    bytearray: ("bytearray", bytearray.hex),
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
#: The names of the default factories that are kept.
_FACTORIES: Final[dict[Any, str | None]] = {
    None: None,
    **{kind: kind.__name__ for kind in (dict, float, int, list, set, str, tuple)},
}
#: Errors that invalid values in a file cause.
_ERRORS: Final = (
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
    """The state of an object, and the name of the object's type."""

    kind: str
    state: Any


class TreeWriter:
    """Encodes values as JSON and collects their tensors."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._kept_alive: list[Any] = []
        self._parents: list[int] = []

    def encode(self, value: Any, where: str, name: str) -> Any:
        """Return the JSON of ``value``.

        Parameters
        ----------
        where : str
            The place of the value in error messages: ``extra["scheduler"]``.
        name : str
            The prefix of the names of its tensors.

        Raises
        ------
        TypeError
            If it cannot be kept; says where it is and what to do.
        """
        kind = type(value)
        if value is None or kind is bool or (kind is int and abs(value) < _LARGE_INTEGER):
            return value
        if kind is str or (kind is float and math.isfinite(value)):
            return value
        if kind in _ATOMS:
            atom, encode = _ATOMS[kind]
            return {_KIND: atom, "value": encode(value)}
        try:
            if arrays.is_tensor(value):
                return self._encode_tensor(value, name)
            if arrays.is_key(value):
                generator, data = arrays.split_keys(value)
                numbers = self._store("array", arrays.encode_array(data), data, name)
                return {_KIND: "key", "of": generator, "numbers": numbers}
            if arrays.is_array(value):
                return self._store("array", arrays.encode_array(value), value, name)
            if arrays.is_scalar(value):
                dtype = arrays.numpy_name(value.dtype)
                arrays.numpy_dtype(dtype)  # raises TypeError for types that are not read
                return {_KIND: "scalar", "dtype": dtype, "value": arrays.scalar_bytes(value).hex()}
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from None
        if len(self._parents) >= _MAX_DEPTH:
            raise TypeError(
                f"{where}: nested more than {_MAX_DEPTH} levels deep, which is not kept"
            )
        if id(value) in self._parents:
            raise TypeError(f"{where}: contains itself, which is not kept")
        self._parents.append(id(value))
        try:
            return self._encode_nested(value, where, name)
        finally:
            self._parents.pop()

    def make_file(self, tree: Any, framework: str | None) -> TensorFile:
        """Return the file of all collected tensors, with the JSON ``tree``."""
        text = json.dumps({"version": _VERSION, "tree": tree}, separators=(",", ":"))
        metadata = {"format": framework} if framework else {}
        return TensorFile(self._tensors, {**metadata, _KEY: text})

    def _encode_nested(self, value: Any, where: str, name: str) -> Any:
        kind = type(value)
        if kind is list:
            return self._encode_items(value, where, name)
        if kind is dict:
            return self._encode_dict(value, where, name)
        if kind in (set, frozenset) and any(map(arrays.is_tensor, value)):
            raise TypeError(f"{where}: a set of tensors is not kept; make it a list")
        if kind in _SEQUENCES:
            tagged = {_KIND: _SEQUENCES[kind], "items": self._encode_items(value, where, name)}
            return {**tagged, "longest": value.maxlen} if kind is collections.deque else tagged
        if kind in _MAPPINGS:
            return {_KIND: _MAPPINGS[kind], "items": self._encode_pairs(value, where, name)}
        if kind is collections.defaultdict and value.default_factory in _FACTORIES:
            items = self._encode_pairs(value, where, name)
            return {_KIND: "defaultdict", "of": _FACTORIES[value.default_factory], "items": items}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            of = [kind.__module__, kind.__qualname__]
            return {_KIND: "namedtuple", "of": of, "items": self._encode_items(value, where, name)}
        if torch_kind := _torch_kind(value):
            text = [*value] if torch_kind == "size" else arrays.torch_name(value)
            return {_KIND: torch_kind, "value": text}
        if stateful.is_stateful(value):
            try:
                whole = stateful.get_nested_state(value)
            except TypeError as error:
                raise TypeError(f"{where}: {error}") from None
            state = self.encode(whole, where, name)
            return {_KIND: "state", "of": stateful.get_kind(value), "state": state}
        if isinstance(value, Mapping) and not isinstance(value, dict):
            return self._encode_dict(dict(value), where, name)
        is_function = callable(value) and hasattr(value, "__code__")
        raise TypeError(
            f"{where}: {'a function' if is_function else f'a {type_name(value)}'} cannot be kept. "
            "Leave it out and recreate it when you restore, keep its parts as numbers, texts, "
            "arrays, lists or dicts, or give its class state_dict() and load_state_dict()"
        )

    def _encode_items(self, values: Iterable[Any], where: str, name: str) -> list[Any]:
        return [
            self.encode(item, f"{where}[{place}]", _join(name, str(place)))
            for place, item in enumerate(values)
        ]

    def _encode_dict(self, values: dict[Any, Any], where: str, name: str) -> Any:
        if all(type(key) is str for key in values) and _KIND not in values:
            return {
                key: self.encode(item, f"{where}[{_quote(key)}]", _join(name, key))
                for key, item in values.items()
            }
        return {_KIND: "dict", "items": self._encode_pairs(values, where, name)}

    def _encode_pairs(self, values: Mapping[Any, Any], where: str, name: str) -> list[list[Any]]:
        if any(arrays.is_tensor(key) or stateful.is_stateful(key) for key in values):
            raise TypeError(
                f"{where}: tensors and objects as keys are not kept; use names or numbers"
            )
        return [
            [
                self.encode(key, f"the key {key!r} of {where}", _join(name, "key")),
                self.encode(item, f"{where}[{_quote(key)}]", _join(name, str(key))),
            ]
            for key, item in values.items()
        ]

    def _encode_tensor(self, value: Any, name: str) -> dict[str, Any]:
        value = sharding.gather(value)
        tagged = self._store("tensor", arrays.encode_tensor(value), value, name)
        if value.requires_grad:
            tagged["requires_grad"] = True
        if type(value).__name__ == "Parameter":
            tagged["parameter"] = True
        return tagged

    def _store(self, kind: str, encoding: ArrayEncoding, value: Any, name: str) -> dict[str, Any]:
        tensor, dtype, identity = encoding
        stored_name = None if identity is None else self._names.get(identity)
        if stored_name is None:
            stored_name = self._unused_name(name)
            self._tensors[stored_name] = tensor
            if identity is not None:
                self._names[identity] = stored_name
                self._kept_alive.append(value)  # or another array could get the same address
        return {_KIND: kind, "name": stored_name, **({"dtype": dtype} if dtype else {})}

    def _unused_name(self, name: str) -> str:
        name = name.encode(errors="backslashreplace").decode()
        unused, number = name, 2
        while unused in self._tensors or unused in ("", "__metadata__"):
            unused, number = f"{name}#{number}", number + 1
        return unused


def _torch_kind(value: Any) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    kinds = {"size": torch.Size, "dtype": torch.dtype, "device": torch.device}
    return next((name for name, kind in kinds.items() if isinstance(value, kind)), None)


def _quote(key: Any) -> str:
    return json.dumps(key, ensure_ascii=False) if isinstance(key, str) else repr(key)


def _join(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def read_tree(source: Source) -> Any:
    """Return the values in a file; arrays and tensors are views of the file's memory.

    For a file of another program, return its tensors by name. Raises StateCorrupt or StateError if
    the file is not valid, or cannot be read.
    """
    file = open_tensors(source)
    path = source.path
    if _KEY not in file.metadata:
        kind = {"pt": "tensor", "np": "array"}.get(file.metadata.get("format", ""))
        kind = kind or ("tensor" if "torch" in sys.modules else "array")
        return _TreeReader(file).decode(
            {name: {_KIND: kind, "name": name} for name in file.entries}
        )
    index = parse_json(path, "index", file.metadata[_KEY])
    version = index.get("version") if isinstance(index, dict) else None
    if type(version) is not int or version < 1 or "tree" not in index:
        raise corrupt(path, "its index has no version or tree")
    if version > _VERSION:
        raise corrupt(
            path,
            f"its index has version {version}, from a newer version of this package; "
            "upgrade to read it",
        )
    reader = _TreeReader(file)
    tree = reader.decode(index["tree"])
    if unused := sorted(file.entries.keys() - reader.used):
        raise corrupt(path, f"its index does not mention tensor {unused[0]!r}")
    return tree


class _TreeReader:
    """Decodes JSON that may be malicious."""

    def __init__(self, file: OpenedFile) -> None:
        self._file = file
        self._arrays: dict[tuple[Any, ...], Any] = {}

    @property
    def used(self) -> set[str]:
        """The names of the tensors that were read."""
        return {key[1] for key in self._arrays}

    def decode(self, found: Any, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH + 1:  # the parts of a training are one more level
            raise corrupt(
                self._file.path, f"its index is nested more than {_MAX_DEPTH} levels deep"
            )
        if isinstance(found, list):
            return [self.decode(item, depth + 1) for item in found]
        if not isinstance(found, dict):
            return found
        if _KIND not in found:
            return {key: self.decode(item, depth + 1) for key, item in found.items()}
        kind = found[_KIND]
        try:
            return self._decode_kind(kind, found, depth + 1)
        except ImportError as error:
            raise corrupt(
                self._file.path, f"it has a value of kind {kind}, and {error.name} is not installed"
            ) from error
        except _ERRORS as error:
            reason = f"it has no key {error}" if isinstance(error, KeyError) else error
            raise corrupt(
                self._file.path, f"its index has an invalid value of kind {kind!r}: {reason}"
            ) from error

    def _decode_kind(self, kind: Any, found: dict[str, Any], depth: int) -> Any:
        match kind:
            case "int":
                return int(_check_text(found["value"]), 16)
            case "float":
                return _decode_float(_check_text(found["value"]))
            case "complex":
                text = _check_text(found["value"])
                return complex(_decode_float(text[:16]), _decode_float(text[16:]))
            case "bytes":
                return bytes.fromhex(_check_text(found["value"]))
            case "bytearray":
                return bytearray.fromhex(_check_text(found["value"]))
            case "tuple":
                return tuple(self._items(found, depth))
            case "namedtuple":
                return _make_namedtuple(self._items(found, depth), found.get("of"))
            case "set":
                return set(self._items(found, depth))
            case "frozenset":
                return frozenset(self._items(found, depth))
            case "deque":
                return collections.deque(self._items(found, depth), found["longest"])
            case "dict":
                return self._pairs(found, depth)
            case "ordereddict":
                return collections.OrderedDict(self._pairs(found, depth))
            case "counter":
                return collections.Counter(self._pairs(found, depth))
            case "defaultdict":
                factories = {name: factory for factory, name in _FACTORIES.items()}
                return collections.defaultdict(factories[found["of"]], self._pairs(found, depth))
            case "tensor" | "array":
                return self._read_stored(kind, found)
            case "key":
                return arrays.make_keys(
                    _check_text(found["of"]), self.decode(found["numbers"], depth)
                )
            case "scalar":
                octets = bytes.fromhex(_check_text(found["value"]))
                return arrays.make_scalar(_check_text(found["dtype"]), octets)
            case "state":
                return State(_check_text(found["of"]), self.decode(found["state"], depth))
            case "size" | "dtype" | "device":
                return _make_torch_value(kind, found["value"])
        raise ValueError("the kind is unknown")

    def _items(self, found: dict[str, Any], depth: int) -> list[Any]:
        if not isinstance(found["items"], list):
            raise TypeError("its items are not a list")
        return [self.decode(item, depth) for item in found["items"]]

    def _pairs(self, found: dict[str, Any], depth: int) -> dict[Any, Any]:
        items = found["items"]
        pairs = [(self.decode(key, depth), self.decode(item, depth)) for key, item in items]
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ValueError("it has a key twice")
        return values

    def _read_stored(self, kind: str, found: dict[str, Any]) -> Any:
        """Return an array or tensor, the same object each time it is named."""
        name, dtype = found["name"], found.get("dtype")
        flags = (found.get("parameter") is True, found.get("requires_grad") is True)
        if not isinstance(name, str) or name not in self._file.entries:
            raise ValueError(f"there is no tensor {name!r} in the file")
        if dtype is not None and not isinstance(dtype, str):
            raise TypeError(f"its type is {dtype!r}")
        key = (kind, name, dtype, *flags)
        if key not in self._arrays:
            entry = self._file.entries[name]
            if kind == "array":
                self._arrays[key] = arrays.read_array(self._file, entry, dtype)
            else:
                tensor = arrays.read_tensor(self._file, entry, dtype)
                self._arrays[key] = _set_flags(tensor, *flags)
        return self._arrays[key]


def _set_flags(tensor: Any, is_parameter: bool, requires_grad: bool) -> Any:
    import torch

    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


def _make_torch_value(kind: str, value: Any) -> Any:
    import torch

    if kind == "size":
        return torch.Size(value)
    if kind == "device":
        return torch.device(_check_text(value))
    dtype = getattr(torch, _check_text(value))
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{value!r} is not a type")
    return dtype


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _decode_float(text: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


def _make_namedtuple(items: list[Any], of: Any) -> tuple[Any, ...]:
    """Return an instance of the named tuple class if it is already defined, else a plain tuple.

    No code of the class runs.
    """
    found: Any = None
    if isinstance(of, list) and len(of) == 2 and all(isinstance(name, str) for name in of):
        found = sys.modules.get(of[0])
        for name in of[1].split("."):
            found = vars(found).get(name) if isinstance(found, (type, ModuleType)) else None
    is_namedtuple = (
        isinstance(found, type) and issubclass(found, tuple) and "_fields" in vars(found)
    )
    if is_namedtuple and len(found._fields) == len(items):
        return tuple.__new__(found, items)
    return tuple(items)
