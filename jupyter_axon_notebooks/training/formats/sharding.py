"""Tensors that are distributed over processes: DTensors of ``fully_shard`` and tensor parallelism.

Files contain whole tensors, so that a training can resume with any number of processes. Gathering
is a collective operation, which all processes must start together; :mod:`..distributed` ensures it.
Each process distributes tensors without the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: Whether this process keeps the gathered tensors; None outside :func:`gather_tensors`.
_keeping: ContextVar[bool | None] = ContextVar("keeping", default=None)


def is_instance(value: Any, module: str, name: str) -> bool:
    """Return whether ``value`` is an instance of a class of a module, which need not be loaded."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def is_dtensor(value: Any) -> bool:
    """Return whether ``value`` is a distributed tensor."""
    return is_instance(value, "torch.distributed.tensor", "DTensor")


def is_sharded(**values: Any) -> bool:
    """Return whether something in ``values`` is distributed over processes.

    Raises
    ------
    TypeError
        If it is distributed in an unsupported way; all processes raise it, since they have the same
        objects.
    """
    modules = ("torch.distributed.tensor", "torch.distributed.fsdp", "torch.distributed.optim")
    if not any(module in sys.modules for module in modules):
        return False
    return True in [_is_sharded(value, where) for where, value in values.items()]


def _is_sharded(value: Any, where: str) -> bool:
    if isinstance(value, Mapping):
        return True in [_is_sharded(item, f"{where}[{key!r}]") for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return True in [_is_sharded(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if is_instance(value, "torch.nn", "Module"):
        modules = list(value.modules())
        if any(_is_fsdp(module, "FullyShardedDataParallel") for module in modules):
            raise _unsupported(where, "FullyShardedDataParallel")
        if any(_is_fsdp(module, "FSDPModule") for module in modules):
            return True
        return any(map(is_dtensor, (*value.parameters(), *value.buffers())))
    if is_instance(value, "torch.distributed.optim", "ZeroRedundancyOptimizer"):
        raise _unsupported(where, "ZeroRedundancyOptimizer")
    if is_instance(value, "torch.optim", "Optimizer"):
        parameters = [one for group in value.param_groups for one in group["params"]]
        for parameter in parameters:
            for name, part in value.state.get(parameter, {}).items():
                if is_dtensor(part) and part.shape != parameter.shape:
                    raise TypeError(
                        f"{where}: {name} is sharded, but not of its parameter's shape, "
                        "which is not supported"
                    )
        return any(map(is_dtensor, parameters))
    return is_dtensor(value)


def _is_fsdp(module: Any, name: str) -> bool:
    return is_instance(module, "torch.distributed.fsdp", name)


def _unsupported(where: str, name: str) -> TypeError:
    return TypeError(
        f"{where}: {name} is not supported; shard the model with fully_shard() of "
        "torch.distributed.fsdp"
    )


@contextmanager
def gather_tensors(*, keep: bool) -> Iterator[None]:
    """Enable :func:`gather`, in all processes; only those with ``keep`` get the values."""
    token = _keeping.set(keep)
    try:
        yield
    finally:
        _keeping.reset(token)


def gather(tensor: Any) -> Any:
    """Return a distributed tensor as a whole on the CPU, within :func:`gather_tensors`."""
    keep = _keeping.get()
    if keep is None or not is_dtensor(tensor):
        return tensor
    whole = tensor.detach().full_tensor()
    return whole.cpu() if keep else whole.new_empty(0, device="cpu")


def distribute_like(template: Any, whole: Any) -> Any:
    """Return this process's part of ``whole`` if ``template`` is distributed, else ``whole``."""
    if not is_dtensor(template) or is_dtensor(whole):
        return whole
    from torch.distributed.tensor import distribute_tensor

    # No rank sends its data, since each process has the whole tensor.
    local = whole.detach().to(template.device)
    return distribute_tensor(local, template.device_mesh, template.placements, src_data_rank=None)
