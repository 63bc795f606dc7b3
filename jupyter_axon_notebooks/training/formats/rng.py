"""The state of the random generators everybody shares, so that a training that goes on draws what it would have drawn."""

from __future__ import annotations

import random
import sys
from typing import Any

from ...errors import StateCorrupt


def rng_states() -> dict[str, Any]:
    """The states of those generators that are in use: Python's, NumPy's, PyTorch's, and those of CUDA devices and of Apple's MPS."""
    states: dict[str, Any] = {"python": random.getstate()}
    if numpy := sys.modules.get("numpy"):
        states["numpy"] = numpy.random.get_state(legacy=False)
    if torch := sys.modules.get("torch"):
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state_all()
        if _has_mps(torch):
            states["mps"] = torch.mps.get_rng_state()
    return states


def check_rng_states(path: str, states: Any) -> None:
    """Whether :func:`set_rng_states` would take what the file at ``path`` has, tried on generators of no consequence.

    Raises
    ------
    StateCorrupt
        If not.
    """
    try:
        if not isinstance(states, dict):
            raise TypeError("not by name")
        if "python" in states:
            random.Random().setstate(states["python"])  # noqa: S311 - tries a state, no secret
        if "numpy" in states and (numpy := sys.modules.get("numpy")):
            _numpy_like_now(numpy).set_state(states["numpy"])
        if torch := sys.modules.get("torch"):
            if "torch" in states:
                torch.Generator().set_state(states["torch"])
            for state in (*states.get("cuda", ()), *([states["mps"]] if "mps" in states else [])):
                if state.dtype != torch.uint8 or state.dim() != 1:
                    raise TypeError("not the state of a device")
    except Exception as error:
        raise StateCorrupt(
            f"{path} cannot be restored: its random generators have no such state: {error}"
        ) from error


def set_rng_states(states: dict[str, Any]) -> None:
    """Set the generators that are in use back to their states; of CUDA devices as many as there are."""
    if "python" in states:
        random.setstate(states["python"])
    if "numpy" in states and (numpy := sys.modules.get("numpy")):
        numpy.random.set_state(states["numpy"])
    if torch := sys.modules.get("torch"):
        if "torch" in states:
            torch.set_rng_state(states["torch"])
        if "cuda" in states and torch.cuda.is_available():
            for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)
        if "mps" in states and _has_mps(torch):
            torch.mps.set_rng_state(states["mps"])


def _has_mps(torch: Any) -> bool:
    return hasattr(torch, "mps") and bool(torch.backends.mps.is_available())


def _numpy_like_now(numpy: Any) -> Any:
    kind = getattr(numpy.random, numpy.random.get_state(legacy=False)["bit_generator"])
    return numpy.random.RandomState(kind())
