"""Objects that give their state and take it back: optimizers, schedulers, scalers, modules, random generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from . import pytorch, sharding
from .arrays import type_name

#: What PyTorch's own optimizers keep a number of for each number of a parameter.
_LIKE_PARAMETER: Final = frozenset(
    {
        "acc_delta",
        "ax",
        "exp_avg",
        "exp_avg_sq",
        "exp_inf",
        "grad_avg",
        "max_exp_avg_sq",
        "momentum_buffer",
    }
    | {"prev", "square_avg", "step_size", "sum"}
)


def is_stateful(value: Any) -> bool:
    """Whether ``value`` can be asked for its state, and set back to it."""
    if isinstance(value, type):
        return False
    return is_object(value) or _is_generator(value)


def is_known(value: Any) -> bool:
    """Whether :func:`misfits` tells all that may be wrong with a state of ``value``; others may yet refuse it."""
    value = _loader(value)
    return is_module(value) or _loads_as_pytorch_does(value) or not is_object(value)


def unwrapped(value: Any) -> Any:
    """Return the object whose state ``value`` gives as its own, as accelerate's optimizer does; else ``value`` itself.

    A state is stored as one of that object, so that it can be restored with the wrapper and without it. It is set through
    the wrapper all the same; see :func:`set_state`.
    """
    passed: list[Any] = []
    while value is not None and _can_step(value) and all(value is not other for other in passed):
        passed.append(value)
        if _is_of(
            value, "state_dict", "torch."
        ):  # a state of its own, though it may be empty as that of a part is
            break
        groups = getattr(value, "param_groups", None)
        parts = [
            part
            for part in getattr(value, "__dict__", {}).values()
            if _can_step(part) and getattr(part, "param_groups", None) is groups
        ]
        try:
            state = value.state_dict() if parts else None
            value = next(
                (part for part in parts if state and _is_same(state, part.state_dict())), None
            )
        except Exception:  # noqa: BLE001 - it is told where the state itself is asked for
            break
    return passed[-1] if passed else value


def parts_of(state: Any) -> list[Any]:
    """Return the objects with a state of their own that are in ``state``."""
    found: list[Any] = []
    seen: set[int] = set()

    def look(value: Any) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if is_stateful(value):
            found.append(value)
        elif isinstance(value, (Mapping, list, tuple)):
            for item in value.values() if isinstance(value, Mapping) else value:
                look(item)

    look(state)
    return found


def whole_state_of(value: Any) -> Any:
    """Return the state of ``value``, in which other objects, such as a scheduler in a scheduler, are the ones that it uses.

    Raises
    ------
    TypeError
        If it has other objects in it and they cannot be set back where they are.
    """
    state = state_of(value)
    if not (parts := parts_of(state)):
        return state
    reason = None
    if is_module(value):
        reason = "which a module would get back as its state alone"
    elif _is_a(value, "torch.optim", "Optimizer"):
        reason = "which PyTorch's optimizers do not take back"
    elif [id(part) for part in parts] != [id(part) for part in parts_of(state_of(value))]:
        reason = "and gives a copy of it each time, so that the one in use would not be restored"
    if reason is not None:
        raise TypeError(
            f"the state_dict() of this {type_name(value)} has a {type_name(parts[0])} in it, {reason}. "
            "Have it give the state_dict() of that, and load_state_dict() hand it on"
        )
    return state


def state_of(value: Any) -> Any:
    """The state of ``value``; its tensors are those it goes on changing."""
    if is_module(value):
        return pytorch.state_of(value)
    if is_object(value):
        return value.state_dict()
    if isinstance(value, random.Random):
        return value.getstate()
    if hasattr(value, "bit_generator"):
        return value.bit_generator.state
    return value.get_state()


def misfits(value: Any, state: Any) -> list[str]:
    """Why ``value`` cannot be set to ``state``, as far as that shows without trying."""
    loader, value = _loader(value), unwrapped(value)
    if _is_a(value, "torch.optim", "Optimizer"):
        return _optimizer_misfits(value, state, is_known=is_known(loader))
    if is_module(value):
        return pytorch.misfits(value, state)
    if is_object(value):
        return []
    try:
        _set_generator(_twin(value), state)
    except Exception as error:  # noqa: BLE001 - whatever a generator says of a state that is none
        return [f"the checkpoint has no state of such a generator: {error}"]
    return []


def set_state(value: Any, state: Any, own_memory: Callable[[Any], Any]) -> None:
    """Set ``value`` back to ``state``.

    ``own_memory`` makes of a part of it one that ``value`` may keep: a module copies most of what it is given, others
    hold on to all of it. A wrapper that has a ``load_state_dict`` of its own is set by that.
    """
    value = _loader(value)
    if is_module(value):
        pytorch.load(value, state, own_memory)
    elif _is_a(value, "torch.optim", "Optimizer") and _is_optimizer_state(state):
        _set_optimizer(value, own_memory(state))
    elif is_object(value):
        value.load_state_dict(own_memory(state))
    else:
        _set_generator(value, state)


def _set_generator(value: Any, state: Any) -> None:
    if isinstance(value, random.Random):
        value.setstate(state)
    elif hasattr(value, "bit_generator"):
        value.bit_generator.state = state
    else:
        value.set_state(state)


def kind_of(value: Any) -> str:
    """What a state is stored as one of. Modules are all of one kind: it is their tensors that must fit."""
    return "torch.nn.Module" if is_module(value) else type_name(unwrapped(value))


def is_kind(value: Any, kind: str) -> bool:
    """Whether ``value`` can have a state that was stored as one of ``kind``; the module that defines a class may change."""
    names = (kind_of(value), type_name(value))  # the second was stored for wrappers once
    return kind.rpartition(".")[2] in [name.rpartition(".")[2] for name in names]


def is_module(value: Any) -> bool:
    """Whether ``value`` is a PyTorch module."""
    return _is_a(value, "torch.nn", "Module")


def is_object(value: Any) -> bool:
    """Whether ``value`` gives its state by ``state_dict``, and takes it back by ``load_state_dict``."""
    return callable(getattr(value, "state_dict", None)) and callable(
        getattr(value, "load_state_dict", None)
    )


def _is_generator(value: Any) -> bool:
    return (
        type(value) is random.Random
        or _is_a(value, "torch", "Generator")
        or _is_a(value, "numpy.random", "Generator")
        or _is_a(value, "numpy.random", "RandomState")
    )


def _is_a(value: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _twin(value: Any) -> Any:
    """A generator of the same kind, to try a state on."""
    if isinstance(value, random.Random):
        return random.Random()  # noqa: S311 - tries a state, no secret
    if hasattr(value, "bit_generator"):
        return type(value)(type(value.bit_generator)())
    if _is_a(value, "numpy.random", "RandomState"):
        kind = sys.modules["numpy"].random
        return type(value)(getattr(kind, value.get_state(legacy=False)["bit_generator"])())
    return type(value)(value.device)


def _can_step(value: Any) -> bool:
    """Whether ``value`` is an optimizer or a scheduler, rather than a data loader, whose state costs something to ask for."""
    return (
        not isinstance(value, type) and is_object(value) and callable(getattr(value, "step", None))
    )


def _loader(value: Any) -> Any:
    """Return the object that takes the state of ``value``: what accelerate has wrapped, or what lends its methods to ``value``.

    Any other wrapper has more to do than to hand the state on.
    """
    while is_object(value):
        if _is_of(value, "load_state_dict", "accelerate."):
            inner = getattr(value, "optimizer", None) or getattr(value, "scheduler", None)
        elif not hasattr(type(value), "load_state_dict"):
            inner = getattr(value.load_state_dict, "__self__", None)
        else:
            break
        if inner is value or not is_object(inner):
            break
        value = inner
    return value


def _is_of(value: Any, method: str, package: str) -> bool:
    """Whether the class of ``value`` has its ``method`` from ``package``."""
    return (getattr(getattr(type(value), method, None), "__module__", None) or "").startswith(
        package
    )


def _loads_as_pytorch_does(value: Any) -> bool:
    return _is_a(value, "torch.optim", "Optimizer") and (
        type(value).load_state_dict is sys.modules["torch.optim"].Optimizer.load_state_dict
    )


def _is_optimizer_state(state: Any) -> bool:
    return (
        isinstance(state, dict) and isinstance(state.get("state"), dict) and "param_groups" in state
    )


def _is_same(one: Any, other: Any) -> bool:
    """Whether two states are of the same objects: equal in plain values, and with the very same tensors."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return isinstance(one, (bool, int, float, str)) and one == other


