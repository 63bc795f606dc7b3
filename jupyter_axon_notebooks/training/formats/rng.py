"""The state of the random generators everybody shares, so that a training that goes on draws what it would have drawn."""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from typing import Any

from ...errors import StateCorrupt
from .reader import read_tree
from .template import owned
from .tensorfile import Source
from .tree import Writer


def get_rng_states() -> dict[str, Any]:
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


def pack_rng_states(states: dict[str, Any]) -> bytes:
    """Return what :func:`get_rng_states` gives as bytes, for another process."""
    writer = Writer()
    return b"".join(writer.file(writer.value(states, "rng", "rng"), None).chunks())


def unpack_rng_states(octets: bytes) -> dict[str, Any]:
    """Return the states that :func:`pack_rng_states` was given.

    Raises
    ------
    StateCorrupt
        If they are none.
    """
    with tempfile.TemporaryFile() as file:
        file.write(octets)
        file.flush()
        states: dict[str, Any] = owned(read_tree(Source("a random state of another process", file)))
    return states


def states_of_rank(
    states: dict[str, Any], rank: int, size: int
) -> tuple[dict[str, Any] | None, str]:
    """Return the states for a process, and what there is to say about them.

    Parameters
    ----------
    states : dict
        Those of the process of rank 0, and under ``ranks`` those of the others.
    rank, size : int
        Of this process, and of how many.

    Returns
    -------
    tuple
        None as states where none were saved for this rank: :func:`begin_states` gives it its own.
    """
    ranks = states.get("ranks")
    ranks = ranks if isinstance(ranks, list) else [None]
    own = states if rank == 0 else ranks[rank] if rank < len(ranks) else None
    saved = 1 + sum(1 for one in ranks[1:size] if one is not None)
    told = ""
    if len(ranks) not in (1, size):
        told = f"The checkpoint is of {len(ranks)} processes, and this training has {size}: it goes on, but not bit for bit. "
    if saved < size:
        told += (
            f"Random numbers go on in {saved} of {size} processes, and begin anew in the others."
        )
    return own, told.strip()


def begin_states(states: dict[str, Any], rank: int) -> None:
    """Begin the generators anew: each rank with numbers of its own, the same ones whenever ``states`` are."""
    seed = int.from_bytes(
        hashlib.sha256(f"{rank}/{states.get('python')}".encode()).digest()[:8], "little"
    )
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed >> 1)  # of the devices, too


def _numpy_like_now(numpy: Any) -> Any:
    kind = getattr(numpy.random, numpy.random.get_state(legacy=False)["bit_generator"])
    return numpy.random.RandomState(kind())
