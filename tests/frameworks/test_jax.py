"""Trees of JAX arrays are restored, in place where that is possible."""

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
from support.state_files import restore_model, save_state
from torch import nn, optim

from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.training.formats import encode_model
from jupyter_axon_notebooks.training.messages import AxonWarning

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))


def parameters(value: float = 1.0) -> dict[str, Any]:
    return {
        "dense": {"w": jnp.full((4, 2), value), "b": jnp.zeros(2, jnp.bfloat16)},
        "scale": jnp.float32(value),
    }


def initial(value: float = 1.0) -> Any:
    return parameters(value), OPTIMIZER.init(parameters(value))


def train(params: Any, opt_state: Any, steps: int = 3) -> Any:
    for _ in range(steps):
        grads = jax.tree.map(lambda array: array * 2 + 1, params)
        updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params, opt_state


def are_equal(one: Any, other: Any) -> bool:
    pairs = [*zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)]
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        left.dtype == right.dtype and np.array_equal(left, right) for left, right in pairs
    )


@pytest.fixture
def trained(axon: Any) -> Any:
    """Return parameters and optimizer state of a checkpoint."""
    state = train(*initial())
    axon.checkpoint(*state, epoch=2)
    return state


def test_resuming_in_place_explains_what_to_do(trained: Any, resume: Callable[..., Any]) -> None:
    params, opt_state = initial(0.0)
    with pytest.raises(TypeError, match=r"optimizer\[1\].* cannot be set in place") as refused:
        resume(params, opt_state)
    assert "in_place=False" in str(refused.value)
    assert "params, opt_state = resumed.model, resumed.optimizer" in str(refused.value)
    assert are_equal(params, parameters(0.0))


def test_training_continues_with_the_returned_state(
    trained: Any, axon: Any, resume: Callable[..., Any]
) -> None:
    resumed = resume(*initial(0.0), in_place=False)
    state = resumed.model, resumed.optimizer
    assert are_equal(state, trained)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert are_equal(train(*state), train(*trained))
    assert are_equal(tuple(axon.latest().restore(*initial(0.0))), trained)
    assert are_equal(tuple(axon.latest().restore()), trained)  # with optax's named tuples


def test_tuples_in_a_dict_are_replaced_in_it(axon: Any, resume: Callable[..., Any]) -> None:
    params, opt_state = train(*initial())
    state = {"params": params, "opt_state": opt_state, "key": jax.random.PRNGKey(7)}
    axon.checkpoint(state, epoch=0)
    params, opt_state = initial(0.0)
    other = {"params": params, "opt_state": opt_state, "key": jax.random.PRNGKey(0)}
    resume(other)
    assert are_equal(other, state)
    assert isinstance(other["opt_state"][1][0], optax.ScaleByAdamState)
    assert other["params"] is params


def test_the_first_resume_warns_that_the_next_one_will_fail(axon: Any) -> None:
    params, opt_state = initial()
    warning = r"nothing to resume yet, .* cannot be set in place.*in_place=False"
    with pytest.warns(AxonWarning, match=warning):
        assert axon.resume(params, opt_state) is None
    assert axon.resume(params, opt_state, in_place=False) is None
    assert axon.resume(params, extra={"opt_state": opt_state}) is None


class Point(NamedTuple):
    weight: Any
    optimizer: Any


READ_ONLY = np.zeros(2)
READ_ONLY.flags.writeable = False


def checkpoint_and_resume(
    axon: Any, resume: Callable[..., Any], values: dict[str, Any], **options: Any
) -> Any:
    model, optimizer, extra = (values.get(name) for name in ("model", "optimizer", "extra"))
    if axon.latest() is None:
        axon.checkpoint(model, optimizer, extra=extra, epoch=0)
    return resume(model, optimizer, extra=extra, **options)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"model": jnp.zeros(2)}, "model"),
        ({"model": (jnp.zeros(2), {"a": jnp.zeros(1)})}, r"model\[0\]"),
        ({"model": (np.zeros(2), READ_ONLY)}, r"model\[1\]"),
        ({"model": Point(np.zeros(2), jnp.zeros(1))}, r"model\[1\]"),
        ({"model": types.MappingProxyType({"w": jnp.zeros(2)})}, r"model\['w'\]"),
        ({"model": READ_ONLY}, "model"),
        ({"optimizer": (optax.EmptyState(), (jnp.zeros(1),))}, r"optimizer\[1\]\[0\]"),
        ({"extra": 3}, "extra"),
        ({"extra": "phase 2"}, "extra"),
        ({"extra": (np.zeros(2), 5)}, r"extra\[1\]"),
        ({"extra": frozenset([1])}, "extra"),
        ({"model": {"w": np.zeros(2)}, "extra": 0.5}, "extra"),
    ],
)
def test_immutable_values_are_named(
    values: dict[str, Any], place: str, axon: Any, resume: Callable[..., Any]
) -> None:
    with pytest.raises(TypeError, match=rf"^{place} cannot be set in place"):
        checkpoint_and_resume(axon, resume, values)
    resumed = checkpoint_and_resume(axon, resume, values, in_place=False)
    for name, value in values.items():
        is_proxy = isinstance(value, types.MappingProxyType)
        assert is_proxy or type(getattr(resumed, name)) is type(value)


