"""A training goes on as if it had never stopped: optimizer, schedulers, scalers, averages, random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.state_files import save_state
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from jupyter_axon_notebooks.errors import InvalidData, StateCorrupt
from jupyter_axon_notebooks.training.formats import (
    encode_model,
    encode_training,
    restore_model,
    restore_training,
)
from jupyter_axon_notebooks.training.validation import normalize_metrics, validate_position

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "SGD with momentum": lambda parameters: optim.SGD(
        parameters, lr=0.1, momentum=0.9, nesterov=True
    ),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01, amsgrad=True),
    "AdamW": lambda parameters: optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "AdamW fused": lambda parameters: optim.AdamW(parameters, lr=0.01, fused=True),
    "Adam with a tensor": lambda parameters: optim.Adam(
        parameters, lr=torch.tensor(0.01), foreach=False
    ),
    "RMSprop": lambda parameters: optim.RMSprop(parameters, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda parameters: optim.Adagrad(parameters, lr=0.1),
    "Adafactor": lambda parameters: optim.Adafactor(parameters, lr=0.1),
    "LBFGS": lambda parameters: optim.LBFGS(parameters, lr=0.1, max_iter=3, history_size=4),
}
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 4, 4]),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 10),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, 3
    ),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=20),
    "ReduceLROnPlateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=1),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.ConstantLR(optimizer, 0.5, 2), lr_scheduler.ExponentialLR(optimizer, 0.9)],
        [2],
    ),
}


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1)
    )


def train(
    model: nn.Module, optimizer: optim.Optimizer, steps: int, scheduler: Any = None
) -> list[float]:
    """A few steps on random batches; their losses."""
    losses = []
    for _ in range(steps):
        batch = torch.randn(16, 4) * random.random() + float(np.random.random())

        def loss_of(batch: torch.Tensor = batch) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
            loss.backward()
            return loss

        losses.append(optimizer.step(loss_of).item())
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(1.0)
        elif scheduler is not None:
            scheduler.step()
    return losses


def same(one: Any, other: Any) -> bool:
    """Equal in types and to the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_goes_on_to_the_same_losses_and_weights(name: str, tmp_path: Path) -> None:
    model = network(1)
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 5)
    model_path = save_state(encode_model(model), tmp_path, "model")
    path = save_state(encode_training(optimizer, None), tmp_path)
    kept = optimizer.state_dict()
    other = network(2)
    fresh = OPTIMIZERS[name](other.parameters())
    restore_model(model_path, other)
    with torch.no_grad():
        assert restore_training(path, fresh, None, rng=True).optimizer is fresh
    assert same(fresh.state_dict(), kept)
    expected = train(other, fresh, 5)
    restore_training(path, None, None, rng=True)
    assert train(model, optimizer, 5) == expected
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert same(fresh.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_an_optimizer_its_state_comes_back(name: str, tmp_path: Path) -> None:
    model = network(1)
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 2)
    state = restore_training(
        save_state(encode_training(optimizer, None), tmp_path), None, None, rng=False
    ).optimizer
    assert same(state, optimizer.state_dict())


