"""The states of PyTorch modules, under plain names that other programs read too.

Wrappers that compile a module or distribute it, or a part of it, do not appear in the names.
"""

from __future__ import annotations

import copy as copying
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from . import arrays, sharding

#: The classes of wrappers, and their attribute with the wrapped module.
_WRAPPERS: Final = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}
#: The largest number of names in an error message.
_MAX_LISTED: Final = 8


def get_state(model: Any) -> dict[str, Any]:
    """Return the state dict of ``model`` under plain names, sharing its tensors."""
    state = model.state_dict()
    names = _plain_names(model, state)
    return {names[name]: value for name, value in state.items()}


def find_mismatches(model: Any, state: Any) -> list[str]:
    """Return reasons why ``model`` cannot be set to ``state``, which has plain names."""
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        return ["the checkpoint has no state of a module"]
    own = get_state(model)
    state = _match_names(own, state)
    growing = _find_growing(model, own, state)
    different: dict[str, str] = {}
    problems = []
    common = [name for name in own if name in state and name not in growing]
    for name in common:
        current, stored = own[name], state[name]
        if not arrays.is_tensor(current) or arrays.is_lazy(current):
            continue
        if current.is_meta:
            problems.append(
                f"{name} is on the meta device, without values; call model.to_empty(device=…) first"
            )
        elif not arrays.is_tensor(stored):
            kind = arrays.format_type(current)
            different[name] = f"{name} is {kind}, but no tensor in the checkpoint"
        elif current.shape != stored.shape or current.dtype != stored.dtype:
            kinds = arrays.format_type(current), arrays.format_type(stored)
            different[name] = f"{name} is {kinds[0]}, in the checkpoint {kinds[1]}"
    missing = [name for name in own if name not in state]
    extra = [name for name in state if name not in own and name not in growing]
    suspects = (*different, *missing, *extra)
    loaded = tuple(
        custom.plain
        for custom in _custom_modules(model)
        if any(name.startswith(custom.plain) for name in suspects) and custom.accepts(own, state)
    )

    def rejected(names: Iterable[str]) -> list[str]:
        return [name for name in names if not name.startswith(loaded)]

    if names := rejected(missing):
        problems.append(f"the checkpoint is missing {_list(names)}")
    if names := rejected(extra):
        problems.append(f"the checkpoint has {_list(names)}, which the model does not have")
    names = rejected(different)
    if names and all(_differs_in_size(model, name, own, state) for name in names):
        for name in names:
            different[name] += (
                ": create the model with a buffer of that size, or register it empty, "
                "which accepts any size"
            )
    problems += [different[name] for name in names]
    return problems or _find_untied(own, state, common)


def _differs_in_size(
    model: Any, name: str, own: Mapping[str, Any], state: Mapping[str, Any]
) -> bool:
    """Return whether ``name`` is a buffer that differs only in its shape."""
    shorten = _name_shortener(model)
    buffers = {shorten(buffer) for buffer, _ in model.named_buffers(remove_duplicate=False)}
    stored = state[name]
    return name in buffers and arrays.is_tensor(stored) and own[name].dtype == stored.dtype


def set_state(model: Any, state: Mapping[str, Any], copy: Callable[[Any], Any]) -> None:
    """Set ``model`` to ``state``, which must have no mismatches (see :func:`find_mismatches`).

    Parameters and buffers remain the same objects; empty buffers get the size in ``state``.
    ``copy`` copies a value that the model may keep a reference to.
    """
    before = get_state(model)
    state = _match_names(before, state)
    for name, (module, buffer) in _find_growing(model, before, state).items():
        setattr(module, buffer, copy(state[name]).to(_device_of(model, before.get(name))))
    _make_writable(model, state)
    own = model.state_dict()
    names = _plain_names(model, own)
    for name, plain in names.items():
        if plain not in state:  # a custom module accepts that
            del own[name]
            continue
        value = sharding.distribute_like(own[name], state[plain])
        # The module copies parameters and buffers; it may keep references to other values.
        is_copied = arrays.is_tensor(value) and not name.endswith("_extra_state")
        own[name] = value if is_copied else copy(value)
    known = {*names.values()}
    for custom in _custom_modules(model):
        for plain in state:
            if plain not in known and plain.startswith(custom.plain):
                own[custom.path + plain[len(custom.plain) :]] = copy(state[plain])
    # ``own`` has the versions of the present modules, so load_state_dict does not convert anything.
    with arrays.allow_changes(*model.parameters(), *model.buffers()):
        model.load_state_dict(own)


