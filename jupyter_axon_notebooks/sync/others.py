"""Records of this user's files that are bound under another origin: another machine's, or one that was lost.

Which of both it is cannot be told for certain. An origin under which a file was recorded after the present origin was made is
taken to be another machine's, or another server's, that is still in use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ..records import format_time
from ..repository import Binding
from .origin import origin_file


@dataclass
class OtherOrigin:
    """Another origin under which there are records of files that are here.

    Attributes
    ----------
    here : list of Binding
        The records that the files would be bound to here.
    in_use : bool
        Whether somebody has recorded a file under it since the present origin was made.
    """

    origin: str
    here: list[Binding] = field(default_factory=list)
    in_use: bool = False


def made_at(folder: Path) -> str:
    """Return when the origin of a data folder was made, as records have their times; the present moment where none was."""
    try:
        moment = datetime.fromtimestamp(os.stat(origin_file(folder)).st_mtime, timezone.utc)
    except OSError:
        moment = datetime.now(timezone.utc)
    return format_time(moment)


def other_origins(
    elsewhere: Iterable[Binding],
    bound_here: Callable[[str], Binding | None],
    made: str,
    rest: Callable[[], bool] = lambda: True,
) -> list[OtherOrigin]:
    """Return the other origins with records of files that are here, the one with most first.

    Of several records of one file the one that was created first is the file's: it has the history. Where that is bound here
    already, there is nothing to do.

    Parameters
    ----------
    elsewhere : iterable of Binding
        The records that are bound to files under other origins.
    bound_here : callable
        Who is bound to the file at a path under the present origin.
    made : str
        When the present origin was made.
    rest : callable
        Called between any two files; says whether to go on.
    """
    found: dict[str, OtherOrigin] = {}
    first: dict[tuple[str, str], Binding] = {}
    for binding in elsewhere:
        if binding.path is None or binding.origin is None:
            continue
        other = found.setdefault(binding.origin, OtherOrigin(binding.origin))
        other.in_use = other.in_use or (binding.synced_at or "") > made
        key = binding.user_id, binding.path
        if key not in first or _age(binding) < _age(first[key]):
            first[key] = binding
    for (user_id, path), binding in first.items():
        if not rest():
            break
        if not os.path.isabs(path) or not os.path.isfile(path):
            continue
        here = bound_here(path)
        if here is None or (here.user_id == user_id and _age(binding) < _age(here)):
            found[str(binding.origin)].here.append(binding)
    return sorted(
        (other for other in found.values() if other.here), key=lambda other: -len(other.here)
    )


def _age(binding: Binding) -> tuple[str, str]:
    return binding.created_at or "", binding.id
