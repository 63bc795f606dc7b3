"""Wrapped models, optimizers and schedulers, and those with unusual states, are restored."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.state_files import restore_model, restore_training, save_state
from torch import nn, optim
from torch.ao import quantization
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


@pytest.mark.parametrize("wrapped_first", [True, False])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_objects_are_restored_with_and_without_accelerate(
    wrapped_first: bool, axon: Any, resume: Callable[..., Any]
) -> None:
    from accelerate import Accelerator

    def create(seed: int, *, is_wrapped: bool) -> Any:
        model = network(seed)
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        parts = (model, optimizer, lr_scheduler.StepLR(optimizer, 1, 0.5))
        return Accelerator(cpu=True).prepare(*parts) if is_wrapped else parts

    model, optimizer, scheduler = create(1, is_wrapped=wrapped_first)
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


class SharpnessAware(optim.Optimizer):
    """An optimizer around another one that shares its groups and has its own state (SAM)."""

    def __init__(self, parameters: Any, base: Any, **options: Any) -> None:
        super().__init__(parameters, options)
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["old"] = parameter.clone()
        self.base.step()

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.base.param_groups = self.param_groups


class Clipping(Delegating):
    """A wrapper that keeps the optimizer's groups in an attribute."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.inner, self.groups = optimizer, optimizer.param_groups

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.groups = self.inner.param_groups


class Accumulating(optim.Optimizer):
    """A wrapper that is an optimizer of PyTorch's class."""

    step, zero_grad, state_dict = Delegating.step, Delegating.zero_grad, Delegating.state_dict
    param_groups = Delegating.param_groups

    def __init__(self, inner: optim.Optimizer) -> None:
        self.inner, self.defaults, self.groups = inner, inner.defaults, inner.param_groups

    @property
    def state(self) -> Any:
        return self.inner.state

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state)
        self.groups = self.inner.param_groups


class Lending:
    """A wrapper that looks up everything in the optimizer."""

    def __init__(self, inner: optim.Optimizer) -> None:
        self.inner, self.steps = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)

    @property
    def groups(self) -> Any:
        return self.inner.param_groups

    def step(self) -> None:
        self.steps += 1
        self.inner.step()


def momentum(parameters: Any) -> Any:
    return optim.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("wrap", [Clipping, Accumulating, Lending])
def test_a_wrapper_is_restored_by_its_own_method(wrap: Wrap, steps: int, tmp_path: Path) -> None:
    model = network()
    optimizer = wrap(momentum(model.parameters()))
    train(model, optimizer, steps)
    path = save_state(encode_training(optimizer, None), tmp_path)
    for wrap_other in (plain, Clipping, wrap):
        other, expected_model = copy.deepcopy(model), copy.deepcopy(model)
        fresh = wrap_other(momentum(other.parameters()))
        restore_training(path, fresh, None, rng=False)
        assert getattr(fresh, "groups", fresh.param_groups) is fresh.param_groups
        expected = wrap(momentum(expected_model.parameters()))
        expected.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert train(other, fresh) == train(expected_model, expected)


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("after", [0, 2])
def test_an_optimizer_around_another_keeps_groups_and_state(
    before: int, after: int, tmp_path: Path
) -> None:
    def create(seed: int, steps: int) -> Any:
        model = network(seed)
        optimizer = SharpnessAware(model.parameters(), optim.SGD, lr=0.1, momentum=0.9)
        scheduler = lr_scheduler.StepLR(optimizer, 1, 0.1)
        train(model, optimizer, steps, scheduler)
        return model, optimizer, scheduler

    model, optimizer, scheduler = create(1, before)
    path = save_state(encode_training(optimizer, {"scheduler": scheduler}), tmp_path)
    other, fresh, fresh_scheduler = create(2, after)
    restore_training(path, fresh, {"scheduler": fresh_scheduler}, rng=False)
    assert fresh.base.param_groups is fresh.param_groups
    assert len(fresh.state) == len(optimizer.state)
    train(model, optimizer, 1, scheduler)
    train(other, fresh, 1, fresh_scheduler)
    assert fresh.base.param_groups[0]["lr"] == optimizer.base.param_groups[0]["lr"]


