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
def test_objects_are_restored_with_and_without_accelerate(
    axon: Any, resume: Callable[..., Any]
) -> None:
    from accelerate import Accelerator

    def create(seed: int, *, is_wrapped: bool) -> Any:
        model = network(seed)
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        parts = (model, optimizer, lr_scheduler.StepLR(optimizer, 1, 0.5))
        return Accelerator(cpu=True).prepare(*parts) if is_wrapped else parts

    model, optimizer, scheduler = create(1, is_wrapped=True)
    train(model, optimizer, 3, scheduler)
    axon.checkpoint(model, optimizer, epoch=0, extra={"scheduler": scheduler})
    expected = train(model, optimizer, 3, scheduler)
    for is_wrapped in (True, False):
        other, fresh, other_scheduler = create(2, is_wrapped=is_wrapped)
        resume(other, fresh, extra={"scheduler": other_scheduler})
        assert train(other, fresh, 3, other_scheduler) == expected


# Modules with unusual states


class Queue(nn.Module):
    """A module with buffers that grow from empty and from None."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0, 4))
        self.register_buffer("cache", None)
        self.layer = nn.Linear(4, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen = torch.cat([self.seen, batch])
        self.cache = batch.mean(0)
        return self.layer(batch)


def test_growing_buffers_are_restored(tmp_path: Path) -> None:
    def create() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), Queue())

    model = create()
    train(model, optim.SGD(model.parameters(), lr=0.1))
    path = save_state(encode_model(model), tmp_path)
    for other in (create(), nn.DataParallel(create())):
        restore_model(path, other)
        assert have_same_state(other, model)
    path = save_state(encode_model(Queue()), tmp_path)
    queue = Queue()
    queue.seen = torch.ones(3, 4)
    restore_model(path, queue)
    assert queue.seen.shape == (0, 4)


# Inference mode


class Growing(nn.Module):
    """A module with a growing buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen = torch.cat([self.seen, batch.detach().flatten()])
        return batch


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_state_restored_without_gradients_can_be_trained(
    mode: Any, axon: Any, resume: Callable[..., Any]
) -> None:
    model, other = (nn.Sequential(network(seed), Growing()) for seed in (1, 2))
    optimizer, fresh = optim.Adam(model.parameters()), optim.Adam(other.parameters())
    train(model, optimizer)
    ema = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    axon.checkpoint(model, optimizer, epoch=0, extra={"ema": ema})
    extra: dict[str, Any] = {"ema": {}}
    with mode():
        resume(other, fresh, extra=extra)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert train(other, fresh) == train(model, optimizer)
    for average in extra["ema"].values():
        average.mul_(0.9)
    with mode():
        restored = axon.latest().restore()[0]
    restored["0.0.weight"].requires_grad_(True).sum().backward()


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
