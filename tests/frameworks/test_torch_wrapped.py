"""Wrapped models, optimizers and schedulers, and those with unusual states, are restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.state_files import restore_model, restore_training, save_state
from torch import nn, optim
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler

from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.training.formats import encode_model, encode_training

Wrap = Callable[[Any], Any]


def network(seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def train(model: nn.Module, optimizer: Any, steps: int = 3, scheduler: Any = None) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).square().mean()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


def have_same_state(one: Any, other: Any) -> bool:
    states = [module.state_dict().values() for module in (one, other)]
    return [tensor.tolist() for tensor in states[0]] == [tensor.tolist() for tensor in states[1]]


def plain(model: Any) -> Any:
    return model


# Wrapped modules


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("wrap", "wrap_other"), [(DistributedDataParallel, plain), (plain, DistributedDataParallel)]
)
def test_a_training_continues_with_and_without_ddp(
    wrap: Wrap, wrap_other: Wrap, tmp_path: Path
) -> None:
    model, other = wrap(network(1)), wrap_other(network(2))
    optimizer, fresh = optim.Adam(model.parameters()), optim.Adam(other.parameters())
    train(model, optimizer)
    restore_model(save_state(encode_model(model), tmp_path, "model"), other)
    restore_training(save_state(encode_training(optimizer, None), tmp_path), fresh, None, rng=False)
    assert train(other, fresh) == train(model, optimizer)


# Wrapped optimizers and schedulers


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_objects_of_accelerate_are_restored(axon: Any, resume: Callable[..., Any]) -> None:
    from accelerate import Accelerator

    def create(seed: int) -> Any:
        model = network(seed)
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        parts = (model, optimizer, lr_scheduler.StepLR(optimizer, 1, 0.5))
        return Accelerator(cpu=True).prepare(*parts)

    model, optimizer, scheduler = create(1)
    train(model, optimizer, 3, scheduler)
    axon.checkpoint(model, optimizer, epoch=0, extra={"scheduler": scheduler})
    expected = train(model, optimizer, 3, scheduler)
    other, fresh, other_scheduler = create(2)
    resume(other, fresh, extra={"scheduler": other_scheduler})
    assert train(other, fresh, 3, other_scheduler) == expected


def momentum(parameters: Any) -> Any:
    return optim.SGD(parameters, lr=0.1, momentum=0.9)


# States of any kind


class Warmup(lr_scheduler.LRScheduler):
    """A scheduler with the next one in an attribute, and so in its state."""

    def __init__(self, optimizer: Any) -> None:
        self.after_scheduler = lr_scheduler.StepLR(optimizer, 2)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return self.base_lrs


def test_an_object_in_the_state_of_another_is_refused() -> None:
    optimizer = optim.SGD(network().parameters())
    with pytest.raises(TypeError, match=r"extra.0.after_scheduler: .*Warmup contains a .*StepLR"):
        encode_training(None, [Warmup(optimizer)])


class CustomMemory(nn.Module):
    """A module with its own way of loading its state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(1, 4))

    def _load_from_state_dict(self, state: Any, prefix: str, *others: Any) -> None:
        if state[f"{prefix}rows"].shape[1] != 4:
            raise ValueError("rows of another width")
        self.rows = torch.zeros_like(state[f"{prefix}rows"])
        super()._load_from_state_dict(state, prefix, *others)


def test_a_module_with_its_own_loading_decides_what_fits(tmp_path: Path) -> None:
    def create(rows: torch.Tensor) -> Any:
        model = nn.Sequential(nn.Linear(4, 4), CustomMemory())
        model[1].rows = rows
        return model

    model, other = create(torch.ones(5, 4)), create(torch.zeros(1, 4))
    restore_model(save_state(encode_model(model), tmp_path), other)
    assert have_same_state(other, model)
    path = save_state(encode_model(create(torch.ones(5, 3))), tmp_path)
    with pytest.raises(InvalidData, match=r"refuses the state .*: rows of another width"):
        restore_model(path, other)


# No model


def test_a_training_without_a_model_is_resumed(axon: Any, resume: Callable[..., Any]) -> None:
    stored = {"queue": [1, 2], "counts": {"tokens": 5}}
    axon.checkpoint(None, epoch=3, extra=stored)
    resumed = resume()
    assert (resumed.model, resumed.optimizer, resumed.extra) == (None, None, stored)
    extra: dict[str, Any] = {"queue": [], "counts": {"tokens": 0}}
    assert resume(extra=extra).epoch == 3
    assert extra == stored
    optimizer, fresh = (optim.SGD(network().parameters(), lr=rate) for rate in (0.5, 0.1))
    axon.checkpoint(None, optimizer, epoch=4)
    resume(None, fresh)
    assert fresh.param_groups[0]["lr"] == 0.5
    axon.checkpoint(None, epoch=5, metrics={"loss": 1.0})
    assert resume().epoch == 5
