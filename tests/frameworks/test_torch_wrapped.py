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


def test_state_dicts_of_wrapped_and_plain_modules_fit_each_other(tmp_path: Path) -> None:
    pairs = [
        (nn.DataParallel(network(1)), network(2)),
        (network(3), nn.DataParallel(network(4))),
    ]
    for model, other in pairs:
        restore_model(save_state(encode_model(model.state_dict()), tmp_path), other)
        assert have_same_state(other, model)


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


class Delegating:
    """A wrapper that passes everything on, such as one that clips gradients."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.inner = optimizer

    @property
    def param_groups(self) -> Any:
        return self.inner.param_groups

    def step(self) -> None:
        self.inner.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    def state_dict(self) -> Any:
        return self.inner.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state)


class Lookahead(Delegating):
    """A wrapper with a state of its own."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        super().__init__(optimizer)
        parameters = [one for group in self.param_groups for one in group["params"]]
        self.slow = [parameter.detach().clone() for parameter in parameters]

    def state_dict(self) -> Any:
        return {"inner": self.inner.state_dict(), "slow": self.slow}

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state["inner"])
        self.slow = state["slow"]


def test_a_delegating_wrapper_is_stored_as_the_optimizer(tmp_path: Path) -> None:
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer)
    path = save_state(encode_training(Delegating(optimizer), None), tmp_path)
    for target in (optim.Adam(model.parameters()), Delegating(optim.Adam(model.parameters()))):
        restore_training(path, target, None, rng=False)
        assert target.state_dict()["state"][0]["step"] == 3
    with pytest.raises(InvalidData, match=r"SGD, in the checkpoint a .*Adam"):
        restore_training(path, Delegating(optim.SGD(model.parameters())), None, rng=False)


def test_a_wrapper_with_its_own_state_is_stored_as_itself(tmp_path: Path) -> None:
    wrapper, other = (Lookahead(momentum(network().parameters())) for _ in range(2))
    wrapper.slow[0].fill_(7)
    path = save_state(encode_training(wrapper, None), tmp_path)
    restore_training(path, other, None, rng=False)
    assert torch.equal(other.slow[0], wrapper.slow[0])
    with pytest.raises(InvalidData, match=r"SGD, in the checkpoint a .*Lookahead"):
        restore_training(path, momentum(network().parameters()), None, rng=False)


def momentum(parameters: Any) -> Any:
    return optim.SGD(parameters, lr=0.1, momentum=0.9)


# States of any kind


class Holder:
    """An object whose state is any value."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


@pytest.mark.parametrize(
    "state",
    [
        [1, 2.0],
        7,
        torch.arange(3),
        {"n": 1},
    ],
)
def test_a_state_may_be_any_value(state: Any, tmp_path: Path) -> None:
    path = save_state(encode_training(None, {"object": Holder(state)}), tmp_path)
    other = Holder(0)
    restore_training(path, None, {"object": other}, rng=False)
    assert type(other.state) is type(state)
    is_tensor = isinstance(state, torch.Tensor)
    assert torch.equal(other.state, state) if is_tensor else other.state == state


class Picky(optim.Adam):
    """An optimizer that refuses some states."""

    def load_state_dict(self, state: Any) -> None:
        if "lr" not in state["param_groups"][0] or self.param_groups[0]["lr"] == 0:
            raise ValueError("no rate")
        super().load_state_dict(state)


def test_an_optimizer_refuses_its_state_before_the_model_changes(
    axon: Any, resume: Callable[..., Any]
) -> None:
    model = network()
    axon.checkpoint(model, Picky(model.parameters()), epoch=0)
    other = network(2)
    with pytest.raises(InvalidData, match="Picky refuses the state in the checkpoint: no rate"):
        resume(other, Picky(other.parameters(), lr=0))
    assert have_same_state(other, network(2))


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


# Nested schedulers


class Warmup(lr_scheduler.LRScheduler):
    """A scheduler with the next one in an attribute, and so in its state."""

    def __init__(self, optimizer: Any, total: int, after_scheduler: Any) -> None:
        self.total, self.after_scheduler = total, after_scheduler
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total:
            return self.after_scheduler.get_last_lr()
        return [rate * (self.last_epoch + 1) / (self.total + 1) for rate in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch > self.total:
            self.after_scheduler.step()
            self._last_lr = self.after_scheduler.get_last_lr()
            self.last_epoch += 1
        else:
            super().step(epoch)


def exponential(optimizer: Any) -> Any:
    return lr_scheduler.ExponentialLR(optimizer, 0.9)


def sequential(optimizer: Any) -> Any:
    first = lr_scheduler.CosineAnnealingLR(optimizer, 5)
    return lr_scheduler.SequentialLR(optimizer, [first, exponential(optimizer)], [4])


def warmup(optimizer: Any) -> Any:
    return Warmup(optimizer, 3, lr_scheduler.CosineAnnealingLR(optimizer, 20))


def chained(optimizer: Any) -> Any:
    first = lr_scheduler.ConstantLR(optimizer, 0.5, 4)
    return lr_scheduler.ChainedScheduler([first, exponential(optimizer)])


@pytest.mark.filterwarnings(
    "ignore:The epoch parameter in:UserWarning", "ignore:To get the last learning rate:UserWarning"
)
@pytest.mark.parametrize("create_scheduler", [warmup, sequential, chained])
def test_nested_schedulers_continue(create_scheduler: Wrap, tmp_path: Path) -> None:
    def create() -> Any:
        model = network()
        optimizer = momentum(model.parameters())
        return model, optimizer, create_scheduler(optimizer)

    first, second = create(), create()
    train(*first[:2], 5, first[2])
    path = save_state(encode_training(first[1], {"scheduler": first[2]}), tmp_path)
    inner = getattr(second[2], "after_scheduler", None)
    restore_training(path, second[1], {"scheduler": second[2]}, rng=False)
    assert getattr(second[2], "after_scheduler", None) is inner
    rates: list[list[float]] = []
    for model, optimizer, scheduler in (first, second):
        rates.append([])
        for _ in range(12):
            train(model, optimizer, 1, scheduler)
            rates[-1].append(optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1]


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
