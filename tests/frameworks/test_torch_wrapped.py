"""What wraps a model, an optimizer or a scheduler, and what keeps states of its own shape, is restored as PyTorch would."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.state_files import save_state
from torch import nn, optim
from torch.ao import quantization
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler

from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.training.formats import (
    encode_model,
    encode_training,
    restore_model,
    restore_training,
)


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


def same(one: Any, other: Any) -> bool:
    one, other = one.state_dict(), other.state_dict()
    return [*map(torch.Tensor.tolist, one.values())] == [*map(torch.Tensor.tolist, other.values())]


# Wrappers


@pytest.fixture
def process_group(tmp_path: Path) -> Any:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_training_in_ddp_goes_on_without_it_and_the_other_way_round(tmp_path: Path) -> None:
    for number, (wrap, other_wrap) in enumerate(
        [
            (DistributedDataParallel, lambda model: model),
            (lambda model: model, DistributedDataParallel),
        ]
    ):
        model, other = wrap(network(1)), other_wrap(network(2))
        optimizer, fresh = optim.Adam(model.parameters()), optim.Adam(other.parameters())
        train(model, optimizer)
        model_path = save_state(encode_model(model), tmp_path, f"model{number}")
        path = save_state(encode_training(optimizer, None), tmp_path, f"training{number}")
        restore_model(model_path, other)
        restore_training(path, fresh, None, rng=False)
        assert train(other, fresh) == train(model, optimizer)


def test_a_state_dict_of_a_wrapped_module_fits_a_plain_one_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    model, plain, wrapped = nn.DataParallel(network(1)), network(2), nn.DataParallel(network(3))
    restore_model(save_state(encode_model(model.state_dict()), tmp_path), plain)
    assert same(plain, model)
    restore_model(save_state(encode_model(network(4).state_dict()), tmp_path), wrapped)
    assert same(wrapped, network(4))


def accelerated(model: nn.Module, optimizer: Any, scheduler: Any) -> Any:
    from accelerate import Accelerator

    return Accelerator(cpu=True).prepare(model, optimizer, scheduler)


@pytest.mark.parametrize("wrapped_first", [True, False])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_accelerate_has_prepared_is_restored_into_what_it_has_not(
    wrapped_first: bool, axon: Any, resumed_from: Callable[..., Any]
) -> None:
    def made(seed: int, *, is_wrapped: bool) -> Any:
        model = network(seed)
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        parts = (model, optimizer, lr_scheduler.StepLR(optimizer, 1, 0.5))
        return accelerated(*parts) if is_wrapped else parts

    model, optimizer, scheduler = made(1, is_wrapped=wrapped_first)
    train(model, optimizer, 3, scheduler)
    axon.checkpoint(model, optimizer, epoch=0, extra={"scheduler": scheduler})
    expected = train(model, optimizer, 3, scheduler)
    for is_wrapped in (True, False):
        other, fresh, other_scheduler = made(2, is_wrapped=is_wrapped)
        resumed_from(other, fresh, extra={"scheduler": other_scheduler})
        assert train(other, fresh, 3, other_scheduler) == expected


class Delegating:
    """A notebook's own wrapper, such as one that clips gradients."""

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
        self.slow = [
            parameter.detach().clone()
            for group in self.param_groups
            for parameter in group["params"]
        ]

    def state_dict(self) -> Any:
        return {"inner": self.inner.state_dict(), "slow": self.slow}

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state["inner"])
        self.slow = state["slow"]


def test_a_wrapper_that_only_delegates_is_stored_as_what_it_wraps(tmp_path: Path) -> None:
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer)
    path = save_state(encode_training(Delegating(optimizer), None), tmp_path)
    for target in (optim.Adam(model.parameters()), Delegating(optim.Adam(model.parameters()))):
        restore_training(path, target, None, rng=False)
        assert target.state_dict()["state"][0]["step"] == 3
    with pytest.raises(InvalidData, match=r"SGD, in the checkpoint a .*Adam"):
        restore_training(path, Delegating(optim.SGD(model.parameters())), None, rng=False)