def _optimizer_misfits(optimizer: Any, state: Any, *, is_known: bool) -> list[str]:
    """What PyTorch checks, before anything changes, and of its own optimizers the shapes, which it does not check.

    Other optimizers may keep whatever they like for a parameter, such as one number for a layer. One that does not take
    its state as PyTorch's do may have a state of any kind.
    """
    if not is_known and not _is_optimizer_state(state):
        return []
    try:
        groups = [list(group["params"]) for group in state["param_groups"]]
        kept = dict(state["state"])
    except (TypeError, KeyError, AttributeError, ValueError):
        return ["the checkpoint has no state of an optimizer"]
    own = optimizer.param_groups
    if any(getattr(parameter, "is_meta", False) for group in own for parameter in group["params"]):
        return [
            "its parameters are on the meta device; make the optimizer after model.to_empty(device=…)"
        ]
    if [len(params) for params in groups] != [len(group["params"]) for group in own]:
        sizes = [len(params) for params in groups]
        return [
            f"expected {[len(group['params']) for group in own]} parameters in its groups, the checkpoint has {sizes}"
        ]
    places = [place for params in groups for place in params]
    # Under other keys than numbers an optimizer keeps what belongs to no parameter.
    if unknown := [key for key in kept if isinstance(key, int) and key not in places]:
        return [f"the checkpoint has the state of a parameter {unknown[0]!r} that no group has"]
    if not type(optimizer).__module__.startswith("torch.optim."):
        return []
    found = []
    parameters = [parameter for group in own for parameter in group["params"]]
    for place, parameter in zip(places, parameters, strict=True):
        values = kept.get(place, {})
        if not isinstance(values, dict):
            return ["the checkpoint has no state of an optimizer"]
        found += [
            f"{name} of parameter {place} should be of shape {tuple(parameter.shape)}"
            for name in values
            if name in _LIKE_PARAMETER and getattr(values[name], "shape", None) != parameter.shape
        ]
    return found


def _set_optimizer(optimizer: Any, state: Any) -> None:
    before = [dict(group) for group in optimizer.param_groups]
    places = [place for group in state["param_groups"] for place in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, parameter in zip(places, parameters, strict=True):
        for name, value in state["state"].get(place, {}).items():
            if getattr(value, "shape", None) == parameter.shape:
                state["state"][place][name] = sharding.spread_like(parameter, value)
    optimizer.load_state_dict(state)
    # What a newer version, or a scheduler that there was not, has put into the groups stays.
    for group, options in zip(optimizer.param_groups, before, strict=True):
        for name in options.keys() - group.keys():
            group[name] = options[name]
    if not _loads_as_pytorch_does(optimizer):
        return
    # PyTorch gives each tensor the type of its parameter, which loses digits where an optimizer keeps finer ones.
    for place, parameter in zip(places, parameters, strict=True):
        taken, values = optimizer.state.get(parameter), state["state"].get(place)
        if isinstance(taken, dict) and isinstance(values, dict):
            for name, value in values.items():
                dtype = getattr(value, "dtype", None)
                if dtype is not None and getattr(taken.get(name), "dtype", dtype) != dtype:
                    taken[name] = value.to(taken[name].device)
