"""The detection of stored documents that were damaged by the disk or by another program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ..errors import InvalidData, RecordDamaged

_DECODING_ERRORS = (
    *(AttributeError, LookupError, TypeError, ValueError),
    *(InvalidData, msgspec.ValidationError),
)


@contextmanager
def check_damage(record: str) -> Iterator[None]:
    """Raise RecordDamaged, which names ``record``, for errors of decoding its document."""
    try:
        yield
    except _DECODING_ERRORS as error:
        raise RecordDamaged(f"{record} is damaged in the store: {error}") from error
