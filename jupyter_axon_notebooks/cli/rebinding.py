"""Bind files here to the records that they have under an origin that was lost."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from ..errors import Conflict, NotFound
from ..sync.others import made_at, other_origins
from .output import note
from .session import Session


def rebind_records(session: Session, origins: Collection[str]) -> list[dict[str, Any]]:
    """Bind the acting user's records to the present origin; what was done, in JSON.

    Parameters
    ----------
    origins : collection of str
        The origins whose records are taken, whoever uses them; none takes those of all that nobody seems to use.

    Raises
    ------
    NotFound
        When there is no store, or none of the files here has a record under one of ``origins``.
    StoreError
        When the store cannot be used.
    """
    rebound: list[dict[str, Any]] = []
    with session.writing(make=False) as repository:
        origin = session.origin()
        others = other_origins(
            repository.bindings.list_other_origins(session.config.user_id, origin),
            partial(repository.bindings.find_by_path, origin),
            made_at(session.data_folder),
        )
        if missing := set(origins) - {other.origin for other in others}:
            raise _NoRecords(missing.pop())
        for other in others:
            if other.in_use and other.origin not in origins:
                note(
                    f"Left alone: the records of {len(other.here)} notebooks under the origin {other.origin}, which another machine "
                    f"seems to use. --rebind --origin {other.origin} binds them here all the same."
                )
            if other.origin in origins if origins else not other.in_use:
                for binding in other.here:
                    try:
                        released = repository.bindings.change_origin(binding.id, origin)
                    except (Conflict, NotFound) as error:  # changed meanwhile
                        note(f"{binding.path}: {error}")
                        continue
                    done = {"path": binding.path, "id": binding.id, "from": other.origin}
                    rebound.append(done if released is None else {**done, "released": released.id})
    for one in rebound:
        kept = (
            f"; {one['released']}, which was created later, is kept and bound to no file"
            if "released" in one
            else ""
        )
        note(f"{one['path']}: bound to the record {one['id']}{kept}")
    count = (
        "1 notebook was bound to its record"
        if len(rebound) == 1
        else f"{len(rebound)} notebooks were bound to their records"
    )
    note(f"{count} under the present origin, {origin}.")
    return rebound


class _NoRecords(NotFound):
    def __init__(self, origin: str) -> None:
        super().__init__("origin", origin)
        self.args = (f"no file here has a record of yours to be bound under the origin {origin}",)
