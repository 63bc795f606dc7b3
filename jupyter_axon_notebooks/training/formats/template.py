"""What was read, put into the objects that are there: all of it, or none.

A plan first compares everything, and notes what does not fit; only then anything changes. Objects that take their state by
a way of their own can refuse it only then: they come first, and where one does nothing but others of them has changed.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, TypeAlias

from ...errors import InvalidData
from . import arrays, stateful
from .arrays import type_name
from .reader import State

#: Puts the values in their place; returns what is there then.
Step: TypeAlias = Callable[[], Any]

_MOST_LISTED = 8


class PendingRestore(NamedTuple):
    """What restores a file, in two steps, so that of several files all begin before one is finished.

    ``begin`` sets the objects that may refuse their state, with :class:`InvalidData`; ``finish`` does the rest, and returns
    what is restored.
    """

    begin: Callable[[], None]
    finish: Step

    def __call__(self) -> Any:
        """Both at once, for a file by itself."""
        self.begin()
        return self.finish()


def list_immutable(template: Any, where: str) -> list[str]:
    """List what in ``template`` can be restored only by another value in its place, because nothing can be changed in it.

    Those are the arrays of JAX, read-only arrays, numbers and texts, by themselves or in tuples. In a dict or a list the entry
    is replaced.
    """
    if (
        template is None
        or stateful.is_stateful(template)
        or isinstance(template, (MutableMapping, list))
    ):
        return []
    if isinstance(template, Mapping):
        items = [(f"{where}[{key!r}]", item) for key, item in template.items()]
    elif isinstance(template, tuple):
        items = [(f"{where}[{at}]", item) for at, item in enumerate(template)]
    else:
        is_numbers = arrays.is_tensor(template) or arrays.is_array(template)
        return [] if is_numbers and arrays.is_writable(template) else [where]
    return [found for place, item in items for found in list_immutable(item, place)]


def list_replaced(template: Any, *, arrays_too: bool) -> list[str]:
    """List the entries of a dict or list that are replaced because they are tuples of arrays that do not change.

    With ``arrays_too``, also those that are such an array.
    """
    if isinstance(template, MutableMapping):
        items = [(f"[{key!r}]", item) for key, item in template.items()]
    elif isinstance(template, list):
        items = [(f"[{at}]", item) for at, item in enumerate(template)]
    else:
        return []
    return [
        place
        for place, item in items
        if (arrays_too or isinstance(item, tuple))
        and not stateful.is_stateful(item)
        and _is_fixed(item)
    ]


def _is_fixed(value: Any) -> bool:
    """Whether ``value`` is an array that does not change, or a tuple with one in it."""
    if isinstance(value, tuple):
        return any(map(_is_fixed, value))
    return (arrays.is_tensor(value) or arrays.is_array(value)) and not arrays.is_writable(value)


class Plan:
    """What is to be done, and what speaks against it."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._owned: dict[int, Any] = {}
        self._willful: list[tuple[Any, Any, str]] = []

    def refuse(self, problem: str) -> None:
        """Note what does not fit."""
        self._problems.append(problem)

    def check(self, field: str) -> None:
        """Raise what was noted.

        Raises
        ------
        InvalidData
            If anything was; at ``field``.
        """
        if self._problems:
            more = len(self._problems) - _MOST_LISTED
            listed = self._problems[:_MOST_LISTED] + ([f"and {more} more"] if more > 0 else [])
            raise InvalidData(field, f"does not fit the checkpoint: {'; '.join(listed)}")

    def begin(self) -> None:
        """Set the objects that take their state by a way of their own.

        Raises
        ------
        InvalidData
            If one refuses it, at the place it has; those before it have changed then.
        """
        for template, state, where in self._willful:
            try:
                self._set(template, state)
            except Exception as error:
                raise InvalidData(
                    where,
                    f"this {type_name(template)} does not take the state in the checkpoint: {error}",
                ) from error

    def own(self, stored: Any) -> Step:
        """The stored value itself, in memory of its own."""
        return lambda: owned(stored, self._owned)

    def fit(self, template: Any, stored: Any, where: str, *, strict: bool) -> Step:
        """Put ``stored`` into ``template``: into what can change in place, and anew with its structure where nothing can.

        Parameters
        ----------
        where : str
            What a person calls the template.
        strict : bool
            Whether the two must have the same keys and lengths. Otherwise the stored may have more.
        """
        if stateful.is_stateful(template):
            return self._stateful(template, stored, where)
        if isinstance(stored, State):
            stored = stored.state
        if arrays.is_tensor(template) or arrays.is_array(template):
            return self._array(template, stored, where)
        if isinstance(template, Mapping):
            return self._mapping(template, stored, where, strict=strict)
        if isinstance(template, list):
            return self._list(template, stored, where, strict=strict)
        if isinstance(template, tuple):
            return self._tuple(template, stored, where, strict=strict)
        return self.own(stored)

    def _stateful(self, template: Any, stored: Any, where: str) -> Step:
        state = stored
        if isinstance(stored, State):
            state = stored.state
            if not stateful.is_kind(template, stored.kind):
                self.refuse(
                    f"{where} is a {stateful.kind_of(template)}, in the checkpoint a {stored.kind}"
                )
                return self.own(stored)
        elif stateful.is_object(template) and not isinstance(stored, dict):
            self.refuse(f"{where}: the checkpoint has no state of such an object")
            return self.own(stored)
        for problem in stateful.misfits(template, state):
            self.refuse(f"{where}: {problem}")
        inner: list[Step] = []
        if not stateful.is_module(template) and _has_parts(state):
            try:
                state = self._linked(state, stateful.whole_state_of(template), where, inner)
            except TypeError as error:
                self.refuse(f"{where}: {error}")
        is_known = stateful.is_known(template)
        if not is_known:
            self._willful.append((template, state, where))

        def step() -> Any:
            if is_known:
                self._set(template, state)
            for set_part in inner:
                set_part()
            return template

        return step

    def _linked(self, stored: Any, own: Any, where: str, inner: list[Step]) -> Any:
        """Replace the states of other objects in ``stored``, a part of an object's state, by those objects, and have them set.

        A scheduler in a scheduler is such an object. ``own`` is the same part of the state that the object has now.
        """
        if isinstance(stored, State):
            if not stateful.is_stateful(own):
                self.refuse(f"{where} is a {type_name(own)}, in the checkpoint a {stored.kind}")
                return stored
            inner.append(self._stateful(own, stored, where))
            return own
        if isinstance(stored, dict):
            known = own if isinstance(own, Mapping) else {}
            for key, value in stored.items():
                stored[key] = self._linked(value, known.get(key), f"{where}[{key!r}]", inner)
        elif isinstance(stored, list) or _is_plain_tuple(stored):
            there = own if isinstance(own, (list, tuple)) else ()
            items = [
                self._linked(value, there[at] if at < len(there) else None, f"{where}[{at}]", inner)
                for at, value in enumerate(stored)
            ]
            return items if isinstance(stored, list) else tuple.__new__(type(stored), items)
        return stored

    def _set(self, template: Any, state: Any) -> None:
        stateful.set_state(template, state, lambda part: owned(part, self._owned))

    def _array(self, template: Any, stored: Any, where: str) -> Step:
        here = arrays.kind_text(template)
        if not (arrays.is_tensor if arrays.is_tensor(template) else arrays.is_array)(stored):
            kind = "a tensor" if arrays.is_tensor(stored) else f"a {type_name(stored)}"
            self.refuse(f"{where} is {here}, in the checkpoint {kind}")
        elif (there := arrays.kind_text(stored)) != here:
            self.refuse(f"{where} is {here}, in the checkpoint {there}")
        elif getattr(template, "is_meta", False):
            self.refuse(
                f"{where} is on the meta device, which has no numbers; make it on another device"
            )
        if not arrays.is_writable(template):
            own = self.own(stored)
            return lambda: arrays.as_kind_of(template, own())

        def step() -> Any:
            arrays.overwrite(template, stored)
            return template

        return step

    def _mapping(
        self, template: Mapping[Any, Any], stored: Any, where: str, *, strict: bool
    ) -> Step:
        if not isinstance(stored, dict):
            return self._other(template, stored, where)
        for key in template:
            if key not in stored:
                self.refuse(f"the checkpoint has no {where}[{key!r}]")
        steps = {}
        for key, value in stored.items():
            if key in template:
                steps[key] = self.fit(template[key], value, f"{where}[{key!r}]", strict=strict)
            elif strict:
                self.refuse(f"the checkpoint has {where}[{key!r}] as well")
            else:
                steps[key] = self.own(value)

        def step() -> Any:
            values = {key: step() for key, step in steps.items()}
            if isinstance(template, MutableMapping):
                template.update(values)
                return template
            rebuild: Callable[[Any], Any] = type(template)
            try:
                return rebuild(values)
            except TypeError:
                return values

        return step

    def _list(self, template: list[Any], stored: Any, where: str, *, strict: bool) -> Step:
        if not isinstance(stored, list):
            return self._other(template, stored, where)
        steps = self._steps(template, stored, where, strict=strict)

        def step() -> Any:
            template[:] = [step() for step in steps]
            return template

        return step

    def _tuple(self, template: tuple[Any, ...], stored: Any, where: str, *, strict: bool) -> Step:
        if not isinstance(stored, tuple):
            return self._other(template, stored, where)
        steps = self._steps(template, stored, where, strict=strict)

        def step() -> Any:
            values = [step() for step in steps]
            return (
                type(template)(*values) if hasattr(template, "_fields") else type(template)(values)
            )

        return step

    def _steps(self, template: Any, stored: Any, where: str, *, strict: bool) -> list[Step]:
        """Item by item. Plain values, such as a history of losses, may be fewer or more than there are now."""
        if len(template) != len(stored) and (
            strict or any(map(_is_place, template[len(stored) :]))
        ):
            self.refuse(f"{where} has {len(template)} items, in the checkpoint {len(stored)}")
        shared = min(len(template), len(stored))
        steps = [
            self.fit(template[at], stored[at], f"{where}[{at}]", strict=strict)
            for at in range(shared)
        ]
        return steps + [self.own(value) for value in stored[shared:]]

    def _other(self, template: Any, stored: Any, where: str) -> Step:
        self.refuse(f"{where} is a {type_name(template)}, in the checkpoint a {type_name(stored)}")
        return self.own(stored)


