"""Objects with a state: modules, optimizers, schedulers, scalers and random generators.

The states of PyTorch modules have plain names, which other programs read too: wrappers that compile
a module or distribute it, or a part of it, do not appear in them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from . import arrays
from .arrays import is_instance, type_name

#: The wrappers of modules, and their attribute with the wrapped module.
_WRAPPERS: Final = (
    ("torch._dynamo.eval_frame", "OptimizedModule", "_orig_mod"),
    ("torch.nn", "DataParallel", "module"),
    ("torch.nn.parallel", "DistributedDataParallel", "module"),
)
#: The largest number of names in an error message.
_MAX_LISTED: Final = 8


def is_stateful(value: Any) -> bool:
    """Return whether the state of ``value`` can be read and set."""
    return not isinstance(value, type) and (has_state_dict(value) or _is_generator(value))


def is_module(value: Any) -> bool:
    """Return whether ``value`` is a PyTorch module."""
    return is_instance(value, "torch.nn", "Module")


def has_state_dict(value: Any) -> bool:
    """Return whether ``value`` has ``state_dict`` and ``load_state_dict``."""
    return all(callable(getattr(value, name, None)) for name in ("state_dict", "load_state_dict"))


def _is_generator(value: Any) -> bool:
    return (
        type(value) is random.Random
        or is_instance(value, "torch", "Generator")
        or is_instance(value, "numpy.random", "Generator")
        or is_instance(value, "numpy.random", "RandomState")
    )


def get_kind(value: Any) -> str:
    """Return the name of the type that is stored with a state; it is the same for all modules."""
    return "torch.nn.Module" if is_module(value) else type_name(value)


def matches_kind(value: Any, kind: str) -> bool:
    """Return whether ``kind`` is the kind of ``value``; the class may be in another module."""
    return kind.rpartition(".")[2] == get_kind(value).rpartition(".")[2]


def get_state(value: Any) -> Any:
    """Return the state of ``value``, which shares its tensors."""
    if is_module(value):
        state = value.state_dict()
        names = _plain_names(value, state)
        # Tensors first, so that no tensor within another value gets the name of one of them.
        ordered = sorted(state.items(), key=lambda item: not arrays.is_tensor(item[1]))
        return {names[name]: part for name, part in ordered}
    if has_state_dict(value):
        return value.state_dict()
    if isinstance(value, random.Random):
        return value.getstate()
    if hasattr(value, "bit_generator"):
        return value.bit_generator.state
    return value.get_state()


def set_state(value: Any, state: Any, copy: Callable[[Any], Any]) -> None:
    """Set ``value`` to ``state``; ``copy`` copies parts that it may keep a reference to."""
    if is_module(value):
        _set_module(value, state, copy)
    elif is_instance(value, "torch.optim", "Optimizer") and "param_groups" in state:
        _set_optimizer(value, copy(state))
    elif has_state_dict(value):
        value.load_state_dict(copy(state))
    elif isinstance(value, random.Random):
        value.setstate(state)
    elif hasattr(value, "bit_generator"):
        value.bit_generator.state = state
    else:
        value.set_state(state)


def _set_optimizer(optimizer: Any, state: Any) -> None:
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    tensors = [
        (parameter, name, values, value)
        for number, parameter in zip(numbers, parameters, strict=False)
        for values in [state["state"].get(number, {})]
        for name, value in values.items()
        if arrays.is_tensor(value)
    ]
    for parameter, name, values, value in tensors:
        if value.shape == parameter.shape:
            values[name] = arrays.distribute_like(parameter, value)
    optimizer.load_state_dict(state)
    # PyTorch casts tensors to the type of their parameter, which may lose precision: undo that.
    for parameter, name, values, value in tensors:
        loaded = optimizer.state[parameter]
        if name in loaded and loaded[name].dtype != value.dtype:
            loaded[name] = values[name].to(loaded[name].device)


# Modules


def has_custom_loading(module: Any) -> bool:
    """Return whether a part of a module loads its state with its own code, and may refuse it."""
    return bool(_custom_parts(module))


def _custom_parts(model: Any) -> tuple[str, ...]:
    """Return the prefixes of the names of modules with their own loading, without wrappers."""
    found = []
    for path, module in model.named_modules(remove_duplicate=False):
        hooks = getattr(module, "_load_state_dict_pre_hooks", {}).values()
        functions = [type(module).load_state_dict, type(module)._load_from_state_dict]
        functions += [getattr(hook, "hook", hook) for hook in hooks]
        if not all(getattr(one, "__module__", "").startswith("torch.nn.") for one in functions):
            found.append(f"{path}." if path else "")
    return tuple(_plain_names(model, found).values())


def find_mismatches(model: Any, state: Any) -> list[str]:
    """Return reasons why a module cannot be set to ``state``, which has plain names.

    Modules with their own loading decide themselves.
    """
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        return ["the checkpoint has no state of a module"]
    own, custom = get_state(model), _custom_parts(model)
    problems = []
    if missing := [name for name in own if name not in state and not name.startswith(custom)]:
        problems.append(f"the checkpoint is missing {_list(missing)}")
    if extra := [name for name in state if name not in own and not name.startswith(custom)]:
        problems.append(f"the checkpoint has {_list(extra)}, which the model does not have")
    for name, current in own.items():
        is_lazy = is_instance(current, "torch.nn.parameter", "UninitializedTensorMixin")
        if name in state and arrays.is_tensor(current) and not is_lazy:
            problem = arrays.find_mismatch(current, state[name])
            if problem is not None and not name.startswith(custom):
                problems.append(f"{name} {problem}")
    return problems


def _set_module(model: Any, state: Mapping[str, Any], copy: Callable[[Any], Any]) -> None:
    own, custom = model.state_dict(), _custom_parts(model)
    names = _plain_names(model, own)
    for name, plain in names.items():
        if plain not in state:  # a module with its own loading accepts that
            del own[name]
            continue
        value = arrays.distribute_like(own[name], state[plain])
        # The module copies parameters and buffers; it may keep references to other values.
        is_copied = arrays.is_tensor(value) and not name.endswith("_extra_state")
        own[name] = value if is_copied and not plain.startswith(custom) else copy(value)
    known = {*names.values()}
    own.update({name: copy(value) for name, value in state.items() if name not in known})
    # ``own`` has the versions of the present modules, so load_state_dict does not convert anything.
    model.load_state_dict(own)


def _plain_names(model: Any, names: Iterable[str]) -> dict[str, str]:
    """Map the names of a state dict to those without wrappers."""
    wrapped = [
        (f"{path}." if path else "", f"{attribute}.")
        for path, module in model.named_modules(remove_duplicate=False)
        for place, wrapper, attribute in _WRAPPERS
        if is_instance(module, place, wrapper)
    ]
    plain = {}
    for name in names:
        short = name
        for path, inner in reversed(wrapped):  # inner ones first, while their paths are whole
            if short.startswith(path + inner):
                short = path + short[len(path) + len(inner) :]
        plain[name] = short
    return plain


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
