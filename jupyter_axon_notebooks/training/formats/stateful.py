"""Objects with a state: optimizers, schedulers, scalers, modules and random generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from . import pytorch, sharding
from .arrays import type_name
from .sharding import is_instance

#: State entries of PyTorch's optimizers that have the shape of their parameter.
_PARAMETER_SHAPED: Final = frozenset(
    {
        "acc_delta",
        "ax",
        "exp_avg",
        "exp_avg_sq",
        "exp_inf",
        "grad_avg",
        "max_exp_avg_sq",
        "momentum_buffer",
        "prev",
        "square_avg",
        "step_size",
        "sum",
    }
)
_NO_OPTIMIZER_STATE: Final = "the checkpoint has no state of an optimizer"


def is_stateful(value: Any) -> bool:
    """Return whether the state of ``value`` can be read and set."""
    return not isinstance(value, type) and (has_state_dict(value) or _is_generator(value))


def is_module(value: Any) -> bool:
    """Return whether ``value`` is a PyTorch module."""
    return is_instance(value, "torch.nn", "Module")


def has_state_dict(value: Any) -> bool:
    """Return whether ``value`` has ``state_dict`` and ``load_state_dict``."""
    return all(callable(getattr(value, name, None)) for name in ("state_dict", "load_state_dict"))


def _is_optimizer(value: Any) -> bool:
    return is_instance(value, "torch.optim", "Optimizer")


def _is_generator(value: Any) -> bool:
    return (
        type(value) is random.Random
        or is_instance(value, "torch", "Generator")
        or is_instance(value, "numpy.random", "Generator")
        or is_instance(value, "numpy.random", "RandomState")
    )


def get_kind(value: Any) -> str:
    """Return the name of the type that is stored with a state; it is the same for all modules."""
    return "torch.nn.Module" if is_module(value) else type_name(_unwrap(value))


def matches_kind(value: Any, kind: str) -> bool:
    """Return whether ``kind`` is the kind of ``value``; the class may be in another module."""
    names = (get_kind(value), type_name(value))  # earlier releases stored the type of wrappers
    return kind.rpartition(".")[2] in [name.rpartition(".")[2] for name in names]


# Wrappers of optimizers and schedulers


def _unwrap(value: Any) -> Any:
    """Return the optimizer or scheduler that ``value`` wraps, as accelerate's optimizer does.

    A wrapper is an object with the same state as one of its attributes. The kind of the wrapped
    object is stored, so that the state can be restored with the wrapper or without it.
    """
    passed: list[Any] = []
    while value is not None and _has_step(value) and all(value is not other for other in passed):
        passed.append(value)
        if _is_defined_in(value, "state_dict", "torch."):
            break
        groups = getattr(value, "param_groups", None)
        parts = [
            part
            for part in getattr(value, "__dict__", {}).values()
            if _has_step(part) and getattr(part, "param_groups", None) is groups
        ]
        try:
            state = value.state_dict() if parts else None
            value = next(
                (one for one in parts if state and _is_same(state, one.state_dict())), None
            )
        except Exception:  # noqa: BLE001 - reported when the state itself is read
            break
    return passed[-1] if passed else value


def _find_loader(value: Any) -> Any:
    """Return the object whose ``load_state_dict`` is to be called.

    For wrappers of accelerate, and for methods that are attributes of the object, it is the inner
    object. Other wrappers may need to change the state, so their own method is called.
    """
    while has_state_dict(value):
        if _is_defined_in(value, "load_state_dict", "accelerate."):
            inner = getattr(value, "optimizer", None) or getattr(value, "scheduler", None)
        elif not hasattr(type(value), "load_state_dict"):
            inner = getattr(value.load_state_dict, "__self__", None)
        else:
            break
        if inner is value or not has_state_dict(inner):
            break
        value = inner
    return value


def _has_step(value: Any) -> bool:
    """Return whether ``value`` is an optimizer or scheduler, whose state can be read quickly."""
    is_object = not isinstance(value, type) and has_state_dict(value)
    return is_object and callable(getattr(value, "step", None))


def _is_defined_in(value: Any, method: str, package: str) -> bool:
    module = getattr(getattr(type(value), method, None), "__module__", None)
    return (module or "").startswith(package)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two states have equal plain values and identical other objects."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return isinstance(one, (bool, int, float, str)) and one == other


# Reading a state


def get_state(value: Any) -> Any:
    """Return the state of ``value``, which shares its tensors."""
    if is_module(value):
        return pytorch.get_state(value)
    if has_state_dict(value):
        return value.state_dict()
    if isinstance(value, random.Random):
        return value.getstate()
    if hasattr(value, "bit_generator"):
        return value.bit_generator.state
    return value.get_state()


def get_nested_state(value: Any) -> Any:
    """Return the state of an object, which may contain stateful objects, such as inner schedulers.

    Raises
    ------
    TypeError
        If the state contains objects that cannot be restored in place.
    """
    state = get_state(value)
    if not (parts := _find_stateful(state)):
        return state
    reason = None
    if is_module(value):
        reason = "of which a module would get back only the state"
    elif _is_optimizer(value):
        reason = "which PyTorch's optimizers do not load"
    elif [id(part) for part in parts] != [id(part) for part in _find_stateful(get_state(value))]:
        reason = "which is a new copy each time, so that the one in use would not be restored"
    if reason is not None:
        raise TypeError(
            f"the state_dict() of this {type_name(value)} contains a {type_name(parts[0])}, "
            f"{reason}. Let it return the state_dict() of that object, and let load_state_dict() "
            "pass it on"
        )
    return state


def _find_stateful(state: Any) -> list[Any]:
    found: list[Any] = []
    seen: set[int] = set()

    def search(value: Any) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if is_stateful(value):
            found.append(value)
        elif isinstance(value, (Mapping, list, tuple)):
            for item in value.values() if isinstance(value, Mapping) else value:
                search(item)

    search(state)
    return found


# Setting a state


def can_check(value: Any) -> bool:
    """Return whether :func:`find_mismatches` finds all mismatches of ``value``."""
    value = _find_loader(value)
    return is_module(value) or _loads_like_pytorch(value) or not has_state_dict(value)


def _loads_like_pytorch(value: Any) -> bool:
    return _is_optimizer(value) and (
        type(value).load_state_dict is sys.modules["torch.optim"].Optimizer.load_state_dict
    )


def find_mismatches(value: Any, state: Any) -> list[str]:
    """Return reasons why ``value`` cannot have ``state``; see also :func:`can_check`."""
    inner = _unwrap(value)
    if _is_optimizer(inner):
        if not can_check(value) and not _is_optimizer_state(state):
            return []  # this optimizer has its own kind of state
        return _find_optimizer_mismatches(inner, state)
    if is_module(inner):
        return pytorch.find_mismatches(inner, state)
    if has_state_dict(inner):
        return []
    try:
        _set_generator(_new_generator(inner), state)
    except Exception as error:  # noqa: BLE001 - generators raise anything
        return [f"the checkpoint has no state of such a generator: {error}"]
    return []


def set_state(value: Any, state: Any, copy: Callable[[Any], Any]) -> None:
    """Set ``value`` to ``state``.

    Parameters
    ----------
    copy : callable
        Copies parts of the state that ``value`` may keep a reference to.
    """
    value = _find_loader(value)
    if is_module(value):
        pytorch.set_state(value, state, copy)
    elif _is_optimizer(value) and _is_optimizer_state(state):
        _set_optimizer(value, copy(state))
    elif has_state_dict(value):
        value.load_state_dict(copy(state))
    else:
        _set_generator(value, state)


def _set_generator(value: Any, state: Any) -> None:
    if isinstance(value, random.Random):
        value.setstate(state)
    elif hasattr(value, "bit_generator"):
        value.bit_generator.state = state
    else:
        value.set_state(state)


def _new_generator(value: Any) -> Any:
    """Return another generator of the kind of ``value``."""
    if isinstance(value, random.Random):
        return random.Random()  # noqa: S311 - not used for secrets
    if hasattr(value, "bit_generator"):
        return type(value)(type(value.bit_generator)())
    if is_instance(value, "numpy.random", "RandomState"):
        kind = value.get_state(legacy=False)["bit_generator"]
        return type(value)(getattr(sys.modules["numpy"].random, kind)())
    return type(value)(value.device)


def _is_optimizer_state(state: Any) -> bool:
    is_dict = isinstance(state, dict) and isinstance(state.get("state"), dict)
    return is_dict and "param_groups" in state


def _find_optimizer_mismatches(optimizer: Any, state: Any) -> list[str]:
    """Check what PyTorch checks, and the shapes in the states of its own optimizers."""
    try:
        groups = [list(group["params"]) for group in state["param_groups"]]
        kept = dict(state["state"])
    except (TypeError, KeyError, AttributeError, ValueError):
        return [_NO_OPTIMIZER_STATE]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if any(getattr(parameter, "is_meta", False) for parameter in parameters):
        return [
            "its parameters are on the meta device; create the optimizer after "
            "model.to_empty(device=…)"
        ]
    expected = [len(group["params"]) for group in optimizer.param_groups]
    sizes = [len(group) for group in groups]
    if sizes != expected:
        return [f"expected {expected} parameters in its groups, the checkpoint has {sizes}"]
    numbers = [number for group in groups for number in group]
    # Other keys than numbers are for values that belong to no parameter.
    if unknown := [key for key in kept if isinstance(key, int) and key not in numbers]:
        return [f"the checkpoint has the state of a parameter {unknown[0]!r} that is in no group"]
    if not type(optimizer).__module__.startswith("torch.optim."):
        return []  # other optimizers may have entries of any shape
    found = []
    for number, parameter in zip(numbers, parameters, strict=True):
        values = kept.get(number, {})
        if not isinstance(values, dict):
            return [_NO_OPTIMIZER_STATE]
        found += [
            f"{name} of parameter {number} should be of shape {tuple(parameter.shape)}"
            for name in values
            if name in _PARAMETER_SHAPED and getattr(values[name], "shape", None) != parameter.shape
        ]
    return found


def _set_optimizer(optimizer: Any, state: Any) -> None:
    before = [dict(group) for group in optimizer.param_groups]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        values = state["state"].get(number, {})
        for name, value in values.items():
            if getattr(value, "shape", None) == parameter.shape:
                values[name] = sharding.distribute_like(parameter, value)
    optimizer.load_state_dict(state)
    # Keep options that were not saved, such as those of a newer release or of a scheduler.
    for group, options in zip(optimizer.param_groups, before, strict=True):
        for name in options.keys() - group.keys():
            group[name] = options[name]
    if not _loads_like_pytorch(optimizer):
        return
    # PyTorch casts tensors to the type of their parameter, which may lose precision: undo that.
    for number, parameter in zip(numbers, parameters, strict=True):
        loaded, values = optimizer.state.get(parameter), state["state"].get(number)
        if isinstance(loaded, dict) and isinstance(values, dict):
            for name, value in values.items():
                dtype = getattr(value, "dtype", None)
                if dtype is not None and getattr(loaded.get(name), "dtype", dtype) != dtype:
                    loaded[name] = value.to(loaded[name].device)