def test_a_wrapper_with_a_state_of_its_own_is_stored_as_itself(tmp_path: Path) -> None:
    model = network()
    wrapper = Lookahead(optim.SGD(model.parameters(), momentum=0.9))
    wrapper.slow[0].fill_(7)
    path = save_state(encode_training(wrapper, None), tmp_path)
    other = Lookahead(optim.SGD(model.parameters(), momentum=0.9))
    restore_training(path, other, None, rng=False)
    assert torch.equal(other.slow[0], wrapper.slow[0])
    with pytest.raises(InvalidData, match=r"SGD, in the checkpoint a .*Lookahead"):
        restore_training(path, optim.SGD(model.parameters()), None, rng=False)


class SharpnessAware(optim.Optimizer):
    """An optimizer around another one, with a state of its own, that shares its groups with it (SAM)."""

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
    """A wrapper that hands its state on, and keeps the groups of the optimizer as an attribute."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.inner, self.groups = optimizer, optimizer.param_groups

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.groups = self.inner.param_groups


class Accumulating(optim.Optimizer):
    """An optimizer of PyTorch's class that only hands on."""

    def __init__(self, inner: optim.Optimizer) -> None:
        self.inner, self.defaults, self.groups = inner, inner.defaults, inner.param_groups

    @property
    def param_groups(self) -> Any:
        return self.inner.param_groups

    @property
    def state(self) -> Any:
        return self.inner.state

    def step(self) -> None:
        self.inner.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    def state_dict(self) -> Any:
        return self.inner.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state)
        self.groups = self.inner.param_groups


class Lending:
    """A wrapper that has nothing of its own but a count."""

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


@pytest.mark.parametrize("stepped", [0, 2])
@pytest.mark.parametrize("wrap", [Clipping, Accumulating, Lending])
def test_a_wrapper_is_set_by_its_own_load_state_dict(
    wrap: Any, stepped: int, tmp_path: Path
) -> None:
    model = network()
    optimizer = wrap(momentum(model.parameters()))
    train(model, optimizer, stepped)
    path = save_state(encode_training(optimizer, None), tmp_path)
    for wrapped in (lambda inner: inner, lambda inner: Clipping(inner), wrap):
        other = copy.deepcopy(model)
        fresh = wrapped(momentum(other.parameters()))
        restore_training(path, fresh, None, rng=False)
        assert getattr(fresh, "groups", fresh.param_groups) is fresh.param_groups
        copied = copy.deepcopy(model)
        native = wrap(momentum(copied.parameters()))
        native.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert train(other, fresh) == train(copied, native)


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("after", [0, 2])
def test_an_optimizer_around_another_keeps_its_groups_and_its_state(
    before: int, after: int, tmp_path: Path
) -> None:
    model, other = network(1), network(2)
    options = {"lr": 0.1, "momentum": 0.9}
    optimizer = SharpnessAware(model.parameters(), optim.SGD, **options)
    scheduler = lr_scheduler.StepLR(optimizer, 1, 0.1)
    train(model, optimizer, before, scheduler)
    path = save_state(encode_training(optimizer, {"scheduler": scheduler}), tmp_path)
    fresh = SharpnessAware(other.parameters(), optim.SGD, **options)
    fresh_scheduler = lr_scheduler.StepLR(fresh, 1, 0.1)
    train(other, fresh, after)
    restore_training(path, fresh, {"scheduler": fresh_scheduler}, rng=False)
    assert fresh.base.param_groups is fresh.param_groups
    assert len(fresh.state) == len(optimizer.state)
    train(model, optimizer, 1, scheduler)
    train(other, fresh, 1, fresh_scheduler)
    assert fresh.base.param_groups[0]["lr"] == optimizer.base.param_groups[0]["lr"]