class Counting(Delegating):
    """A wrapper of a scheduler that derives a value from the state."""

    calls = 0

    def step(self) -> None:
        self.inner.step()
        self.calls += 1

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state)
        self.calls = state["last_epoch"]


def test_a_wrapper_of_a_scheduler_is_restored_by_its_own_method(tmp_path: Path) -> None:
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scheduler, other = (Counting(lr_scheduler.StepLR(optimizer, 2)) for _ in range(2))
    train(model, optimizer, 3, scheduler)
    path = save_state(encode_training(None, {"scheduler": scheduler}), tmp_path)
    restore_training(path, None, {"scheduler": other}, rng=False)
    assert (other.calls, other.inner.last_epoch) == (3, 3)


# States of any kind


class Holder:
    """An object whose state is any value."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


class Several(Holder):
    """Optimizers whose states are a list."""

    def state_dict(self) -> Any:
        return [optimizer.state_dict() for optimizer in self.state]

    def load_state_dict(self, states: Any) -> None:
        for optimizer, state in zip(self.state, states, strict=True):
            optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    "state", [[1, 2.0], (3, "x"), 7, "text", None, torch.arange(3), {"n": 1}, True]
)
def test_a_state_may_be_any_value(state: Any, tmp_path: Path) -> None:
    path = save_state(encode_training(None, {"object": Holder(state)}), tmp_path)
    other = Holder(0)
    restore_training(path, None, {"object": other}, rng=False)
    assert type(other.state) is type(state)
    is_tensor = isinstance(state, torch.Tensor)
    assert torch.equal(other.state, state) if is_tensor else other.state == state


def test_a_list_of_states_is_restored(tmp_path: Path) -> None:
    model = network()
    optimizer, fresh = (optim.Adam(model.parameters()) for _ in range(2))
    train(model, optimizer)
    path = save_state(encode_training(Several([optimizer]), None), tmp_path)
    restore_training(path, Several([fresh]), None, rng=False)
    assert fresh.state_dict()["state"][0]["step"] == 3
    with pytest.raises(InvalidData, match="Several refuses the state in the checkpoint: zip"):
        restore_training(path, Several([fresh, fresh]), None, rng=False)


def test_a_plain_value_is_not_loaded_into_an_object(tmp_path: Path) -> None:
    path = save_state(encode_training(None, {"object": 3}), tmp_path)
    with pytest.raises(InvalidData, match="no state of such an object"):
        restore_training(path, None, {"object": Holder(0)}, rng=False)


class NovoGrad(optim.Optimizer):
    """An optimizer with one moment per layer, and state that belongs to no parameter."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.01})

    @torch.no_grad()
    def step(self) -> None:
        self.state["steps"] = self.state.get("steps", 0) + 1
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                square = parameter.grad.square().sum()
                mean = 0.9 * state["exp_avg_sq"] + 0.1 * square if state else square
                state["exp_avg_sq"] = mean
                state["history"] = torch.cat([state.get("history", torch.zeros(0)), square[None]])
                parameter -= group["lr"] * parameter.grad / mean.sqrt()


class Picky(optim.Adam):
    """An optimizer that refuses some states."""

    def load_state_dict(self, state: Any) -> None:
        if "lr" not in state["param_groups"][0] or self.param_groups[0]["lr"] == 0:
            raise ValueError("no rate")
        super().load_state_dict(state)


