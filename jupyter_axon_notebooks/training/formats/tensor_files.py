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
from typing import Annotated, Any, BinaryIO, ClassVar, Final, NamedTuple

import msgspec

from ...errors import StateCorrupt
from ...states.folders import convert_os_errors

#: The bytes of an item by type code. Files contain tensors of the last code first.
ITEM_SIZES: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 8),
}
_ORDER: Final = {code: place for place, code in enumerate(ITEM_SIZES)}
_METADATA: Final = "__metadata__"
#: The longest header that the library ``safetensors`` reads.
_MAX_HEADER: Final = 100_000_000
#: The most dimensions that arrays of NumPy and PyTorch can have.
_MAX_DIMENSIONS: Final = 64
_Size = Annotated[int, msgspec.Meta(ge=0)]


class Tensor(NamedTuple):
    """A tensor to be written; ``get_bytes`` returns its items, little-endian and C-contiguous."""

    code: str
    shape: tuple[int, ...]
    get_bytes: Callable[[], memoryview]

    @property
    def size(self) -> int:
        """The size in bytes."""
        return prod(self.shape) * ITEM_SIZES[self.code]


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


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[_Size, ...]
    data_offsets: tuple[_Size, _Size]


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
        if length > min(size - 8, _MAX_HEADER):
            raise corrupt(path, f"it has {size:,} bytes, which are no whole safetensors file")
        header = file.read(length)
        # A private mapping: writing to it never changes the file.
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    try:
        tensors = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(tensors.pop(_METADATA, b"{}"), type=dict[str, str])
        entries = {name: _decode_entry(tensor, 8 + length) for name, tensor in tensors.items()}
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise corrupt(path, f"its header is invalid: {error}") from None
    at = 8 + length
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.stop)):
        if entry.start != at:
            raise corrupt(path, "its tensors overlap, or have gaps between them")
        at = entry.stop
    if at != size:
        raise corrupt(path, f"its tensors end at byte {at:,}, but it has {size:,}: it is truncated")
    return OpenedFile(path, metadata, entries, memory)


def _decode_entry(octets: bytes, begin: int) -> Entry:
    tensor = msgspec.json.decode(octets, type=_Header)
    start, stop = tensor.data_offsets
    item_size = ITEM_SIZES.get(tensor.dtype)
    if item_size is None or len(tensor.shape) > _MAX_DIMENSIONS:
        raise ValueError(f"type {tensor.dtype!r} or shape {tensor.shape} is not supported")
    if prod(tensor.shape) * item_size != stop - start:
        raise ValueError(
            f"a tensor of type {tensor.dtype} and shape {tensor.shape} has {stop - start} bytes"
        )
    return Entry(tensor.dtype, tensor.shape, begin + start, begin + stop)


def corrupt(path: str, reason: str) -> StateCorrupt:
    """Return the error for a file that cannot be restored."""
    return StateCorrupt(f"{path} cannot be restored: {reason}")