class Counting:
    """A wrapper of a scheduler that counts on from the state that it hands on."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.calls = inner, 0

    def step(self) -> None:
        self.inner.step()
        self.calls += 1

    def state_dict(self) -> Any:
        return self.inner.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state)
        self.calls = state["last_epoch"]


def test_a_wrapper_of_a_scheduler_is_set_by_its_own_load_state_dict(tmp_path: Path) -> None:
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scheduler = Counting(lr_scheduler.StepLR(optimizer, 2))
    train(model, optimizer, 3, scheduler)
    path = save_state(encode_training(None, {"scheduler": scheduler}), tmp_path)
    other = Counting(lr_scheduler.StepLR(optimizer, 2))
    restore_training(path, None, {"scheduler": other}, rng=False)
    assert (other.calls, other.inner.last_epoch) == (3, 3)


class Gives:
    """An object with a state of any kind."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


class Several(Gives):
    """Optimizers whose states are a list."""

    def state_dict(self) -> Any:
        return [optimizer.state_dict() for optimizer in self.state]

    def load_state_dict(self, states: Any) -> None:
        for optimizer, state in zip(self.state, states, strict=True):
            optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    "state", [[1, 2.0], (3, "x"), 7, "text", None, torch.arange(3), {"n": 1}, True]
)
def test_an_object_decides_of_what_kind_its_state_is(state: Any, tmp_path: Path) -> None:
    path = save_state(encode_training(None, {"object": Gives(state)}), tmp_path)
    other = Gives(0)
    restore_training(path, None, {"object": other}, rng=False)
    assert type(other.state) is type(state)
    assert (
        torch.equal(other.state, state) if isinstance(state, torch.Tensor) else other.state == state
    )


def test_optimizers_whose_states_are_a_list_are_restored(tmp_path: Path) -> None:
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer)
    path = save_state(encode_training(Several([optimizer]), None), tmp_path)
    fresh = optim.Adam(model.parameters())
    restore_training(path, Several([fresh]), None, rng=False)
    assert fresh.state_dict()["state"][0]["step"] == 3
    with pytest.raises(InvalidData, match="Several refuses the state in the checkpoint: zip"):
        restore_training(path, Several([fresh, fresh]), None, rng=False)


def test_what_is_no_state_is_not_given_to_an_object(tmp_path: Path) -> None:
    path = save_state(encode_training(None, {"object": 3}), tmp_path)
    with pytest.raises(InvalidData, match="no state of such an object"):
        restore_training(path, None, {"object": Gives(0)}, rng=False)


# States of optimizers