def test_an_optimizer_may_keep_anything_for_a_parameter(tmp_path: Path) -> None:
    model, other = network(1), network(2)
    optimizer = NovoGrad(model.parameters())
    train(model, optimizer)
    model_path = save_state(encode_model(model), tmp_path, "model")
    path = save_state(encode_training(optimizer, None), tmp_path)
    for steps in (0, 2):
        fresh = NovoGrad(other.parameters())
        train(other, fresh, steps)
        restore_model(model_path, other)
        restore_training(path, fresh, None, rng=False)
        assert fresh.state["steps"] == 3
        expected_model = copy.deepcopy(model)
        expected = NovoGrad(expected_model.parameters())
        expected.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert train(other, fresh) == train(expected_model, expected)


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("backend", ["x86", "qnnpack"])
def test_quantization_aware_training_is_restored(backend: str, tmp_path: Path) -> None:
    def prepare(*layers: nn.Module) -> nn.Module:
        model = nn.Sequential(quantization.QuantStub(), *layers)
        model.qconfig = quantization.get_default_qat_qconfig(backend)
        return quantization.prepare_qat(model.train())

    model = prepare(*network(1))
    train(model, optim.SGD(model.parameters(), lr=0.1))
    path = save_state(encode_model(model), tmp_path)
    expected = copy.deepcopy(model)
    output = model(torch.ones(2, 4))
    for other in (prepare(*network(2)), nn.DataParallel(prepare(*network(3))), model):
        restore_model(path, other)
        assert have_same_state(other, expected)
        assert torch.equal(other(torch.ones(2, 4)), output)
    reason = r"1.weight is float32 \(9, 4\), in the checkpoint float32 \(8, 4\)"
    with pytest.raises(InvalidData, match=reason):
        restore_model(path, prepare(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 1)))


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


def test_a_buffer_of_another_size_is_refused_with_advice(tmp_path: Path) -> None:
    model, other = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    model.register_buffer("seen", torch.zeros(3))
    other.register_buffer("seen", torch.zeros(1))
    path = save_state(encode_model(model), tmp_path)
    reason = (
        r"seen is float32 \(1,\), in the checkpoint float32 \(3,\): create the model with a buffer "
        "of that size, or register it empty"
    )
    with pytest.raises(InvalidData, match=reason):
        restore_model(path, other)
    for size in (3, 0):
        other.seen = torch.ones(size)
        restore_model(path, other)
        assert have_same_state(other, model)
    path = save_state(encode_model(nn.BatchNorm1d(5)), tmp_path)
    with pytest.raises(InvalidData, match=r"running_mean is float32") as refused:
        restore_model(path, nn.BatchNorm1d(4))
    assert "register it empty" not in str(refused.value)


