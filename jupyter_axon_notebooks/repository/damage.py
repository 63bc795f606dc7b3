"""Stored documents that are not what was stored: a disk's doing, or another program's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ..errors import InvalidData, RecordDamaged


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Name the record whose stored form cannot be read inside.

    Raises
    ------
    RecordDamaged
        For what reading a document raises that lacks something, or has another kind of value in its place.
    """
    try:
        yield
    except (
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        InvalidData,
        msgspec.ValidationError,
    ) as error:
        raise RecordDamaged(f"{what} is damaged in the store: {error}") from error
