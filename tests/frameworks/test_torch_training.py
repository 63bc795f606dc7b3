"""A PyTorch training continues as if it had not stopped."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.state_files import OLD_STATES, restore_model, restore_training, round_trip, save_state
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from jupyter_axon_notebooks.errors import InvalidData, StateCorrupt
from jupyter_axon_notebooks.training.formats import encode_model, encode_training
from jupyter_axon_notebooks.training.formats.tree import TreeWriter
from jupyter_axon_notebooks.training.validation import normalize_metrics, validate_position

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda params: optim.SGD(params, lr=0.1),
    "SGD momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda params: optim.Adam(params, lr=0.01, amsgrad=True),
    "AdamW": lambda params: optim.AdamW(params, lr=0.01, weight_decay=0.1),
    "AdamW fused": lambda params: optim.AdamW(params, lr=0.01, fused=True),
    "Adam tensor": lambda params: optim.Adam(params, lr=torch.tensor(0.01), foreach=False),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda params: optim.Adagrad(params, lr=0.1),
    "Adafactor": lambda params: optim.Adafactor(params, lr=0.1),
    "LBFGS": lambda params: optim.LBFGS(params, lr=0.1, max_iter=3, history_size=4),
}
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda one: lr_scheduler.StepLR(one, 2, 0.5),
    "MultiStepLR": lambda one: lr_scheduler.MultiStepLR(one, [1, 4, 4]),
    "CosineAnnealingLR": lambda one: lr_scheduler.CosineAnnealingLR(one, 10),
    "WarmRestarts": lambda one: lr_scheduler.CosineAnnealingWarmRestarts(one, 3),
    "OneCycleLR": lambda one: lr_scheduler.OneCycleLR(one, 0.5, total_steps=20),
    "ReduceLROnPlateau": lambda one: lr_scheduler.ReduceLROnPlateau(one, patience=1),
    "LambdaLR": lambda one: lr_scheduler.LambdaLR(one, lambda epoch: 0.9**epoch),
    "SequentialLR": lambda one: lr_scheduler.SequentialLR(
        one, [lr_scheduler.ConstantLR(one, 0.5, 2), lr_scheduler.ExponentialLR(one, 0.9)], [2]
    ),
}


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1)
    )


def step_scheduler(scheduler: Any) -> None:
    scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))


def train(
    model: nn.Module, optimizer: optim.Optimizer, steps: int, scheduler: Any = None
) -> list[float]:
    """Train on random batches and return the losses."""
    losses = []
    for _ in range(steps):
        batch = torch.randn(16, 4) * random.random() + float(np.random.random())

        def compute_loss(batch: torch.Tensor = batch) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
            loss.backward()
            return loss

        losses.append(optimizer.step(compute_loss).item())
        if scheduler is not None:
            step_scheduler(scheduler)
    return losses


def are_equal(one: Any, other: Any) -> bool:
    """Return whether two states are equal in types and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return bool(one == other)


# Optimizers


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_continues_with_the_same_losses(name: str, tmp_path: Path) -> None:
    model, other = network(1), network(2)
    optimizer, fresh = (OPTIMIZERS[name](one.parameters()) for one in (model, other))
    train(model, optimizer, 5)
    model_path = save_state(encode_model(model), tmp_path, "model")
    path = save_state(encode_training(optimizer, None), tmp_path)
    state = restore_training(path, None, None, rng=False).optimizer
    assert are_equal(state, optimizer.state_dict())
    restore_model(model_path, other)
    with torch.no_grad():
        assert restore_training(path, fresh, None, rng=True).optimizer is fresh
    assert are_equal(fresh.state_dict(), optimizer.state_dict())
    expected = train(other, fresh, 5)
    restore_training(path, None, None, rng=True)
    assert train(model, optimizer, 5) == expected
    assert are_equal(dict(other.state_dict()), dict(model.state_dict()))
    assert are_equal(fresh.state_dict(), optimizer.state_dict())


def test_a_restored_state_is_not_a_view_of_the_file(tmp_path: Path) -> None:
    model = network(1)
    optimizer, fresh = (OPTIMIZERS["Adam"](model.parameters()) for _ in range(2))
    train(model, optimizer, 2)
    path = Path(save_state(encode_training(optimizer, None), tmp_path))
    restore_training(str(path), fresh, None, rng=False)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert are_equal(fresh.state_dict(), optimizer.state_dict())


def test_several_optimizers_are_restored(tmp_path: Path) -> None:
    models = {"Adam": network(1), "SGD": network(2)}
    optimizers, fresh = (
        {name: OPTIMIZERS[name](model.parameters()) for name, model in models.items()}
        for _ in range(2)
    )
    train(models["Adam"], optimizers["Adam"], 2)
    path = save_state(encode_training(optimizers, None), tmp_path)
    restore_training(path, fresh, None, rng=False)
    assert are_equal(fresh["Adam"].state_dict(), optimizers["Adam"].state_dict())


