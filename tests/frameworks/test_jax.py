"""Trees of JAX: what can be set in place is, and of the rest a resume says how it is taken."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from support.state_files import save_state
from torch import nn, optim

from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.training.formats import encode_model, restore_model
from jupyter_axon_notebooks.training.messages import AxonWarning

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))


def parameters(value: float = 1.0) -> dict[str, Any]:
    return {
        "dense": {"w": jnp.full((4, 2), value), "b": jnp.zeros(2, jnp.bfloat16)},
        "scale": jnp.float32(value),
    }


def train(params: Any, opt_state: Any, steps: int = 3) -> Any:
    for _ in range(steps):
        grads = jax.tree.map(lambda array: array * 2 + 1, params)
        updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params, opt_state


def same(one: Any, other: Any) -> bool:
    pairs = [*zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)]
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        left.dtype == right.dtype and np.array_equal(left, right) for left, right in pairs
    )


@pytest.fixture
def trained(axon: Any) -> Any:
    """Parameters and optimizer of a training that has a checkpoint."""
    params = parameters()
    made = train(params, OPTIMIZER.init(params))
    axon.checkpoint(*made, epoch=2)
    return made


def test_a_state_that_cannot_be_set_in_place_is_an_error_that_shows_what_to_do(
    trained: Any, resumed_from: Callable[..., Any]
) -> None:
    params = parameters(0.0)
    opt_state = OPTIMIZER.init(params)
    before = parameters(0.0)
    with pytest.raises(TypeError, match=r"optimizer\[1\].* cannot be set in place") as refused:
        resumed_from(params, opt_state)
    assert "in_place=False" in str(refused.value)
    assert "params, opt_state = resumed.model, resumed.optimizer" in str(refused.value)
    assert same(params, before)


def test_it_goes_on_with_what_is_returned(trained: Any, resumed_from: Callable[..., Any]) -> None:
    params = parameters(0.0)
    resumed = resumed_from(params, OPTIMIZER.init(params), in_place=False)
    params, opt_state = resumed.model, resumed.optimizer
    assert same((params, opt_state), trained)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((params, opt_state)))
    assert same(train(params, opt_state), train(*trained))


def test_a_dict_is_set_in_place_with_the_tuples_in_it(
    axon: Any, resumed_from: Callable[..., Any]
) -> None:
    params = parameters()
    params, opt_state = train(params, OPTIMIZER.init(params))
    state = {"params": params, "opt_state": opt_state, "key": jax.random.PRNGKey(7)}
    axon.checkpoint(state, epoch=0)
    fresh = parameters(0.0)
    other = {"params": fresh, "opt_state": OPTIMIZER.init(fresh), "key": jax.random.PRNGKey(0)}
    resumed_from(other)
    assert same(other, state)
    assert isinstance(other["opt_state"][1][0], optax.ScaleByAdamState)
    assert other["params"] is fresh


def test_restore_returns_what_cannot_be_set_in_place(axon: Any, trained: Any) -> None:
    params = parameters(0.0)
    assert same(axon.latest().restore(params, OPTIMIZER.init(params)), trained)


def test_without_a_template_named_tuples_are_those_of_optax(axon: Any, trained: Any) -> None:
    assert same(axon.latest().restore(), trained)


def test_the_first_resume_warns_of_what_the_next_one_will_refuse(axon: Any) -> None:
    params = parameters()
    with pytest.warns(
        AxonWarning, match=r"nothing to resume yet, .* cannot be set in place.*in_place=False"
    ):
        assert axon.resume(params, OPTIMIZER.init(params)) is None
    assert axon.resume(params, OPTIMIZER.init(params), in_place=False) is None
    assert axon.resume(params, extra={"opt_state": OPTIMIZER.init(params)}) is None


class Point(NamedTuple):
    weight: Any
    optimizer: Any


def read_only() -> Any:
    array = np.zeros(2)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"model": jnp.zeros(2)}, "model"),
        ({"model": (jnp.zeros(2), {"a": jnp.zeros(1)})}, r"model\[0\]"),
        ({"model": (np.zeros(2), read_only())}, r"model\[1\]"),
        ({"model": Point(np.zeros(2), jnp.zeros(1))}, r"model\[1\]"),
        ({"model": types.MappingProxyType({"w": jnp.zeros(2)})}, r"model\['w'\]"),
        ({"model": read_only()}, "model"),
        ({"optimizer": (optax.EmptyState(), (jnp.zeros(1),))}, r"optimizer\[1\]\[0\]"),
        ({"extra": 3}, "extra"),
        ({"extra": "phase 2"}, "extra"),
        ({"extra": (np.zeros(2), 5)}, r"extra\[1\]"),
        ({"extra": frozenset([1])}, "extra"),
        ({"model": {"w": np.zeros(2)}, "extra": 0.5}, "extra"),
    ],
)
def test_whatever_cannot_be_set_is_named(
    given: dict[str, Any], named: str, axon: Any, resumed_from: Callable[..., Any]
) -> None:
    axon.checkpoint(given.get("model"), given.get("optimizer"), extra=given.get("extra"), epoch=0)
    model, optimizer, extra = (given.get(name) for name in ("model", "optimizer", "extra"))
    with pytest.raises(TypeError, match=rf"^{named} cannot be set in place"):
        resumed_from(model, optimizer, extra=extra)
    resumed = resumed_from(model, optimizer, extra=extra, in_place=False)
    for name, value in given.items():
        assert type(getattr(resumed, name)) is type(value) or isinstance(
            value, types.MappingProxyType
        )


@pytest.mark.parametrize(
    "given",
    [
        {"model": (np.zeros(2), [jnp.zeros(2)])},
        {"model": Point(np.zeros(2), None)},
        {"model": (nn.Linear(1, 1), nn.Linear(1, 1))},
        {"model": (torch.zeros(2), nn.Parameter(torch.zeros(1)))},
        {"model": types.MappingProxyType({"w": np.zeros(2)})},
        {"model": np.zeros(())},
        {"model": LogisticRegression()},
        {"optimizer": (optim.SGD([nn.Parameter(torch.zeros(1))]), ())},
        {"extra": [1, (2, 3)]},
        {"extra": {"epoch": 3, "phase": "two", "state": (jnp.zeros(1),)}},
    ],
)
def test_what_can_be_set_is_no_error(
    given: dict[str, Any], axon: Any, resumed_from: Callable[..., Any]
) -> None:
    axon.checkpoint(given.get("model"), given.get("optimizer"), extra=given.get("extra"), epoch=0)
    resumed_from(given.get("model"), given.get("optimizer"), extra=given.get("extra"))


def test_arrays_in_a_dict_stay_those_of_jax_where_they_were(tmp_path: Path) -> None:
    path = save_state(encode_model({"w": jnp.arange(3, dtype=jnp.bfloat16)}), tmp_path)
    model = {"w": jnp.zeros(3, jnp.bfloat16)}
    restore_model(path, model)
    assert isinstance(model["w"], jax.Array)
    assert model["w"].at[0].set(5).tolist() == [5, 1, 2]
    Path(path).write_bytes(b"")
    assert model["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_keys_are_kept_as_keys(
    generator: str, shape: Any, axon: Any, resumed_from: Callable[..., Any]
) -> None:
    def keys(seed: int) -> Any:
        key = jax.random.key(seed, impl=generator)
        return jax.random.split(key, shape) if shape else key

    axon.checkpoint({"w": jnp.ones(1)}, extra={"key": keys(5), "state": (keys(6), 1)}, epoch=0)
    extra = {"key": keys(0), "state": (keys(0), 0)}
    resumed_from({"w": jnp.zeros(1)}, extra=extra)
    assert extra["key"].dtype == keys(0).dtype
    assert np.array_equal(jax.random.key_data(extra["key"]), jax.random.key_data(keys(5)))
    assert np.array_equal(jax.random.key_data(extra["state"][0]), jax.random.key_data(keys(6)))


def test_a_key_is_restored_without_a_template_and_into_none_of_another_kind(tmp_path: Path) -> None:
    path = save_state(encode_model({"key": jax.random.key(5)}), tmp_path)
    back = restore_model(path, None)
    assert jax.random.uniform(back["key"]) == jax.random.uniform(jax.random.key(5))
    for other in (
        jax.random.key(5, impl="rbg"),
        jax.random.PRNGKey(5),
        jnp.zeros(()),
        np.zeros(2, np.uint32),
    ):
        with pytest.raises(InvalidData, match=r"in the checkpoint key<fry> \(\)"):
            restore_model(path, {"key": other})
    path = save_state(encode_model({"key": jax.random.PRNGKey(5)}), tmp_path)
    with pytest.raises(InvalidData, match=r"is key<fry> \(\), in the checkpoint uint32 \(2,\)"):
        restore_model(path, {"key": jax.random.key(0)})


def test_an_optimizer_with_a_key_is_resumed(axon: Any, resumed_from: Callable[..., Any]) -> None:
    params = parameters()
    noisy = optax.add_noise(0.1, 0.5, key=jax.random.key(3))
    opt_state = noisy.init(params)
    axon.checkpoint(params, opt_state, epoch=0)
    resumed = resumed_from(params, noisy.init(params), in_place=False)
    assert jax.tree.structure(resumed.optimizer) == jax.tree.structure(opt_state)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (
            {"model": lambda: {"params": (jnp.ones(1),), "opt": OPTIMIZER.init(parameters())}},
            ["model['params']", "model['opt']"],
        ),
        (
            {"model": lambda: {"params": parameters(), "opt": OPTIMIZER.init(parameters())}},
            ["model['opt']"],
        ),
        ({"optimizer": lambda: [OPTIMIZER.init(parameters())]}, ["optimizer[0]"]),
        ({"extra": lambda: {"key": jax.random.key(0), "epoch": 1}}, ["extra['key']"]),
        ({"model": parameters}, []),
        (
            {
                "model": lambda: {"w": np.zeros(2), "opt": (np.zeros(2), 1)},
                "extra": lambda: {"pair": (1, 2), "n": [3]},
            },
            [],
        ),
    ],
)
@pytest.mark.parametrize("in_place", [True, False])
def test_what_is_replaced_in_a_dict_is_named(
    given: Any,
    named: list[str],
    in_place: bool,
    axon: Any,
    resumed_from: Callable[..., Any],
    capsys: Any,
) -> None:
    def made() -> dict[str, Any]:
        return {"model": None, **{name: make() for name, make in given.items()}}

    axon.checkpoint(**made(), epoch=0)
    capsys.readouterr()
    resumed_from(**made(), in_place=in_place)
    told = f"Take the restored values from {', '.join(f'resumed.{place}' for place in named)}."
    assert (told in capsys.readouterr().out) == (in_place and bool(named))