class CustomMemory(nn.Module):
    """A module with its own way of loading its state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(1, 4))

    def _load_from_state_dict(self, state: Any, prefix: str, *others: Any) -> None:
        if f"{prefix}rows" in state:
            if state[f"{prefix}rows"].shape[1] != 4:
                raise ValueError("rows of another width")
            self.rows = torch.zeros_like(state[f"{prefix}rows"])
        super()._load_from_state_dict(state, prefix, *others)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_custom_loading_decides_what_fits(tmp_path: Path) -> None:
    def create(rows: torch.Tensor | None = None) -> Any:
        model = nn.Sequential(nn.Linear(4, 4), CustomMemory())
        if rows is not None:
            model[1].rows = rows
        return model

    model = create(torch.ones(5, 4))
    path = save_state(encode_model(model), tmp_path)
    for other in (create(), torch.compile(create())):
        restore_model(path, other)
        assert have_same_state(other, model)
    path = save_state(encode_model(create(torch.ones(5, 3))), tmp_path)
    other = create()
    before = copy.deepcopy(other)
    reason = r"1.rows is float32 \(1, 4\), in the checkpoint float32 \(5, 3\)"
    with pytest.raises(InvalidData, match=reason):
        restore_model(path, other)
    assert have_same_state(other, before)


class WithGenerator(nn.Linear):
    """A module with an object in its state."""

    def get_extra_state(self) -> Any:
        return {"generator": torch.Generator()}

    def set_extra_state(self, state: Any) -> None: ...


def test_an_object_in_the_state_of_a_module_is_refused() -> None:
    reason = r"model.*Generator, of which a module would get back only the state"
    for model in (nn.Sequential(WithGenerator(1, 1)), {"critic": WithGenerator(1, 1)}):
        with pytest.raises(TypeError, match=reason):
            encode_model(model)


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


class AllAttributes:
    """A scheduler whose state is all its attributes, with the optimizer."""

    def __init__(self, optimizer: Any, after: Any) -> None:
        self.optimizer, self.chain, self.count = optimizer, [after], 0

    def step(self) -> None:
        self.count += 1
        self.chain[0].step()

    def state_dict(self) -> Any:
        return self.__dict__

    def load_state_dict(self, state: Any) -> None:
        self.__dict__.update(state)


class Copying(AllAttributes):
    """A scheduler whose state is a copy."""

    def state_dict(self) -> Any:
        return copy.deepcopy(self.__dict__)


def exponential(optimizer: Any) -> Any:
    return lr_scheduler.ExponentialLR(optimizer, 0.9)


def sequential(optimizer: Any) -> Any:
    first = lr_scheduler.CosineAnnealingLR(optimizer, 5)
    return lr_scheduler.SequentialLR(optimizer, [first, exponential(optimizer)], [4])


def sequential_warmup(optimizer: Any) -> Any:
    first = Warmup(optimizer, 1, lr_scheduler.StepLR(optimizer, 2))
    return lr_scheduler.SequentialLR(optimizer, [first, exponential(optimizer)], [6])


def warmup(optimizer: Any) -> Any:
    return Warmup(optimizer, 3, lr_scheduler.CosineAnnealingLR(optimizer, 20))


def nested_warmup(optimizer: Any) -> Any:
    return Warmup(optimizer, 1, Warmup(optimizer, 2, lr_scheduler.StepLR(optimizer, 2)))


def warmup_of_sequential(optimizer: Any) -> Any:
    return Warmup(optimizer, 2, sequential(optimizer))


def all_attributes(optimizer: Any) -> Any:
    return AllAttributes(optimizer, exponential(optimizer))


def chained(optimizer: Any) -> Any:
    first = lr_scheduler.ConstantLR(optimizer, 0.5, 4)
    return lr_scheduler.ChainedScheduler([first, exponential(optimizer)])


NESTED = [warmup, nested_warmup, warmup_of_sequential, all_attributes]
NESTED += [sequential, sequential_warmup, chained]


@pytest.mark.filterwarnings(
    "ignore:The epoch parameter in:UserWarning", "ignore:To get the last learning rate:UserWarning"
)
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("create_scheduler", NESTED)
def test_nested_schedulers_continue(create_scheduler: Wrap, steps: int, tmp_path: Path) -> None:
    def create() -> Any:
        model = network()
        optimizer = momentum(model.parameters())
        return model, optimizer, create_scheduler(optimizer)

    first, second = create(), create()
    train(*first[:2], steps, first[2])
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


def test_copies_of_objects_in_a_state_are_refused() -> None:
    optimizer = optim.SGD(network().parameters(), lr=0.1)
    copying = Copying(optimizer, lr_scheduler.StepLR(optimizer, 2))
    reason = r"extra.*of this .*Copying contains a .*, which is a new copy each time"
    with pytest.raises(TypeError, match=reason):
        encode_training(None, {"scheduler": copying})
    optimizer.param_groups[0]["shuffled by"] = torch.Generator()
    reason = r"optimizer: .*SGD contains a .*Generator, which PyTorch's optimizers do not load"
    with pytest.raises(TypeError, match=reason):
        encode_training(optimizer, None)


def test_another_inner_scheduler_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    optimizer = optim.SGD(network().parameters(), lr=0.1)
    scheduler = warmup(optimizer)
    optimizer.step()
    scheduler.step()
    path = save_state(encode_training(None, {"scheduler": scheduler}), tmp_path)
    reason = r"after_scheduler.* is a .*, in the checkpoint a .*CosineAnnealingLR"
    for inner in (lr_scheduler.StepLR(optimizer, 2), None):
        other = Warmup(optimizer, 3, inner)
        before = dict(vars(other))
        with pytest.raises(InvalidData, match=reason):
            restore_training(path, None, {"scheduler": other}, rng=False)
        assert vars(other) == before


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
@pytest.mark.parametrize("create_optimizer", [optim.Adam, momentum])
def test_a_state_restored_without_gradients_can_be_trained(
    mode: Any, create_optimizer: Wrap, axon: Any, resume: Callable[..., Any]
) -> None:
    model, other = (nn.Sequential(network(seed), Growing()) for seed in (1, 2))
    optimizer, fresh = create_optimizer(model.parameters()), create_optimizer(other.parameters())
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


@pytest.mark.parametrize("mode", [torch.inference_mode, contextlib.nullcontext])
def test_a_model_created_in_inference_mode_is_restored(
    mode: Any, axon: Any, resume: Callable[..., Any]
) -> None:
    model = nn.Sequential(network(1), Growing())
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer)
    axon.checkpoint(model, optimizer, epoch=0)
    with torch.inference_mode():
        other, tree = nn.Sequential(network(2), Growing()), {"w": torch.zeros(2), "n": 1}
    mixed = nn.Sequential(nn.Sequential(network(3)[0], nn.Tanh(), other[0][2]), Growing())
    for target in (other, mixed):
        with mode():
            assert resume(target).model is target
        assert have_same_state(target, model)
    assert not mixed[0][0].weight.is_inference()
    train(mixed[0][0], optim.SGD(mixed[0][0].parameters(), lr=0.1))
    axon.checkpoint({"w": torch.ones(2), "n": 2}, epoch=1)
    with mode():
        resume(tree)
    assert tree["w"].tolist() == [1, 1]


# Tensors that cannot be written to


class Expanded(nn.Module):
    """A module with expanded tensors, whose items share memory."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 2)
        self.register_buffer("scale", torch.full((1, 1), value).expand(2, 3))
        self.bias = nn.Parameter(torch.full((1,), value).expand(3))


