"""Restoring stored values into existing objects: all of them, or none.

A plan first compares all values with the objects and collects the mismatches. Then it changes the
objects. Objects with their own ``load_state_dict`` may still refuse a state. They are set first, so
that only such objects have changed if one refuses.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ...errors import InvalidData
from . import arrays, objects
from .arrays import type_name
from .tree import State

#: Sets a value, and returns it, or the value that replaces it.
Step: TypeAlias = Callable[[], Any]

_MAX_LISTED: Final = 8


class PendingRestore(NamedTuple):
    """A prepared restore of a file, in two steps; with several files, call each ``begin`` first.

    ``begin`` sets the objects that may refuse their state, and raises :class:`InvalidData` if one
    does. ``finish`` sets the others, and returns the restored value.
    """

    begin: Callable[[], None]
    finish: Step

    def __call__(self) -> Any:
        """Restore the file."""
        self.begin()
        return self.finish()


class RestorePlan:
    """The steps of restoring a file, and the mismatches."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._copies: dict[int, Any] = {}
        self._uncertain: list[tuple[Any, Any, str]] = []

    def refuse(self, problem: str) -> None:
        """Add a mismatch."""
        self._problems.append(problem)

    def check(self, field: str) -> None:
        """Raise InvalidData at ``field`` if there are mismatches."""
        if self._problems:
            more = len(self._problems) - _MAX_LISTED
            listed = self._problems[:_MAX_LISTED] + ([f"and {more} more"] if more > 0 else [])
            raise InvalidData(field, f"does not fit the checkpoint: {'; '.join(listed)}")

    def begin(self) -> None:
        """Set the objects with their own ``load_state_dict``.

        If one refuses its state, raise InvalidData; objects before it have changed then.
        """
        for target, state, where in self._uncertain:
            try:
                self._set_state(target, state)
            except Exception as error:
                raise InvalidData(
                    where, f"this {type_name(target)} refuses the state in the checkpoint: {error}"
                ) from error

    def copy(self, stored: Any) -> Step:
        """Return the step that returns a copy of a stored value."""
        return lambda: copy_values(stored, self._copies)

    def fit(self, target: Any, stored: Any, where: str, *, strict: bool) -> Step:
        """Return the step that sets ``target`` to ``stored``, in place where possible.

        The step returns ``target``, or a new value of the same structure if it is immutable. If not
        ``strict``, the stored value may have more keys and items. ``where`` is for error messages.
        """
        if objects.is_stateful(target):
            return self._fit_object(target, stored, where)
        if isinstance(stored, State):
            stored = stored.state
        if arrays.is_numeric(target):
            return self._fit_array(target, stored, where)
        if isinstance(target, Mapping) and isinstance(stored, dict):
            return self._fit_mapping(target, stored, where, strict=strict)
        for kind in (list, tuple):
            if isinstance(target, kind) and isinstance(stored, kind):
                return self._fit_sequence(target, stored, where, strict=strict)
        if isinstance(target, (Mapping, list, tuple)):
            self._refuse_type(where, type_name(target), type_name(stored))
        return self.copy(stored)

    def _refuse_type(self, where: str, target: str, stored: str) -> None:
        self.refuse(f"{where} is a {target} here and a {stored} in the checkpoint")

    def _fit_object(self, target: Any, stored: Any, where: str) -> Step:
        state = stored
        if isinstance(stored, State):
            state = stored.state
            if not objects.matches_kind(target, stored.kind):
                self._refuse_type(where, objects.get_kind(target), stored.kind)
                return self.copy(stored)
        elif not isinstance(stored, dict):
            self.refuse(f"{where}: the checkpoint has no state of such an object")
            return self.copy(stored)
        is_module = objects.is_module(target)
        for problem in objects.find_mismatches(target, state) if is_module else []:
            self.refuse(f"{where}: {problem}")
        is_certain = is_module and not objects.has_custom_loading(target)
        if not is_certain:
            self._uncertain.append((target, state, where))

        def restore() -> Any:
            if is_certain:
                self._set_state(target, state)
            return target

        return restore

    def _set_state(self, target: Any, state: Any) -> None:
        objects.set_state(target, state, lambda part: copy_values(part, self._copies))

    def _fit_array(self, target: Any, stored: Any, where: str) -> Step:
        if problem := arrays.find_mismatch(target, stored):
            self.refuse(f"{where} {problem}")
        if not arrays.is_writable(target):
            copy = self.copy(stored)
            return lambda: arrays.convert_like(target, copy())

        def restore() -> Any:
            arrays.overwrite(target, stored)
            return target

        return restore

    def _fit_mapping(
        self, target: Mapping[Any, Any], stored: dict[Any, Any], where: str, *, strict: bool
    ) -> Step:
        for key in target:
            if key not in stored:
                self.refuse(f"the checkpoint has no {where}[{key!r}]")
        steps = {}
        for key, value in stored.items():
            if key in target:
                steps[key] = self.fit(target[key], value, f"{where}[{key!r}]", strict=strict)
            elif strict:
                self.refuse(f"the checkpoint also has {where}[{key!r}]")
            else:
                steps[key] = self.copy(value)

        def restore() -> Any:
            values = {key: step() for key, step in steps.items()}
            if isinstance(target, MutableMapping):
                target.update(values)
                return target
            rebuild: Callable[[Any], Any] = type(target)
            return rebuild(values)

        return restore

    def _fit_sequence(
        self, target: Sequence[Any], stored: Sequence[Any], where: str, *, strict: bool
    ) -> Step:
        """Fit item by item; lists of plain values, such as losses, may differ in length."""
        shared = min(len(target), len(stored))
        if len(target) != len(stored) and (strict or any(map(_is_restored_into, target[shared:]))):
            self.refuse(f"{where} has {len(target)} items here and {len(stored)} in the checkpoint")
        steps = [
            self.fit(target[at], stored[at], f"{where}[{at}]", strict=strict)
            for at in range(shared)
        ]
        steps += [self.copy(value) for value in stored[shared:]]

        def restore() -> Any:
            values = [step() for step in steps]
            if isinstance(target, list):
                target[:] = values
                return target
            kind: Any = type(target)
            return kind(*values) if hasattr(target, "_fields") else kind(values)

        return restore