def test_states_more_precise_than_the_parameters_are_kept(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer, fresh = (optim.SGD([parameter], momentum=0.9) for _ in range(2))
    buffer = torch.tensor([1 / 3, 1 / 7, 1e-30])
    optimizer.state[parameter]["momentum_buffer"] = buffer
    path = save_state(encode_training(optimizer, None), tmp_path)
    restore_training(path, fresh, None, rng=False)
    assert are_equal(fresh.state[parameter]["momentum_buffer"], buffer)


def test_options_that_were_not_saved_keep_their_values(tmp_path: Path) -> None:
    model = network(1)
    path = save_state(encode_training(OPTIMIZERS["SGD"](model.parameters()), None), tmp_path)
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    scheduler = SCHEDULERS["StepLR"](optimizer)
    restore_training(path, optimizer, None, rng=False)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["initial_lr"] == 0.1


@pytest.mark.parametrize(
    ("name", "create_parameters", "reason"),
    [
        ("SGD", lambda: network(1).parameters(), r"SGD, in the checkpoint a .*\.Adam"),
        ("Adam", lambda: nn.Linear(1, 1).parameters(), r"expected \[2\] parameters .* has \[6\]"),
        (
            "Adam",
            lambda: [{"params": [parameter]} for parameter in network(1).parameters()],
            r"expected \[1, 1, 1, 1, 1, 1\] parameters",
        ),
        (
            "Adam",
            lambda: [nn.Parameter(torch.zeros(2)) for _ in range(6)],
            r"exp_avg of parameter 0 should be of shape \(2,\)",
        ),
    ],
)
def test_an_optimizer_that_does_not_fit_is_refused_and_nothing_changes(
    name: str, create_parameters: Callable[[], Any], reason: str, tmp_path: Path
) -> None:
    model = network(1)
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    train(model, optimizer, 2)
    path = save_state(encode_training(optimizer, {"ema": torch.ones(1)}), tmp_path)
    target = OPTIMIZERS[name](create_parameters())
    before, ema, generator = target.state_dict(), torch.zeros(1), random.getstate()
    with pytest.raises(InvalidData, match=reason):
        restore_training(path, target, {"ema": ema}, rng=True)
    assert are_equal(target.state_dict(), before)
    assert ema.tolist() == [0]
    assert random.getstate() == generator


@pytest.mark.parametrize(
    "state",
    [
        1,
        {"state": {}},
        {"state": [], "param_groups": []},
        {"state": {}, "param_groups": [1]},
        {"state": {}, "param_groups": [{"lr": 1}]},
        {"state": {0: 1}, "param_groups": [{"params": [0]}]},
        {"state": {9: {}}, "param_groups": [{"params": [0]}]},
        {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"params": [0]}]},
    ],
)
def test_invalid_states_of_an_optimizer_are_refused(state: Any, tmp_path: Path) -> None:
    path = save_state(encode_training(state, None), tmp_path)
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    with pytest.raises(InvalidData, match=r"optimizer: "):
        restore_training(path, optimizer, None, rng=False)
    assert optimizer.param_groups[0]["lr"] == 0.5


# Other objects


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_continue(name: str, tmp_path: Path) -> None:
    model = network(1)
    optimizer, fresh = (OPTIMIZERS["SGD momentum"](model.parameters()) for _ in range(2))
    scheduler, other = SCHEDULERS[name](optimizer), SCHEDULERS[name](fresh)
    train(model, optimizer, 5, scheduler)
    path = save_state(encode_training(optimizer, {"scheduler": scheduler}), tmp_path)
    restored = restore_training(path, fresh, {"scheduler": other}, rng=True)
    assert restored.extra["scheduler"] is other
    assert are_equal(other.state_dict(), scheduler.state_dict())
    rates: list[list[Any]] = []
    for one, its_scheduler in ((optimizer, scheduler), (fresh, other)):
        rates.append([])
        for _ in range(5):
            one.step()
            step_scheduler(its_scheduler)
            rates[-1].append(one.param_groups[0]["lr"])
    assert rates[0] == rates[1]


def test_scalers_and_averages_are_restored(tmp_path: Path) -> None:
    model = network(1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(1))
    average = AveragedModel(model, multi_avg_fn=None)
    average.update_parameters(model)
    ema = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stored = {"scaler": scaler, "swa": average, "ema": ema, "epoch": 3}
    path = save_state(encode_training(None, stored), tmp_path)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in ema.items()}
    swa = AveragedModel(network(2))
    target = {"scaler": torch.amp.GradScaler("cpu"), "swa": swa, "ema": {**tensors}, "epoch": 0}
    assert restore_training(path, None, target, rng=False).extra is target
    assert target["scaler"].state_dict() == scaler.state_dict()
    assert are_equal(dict(swa.state_dict()), dict(average.state_dict()))
    assert are_equal(target["ema"], ema)
    assert all(target["ema"][name] is tensor for name, tensor in tensors.items())
    assert target["epoch"] == 3


