"""Safetensors files.

The layout is that of https://huggingface.co/docs/safetensors: the length of the header (8 bytes,
little-endian), the header (JSON, padded to a multiple of 8), and the tensors' bytes back to back,
in the order of the library, so that each starts at a multiple of its item size.

The library ``safetensors`` is not used. It writes only whole files at once, and reads only paths,
not the open file whose digest was verified. It needs NumPy or PyTorch, and does not support the
types of ml_dtypes. The tests compare this module with the library.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, BinaryIO, ClassVar, Final, NamedTuple

from ...errors import StateCorrupt
from ...states.folders import convert_os_errors

#: The bits of an item by type code. Files contain tensors of the last code first.
BITS: Final = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
_ORDER: Final = {code: place for place, code in enumerate(BITS)}
_METADATA: Final = "__metadata__"
#: The longest header that the library ``safetensors`` reads.
_MAX_HEADER: Final = 100_000_000
#: The most dimensions that arrays of NumPy and PyTorch can have.
_MAX_DIMENSIONS: Final = 64


class Tensor(NamedTuple):
    """A tensor to be written; ``get_bytes`` returns its items, little-endian and C-contiguous."""

    code: str
    shape: tuple[int, ...]
    get_bytes: Callable[[], memoryview]

    @property
    def size(self) -> int:
        """The size in bytes."""
        return prod(self.shape) * BITS[self.code] // 8


class TensorFile:
    """The content of a safetensors file to be written; an :class:`EncodedState`.

    Parameters
    ----------
    tensors : dict
        The tensors by name. Their memory is read when :meth:`chunks` reaches them.
    metadata : dict of str
        The metadata of the header.
    """

    format: ClassVar[str] = "safetensors"

    def __init__(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        ordered = sorted(tensors.items(), key=lambda item: (-_ORDER[item[1].code], item[0]))
        self._tensors = [tensor for _, tensor in ordered]
        self._header = _encode_header(ordered, metadata)
        self.size = len(self._header) + sum(tensor.size for tensor in self._tensors)

    def chunks(self) -> Iterator[memoryview]:
        """Yield the header, then the tensors, each released before the next is read."""
        yield memoryview(self._header)
        for tensor in self._tensors:
            if tensor.size:
                yield tensor.get_bytes()


def _encode_header(tensors: Sequence[tuple[str, Tensor]], metadata: dict[str, str]) -> bytes:
    header: dict[str, Any] = {_METADATA: metadata} if metadata else {}
    start = 0
    for name, tensor in tensors:
        stop = start + tensor.size
        header[name] = {"dtype": tensor.code, "shape": tensor.shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise TypeError(
            f"values other than tensors take {len(text):,} bytes, and a safetensors file can have "
            f"{_MAX_HEADER:,}; keep long lists of numbers as arrays"
        )
    return len(text).to_bytes(8, "little") + text


class Source(NamedTuple):
    """A state file that is open for reading; ``path`` is its name in error messages."""

    path: str
    file: BinaryIO


class Entry(NamedTuple):
    """The type, shape and position of a tensor in a file."""

    code: str
    shape: tuple[int, ...]
    start: int
    stop: int


class OpenedFile(NamedTuple):
    """A valid safetensors file; ``memory`` is a private mapping of the whole file."""

    path: str
    metadata: dict[str, str]
    entries: dict[str, Entry]
    memory: mmap.mmap


def open_tensors(source: Source) -> OpenedFile:
    """Check and map the file in ``source``; the caller may close it afterwards.

    Raises StateCorrupt if it is not a valid safetensors file, with the reason, and StateError if it
    cannot be read.
    """
    path, file = source
    with convert_os_errors("read", os.path.dirname(path)):
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8:
            raise corrupt(path, f"it is {size} bytes long, too short for a safetensors file")
        if length > min(size - 8, _MAX_HEADER):
            raise corrupt(
                path, f"its header should be {length:,} bytes long, but the file has {size:,} bytes"
            )
        header = file.read(length)
        # A private mapping: writing to it never changes the file.
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    tensors = parse_json(path, "header", header)
    if not isinstance(tensors, dict):
        raise corrupt(path, "its header is not a JSON object")
    metadata = tensors.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise corrupt(path, "the metadata in its header does not map names to strings")
    begin = 8 + length
    entries = {name: _decode_entry(path, name, tensor, begin) for name, tensor in tensors.items()}
    _check_positions(path, entries, begin, size)
    return OpenedFile(path, metadata, entries, memory)


def parse_json(path: str, part: str, text: str | bytes) -> Any:
    """Parse JSON in the part ``part`` of the file at ``path``, without duplicate keys."""

    def check_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise corrupt(path, f"its {part} has {name!r} twice")
            found[name] = value
        return found

    try:
        decoded = text if isinstance(text, str) else text.decode()
        return json.loads(decoded, object_pairs_hook=check_keys)
    except RecursionError:
        raise corrupt(path, f"its {part} is nested too deeply") from None
    except ValueError as error:  # not UTF-8, not JSON, or a very long number
        raise corrupt(path, f"its {part} is not JSON: {error}") from None


def _decode_entry(path: str, name: str, tensor: Any, begin: int) -> Entry:
    if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
        raise corrupt(path, f"its header lacks the type, shape or offsets of tensor {name!r}")
    code, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(code, str) or code not in BITS:
        raise corrupt(path, f"tensor {name!r} is of the unknown type {code!r}")
    if not _are_sizes(shape, _MAX_DIMENSIONS) or not _are_sizes(offsets, 2) or len(offsets) != 2:
        raise corrupt(path, f"shape or offsets of tensor {name!r} are not whole numbers")
    start, stop = offsets
    if prod(shape) * BITS[code] != 8 * (stop - start):
        size = stop - start
        raise corrupt(path, f"tensor {name!r} has shape {shape} and type {code}, but {size} bytes")
    return Entry(code, tuple(shape), begin + start, begin + stop)


def _are_sizes(found: Any, most: int) -> bool:
    if not isinstance(found, list) or len(found) > most:
        return False
    return all(type(size) is int and 0 <= size < 1 << 63 for size in found)


def _check_positions(path: str, entries: dict[str, Entry], begin: int, size: int) -> None:
    """Check that the tensors fill the file after the header, without overlaps and gaps."""
    at, before = begin, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.stop > size:
            raise corrupt(path, f"tensor {name!r} ends after the end of the file: it is truncated")
        if entry.start < at:
            raise corrupt(path, f"tensor {name!r} overlaps {before}")
        if entry.start > at:
            raise corrupt(path, f"there is a gap between {before} and tensor {name!r}")
        at, before = entry.stop, f"tensor {name!r}"
    if at != size:
        raise corrupt(path, f"{size - at} bytes follow {before}, the last tensor")


def corrupt(path: str, reason: str) -> StateCorrupt:
    """Return the error for a file that cannot be restored."""
    return StateCorrupt(f"{path} cannot be restored: {reason}")
