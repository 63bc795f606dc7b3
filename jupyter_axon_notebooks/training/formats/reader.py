"""Values made of what :mod:`.tree` says of them, which may have been written to do harm."""

from __future__ import annotations

import collections
import struct
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, NamedTuple

from . import arrays
from .tensorfile import OpenedFile, Source, corrupt, open_tensors, parse_json
from .tree import DEEPEST, FACTORIES, KEY, KIND, VERSION

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


def read_tree(source: Source) -> Any:
    """What the file in ``source`` holds. Arrays and tensors in it are views of the file's memory.

    Of a file that is not ours, the tensors by name.

    Raises
    ------
    StateCorrupt, StateError
        As :func:`.tensorfile.open_tensors` does, and if the file says what it cannot mean.
    """
    file = open_tensors(source)
    path = source.path
    if KEY not in file.metadata:
        kind = _foreign_kind(file)
        return _Reader(file).value({name: {KIND: kind, "name": name} for name in file.entries})
    index = parse_json(path, "index", file.metadata[KEY])
    version = index.get("version") if isinstance(index, dict) else None
    if type(version) is not int or version < 1 or "tree" not in index:
        raise corrupt(path, "its index is none of ours")
    if version > VERSION:
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
        if depth > DEEPEST + 1:  # the parts of a training are a level of their own
            raise corrupt(self._file.path, f"its index is nested more than {DEEPEST} levels deep")
        if isinstance(found, list):
            return [self.value(item, depth + 1) for item in found]
        if not isinstance(found, dict):
            return found
        if KIND not in found:
            return {key: self.value(item, depth + 1) for key, item in found.items()}
        kind = found[KIND]
        make = _KINDS.get(kind) if isinstance(kind, str) else None
        if make is None:
            raise corrupt(self._file.path, f"its index has a value of the unknown kind {kind!r}")
        try:
            return make(self, found, depth + 1)
        except ImportError as error:
            raise corrupt(
                self._file.path, f"it holds a {kind}, and {error.name} is not installed"
            ) from error
        except _MISTAKES as error:
            reason = f"nothing under {error}" if isinstance(error, KeyError) else error
            raise corrupt(
                self._file.path, f"its index has a {kind} that is none: {reason}"
            ) from error

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
        kind, name, note = found[KIND], found["name"], found.get("dtype")
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

    return (
        torch.nn.Parameter(tensor, requires_grad)
        if is_parameter
        else tensor.requires_grad_(requires_grad)
    )


def _torch_value(found: dict[str, Any]) -> Any:
    import torch

    kind, value = found[KIND], found["value"]
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


def _float(text: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


def _complex(text: str) -> complex:
    return complex(_float(text[:16]), _float(text[16:]))


def _deque(reader: _Reader, found: dict[str, Any], depth: int) -> collections.deque[Any]:
    return collections.deque(reader.items(found, depth), found["longest"])


def _namedtuple(items: list[Any], of: Any) -> tuple[Any, ...]:
    """Return a tuple of the class that is defined under that name already, else a plain one; no code of the class runs."""
    found: Any = None
    if isinstance(of, list) and len(of) == 2 and all(isinstance(name, str) for name in of):
        found = sys.modules.get(of[0])
        for name in of[1].split("."):
            found = vars(found).get(name) if isinstance(found, (type, ModuleType)) else None
    is_fitting = isinstance(found, type) and issubclass(found, tuple) and "_fields" in vars(found)
    if is_fitting and len(found._fields) == len(items):
        return tuple.__new__(found, items)
    return tuple(items)


def _defaultdict(reader: _Reader, found: dict[str, Any], depth: int) -> Any:
    factories = {name: factory for factory, name in FACTORIES.items()}
    return collections.defaultdict(factories[found["of"]], reader.pairs(found, depth))


_KINDS: Final[dict[str, Callable[[_Reader, dict[str, Any], int], Any]]] = {
    "int": lambda _reader, found, _depth: int(_text(found["value"]), 16),
    "float": lambda _reader, found, _depth: _float(_text(found["value"])),
    "complex": lambda _reader, found, _depth: _complex(_text(found["value"])),
    "bytes": lambda _reader, found, _depth: bytes.fromhex(_text(found["value"])),
    "bytearray": lambda _reader, found, _depth: bytearray.fromhex(_text(found["value"])),
    "tuple": lambda reader, found, depth: tuple(reader.items(found, depth)),
    "namedtuple": lambda reader, found, depth: _namedtuple(
        reader.items(found, depth), found.get("of")
    ),
    "set": lambda reader, found, depth: set(reader.items(found, depth)),
    "frozenset": lambda reader, found, depth: frozenset(reader.items(found, depth)),
    "deque": _deque,
    "dict": lambda reader, found, depth: reader.pairs(found, depth),
    "ordereddict": lambda reader, found, depth: collections.OrderedDict(reader.pairs(found, depth)),
    "counter": lambda reader, found, depth: collections.Counter(reader.pairs(found, depth)),
    "defaultdict": _defaultdict,
    "tensor": lambda reader, found, _depth: reader.stored(found),
    "array": lambda reader, found, _depth: reader.stored(found),
    "key": lambda reader, found, depth: arrays.make_keys(
        _text(found["of"]), reader.value(found["numbers"], depth)
    ),
    "scalar": lambda _reader, found, _depth: arrays.scalar(
        _text(found["dtype"]), bytes.fromhex(_text(found["value"]))
    ),
    "state": lambda reader, found, depth: State(
        _text(found["of"]), reader.value(found["state"], depth)
    ),
    "size": lambda _reader, found, _depth: _torch_value(found),
    "dtype": lambda _reader, found, _depth: _torch_value(found),
    "device": lambda _reader, found, _depth: _torch_value(found),
}