def test_what_is_restored_is_in_memory_of_its_own(tmp_path: Path) -> None:
    model = network(1)
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    train(model, optimizer, 2)
    path = Path(save_state(encode_training(optimizer, None), tmp_path))
    fresh = OPTIMIZERS["Adam"](model.parameters())
    restore_training(str(path), fresh, None, rng=False)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert same(fresh.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_go_on_where_they_were(name: str, tmp_path: Path) -> None:
    model = network(1)
    optimizer = OPTIMIZERS["SGD with momentum"](model.parameters())
    scheduler = SCHEDULERS[name](optimizer)
    train(model, optimizer, 5, scheduler)
    path = save_state(encode_training(optimizer, {"scheduler": scheduler}), tmp_path)
    fresh = OPTIMIZERS["SGD with momentum"](model.parameters())
    other = SCHEDULERS[name](fresh)
    restored = restore_training(path, fresh, {"scheduler": other}, rng=True)
    assert restored.extra["scheduler"] is other
    assert same(other.state_dict(), scheduler.state_dict())
    rates = []
    for one, by in ((optimizer, scheduler), (fresh, other)):
        rates.append([])
        for _ in range(5):
            one.step()
            by.step(*([1.0] if isinstance(by, lr_scheduler.ReduceLROnPlateau) else []))
            rates[-1].append(one.param_groups[0]["lr"])
    assert rates[0] == rates[1]


def test_scalers_and_averages_are_kept(tmp_path: Path) -> None:
    model = network(1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(1))
    average = AveragedModel(model, multi_avg_fn=None)
    average.update_parameters(model)
    ema = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = save_state(
        encode_training(None, {"scaler": scaler, "swa": average, "ema": ema, "epoch": 3}), tmp_path
    )
    others = {
        "scaler": torch.amp.GradScaler("cpu"),
        "swa": AveragedModel(network(2)),
        "ema": {name: torch.zeros_like(tensor) for name, tensor in ema.items()},
        "epoch": 0,
    }
    places = dict(others["ema"])
    extra = restore_training(path, None, others, rng=False).extra
    assert extra is others
    assert extra["scaler"].state_dict() == scaler.state_dict()
    assert same(dict(extra["swa"].state_dict()), dict(average.state_dict()))
    assert same(extra["ema"], ema)
    assert all(extra["ema"][name] is tensor for name, tensor in places.items())
    assert extra["epoch"] == 3


def test_every_generator_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    mine = torch.Generator().manual_seed(5)
    path = save_state(encode_training(None, {"shuffle": mine}), tmp_path)

    def drawn(generator: torch.Generator) -> list[float]:
        numbers = [
            torch.rand(()),
            torch.rand((), generator=generator),
            np.random.random(),
            random.random(),
        ]
        return [float(number) for number in numbers]

    expected = drawn(mine)
    other = torch.Generator().manual_seed(6)
    torch.manual_seed(0)
    restore_training(path, None, {"shuffle": other}, rng=True)
    assert drawn(other) == expected


def test_a_broken_state_of_a_generator_changes_nothing(tmp_path: Path) -> None:
    broken = {"python": random.getstate(), "torch": torch.zeros(3, dtype=torch.uint8)}
    from jupyter_axon_notebooks.training.formats.tree import TreeWriter

    writer = TreeWriter()
    tree = {"optimizer": None, "extra": None, "rng": writer.encode(broken, "rng", "rng")}
    path = save_state(writer.make_file(tree, None), tmp_path)
    random.seed(1)
    before = random.getstate()
    with pytest.raises(StateCorrupt, match="random generators"):
        restore_training(path, None, None, rng=True)
    assert random.getstate() == before
    restore_training(path, None, None, rng=False)


def test_finer_types_than_those_of_the_parameters_are_kept(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = optim.SGD([parameter], momentum=0.9)
    optimizer.state[parameter]["momentum_buffer"] = torch.tensor([1 / 3, 1 / 7, 1e-30])
    path = save_state(encode_training(optimizer, None), tmp_path)
    fresh = optim.SGD([parameter], momentum=0.9)
    restore_training(path, fresh, None, rng=False)
    assert same(
        fresh.state[parameter]["momentum_buffer"], optimizer.state[parameter]["momentum_buffer"]
    )


def test_what_a_scheduler_has_put_into_an_optimizer_stays(tmp_path: Path) -> None:
    model = network(1)
    path = save_state(encode_training(OPTIMIZERS["SGD"](model.parameters()), None), tmp_path)
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    scheduler = SCHEDULERS["StepLR"](optimizer)
    restore_training(path, optimizer, None, rng=False)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["initial_lr"] == 0.1


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda: OPTIMIZERS["SGD"](network(1).parameters()), r"SGD, in the checkpoint a .*\.Adam"),
        (
            lambda: OPTIMIZERS["Adam"](nn.Linear(1, 1).parameters()),
            r"expected \[2\] parameters .* has \[6\]",
        ),
        (
            lambda: OPTIMIZERS["Adam"](
                [{"params": [parameter]} for parameter in network(1).parameters()]
            ),
            r"expected \[1, 1, 1, 1, 1, 1\] parameters",
        ),
        (
            lambda: OPTIMIZERS["Adam"]([nn.Parameter(torch.zeros(2)) for _ in range(6)]),
            r"exp_avg of parameter 0 should be of shape \(2,\)",
        ),
    ],
)
def test_an_optimizer_that_does_not_fit_is_refused_and_nothing_changes(
    other: Callable[[], optim.Optimizer], reason: str, tmp_path: Path
) -> None:
    model = network(1)
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    train(model, optimizer, 2)
    path = save_state(encode_training(optimizer, {"ema": torch.ones(1)}), tmp_path)
    target = other()
    before, ema, drawn = target.state_dict(), torch.zeros(1), random.getstate()
    with pytest.raises(InvalidData, match=reason):
        restore_training(path, target, {"ema": ema}, rng=True)
    assert same(target.state_dict(), before)
    assert ema.tolist() == [0]
    assert random.getstate() == drawn


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
def test_what_is_no_state_of_an_optimizer_is_refused(state: Any, tmp_path: Path) -> None:
    path = save_state(encode_training(state, None), tmp_path)
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    with pytest.raises(InvalidData, match=r"optimizer: "):
        restore_training(path, optimizer, None, rng=False)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_several_optimizers_are_kept_together(tmp_path: Path) -> None:
    models = [network(1), network(2)]
    optimizers = {
        "g": OPTIMIZERS["Adam"](models[0].parameters()),
        "d": OPTIMIZERS["SGD"](models[1].parameters()),
    }
    train(models[0], optimizers["g"], 2)
    path = save_state(encode_training(optimizers, None), tmp_path)
    fresh = {
        "g": OPTIMIZERS["Adam"](models[0].parameters()),
        "d": OPTIMIZERS["SGD"](models[1].parameters()),
    }
    restore_training(path, fresh, None, rng=False)
    assert same(fresh["g"].state_dict(), optimizers["g"].state_dict())