def _is_restored_into(value: Any) -> bool:
    is_container = isinstance(value, (Mapping, list, tuple))
    return is_container or objects.is_stateful(value) or arrays.is_numeric(value)


def copy_values(stored: Any, copies: dict[int, Any] | None = None) -> Any:
    """Return stored values with their arrays copied, and the states of objects as plain values.

    ``copies`` maps ids to earlier copies, so that a shared array is shared again.
    """
    copies = {} if copies is None else copies
    if isinstance(stored, State):
        return copy_values(stored.state, copies)
    if isinstance(stored, dict):
        for key, value in stored.items():
            stored[key] = copy_values(value, copies)
    elif isinstance(stored, (list, collections.deque)):
        for at, value in enumerate(stored):
            stored[at] = copy_values(value, copies)
    elif type(stored) is tuple:
        return tuple(copy_values(value, copies) for value in stored)
    elif arrays.is_numeric(stored):
        if id(stored) not in copies:
            # The original is kept as well, so that its id is not reused.
            copies[id(stored)] = (stored, arrays.copy_array(stored))
        return copies[id(stored)][1]
    return stored


def list_immutable(target: Any, where: str) -> list[str]:
    """List the places in ``target`` that can be restored only by replacing a value.

    Those are arrays of JAX, read-only arrays, numbers and texts, except in dicts and lists, whose
    entries can be replaced.
    """
    is_container = isinstance(target, (MutableMapping, list))
    if target is None or objects.is_stateful(target) or is_container:
        return []
    if isinstance(target, (Mapping, tuple)):
        items = target.items() if isinstance(target, Mapping) else enumerate(target)
        return [found for key, item in items for found in list_immutable(item, f"{where}[{key!r}]")]
    return [] if arrays.is_numeric(target) and arrays.is_writable(target) else [where]