def test_values_of_torch_are_restored(tmp_path: Path) -> None:
    value = [torch.Size([1, 2]), torch.bfloat16, torch.device("cpu"), torch.device("cuda:1")]
    value.append(nn.Parameter(torch.ones(1), False))
    restored = round_trip(value, tmp_path)
    assert restored == value
    assert [type(one) for one in restored] == [type(one) for one in value]
    assert not restored[4].requires_grad


@pytest.mark.parametrize(
    "extra", [{torch.ones(1): 1}, {"a": {torch.ones(1)}}, {OPTIMIZERS["SGD"]: 1}]
)
def test_tensors_and_functions_as_keys_are_refused(extra: Any) -> None:
    with pytest.raises(TypeError, match="extra"):
        encode_training(None, extra)


# Random generators and devices


def test_generators_continue_their_sequences(tmp_path: Path) -> None:
    first, second = (torch.Generator().manual_seed(seed) for seed in (5, 6))
    path = save_state(encode_training(None, {"shuffle": first}), tmp_path)

    def draw(generator: torch.Generator) -> list[float]:
        own = [float(torch.rand(())), float(torch.rand((), generator=generator))]
        return [*own, np.random.random(), random.random()]

    expected = draw(first)
    torch.manual_seed(0)
    restore_training(path, None, {"shuffle": second}, rng=True)
    assert draw(second) == expected


def test_an_invalid_state_of_a_generator_changes_nothing(tmp_path: Path) -> None:
    states = {"python": random.getstate(), "torch": torch.zeros(3, dtype=torch.uint8)}
    writer = TreeWriter()
    tree = {"optimizer": None, "extra": None, "rng": writer.encode(states, "rng", "rng")}
    path = save_state(writer.make_file(tree, None), tmp_path)
    random.seed(1)
    before = random.getstate()
    with pytest.raises(StateCorrupt, match="random generators"):
        restore_training(path, None, None, rng=True)
    assert random.getstate() == before
    restore_training(path, None, None, rng=False)


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_a_training_continues_on_any_device(device: str, tmp_path: Path) -> None:
    model, other = network(1).to(device), network(2).to(device)
    optimizer, fresh = (OPTIMIZERS["Adam"](one.parameters()) for one in (model, other))
    model(torch.randn(4, 4, device=device)).sum().backward()
    optimizer.step()
    model_path = save_state(encode_model(model), tmp_path, "model")
    path = save_state(encode_training(optimizer, None), tmp_path)
    expected = torch.rand(3, device=device).tolist()
    restore_model(model_path, other)
    restore_training(path, fresh, None, rng=True)
    assert torch.rand(3, device=device).tolist() == expected
    assert all(map(torch.equal, other.state_dict().values(), model.state_dict().values()))
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        average = fresh.state[same]["exp_avg"]
        assert torch.equal(optimizer.state[one]["exp_avg"], average)
        assert average.device == same.device


# Files of the first release


def test_states_of_the_first_release_are_restored() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = optim.Adam(model.parameters())
    restore_model(str(OLD_STATES / "module.safetensors"), model)
    restore_training(str(OLD_STATES / "adam.safetensors"), optimizer, None, rng=False)
    torch.manual_seed(0)
    expected = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    adam = optim.Adam(expected.parameters(), lr=0.01)
    expected(torch.arange(12.0).view(4, 3)).sum().backward()
    adam.step()
    for name, tensor in expected.state_dict().items():
        # The gradients are rounding errors, so that a step of Adam goes either way.
        assert torch.allclose(model.state_dict()[name], tensor, atol=0.0201), name
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert optimizer.state_dict()["state"].keys() == adam.state_dict()["state"].keys()
    restored = restore_training(str(OLD_STATES / "training.safetensors"), None, None, rng=True)
    assert restored.optimizer["mu"][0].tolist() == [1, 1]
    extra = restored.extra
    assert (extra["big"], extra["tuple"], extra["keys"][(2, 3)]) == (1 << 70, (1, "a"), "pair")
    assert (extra["scheduler"], extra["scalar"]) == ({"position": 3}, np.float32(0.5))
    assert extra["big endian"].dtype == np.dtype(">i4")
    assert (extra["size"], extra["dtype"]) == (torch.Size([2, 3]), torch.bfloat16)
    drawn = random.random(), np.random.random(), float(torch.rand(()))
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    assert drawn == (random.random(), np.random.random(), float(torch.rand(())))


def test_metrics_and_positions_may_be_tensors() -> None:
    messages: list[str] = []
    metrics = {
        "loss": torch.tensor(0.5, requires_grad=True),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "right": torch.tensor(True),
        "each": torch.zeros(2),
        "nowhere": torch.empty(1, device="meta"),
        "wave": torch.tensor(1j),
    }
    numbers = {"loss": 0.5, "half": 1.5, "right": True}
    assert normalize_metrics(metrics, messages.append) == numbers
    assert all(f"{name} (is a " in messages[0] for name in ("each", "nowhere", "wave"))
    for value in (torch.tensor(3), torch.tensor(3.0), torch.tensor([3.0], dtype=torch.float64)):
        assert validate_position(value, "epoch", pytest.fail) == 3