def _has_parts(stored: Any) -> bool:
    """Whether states of other objects are in that of an object."""
    if isinstance(stored, dict):
        return any(map(_has_parts, stored.values()))
    is_sequence = isinstance(stored, list) or _is_plain_tuple(stored)
    return isinstance(stored, State) or (is_sequence and any(map(_has_parts, stored)))


def _is_plain_tuple(stored: Any) -> bool:
    """Whether a value that was read is a tuple, with names or without, of any values."""
    return type(stored) is tuple or (isinstance(stored, tuple) and hasattr(stored, "_fields"))


def _is_place(value: Any) -> bool:
    """Whether something is to be put into ``value`` itself."""
    is_container = isinstance(value, (Mapping, list, tuple))
    return (
        is_container
        or stateful.is_stateful(value)
        or arrays.is_tensor(value)
        or arrays.is_array(value)
    )


def owned(stored: Any, made: dict[int, Any] | None = None) -> Any:
    """What was read, with arrays in memory of its own; states of objects as what they are.

    ``made`` knows the arrays that were made before, so that what was one array is one again.
    """
    made = {} if made is None else made
    if isinstance(stored, State):
        return owned(stored.state, made)
    if isinstance(stored, dict):
        for key, value in stored.items():
            stored[key] = owned(value, made)
    elif isinstance(stored, (list, collections.deque)):
        for at, value in enumerate(stored):
            stored[at] = owned(value, made)
    elif _is_plain_tuple(stored):
        return tuple.__new__(type(stored), [owned(value, made) for value in stored])
    elif arrays.is_tensor(stored) or arrays.is_array(stored):
        if id(stored) not in made:
            # Both are kept: an id is that of one object only while the object lives.
            made[id(stored)] = (stored, arrays.owned(stored))
        return made[id(stored)][1]
    return stored
