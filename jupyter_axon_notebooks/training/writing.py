"""State files on their way to the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from ..states import Part, StateStorage, StateWriter, StoredState

if TYPE_CHECKING:
    from .formats import EncodedState

#: Bytes after which progress is told: large enough for hashing and writing side by side to be worth it.
_PIECE: Final = 64 << 20


def write_states(
    states: StateStorage,
    notebook_id: str,
    checkpoint_id: str,
    parts: Mapping[Part, EncodedState],
    progress: Callable[[int, int], None],
) -> dict[Part, StoredState]:
    """Write the state files of a checkpoint: all of them or none, durable when this returns.

    Parameters
    ----------
    progress : callable
        Given the bytes written so far and the bytes in all, again and again.

    Raises
    ------
    NoSpace, StateError
        If they cannot be written.
    """
    total = sum(encoded.size for encoded in parts.values())
    written = 0
    stored: dict[Part, StoredState] = {}
    try:
        with ExitStack() as opened:
            writers: dict[Part, StateWriter] = {}
            for part, encoded in parts.items():
                # The room that all need together, or the last would find the disk full.
                left = total - written
                writer = opened.enter_context(
                    states.open_writer(
                        notebook_id,
                        checkpoint_id,
                        part,
                        format=encoded.format,
                        expected_size=left,
                        beside=next(iter(writers.values()), None),
                    )
                )
                writers[part] = writer
                for chunk in encoded.chunks():
                    octets = chunk.cast("B") if chunk.nbytes else memoryview(b"")
                    for start in range(0, len(octets), _PIECE):
                        piece = octets[start : start + _PIECE]
                        writer.write(piece)
                        written += len(piece)
                        progress(written, total)
                writer.prepare()
            for part, writer in writers.items():
                stored[part] = writer.commit(durable=len(stored) + 1 == len(writers))
    except BaseException:
        if stored:
            states.remove_checkpoint(notebook_id, checkpoint_id)
        raise
    return stored
