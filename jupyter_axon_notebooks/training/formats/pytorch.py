"""PyTorch modules: their tensors under their own names, so that other programs read the file too.

What wraps a module, or a part of it, to compile it or to spread it over devices leaves no trace in the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from . import arrays, sharding

#: What wraps a module, and the name it has the module under.
_WRAPPERS: Final = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}


def state_of(model: Any) -> dict[str, Any]:
    """The state dict of ``model`` under plain names, sharing its tensors."""
    own = model.state_dict()
    names = _plain_names(model, own)
    return {names[name]: value for name, value in own.items()}


def misfits(model: Any, state: Any) -> list[str]:
    """Why ``state``, by plain names, is none that ``model`` can be set to."""
    if not isinstance(state, Mapping):
        return ["the checkpoint has no state of a module"]
    own = state_of(model)
    state = _with_tied(own, state)
    found = []
    if missing := [name for name in own if name not in state]:
        found.append(f"the checkpoint is missing {_listed(missing)}")
    if unexpected := [name for name in state if name not in own]:
        found.append(f"the checkpoint has {_listed(unexpected)}, which the model has not")
    both = [name for name in own if name in state]
    for name in both:
        mine, stored = own[name], state[name]
        if not arrays.is_tensor(mine) or _is_lazy(mine):
            continue
        if not arrays.is_tensor(stored):
            found.append(f"{name} is {arrays.kind_text(mine)}, but no tensor in the checkpoint")
        elif mine.shape != stored.shape or mine.dtype != stored.dtype:
            found.append(f"{name} is {arrays.kind_text(mine)}, in the checkpoint {arrays.kind_text(stored)}")
    return found or _torn(own, state, both)


def load(model: Any, state: Mapping[str, Any], own_memory: Callable[[Any], Any]) -> None:
    """Set ``model`` to ``state``, which :func:`misfits` has nothing against; parameters and buffers stay the same objects.

    ``own_memory`` makes of a value one that may be kept.
    """
    own = model.state_dict()
    state = _with_tied(state_of(model), state)
    for name, plain in _plain_names(model, own).items():
        value = sharding.spread_like(own[name], state[plain])
        # What is no parameter or buffer, the model may hold on to.
        is_copied = arrays.is_tensor(value) and not name.endswith("_extra_state")
        own[name] = value if is_copied else own_memory(value)
    # ``own`` has kept the versions of the modules in it, which tell load_state_dict that there is nothing to convert.
    model.load_state_dict(own)


def _plain_names(model: Any, names: Mapping[str, Any]) -> dict[str, str]:
    """The names of a state dict, each without what wrappers put in it."""
    wrapped = []
    for path, module in model.named_modules(remove_duplicate=False):
        for kind in type(module).__mro__:
            if kind.__module__.startswith("torch.") and kind.__name__ in _WRAPPERS:
                wrapped.append((f"{path}." if path else "", f"{_WRAPPERS[kind.__name__]}."))
                break
    wrapped.sort(key=lambda place: -len(place[0]))  # so that outer names are still there for the inner ones
    plain = {}
    for name in names:
        short = name
        for before, inner in wrapped:
            if short.startswith(before + inner):
                short = before + short[len(before) + len(inner) :]
        plain[name] = short
    return plain if len(set(plain.values())) == len(plain) else {name: name for name in names}


def _with_tied(own: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """``state``, and in it the tensors that a file of others has under one of their names only."""
    known: dict[Any, Any] = {}
    whole = dict(state)
    for name, tensor in own.items():
        if name in state and (identity := _identity(tensor)):
            known.setdefault(identity, state[name])
    for name, tensor in own.items():
        if name not in state and (identity := _identity(tensor)) in known:
            whole[name] = known[identity]
    return whole


def _torn(own: Mapping[str, Any], state: Mapping[str, Any], names: list[str]) -> list[str]:
    """Names of one tensor in the model that differ in the checkpoint."""
    first: dict[Any, str] = {}
    found = []
    for name in names:
        if identity := _identity(own[name]):
            other = first.setdefault(identity, name)
            if other != name and not arrays.same_bits(state[other], state[name]):
                found.append(f"{other} and {name} are one tensor, but differ in the checkpoint")
    return found


def _identity(tensor: Any) -> tuple[Any, ...] | None:
    if not arrays.is_tensor(tensor) or _is_lazy(tensor) or tensor.is_meta or tensor.is_quantized:
        return None
    if sharding.is_dtensor(tensor):
        return None
    return arrays.describe_tensor(tensor).identity


def _is_lazy(tensor: Any) -> bool:
    import torch

    return bool(torch.nn.parameter.is_lazy(tensor))


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