class NovoGrad(optim.Optimizer):
    """One second moment for each layer, and what belongs to no parameter."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.01})

    @torch.no_grad()
    def step(self) -> None:
        self.state["steps"] = self.state.get("steps", 0) + 1
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                square = parameter.grad.square().sum()
                state["exp_avg_sq"] = (
                    square if not state else 0.9 * state["exp_avg_sq"] + 0.1 * square
                )
                state["history"] = torch.cat([state.get("history", torch.zeros(0)), square[None]])
                parameter -= group["lr"] * parameter.grad / state["exp_avg_sq"].sqrt()


class Picky(optim.Adam):
    """An optimizer with a say of its own in what it takes."""

    def load_state_dict(self, state: Any) -> None:
        if "lr" not in state["param_groups"][0] or self.param_groups[0]["lr"] == 0:
            raise ValueError("no rate")
        super().load_state_dict(state)


def test_an_optimizer_may_keep_whatever_it_likes_for_a_parameter(tmp_path: Path) -> None:
    model, other = network(1), network(2)
    optimizer = NovoGrad(model.parameters())
    train(model, optimizer)
    model_path = save_state(encode_model(model), tmp_path, "model")
    path = save_state(encode_training(optimizer, None), tmp_path)
    for stepped in (0, 2):
        fresh = NovoGrad(other.parameters())
        train(other, fresh, stepped)
        restore_model(model_path, other)
        restore_training(path, fresh, None, rng=False)
        assert fresh.state["steps"] == 3
        copied = copy.deepcopy(model)
        assert train(other, fresh) == train(copied, reattached(optimizer, copied))


def reattached(optimizer: NovoGrad, model: nn.Module) -> NovoGrad:
    """A copy of an optimizer, for the parameters of a model."""
    other = NovoGrad(model.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return other


def test_an_optimizer_that_refuses_its_state_does_so_before_the_model_changes(
    axon: Any, resumed_from: Callable[..., Any]
) -> None:
    model = network()
    axon.checkpoint(model, Picky(model.parameters()), epoch=0)
    other, before = network(2), network(2)
    with pytest.raises(InvalidData, match="Picky refuses the state in the checkpoint: no rate"):
        resumed_from(other, Picky(other.parameters(), lr=0))
    assert same(other, before)


# States of modules


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("backend", ["x86", "qnnpack"])
def test_quantization_aware_training_is_restored_into_a_fresh_model(
    backend: str, tmp_path: Path
) -> None:
    def prepared(seed: int) -> nn.Module:
        model = nn.Sequential(quantization.QuantStub(), *network(seed))
        model.qconfig = quantization.get_default_qat_qconfig(backend)
        return quantization.prepare_qat(model.train())

    model = prepared(1)
    train(model, optim.SGD(model.parameters(), lr=0.1))
    path = save_state(encode_model(model), tmp_path)
    expected = copy.deepcopy(model)
    answer = model(torch.ones(2, 4))
    for other in (prepared(2), nn.DataParallel(prepared(3)), model):
        restore_model(path, other)
        assert same(other, expected)
        assert torch.equal(other(torch.ones(2, 4)), answer)
    wider = nn.Sequential(quantization.QuantStub(), nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 1))
    wider.qconfig = model.qconfig
    wider = quantization.prepare_qat(wider.train())
    with pytest.raises(
        InvalidData, match=r"1.weight is float32 \(9, 4\), in the checkpoint float32 \(8, 4\)"
    ):
        restore_model(path, wider)


class Queue(nn.Module):
    """Buffers that grow, from empty and from nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0, 4))
        self.register_buffer("cache", None)
        self.layer = nn.Linear(4, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen = torch.cat([self.seen, batch])
        self.cache = batch.mean(0)
        return self.layer(batch)


class OwnWay(nn.Module):
    """A memory that reads its state in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(1, 4))

    def _load_from_state_dict(self, state: Any, prefix: str, *others: Any) -> None:
        if f"{prefix}rows" in state:
            if state[f"{prefix}rows"].shape[1] != 4:
                raise ValueError("rows of another width")
            self.rows = torch.zeros_like(state[f"{prefix}rows"])
        super()._load_from_state_dict(state, prefix, *others)


def test_buffers_that_grow_are_restored_into_a_fresh_model(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), Queue())
    train(model, optim.SGD(model.parameters(), lr=0.1))
    path = save_state(encode_model(model), tmp_path)
    for other in (
        nn.Sequential(nn.Linear(4, 4), Queue()),
        nn.DataParallel(nn.Sequential(nn.Linear(4, 4), Queue())),
    ):
        restore_model(path, other)
        assert same(other, model)


def test_a_model_goes_back_to_buffers_that_were_empty(tmp_path: Path) -> None:
    path = save_state(encode_model(Queue()), tmp_path)
    model = Queue()
    model.seen = torch.ones(3, 4)
    restore_model(path, model)
    assert model.seen.shape == (0, 4)


def test_a_buffer_that_grew_from_a_size_is_refused_with_what_to_do(tmp_path: Path) -> None:
    model, other = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    for module, size in ((model, 3), (other, 1)):
        module.register_buffer("seen", torch.zeros(size))
    path = save_state(encode_model(model), tmp_path)
    said = r"seen is float32 \(1,\), in the checkpoint float32 \(3,\): create the model with a buffer of that size, or register it empty"
    with pytest.raises(InvalidData, match=said):
        restore_model(path, other)
    for size in (3, 0):
        other.seen = torch.ones(size)
        restore_model(path, other)
        assert same(other, model)
    path = save_state(encode_model(nn.BatchNorm1d(5)), tmp_path)
    with pytest.raises(InvalidData, match=r"running_mean is float32") as refused:
        restore_model(path, nn.BatchNorm1d(4))
    assert "register it empty" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_module_that_reads_its_state_by_itself_has_the_last_word(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), OwnWay())
    model[1].rows = torch.ones(5, 4)
    path = save_state(encode_model(model), tmp_path)
    for other in (
        nn.Sequential(nn.Linear(4, 4), OwnWay()),
        torch.compile(nn.Sequential(nn.Linear(4, 4), OwnWay())),
    ):
        restore_model(path, other)
        assert same(other, model)
    model[1].rows = torch.ones(5, 3)
    path = save_state(encode_model(model), tmp_path)
    other = nn.Sequential(nn.Linear(4, 4), OwnWay())
    before = copy.deepcopy(other)
    with pytest.raises(
        InvalidData, match=r"1.rows is float32 \(1, 4\), in the checkpoint float32 \(5, 3\)"
    ):
        restore_model(path, other)
    assert same(other, before)


class Draws(nn.Linear):
    """A module that gives an object as a part of its state."""

    def get_extra_state(self) -> Any:
        return {"generator": torch.Generator()}

    def set_extra_state(self, state: Any) -> None: ...


def test_an_object_in_the_state_of_a_module_is_refused_when_it_is_saved() -> None:
    for model in (nn.Sequential(Draws(1, 1)), {"critic": Draws(1, 1)}):
        with pytest.raises(
            TypeError, match=r"model.*Generator, of which a module would get back only the state"
        ):
            encode_model(model)


# Schedulers in schedulers


class Warmup(lr_scheduler.LRScheduler):
    """The warm-up scheduler of many repositories: the one for afterwards is an attribute, and so in its state."""

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


class Whole:
    """Its state is all that it has, the optimizer too."""

    def __init__(self, optimizer: Any, after: Any) -> None:
        self.optimizer, self.chain, self.count = optimizer, [after], 0

    def step(self) -> None:
        self.count += 1
        self.chain[0].step()

    def state_dict(self) -> Any:
        return self.__dict__

    def load_state_dict(self, state: Any) -> None:
        self.__dict__.update(state)


class Copying(Whole):
    """Its state is a copy."""

    def state_dict(self) -> Any:
        return copy.deepcopy(self.__dict__)


def after(optimizer: Any) -> Any:
    return lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.CosineAnnealingLR(optimizer, 5), lr_scheduler.ExponentialLR(optimizer, 0.9)],
        [4],
    )


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "Warmup": lambda optimizer: Warmup(optimizer, 3, lr_scheduler.CosineAnnealingLR(optimizer, 20)),
    "Warmup of Warmup": lambda optimizer: Warmup(
        optimizer, 1, Warmup(optimizer, 2, lr_scheduler.StepLR(optimizer, 2))
    ),
    "Warmup of SequentialLR": lambda optimizer: Warmup(optimizer, 2, after(optimizer)),
    "Whole": lambda optimizer: Whole(optimizer, lr_scheduler.ExponentialLR(optimizer, 0.9)),
    "SequentialLR": after,
    "SequentialLR of Warmup": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [
            Warmup(optimizer, 1, lr_scheduler.StepLR(optimizer, 2)),
            lr_scheduler.ExponentialLR(optimizer, 0.9),
        ],
        [6],
    ),
    "ChainedScheduler": lambda optimizer: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(optimizer, 0.5, 4), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    ),
}


@pytest.mark.filterwarnings(
    "ignore:The epoch parameter in:UserWarning", "ignore:To get the last learning rate:UserWarning"
)
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_scheduler_in_a_scheduler_goes_on_where_it_was(
    name: str, steps: int, tmp_path: Path
) -> None:
    def made() -> Any:
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, WRAPPERS[name](optimizer)

    model, optimizer, scheduler = made()
    train(model, optimizer, steps, scheduler)
    path = save_state(encode_training(optimizer, {"scheduler": scheduler}), tmp_path)
    other, fresh, resumed = made()
    inner = getattr(resumed, "after_scheduler", None)
    restore_training(path, fresh, {"scheduler": resumed}, rng=False)
    assert getattr(resumed, "after_scheduler", None) is inner
    rates: list[list[float]] = [[], []]
    for which, (trained, by, at) in enumerate(
        [(model, optimizer, scheduler), (other, fresh, resumed)]
    ):
        for _ in range(12):
            train(trained, by, 1, at)
            rates[which].append(by.param_groups[0]["lr"])
    assert rates[0] == rates[1]


def test_a_state_with_copies_of_other_objects_is_refused_when_it_is_saved() -> None:
    optimizer = optim.SGD(network().parameters(), lr=0.1)
    copying = Copying(optimizer, lr_scheduler.StepLR(optimizer, 2))
    with pytest.raises(
        TypeError, match=r"extra.*of this .*Copying contains a .*, which is a new copy each time"
    ):
        encode_training(None, {"scheduler": copying})
    optimizer.param_groups[0]["shuffled by"] = torch.Generator()
    with pytest.raises(
        TypeError,
        match=r"optimizer: .*SGD contains a .*Generator, which PyTorch's optimizers do not load",
    ):
        encode_training(optimizer, None)


def test_another_scheduler_inside_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    optimizer = optim.SGD(network().parameters(), lr=0.1)
    scheduler = WRAPPERS["Warmup"](optimizer)
    optimizer.step()
    scheduler.step()
    path = save_state(encode_training(None, {"scheduler": scheduler}), tmp_path)
    for inner in (lr_scheduler.StepLR(optimizer, 2), None):
        other = Warmup(optimizer, 3, inner)
        before = dict(vars(other))
        with pytest.raises(
            InvalidData, match=r"after_scheduler.* is a .*, in the checkpoint a .*CosineAnnealingLR"
        ):
            restore_training(path, None, {"scheduler": other}, rng=False)
        assert vars(other) == before


# Without gradients


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize(
    "kind", [optim.Adam, lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9)]
)
def test_what_is_restored_without_gradients_is_trained_on(
    mode: Any, kind: Any, axon: Any, resumed_from: Callable[..., Any]
) -> None:
    model, other = nn.Sequential(network(1), Grows()), nn.Sequential(network(2), Grows())
    optimizer, fresh = kind(model.parameters()), kind(other.parameters())
    train(model, optimizer)
    ema = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    axon.checkpoint(model, optimizer, epoch=0, extra={"ema": ema})
    extra: dict[str, Any] = {"ema": {}}
    with mode():
        resumed_from(other, fresh, extra=extra)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert train(other, fresh) == train(model, optimizer)
    for average in extra["ema"].values():
        average.mul_(0.9)
    with mode():
        returned = axon.latest().restore()[0]
    returned["0.0.weight"].requires_grad_(True).sum().backward()


@pytest.mark.parametrize("mode", [torch.inference_mode, contextlib.nullcontext])
def test_a_model_that_was_made_in_inference_mode_is_restored(
    mode: Any, axon: Any, resumed_from: Callable[..., Any]
) -> None:
    model = nn.Sequential(network(1), Grows())
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer)
    axon.checkpoint(model, optimizer, epoch=0)
    with torch.inference_mode():
        other, trees = nn.Sequential(network(2), Grows()), {"w": torch.zeros(2), "n": 1}
    mixed = nn.Sequential(nn.Sequential(network(3)[0], nn.Tanh(), other[0][2]), Grows())
    for target in (other, mixed):
        with mode():
            assert resumed_from(target).model is target
        assert same(target, model)
    assert not mixed[0][0].weight.is_inference()
    train(mixed[0][0], optim.SGD(mixed[0][0].parameters(), lr=0.1))
    axon.checkpoint({"w": torch.ones(2), "n": 2}, epoch=1)
    with mode():
        resumed_from(trees)
    assert trees["w"].tolist() == [1, 1]


# What cannot be written to


class Expanded(nn.Module):
    """A buffer whose numbers share memory, between layers."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 2)
        self.register_buffer("scale", torch.full((1, 1), value).expand(2, 3))
        self.bias = nn.Parameter(torch.full((1,), value).expand(3))


@pytest.mark.parametrize(
    "wrap", [lambda model: model, nn.DataParallel, lambda model: nn.Sequential(model)]
)
def test_a_buffer_that_is_expanded_is_restored(wrap: Any, tmp_path: Path) -> None:
    model, other = wrap(Expanded(3.0)), wrap(Expanded())
    optimizer = optim.SGD(other.parameters(), lr=1.0)
    path = save_state(encode_model(model), tmp_path)
    restore_model(path, other)
    assert same(other, model)
    assert all(parameter.is_contiguous() for parameter in optimizer.param_groups[0]["params"])
    changed = wrap(Expanded())
    changed.load_state_dict({**model.state_dict()}, assign=True)
    for name, buffer in changed.named_buffers():
        assert name.endswith("scale")
        buffer.data = torch.arange(6.0).view(2, 3)
    restore_model(save_state(encode_model(changed), tmp_path), other)
    assert same(other, changed)


def test_a_model_on_the_meta_device_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    path = save_state(encode_model(network(1)), tmp_path)
    training = save_state(
        encode_training(optim.Adam(network(1).parameters()), None), tmp_path, "training"
    )
    other, before = network(2), network(2)
    other[2].to("meta")
    with pytest.raises(InvalidData, match=r"2.weight is on the meta device.*to_empty"):
        restore_model(path, other)
    assert torch.equal(other[0].weight, before[0].weight)
    with pytest.raises(InvalidData, match="meta device"):
        restore_training(training, optim.Adam(other.parameters()), None, rng=False)
    other = other.to_empty(device="cpu")
    restore_model(path, other)
    assert same(other, network(1))
    path = save_state(encode_model({"w": torch.ones(2)}), tmp_path)
    with pytest.raises(InvalidData, match="meta device"):
        restore_model(path, {"w": torch.ones(2, device="meta")})


class Grows(nn.Module):
    """A buffer that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen = torch.cat([self.seen, batch.detach().flatten()])
        return batch


def test_a_default_device_does_not_matter(tmp_path: Path) -> None:
    path = save_state(encode_model({"full": torch.ones(2), "empty": torch.ones(0)}), tmp_path)
    with torch.device("meta"):
        back = restore_model(path, None)
    assert [tensor.device.type for tensor in back.values()] == ["cpu", "cpu"]


# No model


def test_a_training_without_a_model_is_resumed(axon: Any, resumed_from: Callable[..., Any]) -> None:
    axon.checkpoint(None, epoch=3, extra={"queue": [1, 2], "counts": {"tokens": 5}})
    resumed = resumed_from()
    assert (resumed.model, resumed.optimizer) == (None, None)
    assert resumed.extra == {"queue": [1, 2], "counts": {"tokens": 5}}
    extra: dict[str, Any] = {"queue": [], "counts": {"tokens": 0}}
    assert resumed_from(extra=extra).epoch == 3
    assert extra == {"queue": [1, 2], "counts": {"tokens": 5}}
    optimizer = optim.SGD(network().parameters(), lr=0.5)
    axon.checkpoint(None, optimizer, epoch=4)
    fresh = optim.SGD(network().parameters(), lr=0.1)
    resumed_from(None, fresh)
    assert fresh.param_groups[0]["lr"] == 0.5
    axon.checkpoint(None, epoch=5, metrics={"loss": 1.0})
    assert resumed_from().epoch == 5
