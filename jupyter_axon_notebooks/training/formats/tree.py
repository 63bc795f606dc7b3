"""Nested Python values as JSON and tensors in a safetensors file, restored with their exact types.

JSON values stand for themselves; other values are objects with their kind under ``"$"``::

    {"lr": 0.1, "betas": {"$": "tuple", "items": [0.9, 0.999]},
     "exp_avg": {"$": "tensor", "name": "optimizer.exp_avg"}}

The JSON is in the metadata of the file. Values that share memory share one tensor in the file.
Reading creates only values of the kinds in this module, so a malicious file cannot run code. Named
tuples become tuples, which are restored into named tuples again.
"""

from __future__ import annotations

import collections
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from ...errors import StateCorrupt
from . import arrays, objects
from .arrays import ArrayEncoding, type_name
from .tensor_files import OpenedFile, Source, Tensor, TensorFile, corrupt, open_tensors

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


def _decode_float(text: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


class _Atom(NamedTuple):
    kind: str
    encode: Callable[[Any], str]
    decode: Callable[[str], Any]


#: Simple values that JSON cannot express.
_ATOMS: Final[dict[type, _Atom]] = {
    # The number of decimal digits is limited.
    int: _Atom("int", lambda value: format(value, "x"), lambda text: int(text, 16)),
    float: _Atom("float", _encode_float, _decode_float),
    complex: _Atom(
        "complex",
        lambda value: _encode_float(value.real) + _encode_float(value.imag),
        lambda text: complex(_decode_float(text[:16]), _decode_float(text[16:])),
    ),
    bytes: _Atom("bytes", bytes.hex, bytes.fromhex),
    bytearray: _Atom("bytearray", bytearray.hex, bytearray.fromhex),
}
_SEQUENCES: Final = {"tuple": tuple, "set": set, "frozenset": frozenset, "deque": collections.deque}
_MAPPINGS: Final = {
    "dict": dict,
    "ordereddict": collections.OrderedDict,
    "counter": collections.Counter,
}
#: The names of the default factories that are saved.
_FACTORIES: Final[dict[Any, str | None]] = {
    None: None,
    **{kind: kind.__name__ for kind in (dict, float, int, list, set, str, tuple)},
}
_DECODERS: Final = {atom.kind: atom.decode for atom in _ATOMS.values()}
_KINDS: Final[dict[type, str]] = {
    kind: name for name, kind in [*_SEQUENCES.items(), *_MAPPINGS.items()]
}


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
        self._depth = 0
        self._owner: Any = None  # the object whose state is being encoded

    def encode(self, value: Any, name: str) -> Any:
        """Return the JSON of ``value``; raise TypeError if it cannot be saved.

        ``name`` is its place, such as ``extra.scheduler``, and the prefix of the names of tensors.
        """
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int and abs(value) < _LARGE_INTEGER:
            return value
        if kind is float and math.isfinite(value):
            return value
        if kind in _ATOMS:
            return {_KIND: _ATOMS[kind].kind, "value": _ATOMS[kind].encode(value)}
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                raise _refuse(name, f"is nested more than {_MAX_DEPTH} levels deep")
            return self._encode_nested(value, name)
        finally:
            self._depth -= 1

    def make_file(self, tree: Any, framework: str | None) -> TensorFile:
        """Return the file of all collected tensors, with the JSON ``tree``."""
        text = json.dumps({"version": _VERSION, "tree": tree}, separators=(",", ":"))
        metadata = {"format": framework} if framework else {}
        return TensorFile(self._tensors, {**metadata, _KEY: text})

    def _encode_nested(self, value: Any, name: str) -> Any:
        kind = type(value)
        try:
            if arrays.is_numeric(value) or arrays.is_scalar(value):
                return self._encode_numbers(value, name)
        except TypeError as error:
            raise _refuse(name, str(error)) from None
        if kind is list:
            return self._encode_items(value, name)
        if kind is dict and all(type(key) is str for key in value) and _KIND not in value:
            return {key: self.encode(item, _join(name, key)) for key, item in value.items()}
        if kind in (set, frozenset):
            self._check_keys(value, name)
        if kind in _SEQUENCES.values():
            tagged = {_KIND: _KINDS[kind], "items": self._encode_items(value, name)}
            return {**tagged, "longest": value.maxlen} if kind is collections.deque else tagged
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return {_KIND: "tuple", "items": self._encode_items(value, name)}
        if kind in _KINDS:
            return {_KIND: _KINDS[kind], "items": self._encode_pairs(value, name)}
        if kind is collections.defaultdict and value.default_factory in _FACTORIES:
            items = self._encode_pairs(value, name)
            return {_KIND: "defaultdict", "of": _FACTORIES[value.default_factory], "items": items}
        if objects.is_stateful(value):
            state = self.encode_state(value, name)
            return {_KIND: "state", "of": objects.get_kind(value), "state": state}
        if isinstance(value, Mapping) and not isinstance(value, dict):
            return self.encode(dict(value), name)
        what = "a function" if hasattr(value, "__code__") else f"a {type_name(value)}"
        raise _refuse(
            name,
            f"{what} cannot be saved. Leave it out and recreate it when you restore, save its "
            "parts as numbers, texts, arrays, lists or dicts, or give its class state_dict() and "
            "load_state_dict()",
        )

    def encode_state(self, value: Any, name: str) -> Any:
        """Return the JSON of the state of an object; see :meth:`encode`."""
        if self._owner is not None:
            raise _refuse(
                name,
                f"the state_dict() of a {type_name(self._owner)} contains a {type_name(value)}. "
                "Let it return the state_dict() of that object, and let load_state_dict() pass it "
                "on",
            )
        self._owner = value
        try:
            return self.encode(objects.get_state(value), name)
        finally:
            self._owner = None

    def _encode_items(self, values: Iterable[Any], name: str) -> list[Any]:
        return [self.encode(item, _join(name, str(place))) for place, item in enumerate(values)]

    def _encode_pairs(self, values: Mapping[Any, Any], name: str) -> list[list[Any]]:
        self._check_keys(values, name)
        return [
            [self.encode(key, _join(name, "key")), self.encode(item, _join(name, str(key)))]
            for key, item in values.items()
        ]

    def _check_keys(self, keys: Iterable[Any], name: str) -> None:
        if any(arrays.is_numeric(key) or objects.is_stateful(key) for key in keys):
            raise _refuse(name, "has tensors or objects as keys; use names or numbers")

    def _encode_numbers(self, value: Any, name: str) -> dict[str, Any]:
        if arrays.is_scalar(value):
            dtype = arrays.numpy_name(value.dtype)
            arrays.numpy_dtype(dtype)  # raises TypeError for types that are not read
            return {_KIND: "scalar", "dtype": dtype, "value": value.tobytes().hex()}
        if arrays.is_key(value):
            generator, data = arrays.split_keys(value)
            numbers = self._store("array", arrays.encode_array(data), data, name)
            return {_KIND: "key", "of": generator, "numbers": numbers}
        if arrays.is_array(value):
            return self._store("array", arrays.encode_array(value), value, name)
        value = arrays.gather(value)
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


def _refuse(name: str, reason: str) -> TypeError:
    return TypeError(f"{name or 'model'}: {reason}")


def _join(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def read_tree(source: Source) -> Any:
    """Return the values in a file; arrays and tensors are views of the file's memory.

    Raises StateCorrupt or StateError if the file is not valid, or cannot be read.
    """
    file = open_tensors(source)
    try:
        index = json.loads(file.metadata.get(_KEY, ""))
    except (ValueError, RecursionError) as error:
        raise corrupt(file.path, f"its index is not JSON: {error}") from None
    version = index.get("version") if isinstance(index, dict) else None
    if type(version) is not int or "tree" not in index:
        raise corrupt(file.path, "its index has no version or tree")
    if version > _VERSION:
        raise corrupt(file.path, f"it is from a newer version of this package ({version}); upgrade")
    return _TreeReader(file).decode(index["tree"])


class _TreeReader:
    """Decodes JSON that may be malicious."""

    def __init__(self, file: OpenedFile) -> None:
        self._file = file
        self._arrays: dict[tuple[Any, ...], Any] = {}

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
        try:
            return self._decode_kind(found[_KIND], found, depth + 1)
        except StateCorrupt:
            raise
        except Exception as error:
            raise corrupt(
                self._file.path,
                f"its index has an invalid value of kind {found[_KIND]!r}: "
                f"{type(error).__name__}: {error}",
            ) from error

    def _decode_kind(self, kind: Any, found: dict[str, Any], depth: int) -> Any:
        if kind in _DECODERS:
            return _DECODERS[kind](found["value"])
        if kind in _SEQUENCES:
            items = [self.decode(item, depth) for item in found["items"]]
            if kind == "deque":
                return collections.deque(items, found["longest"])
            return _SEQUENCES[kind](items)
        if kind in _MAPPINGS:
            return _MAPPINGS[kind](self._pairs(found, depth))
        match kind:
            case "defaultdict":
                factories = {name: factory for factory, name in _FACTORIES.items()}
                return collections.defaultdict(factories[found["of"]], self._pairs(found, depth))
            case "tensor" | "array":
                return self._read_stored(kind, found)
            case "key":
                return arrays.make_keys(found["of"], self.decode(found["numbers"], depth))
            case "scalar":
                return arrays.make_scalar(found["dtype"], bytes.fromhex(found["value"]))
            case "state":
                return State(str(found["of"]), self.decode(found["state"], depth))
        raise ValueError("the kind is unknown")

    def _pairs(self, found: dict[str, Any], depth: int) -> dict[Any, Any]:
        return {self.decode(key, depth): self.decode(item, depth) for key, item in found["items"]}

    def _read_stored(self, kind: str, found: dict[str, Any]) -> Any:
        """Return an array or tensor, the same object each time it is named."""
        name, dtype = found["name"], found.get("dtype")
        flags = (found.get("parameter") is True, found.get("requires_grad") is True)
        key = (kind, name, dtype, *flags)
        if key not in self._arrays:
            entry = self._file.entries[name]
            if kind == "array":
                self._arrays[key] = arrays.read_array(self._file, entry, dtype)
            else:
                self._arrays[key] = arrays.read_tensor(self._file, entry, dtype, *flags)
        return self._arrays[key]
