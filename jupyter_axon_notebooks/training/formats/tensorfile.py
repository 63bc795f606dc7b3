"""Safetensors files, written piece by piece and read through the system's cache.

The layout is that of https://huggingface.co/docs/safetensors: the length of the header (8 bytes, little-endian), the
header (JSON, padded to a multiple of 8), and the tensors' bytes back to back in the order the library itself gives them, so
that each lies at a multiple of its own size. The library can write a file only at once and by itself, so the writer
is ours. So is the reader: one open of the file is checked and read, whatever is wrong is told by name, and every
version of the library need not know every type of number.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, BinaryIO, ClassVar, Final, NamedTuple

from ...errors import NotFound, StateCorrupt
from ...states.folders import convert_os_errors
from ...userfiles import open_regular

#: Bits of a number by the format's name for its type. The order, last first, is that of tensors in a file.
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
#: The longest header the library takes.
_LONGEST_HEADER: Final = 100_000_000
#: As many dimensions as NumPy and PyTorch give an array at most.
_MOST_DIMENSIONS: Final = 64


class Tensor(NamedTuple):
    """A tensor to be written: ``bytes_of`` gives its numbers, little-endian and C-contiguous, when its turn comes."""

    code: str
    shape: tuple[int, ...]
    bytes_of: Callable[[], memoryview]

    @property
    def size(self) -> int:
        """In bytes."""
        return prod(self.shape) * BITS[self.code] // 8


class TensorFile:
    """A safetensors file about to be written; an :class:`EncodedState`.

    Parameters
    ----------
    tensors : dict
        By name. Their memory is read when :meth:`chunks` comes to it, not before.
    metadata : dict of str
        What else the header says.
    """

    format: ClassVar[str] = "safetensors"

    def __init__(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        ordered = sorted(tensors.items(), key=lambda item: (-_ORDER[item[1].code], item[0]))
        self._tensors = [tensor for _, tensor in ordered]
        self._header = _header(ordered, metadata)
        self.size = len(self._header) + sum(tensor.size for tensor in self._tensors)

    def chunks(self) -> Iterator[memoryview]:
        """The header, then the tensors, each released before the next is asked for its bytes."""
        yield memoryview(self._header)
        for tensor in self._tensors:
            if tensor.size:
                yield tensor.bytes_of()


def _header(tensors: Sequence[tuple[str, Tensor]], metadata: dict[str, str]) -> bytes:
    header: dict[str, Any] = {_METADATA: metadata} if metadata else {}
    start = 0
    for name, tensor in tensors:
        stop = start + tensor.size
        header[name] = {"dtype": tensor.code, "shape": tensor.shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise TypeError(
            f"what is not tensors takes {len(text):,} bytes, and a safetensors file has room for {_LONGEST_HEADER:,}; "
            "keep long lists of numbers as arrays"
        )
    return len(text).to_bytes(8, "little") + text


class Entry(NamedTuple):
    """Where in a file a tensor lies, from its first byte to the one after its last, and what it is."""

    code: str
    shape: tuple[int, ...]
    start: int
    stop: int


class OpenedFile(NamedTuple):
    """A safetensors file that was found to be sound.

    ``memory`` is the whole file, mapped for this process alone: it stays for as long as anybody looks at it.
    """

    path: str
    metadata: dict[str, str]
    entries: dict[str, Entry]
    memory: mmap.mmap


class Source(NamedTuple):
    """A state file open for reading, so that what was checked is what is read; ``path`` is what errors call it."""

    path: str
    file: BinaryIO


def open_tensors(source: Source) -> OpenedFile:
    """The file in ``source``, which may be closed afterwards.

    Raises
    ------
    StateCorrupt
        If it is no safetensors file that the library itself would write; says why.
    StateError
        If it cannot be read.
    """
    path, file = source
    with convert_os_errors("read", os.path.dirname(path)):
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8:
            raise corrupt(path, f"it is {size} bytes long, too short for a safetensors file")
        if length > min(size - 8, _LONGEST_HEADER):
            raise corrupt(
                path, f"its header is said to be {length:,} bytes long, of {size:,} in all"
            )
        header = file.read(length)
        # Private: what writes to such memory never reaches the file.
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    described = parse_json(path, "header", header)
    if not isinstance(described, dict):
        raise corrupt(path, "its header is no JSON object")
    metadata = described.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(
        isinstance(text, str) for text in metadata.values()
    ):
        raise corrupt(path, "the metadata in its header are not texts by name")
    begin = 8 + length
    entries = {name: _entry(path, name, tensor, begin) for name, tensor in described.items()}
    _check_layout(path, entries, begin, size)
    return OpenedFile(path, metadata, entries, memory)


@contextlib.contextmanager
def reading(path: str) -> Iterator[Source]:
    """The state file at ``path``, open; links are followed.

    Raises
    ------
    NotFound, StateError
        If it is gone, or cannot be read.
    """
    with convert_os_errors("read", os.path.dirname(path)), contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(open_regular(path))
        except FileNotFoundError:
            raise NotFound("state file", path) from None
        yield Source(path, file)


def parse_json(path: str, what: str, text: str | bytes) -> Any:
    """The JSON ``text``, which the file at ``path`` has as its ``what``; no key may come twice."""

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise corrupt(path, f"its {what} has {name!r} twice")
            found[name] = value
        return found

    try:
        return json.loads(
            text if isinstance(text, str) else text.decode(), object_pairs_hook=without_doubles
        )
    except RecursionError:
        raise corrupt(path, f"its {what} is nested too deeply") from None
    except ValueError as error:  # not UTF-8, not JSON, a number of absurd length
        raise corrupt(path, f"its {what} is not JSON: {error}") from None


def _entry(path: str, name: str, described: Any, begin: int) -> Entry:
    if not isinstance(described, dict) or described.keys() != {"dtype", "shape", "data_offsets"}:
        raise corrupt(path, f"the header does not say type, shape and offsets of tensor {name!r}")
    code, shape, offsets = described["dtype"], described["shape"], described["data_offsets"]
    if not isinstance(code, str) or code not in BITS:
        raise corrupt(path, f"tensor {name!r} is of the unknown type {code!r}")
    if (
        not _are_sizes(shape, at_most=_MOST_DIMENSIONS)
        or not _are_sizes(offsets, at_most=2)
        or len(offsets) != 2
    ):
        raise corrupt(path, f"shape or offsets of tensor {name!r} are not whole numbers from 0 up")
    start, stop = offsets
    if prod(shape) * BITS[code] != 8 * (stop - start):
        raise corrupt(
            path,
            f"tensor {name!r} is of shape {shape} and type {code}, but has {stop - start} bytes",
        )
    return Entry(code, tuple(shape), begin + start, begin + stop)


def _are_sizes(found: Any, *, at_most: int) -> bool:
    if not isinstance(found, list) or len(found) > at_most:
        return False
    return all(type(size) is int and 0 <= size < 1 << 63 for size in found)


def _check_layout(path: str, entries: dict[str, Entry], begin: int, size: int) -> None:
    """Tensors lie back to back from the header to the end of the file: no byte is in two, and none in no tensor."""
    at, before = begin, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.stop > size:
            raise corrupt(
                path, f"tensor {name!r} ends beyond the end of the file, which was cut short"
            )
        if entry.start < at:
            raise corrupt(path, f"tensor {name!r} overlaps {before}")
        if entry.start > at:
            raise corrupt(path, f"there is a gap between {before} and tensor {name!r}")
        at, before = entry.stop, f"tensor {name!r}"
    if at != size:
        raise corrupt(path, f"{size - at} bytes follow {before}, the last tensor")


def corrupt(path: str, reason: str) -> StateCorrupt:
    """The error for the file at ``path``."""
    return StateCorrupt(f"{path} cannot be restored: {reason}")
