"""Models that are spread over several processes: DTensors, as ``fully_shard`` and tensor parallelism make them.

Files hold whole tensors, so that a checkpoint goes on with any number of processes. Gathering is a collective operation, which
all processes have to begin together (:mod:`..distributed` sees to it); spreading is not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: Whether tensors are gathered now, and whether this process keeps what comes of it; None if not.
_gathering: ContextVar[bool | None] = ContextVar("gathering", default=None)


def is_sharded(**values: Any) -> bool:
    """Return whether something in ``values`` is spread over several processes.

    Raises
    ------
    TypeError
        If it is spread in a way that is not supported. As all processes hold the same objects, all of them raise.
    """
    if (
        not {"torch.distributed.tensor", "torch.distributed.fsdp", "torch.distributed.optim"}
        & sys.modules.keys()
    ):
        return False
    return True in [_is_sharded(value, where) for where, value in values.items()]


def _is_sharded(value: Any, where: str) -> bool:
    if isinstance(value, Mapping):
        return True in [_is_sharded(item, f"{where}[{key!r}]") for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return True in [_is_sharded(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if _is_a(value, "torch.nn", "Module"):
        modules = list(value.modules())
        if any(
            _is_a(module, "torch.distributed.fsdp", "FullyShardedDataParallel")
            for module in modules
        ):
            raise TypeError(
                f"{where}: FullyShardedDataParallel is not supported; shard the model with fully_shard() of torch.distributed.fsdp"
            )
        if any(_is_a(module, "torch.distributed.fsdp", "FSDPModule") for module in modules):
            return True
        return any(map(is_dtensor, (*value.parameters(), *value.buffers())))
    if _is_a(value, "torch.distributed.optim", "ZeroRedundancyOptimizer"):
        raise TypeError(
            f"{where}: ZeroRedundancyOptimizer is not supported; shard the model with fully_shard() of torch.distributed.fsdp"
        )
    if _is_a(value, "torch.optim", "Optimizer"):
        parameters = [one for group in value.param_groups for one in group["params"]]
        for parameter in parameters:
            for name, part in value.state.get(parameter, {}).items():
                if is_dtensor(part) and part.shape != parameter.shape:
                    raise TypeError(
                        f"{where}: {name} is sharded, and not of its parameter's shape, which is not supported"
                    )
        return any(map(is_dtensor, parameters))
    return is_dtensor(value)


def is_dtensor(value: Any) -> bool:
    """Return whether ``value`` is a tensor that is spread over several processes."""
    return _is_a(value, "torch.distributed.tensor", "DTensor")


@contextmanager
def gather_tensors(*, keep: bool) -> Iterator[None]:
    """Have :func:`gathered` gather, as every process does now; only those with ``keep`` get the tensors."""
    token = _gathering.set(keep)
    try:
        yield
    finally:
        _gathering.reset(token)


def gathered(tensor: Any) -> Any:
    """Return the whole of a tensor that is spread, in the memory of the CPU, within :func:`gathering`; others as they are."""
    keep = _gathering.get()
    if keep is None or not is_dtensor(tensor):
        return tensor
    whole = tensor.detach().full_tensor()
    return whole.cpu() if keep else whole.new_empty(0, device="cpu")


def spread_like(template: Any, whole: Any) -> Any:
    """Return this process's part of ``whole``, spread as ``template`` is; ``whole`` itself where that is not spread."""
    if not is_dtensor(template) or is_dtensor(whole):
        return whole
    from torch.distributed.tensor import distribute_tensor

    # Each process has the whole tensor, so none has to send it.
    local = whole.detach().to(template.device)
    return distribute_tensor(local, template.device_mesh, template.placements, src_data_rank=None)


def _is_a(value: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)