class _CustomModule(NamedTuple):
    """A module that loads its state with its own code, such as an observer for quantization.

    ``path`` is the prefix of its names in the model's state, ``plain`` the same without wrappers.
    """

    path: str
    plain: str
    module: Any

    def accepts(self, own: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
        """Return whether a copy of the module loads its part of ``state``."""
        start = len(self.plain)
        own_names = {name[start:] for name in own if name.startswith(self.plain)}
        stored = {name[start:]: state[name] for name in state if name.startswith(self.plain)}
        part = self.module.state_dict()
        for name, plain in _plain_names(self.module, dict(part)).items():
            if plain in stored:
                part[name] = stored[plain]
            else:
                del part[name]
        part.update({name: value for name, value in stored.items() if name not in own_names})
        try:
            copying.deepcopy(self.module).load_state_dict(part)
        except Exception:  # noqa: BLE001 - modules raise anything
            return False
        return True


def _custom_modules(model: Any) -> list[_CustomModule]:
    """Return the outermost modules that load their state with their own code."""
    found: list[_CustomModule] = []
    shorten = _name_shortener(model)
    for path, module in _named_modules(model):
        is_inner = path.startswith(tuple(custom.path for custom in found))
        if not is_inner and _has_custom_loading(module):
            found.append(_CustomModule(path, shorten(path), module))
    return found


def _has_custom_loading(module: Any) -> bool:
    hooks = getattr(module, "_load_state_dict_pre_hooks", {}).values()
    functions = [type(module).load_state_dict, type(module)._load_from_state_dict]
    functions += [getattr(hook, "hook", hook) for hook in hooks]
    modules = [getattr(function, "__module__", "") for function in functions]
    return not all(module.startswith("torch.nn.") for module in modules)


def _named_modules(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield all modules with the prefix of their names in the state of ``model``."""
    for path, module in model.named_modules(remove_duplicate=False):
        yield f"{path}." if path else "", module


def _find_growing(
    model: Any, own: Mapping[str, Any], state: Mapping[str, Any]
) -> dict[str, tuple[Any, str]]:
    """Return buffers to be set to the shape in ``state``: empty ones, or empty in ``state``."""
    shorten = _name_shortener(model)
    found = {}
    for path, module in _named_modules(model):
        for buffer, current in module._buffers.items():
            name = shorten(path + buffer)
            stored: Any = state.get(name)
            if not arrays.is_tensor(stored) or (name in own) != (current is not None):
                continue
            if current is None or (
                not arrays.is_lazy(current)
                and current.shape != stored.shape
                and current.dtype == stored.dtype
                and 0 in (current.numel(), stored.numel())
            ):
                found[name] = (module, buffer)
    return found


def _make_writable(model: Any, state: Mapping[str, Any]) -> None:
    """Copy expanded tensors, on which ``load_state_dict`` would fail after it has set others."""
    shorten = _name_shortener(model)
    for tensors in (model.named_parameters, model.named_buffers):
        for name, tensor in tensors(remove_duplicate=False):
            is_set = shorten(name) in state and not arrays.is_lazy(tensor)
            if is_set and not arrays.is_writable(tensor):
                with arrays.allow_changes(tensor):
                    tensor.data = tensor.detach().contiguous()


def _device_of(model: Any, tensor: Any) -> Any:
    tensors = (tensor, *model.parameters(), *model.buffers())
    return next((known.device for known in tensors if known is not None), "cpu")


def _name_shortener(model: Any) -> Callable[[str], str]:
    """Return a function that removes the names of wrappers from a name in the state."""
    wrapped = []
    for path, module in _named_modules(model):
        for kind in type(module).__mro__:
            if kind.__module__.startswith("torch.") and kind.__name__ in _WRAPPERS:
                wrapped.append((path, f"{_WRAPPERS[kind.__name__]}."))
                break
    wrapped.sort(key=lambda item: -len(item[0]))  # inner ones first, while their paths are whole

    def shorten(name: str) -> str:
        for path, inner in wrapped:
            if name.startswith(path + inner):
                name = path + name[len(path) + len(inner) :]
        return name

    return shorten


def _plain_names(model: Any, names: Mapping[str, Any]) -> dict[str, str]:
    """Map the names of a state dict to those without wrappers."""
    shorten = _name_shortener(model)
    plain = {name: shorten(name) for name in names}
    return plain if len(set(plain.values())) == len(plain) else {name: name for name in names}


def _match_names(own: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``state`` under the names in ``own``.

    The names differ if the state dict of a wrapped module was stored, or tied tensors only once.
    """
    if own.keys() != state.keys():
        names = {_remove_wrappers(name): name for name in own}
        if len(names) == len(own) and sorted(names) == sorted(map(_remove_wrappers, state)):
            state = {names[_remove_wrappers(name)]: value for name, value in state.items()}
    whole = dict(state)
    tied: dict[Any, Any] = {}
    for name, tensor in own.items():
        if name in state and (identity := _identity(tensor)):
            tied.setdefault(identity, state[name])
    for name, tensor in own.items():
        if name not in state and (identity := _identity(tensor)) in tied:
            whole[name] = tied[identity]
    return whole


def _remove_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS.values())


def _find_untied(own: Mapping[str, Any], state: Mapping[str, Any], names: list[str]) -> list[str]:
    """Return the names of one tensor in the model whose values in the checkpoint differ."""
    first: dict[Any, str] = {}
    found = []
    for name in names:
        if identity := _identity(own[name]):
            other = first.setdefault(identity, name)
            if other != name and not arrays.has_same_bits(state[other], state[name]):
                found.append(f"{other} and {name} are one tensor, but differ in the checkpoint")
    return found


def _identity(tensor: Any) -> tuple[Any, ...] | None:
    if not arrays.is_tensor(tensor) or arrays.is_lazy(tensor) or sharding.is_dtensor(tensor):
        return None
    if tensor.is_meta or tensor.is_quantized:
        return None
    return arrays.encode_tensor(tensor).identity


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