@pytest.mark.parametrize("wrap", [plain, nn.DataParallel, nn.Sequential])
def test_expanded_tensors_are_restored(wrap: Wrap, tmp_path: Path) -> None:
    model, other = wrap(Expanded(3.0)), wrap(Expanded())
    optimizer = optim.SGD(other.parameters(), lr=1.0)
    restore_model(save_state(encode_model(model), tmp_path), other)
    assert have_same_state(other, model)
    assert all(parameter.is_contiguous() for parameter in optimizer.param_groups[0]["params"])
    changed = wrap(Expanded())
    changed.load_state_dict({**model.state_dict()}, assign=True)
    for _, buffer in changed.named_buffers():
        buffer.data = torch.arange(6.0).view(2, 3)
    restore_model(save_state(encode_model(changed), tmp_path), other)
    assert have_same_state(other, changed)


def test_the_meta_device_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    path = save_state(encode_model(network(1)), tmp_path)
    optimizer = optim.Adam(network(1).parameters())
    training = save_state(encode_training(optimizer, None), tmp_path, "training")
    other = network(2)
    other[2].to("meta")
    with pytest.raises(InvalidData, match=r"2.weight is on the meta device.*to_empty"):
        restore_model(path, other)
    assert torch.equal(other[0].weight, network(2)[0].weight)
    with pytest.raises(InvalidData, match="meta device"):
        restore_training(training, optim.Adam(other.parameters()), None, rng=False)
    other = other.to_empty(device="cpu")
    restore_model(path, other)
    assert have_same_state(other, network(1))
    path = save_state(encode_model({"w": torch.ones(2)}), tmp_path)
    with pytest.raises(InvalidData, match="meta device"):
        restore_model(path, {"w": torch.ones(2, device="meta")})


def test_the_default_device_does_not_matter(tmp_path: Path) -> None:
    path = save_state(encode_model({"full": torch.ones(2), "empty": torch.ones(0)}), tmp_path)
    with torch.device("meta"):
        restored = restore_model(path, None)
    assert [tensor.device.type for tensor in restored.values()] == ["cpu", "cpu"]


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
