"""Restoring stored values into existing objects: all of them, or none.

A plan first compares all values with the objects and collects the mismatches. Then it changes the
objects. Objects with their own ``load_state_dict`` may still refuse a state. They are set first, so
that only such objects have changed if one refuses.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ...errors import InvalidData
from . import arrays, stateful
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

        Raises
        ------
        InvalidData
            If one refuses its state; objects before it have changed then.
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

        The step returns ``target``, or a new value of the same structure if it is immutable.

        Parameters
        ----------
        where : str
            The place of the target in error messages.
        strict : bool
            Whether keys and lengths must be equal; otherwise the stored value may have more.
        """
        if stateful.is_stateful(target):
            return self._fit_stateful(target, stored, where)
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
            self._refuse_type(where, target, f"a {type_name(stored)}")
        return self.copy(stored)

    def _refuse_type(self, where: str, target: Any, stored: str) -> None:
        self.refuse(f"{where} is a {type_name(target)}, in the checkpoint {stored}")

    def _fit_stateful(self, target: Any, stored: Any, where: str) -> Step:
        state = stored
        if isinstance(stored, State):
            state = stored.state
            if not stateful.matches_kind(target, stored.kind):
                own = stateful.get_kind(target)
                self.refuse(f"{where} is a {own}, in the checkpoint a {stored.kind}")
                return self.copy(stored)
        elif stateful.has_state_dict(target) and not isinstance(stored, dict):
            self.refuse(f"{where}: the checkpoint has no state of such an object")
            return self.copy(stored)
        for problem in stateful.find_mismatches(target, state):
            self.refuse(f"{where}: {problem}")
        inner: list[Step] = []
        if not stateful.is_module(target) and _contains_states(state):
            try:
                state = self._link(state, stateful.get_nested_state(target), where, inner)
            except TypeError as error:
                self.refuse(f"{where}: {error}")
        is_certain = stateful.can_check(target)
        if not is_certain:
            self._uncertain.append((target, state, where))

        def restore() -> Any:
            if is_certain:
                self._set_state(target, state)
            for set_inner in inner:
                set_inner()
            return target

        return restore

    def _link(self, stored: Any, own: Any, where: str, inner: list[Step]) -> Any:
        """Replace states of objects within ``stored`` by these objects, which are in ``own``.

        ``stored`` and ``own`` are the stored and the present state of the outer object. The steps
        that set the inner objects are added to ``inner``.
        """
        if isinstance(stored, State):
            if not stateful.is_stateful(own):
                self._refuse_type(where, own, f"a {stored.kind}")
                return stored
            inner.append(self._fit_stateful(own, stored, where))
            return own
        if isinstance(stored, dict):
            known = own if isinstance(own, Mapping) else {}
            for key, value in stored.items():
                stored[key] = self._link(value, known.get(key), f"{where}[{key!r}]", inner)
        elif isinstance(stored, list) or _is_any_tuple(stored):
            present = own if isinstance(own, (list, tuple)) else ()
            items = [
                self._link(
                    item, present[at] if at < len(present) else None, f"{where}[{at}]", inner
                )
                for at, item in enumerate(stored)
            ]
            return items if isinstance(stored, list) else tuple.__new__(type(stored), items)
        return stored

    def _set_state(self, target: Any, state: Any) -> None:
        stateful.set_state(target, state, lambda part: copy_values(part, self._copies))

    def _fit_array(self, target: Any, stored: Any, where: str) -> Step:
        own = arrays.format_type(target)
        is_same_kind = arrays.is_tensor if arrays.is_tensor(target) else arrays.is_array
        if not is_same_kind(stored):
            kind = "a tensor" if arrays.is_tensor(stored) else f"a {type_name(stored)}"
            self.refuse(f"{where} is {own}, in the checkpoint {kind}")
        elif (kind := arrays.format_type(stored)) != own:
            self.refuse(f"{where} is {own}, in the checkpoint {kind}")
        elif getattr(target, "is_meta", False):
            self.refuse(f"{where} is on the meta device and has no values; use another device")
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
            try:
                return rebuild(values)
            except TypeError:
                return values

        return restore

    def _fit_sequence(
        self, target: Sequence[Any], stored: Sequence[Any], where: str, *, strict: bool
    ) -> Step:
        """Fit item by item; lists of plain values, such as losses, may differ in length."""
        shared = min(len(target), len(stored))
        if len(target) != len(stored) and (strict or any(map(_is_restored_into, target[shared:]))):
            self.refuse(f"{where} has {len(target)} items, in the checkpoint {len(stored)}")
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


def _contains_states(stored: Any) -> bool:
    if isinstance(stored, dict):
        return any(map(_contains_states, stored.values()))
    is_sequence = isinstance(stored, list) or _is_any_tuple(stored)
    return isinstance(stored, State) or (is_sequence and any(map(_contains_states, stored)))


def _is_any_tuple(stored: Any) -> bool:
    """Return whether a stored value is a plain or named tuple of values."""
    return type(stored) is tuple or (isinstance(stored, tuple) and hasattr(stored, "_fields"))


def _is_restored_into(value: Any) -> bool:
    is_container = isinstance(value, (Mapping, list, tuple))
    return is_container or stateful.is_stateful(value) or arrays.is_numeric(value)


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
    elif _is_any_tuple(stored):
        return tuple.__new__(type(stored), [copy_values(value, copies) for value in stored])
    elif arrays.is_numeric(stored):
        if id(stored) not in copies:
            # The original is kept as well, so that its id is not reused.
            copies[id(stored)] = (stored, arrays.copy_array(stored))
        return copies[id(stored)][1]
    return stored


# Values that cannot be changed in place


def list_immutable(target: Any, where: str) -> list[str]:
    """List the places in ``target`` that can be restored only by replacing a value.

    Those are arrays of JAX, read-only arrays, numbers and texts, except in dicts and lists, whose
    entries can be replaced.
    """
    is_container = isinstance(target, (MutableMapping, list))
    if target is None or stateful.is_stateful(target) or is_container:
        return []
    if isinstance(target, (Mapping, tuple)):
        return [
            found
            for key, item in _items(target)
            for found in list_immutable(item, f"{where}[{key!r}]")
        ]
    return [] if arrays.is_numeric(target) and arrays.is_writable(target) else [where]


def list_replaced(target: Any, *, include_arrays: bool) -> list[str]:
    """List the entries of a dict or list that are replaced: tuples with immutable arrays.

    With ``include_arrays``, also immutable arrays themselves.
    """
    if not isinstance(target, (MutableMapping, list)):
        return []
    return [
        f"[{key!r}]"
        for key, item in _items(target)
        if (include_arrays or isinstance(item, tuple))
        and not stateful.is_stateful(item)
        and _has_immutable_array(item)
    ]


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    return iter(container.items() if isinstance(container, Mapping) else enumerate(container))


def _has_immutable_array(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_has_immutable_array, value))
    return arrays.is_numeric(value) and not arrays.is_writable(value)
