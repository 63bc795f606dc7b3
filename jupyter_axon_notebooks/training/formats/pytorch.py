"""PyTorch modules: their tensors under their own names, so that other programs read the file too.

What wraps a module, or a part of it, to compile it or to spread it over devices leaves no trace in the names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

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
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        return ["the checkpoint has no state of a module"]
    own = state_of(model)
    state = _fitted(own, state)
    growing = _growing(model, own, state)
    found: dict[str, str] = {}
    problems = []
    both = [name for name in own if name in state and name not in growing]
    for name in both:
        mine, stored = own[name], state[name]
        if not arrays.is_tensor(mine) or _is_lazy(mine):
            continue
        if mine.is_meta:
            problems.append(
                f"{name} is on the meta device, which has no numbers; call model.to_empty(device=…) first"
            )
        elif not arrays.is_tensor(stored):
            found[name] = f"{name} is {arrays.kind_text(mine)}, but no tensor in the checkpoint"
        elif mine.shape != stored.shape or mine.dtype != stored.dtype:
            found[name] = (
                f"{name} is {arrays.kind_text(mine)}, in the checkpoint {arrays.kind_text(stored)}"
            )
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own and name not in growing]
    readers = _readers(model)
    doubtful = [
        reader
        for reader in readers
        if any(name.startswith(reader.plain) for name in (*found, *missing, *unexpected))
    ]
    taken = [reader.plain for reader in doubtful if reader.takes(own, state)]

    def left(names: list[str]) -> list[str]:
        return [name for name in names if not name.startswith(tuple(taken))]

    if missing := left(missing):
        problems.append(f"the checkpoint is missing {_listed(missing)}")
    if unexpected := left(unexpected):
        problems.append(f"the checkpoint has {_listed(unexpected)}, which the model has not")
    wrong = left([*found])
    if _are_sizes_of_buffers(model, wrong, own, state):
        for name in wrong:
            found[name] += (
                ": build the model with a buffer of that size, or register it empty, which takes any size"
            )
    problems += [found[name] for name in wrong]
    return problems or _torn(own, state, both)


def _are_sizes_of_buffers(
    model: Any, names: list[str], own: Mapping[str, Any], state: Mapping[str, Any]
) -> bool:
    """Return whether all of ``names`` are buffers that differ in size only, as one that has grown does."""
    shorten = _shortener(model)
    buffers = {shorten(name) for name, _ in model.named_buffers(remove_duplicate=False)}
    return all(
        name in buffers and arrays.is_tensor(state[name]) and own[name].dtype == state[name].dtype
        for name in names
    )


def load(model: Any, state: Mapping[str, Any], own_memory: Callable[[Any], Any]) -> None:
    """Set ``model`` to ``state``, which :func:`misfits` has nothing against; parameters and buffers stay the same objects.

    Buffers that begin empty are made as large as they were. ``own_memory`` makes of a value one that may be kept.
    """
    plain_own = state_of(model)
    state = _fitted(plain_own, state)
    for name, (module, buffer) in _growing(model, plain_own, state).items():
        setattr(module, buffer, own_memory(state[name]).to(_device_of(model, plain_own.get(name))))
    _make_writable(model, state)
    own = model.state_dict()
    names = _plain_names(model, own)
    for name, plain in names.items():
        if plain not in state:  # a module that reads its state in a way of its own does without
            del own[name]
            continue
        value = sharding.spread_like(own[name], state[plain])
        # What is no parameter or buffer, the model may hold on to.
        is_copied = arrays.is_tensor(value) and not name.endswith("_extra_state")
        own[name] = value if is_copied else own_memory(value)
    known = {*names.values()}
    for reader in _readers(model):
        for plain in state:
            if plain not in known and plain.startswith(reader.plain):
                own[reader.path + plain[len(reader.plain) :]] = own_memory(state[plain])
    # ``own`` has kept the versions of the modules in it, which tell load_state_dict that there is nothing to convert.
    with arrays.changing(*model.parameters(), *model.buffers()):
        model.load_state_dict(own)


class _Reader(NamedTuple):
    """A module that reads its state in a way of its own, as the observers of quantization do.

    ``path`` is what the names of its state begin with in the model, and ``plain`` the same without wrappers.
    """

    path: str
    plain: str
    module: Any

    def takes(self, own: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
        """Return whether it takes its part of ``state``; try it on a copy."""
        part = self.module.state_dict()
        begins = len(self.plain)
        names = {plain[begins:] for plain in own if plain.startswith(self.plain)}
        kept = {
            plain[begins:]: value for plain, value in state.items() if plain.startswith(self.plain)
        }
        full = dict(_plain_names(self.module, part))
        for name, plain in full.items():
            if plain in kept:
                part[name] = kept[plain]
            else:
                del part[name]
        part.update({name: value for name, value in kept.items() if name not in names})
        try:
            copy.deepcopy(self.module).load_state_dict(part)
        except Exception:  # noqa: BLE001 - whatever it says of what it does not take
            return False
        return True


def _readers(model: Any) -> list[_Reader]:
    """Return the outermost modules in ``model`` that read their state in a way of their own."""
    found: list[_Reader] = []
    shorten = _shortener(model)
    for path, module in model.named_modules(remove_duplicate=False):
        before = f"{path}." if path else ""
        if not before.startswith(tuple(reader.path for reader in found)) and _reads_by_itself(
            module
        ):
            found.append(_Reader(before, shorten(before), module))
    return found


def _reads_by_itself(module: Any) -> bool:
    hooks = getattr(module, "_load_state_dict_pre_hooks", {}).values()
    reads = [type(module).load_state_dict, type(module)._load_from_state_dict]
    reads += [getattr(hook, "hook", hook) for hook in hooks]
    return not all(getattr(read, "__module__", "").startswith("torch.nn.") for read in reads)


def _growing(
    model: Any, own: Mapping[str, Any], state: Mapping[str, Any]
) -> dict[str, tuple[Any, str]]:
    """Return the buffers of ``model`` that are empty, or were when the state was saved, and need the shape in ``state``."""
    shorten = _shortener(model)
    found = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for buffer, mine in module._buffers.items():
            name = shorten(f"{path}.{buffer}" if path else buffer)
            stored: Any = state.get(name)
            if not arrays.is_tensor(stored):
                continue
            is_growing = (name in own) == (mine is not None) and (
                mine is None
                or (
                    not _is_lazy(mine)
                    and mine.shape != stored.shape
                    and mine.dtype == stored.dtype
                    and 0 in (mine.numel(), stored.numel())
                )
            )
            if is_growing:
                found[name] = (module, buffer)
    return found


def _make_writable(model: Any, state: Mapping[str, Any]) -> None:
    """Give each tensor of ``model`` that is expanded, of which ``state`` has the numbers, memory for all of them.

    In the memory that it has, ``load_state_dict`` refuses to write, when it has changed others.
    """
    shorten = _shortener(model)
    for own in (model.named_parameters, model.named_buffers):
        for name, tensor in own(remove_duplicate=False):
            if shorten(name) in state and not _is_lazy(tensor) and not arrays.is_writable(tensor):
                with arrays.changing(tensor):
                    tensor.data = tensor.detach().contiguous()


def _device_of(model: Any, tensor: Any) -> Any:
    for known in (tensor, *model.parameters(), *model.buffers()):
        if known is not None:
            return known.device
    return "cpu"


def _shortener(model: Any) -> Callable[[str], str]:
    """Return a function that removes from a name what wrappers put into it."""
    wrapped = []
    for path, module in model.named_modules(remove_duplicate=False):
        for kind in type(module).__mro__:
            if kind.__module__.startswith("torch.") and kind.__name__ in _WRAPPERS:
                wrapped.append((f"{path}." if path else "", f"{_WRAPPERS[kind.__name__]}."))
                break
    wrapped.sort(
        key=lambda place: -len(place[0])
    )  # so that outer names are still there for the inner ones

    def shorten(name: str) -> str:
        for before, inner in wrapped:
            if name.startswith(before + inner):
                name = before + name[len(before) + len(inner) :]
        return name

    return shorten


def _plain_names(model: Any, names: Mapping[str, Any]) -> dict[str, str]:
    """The names of a state dict, each without what wrappers put in it."""
    shorten = _shortener(model)
    plain = {name: shorten(name) for name in names}
    return plain if len(set(plain.values())) == len(plain) else {name: name for name in names}


def _fitted(own: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``state`` under the names in ``own`` where both differ by wrappers only, as a state dict of a wrapped module does."""
    if own.keys() != state.keys():
        names = {_bare(name): name for name in own}
        if len(names) == len(own) and sorted(names) == sorted(map(_bare, state)):
            state = {names[_bare(name)]: value for name, value in state.items()}
    return _with_tied(own, state)


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS.values())


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