@pytest.mark.parametrize(
    "values",
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
def test_other_values_are_resumed_in_place(
    values: dict[str, Any], axon: Any, resume: Callable[..., Any]
) -> None:
    checkpoint_and_resume(axon, resume, values)


def test_arrays_of_jax_in_a_dict_stay_arrays_of_jax(tmp_path: Path) -> None:
    path = save_state(encode_model({"w": jnp.arange(3, dtype=jnp.bfloat16)}), tmp_path)
    model = {"w": jnp.zeros(3, jnp.bfloat16)}
    restore_model(path, model)
    assert isinstance(model["w"], jax.Array)
    assert model["w"].at[0].set(5).tolist() == [5, 1, 2]
    Path(path).write_bytes(b"")
    assert model["w"].tolist() == [0, 1, 2]


# Keys


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_keys_are_restored(
    generator: str, shape: Any, axon: Any, resume: Callable[..., Any]
) -> None:
    def create(seed: int) -> Any:
        key = jax.random.key(seed, impl=generator)
        return jax.random.split(key, shape) if shape else key

    stored = {"key": create(5), "state": (create(6), 1)}
    axon.checkpoint({"w": jnp.ones(1)}, extra=stored, epoch=0)
    extra = {"key": create(0), "state": (create(0), 0)}
    resume({"w": jnp.zeros(1)}, extra=extra)
    assert extra["key"].dtype == create(0).dtype
    for found, expected in ((extra["key"], stored["key"]), (extra["state"][0], create(6))):
        assert np.array_equal(jax.random.key_data(found), jax.random.key_data(expected))


def test_keys_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = save_state(encode_model({"key": jax.random.key(5)}), tmp_path)
    restored = restore_model(path, None)
    assert jax.random.uniform(restored["key"]) == jax.random.uniform(jax.random.key(5))
    others = [jax.random.key(5, impl="rbg"), jax.random.PRNGKey(5), jnp.zeros(())]
    for other in (*others, np.zeros(2, np.uint32)):
        with pytest.raises(InvalidData, match=r"in the checkpoint key<fry> \(\)"):
            restore_model(path, {"key": other})
    path = save_state(encode_model({"key": jax.random.PRNGKey(5)}), tmp_path)
    with pytest.raises(InvalidData, match=r"is key<fry> \(\), in the checkpoint uint32 \(2,\)"):
        restore_model(path, {"key": jax.random.key(0)})


def test_an_optimizer_with_a_key_is_resumed(axon: Any, resume: Callable[..., Any]) -> None:
    params = parameters()
    noisy = optax.add_noise(0.1, 0.5, key=jax.random.key(3))
    opt_state = noisy.init(params)
    axon.checkpoint(params, opt_state, epoch=0)
    resumed = resume(params, noisy.init(params), in_place=False)
    assert jax.tree.structure(resumed.optimizer) == jax.tree.structure(opt_state)


def opt_state() -> Any:
    return OPTIMIZER.init(parameters())


@pytest.mark.parametrize(
    ("creators", "places"),
    [
        (
            {"model": lambda: {"params": (jnp.ones(1),), "opt": opt_state()}},
            ["model['params']", "model['opt']"],
        ),
        ({"model": lambda: {"params": parameters(), "opt": opt_state()}}, ["model['opt']"]),
        ({"optimizer": lambda: [opt_state()]}, ["optimizer[0]"]),
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
def test_replaced_entries_of_a_dict_are_named(
    creators: dict[str, Callable[[], Any]],
    places: list[str],
    in_place: bool,
    axon: Any,
    resume: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def create() -> dict[str, Any]:
        return {"model": None, **{name: creator() for name, creator in creators.items()}}

    axon.checkpoint(**create(), epoch=0)
    capsys.readouterr()
    resume(**create(), in_place=in_place)
    listed = ", ".join(f"resumed.{place}" for place in places)
    is_explained = f"Take the restored values from {listed}." in capsys.readouterr().out
    assert is_explained == (in_place and bool(places))
