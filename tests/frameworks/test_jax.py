"""Trees of JAX arrays are restored, in place where that is possible."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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
    assert are_equal(axon.latest().restore(*initial(0.0)), trained)


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


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (jnp.zeros(2), "model"),
        ((np.zeros(2), READ_ONLY), r"model\[1\]"),
        (Point(np.zeros(2), jnp.zeros(1)), r"model\[1\]"),
        (types.MappingProxyType({"w": jnp.zeros(2)}), r"model\['w'\]"),
    ],
)
def test_immutable_values_are_named(
    model: Any, place: str, axon: Any, resume: Callable[..., Any]
) -> None:
    axon.checkpoint(model, epoch=0)
    with pytest.raises(TypeError, match=rf"^{place} cannot be set in place"):
        resume(model)
    assert resume(model, in_place=False).model is not model


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