def test_values_of_torch_that_are_no_tensors_come_back(tmp_path: Path) -> None:
    value = [
        torch.Size([1, 2]),
        torch.bfloat16,
        torch.device("cpu"),
        torch.device("cuda:1"),
        nn.Parameter(torch.ones(1), False),
    ]
    back = restore_training(
        save_state(encode_training(None, value), tmp_path), None, None, rng=False
    ).extra
    assert back == value
    assert [type(one) for one in back] == [type(one) for one in value]
    assert not back[4].requires_grad


@pytest.mark.parametrize(
    "extra", [{torch.ones(1): 1}, {"a": {torch.ones(1)}}, {OPTIMIZERS["SGD"]: 1}]
)
def test_tensors_and_functions_as_keys_are_refused(extra: Any) -> None:
    with pytest.raises(TypeError, match="extra"):
        encode_training(None, extra)


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_a_training_on_any_device_draws_and_holds_the_same(device: str, tmp_path: Path) -> None:
    model = network(1).to(device)
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    model(torch.randn(4, 4, device=device)).sum().backward()
    optimizer.step()
    model_path = save_state(encode_model(model), tmp_path, "model")
    path = save_state(encode_training(optimizer, None), tmp_path)
    expected = torch.rand(3, device=device).tolist()
    other = network(2).to(device)
    fresh = OPTIMIZERS["Adam"](other.parameters())
    restore_model(model_path, other)
    restore_training(path, fresh, None, rng=True)
    assert torch.rand(3, device=device).tolist() == expected
    assert all(map(torch.equal, other.state_dict().values(), model.state_dict().values()))
    for one, by in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(optimizer.state[one]["exp_avg"], fresh.state[by]["exp_avg"])
        assert fresh.state[by]["exp_avg"].device == by.device


def test_tensors_are_numbers_as_far_as_they_hold_one() -> None:
    told: list[str] = []
    given = {
        "loss": torch.tensor(0.5, requires_grad=True),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "right": torch.tensor(True),
        "each": torch.zeros(2),
        "nowhere": torch.empty(1, device="meta"),
        "wave": torch.tensor(1j),
    }
    assert normalize_metrics(given, told.append) == {"loss": 0.5, "half": 1.5, "right": True}
    assert all(f"{name} (is a " in told[0] for name in ("each", "nowhere", "wave"))
    for value in (torch.tensor(3), torch.tensor(3.0), torch.tensor([3.0], dtype=torch.float64)):
        assert validate_position(value, "epoch", pytest.fail) == 3
