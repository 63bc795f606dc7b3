"""Objects that give their state and take it back: optimizers, schedulers, scalers, modules, random generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any, Final

from . import pytorch, sharding
from .arrays import type_name

#: What PyTorch's own optimizers keep a number of for each number of a parameter.
_LIKE_PARAMETER: Final = frozenset(
    {"acc_delta", "ax", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "max_exp_avg_sq", "momentum_buffer"}
    | {"prev", "square_avg", "step_size", "sum"}
)


def is_stateful(value: Any) -> bool:
    """Whether ``value`` can be asked for its state, and set back to it."""
    if isinstance(value, type):
        return False
    return _is_object(value) or _is_generator(value)


def is_known(value: Any) -> bool:
    """Whether :func:`misfits` tells all that may be wrong with a state of ``value``; others may yet refuse it."""
    return is_module(value) or _is_a(value, "torch.optim", "Optimizer") or not _is_object(value)


def state_of(value: Any) -> Any:
    """The state of ``value``; its tensors are those it goes on changing."""
    if is_module(value):
        return pytorch.state_of(value)
    if _is_object(value):
        return value.state_dict()
    if isinstance(value, random.Random):
        return value.getstate()
    if hasattr(value, "bit_generator"):
        return value.bit_generator.state
    return value.get_state()


def misfits(value: Any, state: Any) -> list[str]:
    """Why ``value`` cannot be set to ``state``, as far as that shows without trying."""
    if _is_a(value, "torch.optim", "Optimizer"):
        return _optimizer_misfits(value, state)
    if is_module(value):
        return pytorch.misfits(value, state)
    if _is_object(value):
        return [] if isinstance(state, dict) else ["the checkpoint has no state of such an object"]
    try:
        _set_generator(_twin(value), state)
    except Exception as error:  # noqa: BLE001 - whatever a generator says of a state that is none
        return [f"the checkpoint has no state of such a generator: {error}"]
    return []


def set_state(value: Any, state: Any, own_memory: Callable[[Any], Any]) -> None:
    """Set ``value`` back to ``state``.

    ``own_memory`` makes of a part of it one that ``value`` may keep: a module copies most of what it is given, others
    hold on to all of it.
    """
    if is_module(value):
        pytorch.load(value, state, own_memory)
    elif _is_a(value, "torch.optim", "Optimizer"):
        _set_optimizer(value, own_memory(state))
    elif _is_object(value):
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
    return "torch.nn.Module" if is_module(value) else type_name(value)


def is_module(value: Any) -> bool:
    """Whether ``value`` is a PyTorch module."""
    return _is_a(value, "torch.nn", "Module")


def _is_object(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


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


def _optimizer_misfits(optimizer: Any, state: Any) -> list[str]:
    """What PyTorch checks, before anything changes, and what it does not: shapes, and that all is there."""
    try:
        groups = [list(group["params"]) for group in state["param_groups"]]
        kept = {key: dict(values) for key, values in state["state"].items()}
    except (TypeError, KeyError, AttributeError, ValueError):
        return ["the checkpoint has no state of an optimizer"]
    own = optimizer.param_groups
    if [len(params) for params in groups] != [len(group["params"]) for group in own]:
        sizes = [len(params) for params in groups]
        return [
            f"expected {[len(group['params']) for group in own]} parameters in its groups, the checkpoint has {sizes}"
        ]
    found = []
    places = [place for params in groups for place in params]
    if unknown := [key for key in kept if key not in places]:
        found.append(f"the checkpoint has the state of a parameter {unknown[0]!r} that no group has")
    parameters = [parameter for group in own for parameter in group["params"]]
    for place, parameter in zip(places, parameters, strict=True):
        now = optimizer.state.get(parameter, {})
        for name, value in kept.get(place, {}).items():
            expected = getattr(parameter if name in _LIKE_PARAMETER else now.get(name), "shape", None)
            if expected is not None and getattr(value, "shape", None) != expected:
                found.append(f"{name} of parameter {place} should be of shape {tuple(expected)}")
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
    # PyTorch gives each tensor the type of its parameter, which loses digits where an optimizer keeps finer ones.
    for place, parameter in zip(places, parameters, strict=True):
        taken = optimizer.state.get(parameter, {})
        for name, value in state["state"].get(place, {}).items():
            dtype = getattr(value, "dtype", None)
            if dtype is not None and getattr(taken.get(name), "dtype", dtype) != dtype:
                taken[name] = value.to(taken[name].device)
