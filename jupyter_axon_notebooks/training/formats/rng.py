"""The states of the global random generators, so that a resumed training draws the same numbers."""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from typing import Any

from ...errors import StateCorrupt
from .restore_plan import copy_values
from .tensor_files import Source
from .tree import TreeWriter, read_tree


def get_rng_states() -> dict[str, Any]:
    """Return the states of the generators in use: of Python, NumPy, PyTorch, CUDA and MPS."""
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
    """Check the states in the file at ``path`` with new generators.

    Raises StateCorrupt if they are invalid.
    """
    try:
        if not isinstance(states, dict):
            raise TypeError("expected a dict of states by name")
        if "python" in states:
            random.Random().setstate(states["python"])  # noqa: S311 - not used for secrets
        if "numpy" in states and (numpy := sys.modules.get("numpy")):
            kind = numpy.random.get_state(legacy=False)["bit_generator"]
            generator = numpy.random.RandomState(getattr(numpy.random, kind)())
            generator.set_state(states["numpy"])
        if torch := sys.modules.get("torch"):
            if "torch" in states:
                torch.Generator().set_state(states["torch"])
            for state in (*states.get("cuda", ()), *([states["mps"]] if "mps" in states else [])):
                if state.dtype != torch.uint8 or state.dim() != 1:
                    raise TypeError("not the state of a device")
    except Exception as error:
        raise StateCorrupt(
            f"{path} cannot be restored: its states of random generators are invalid: {error}"
        ) from error


def set_rng_states(states: dict[str, Any]) -> None:
    """Set the generators that are in use; states of missing CUDA devices are ignored."""
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
    """Encode the result of :func:`get_rng_states` for another process."""
    writer = TreeWriter()
    return b"".join(writer.make_file(writer.encode(states, "rng", "rng"), None).chunks())


def unpack_rng_states(octets: bytes) -> dict[str, Any]:
    """Decode the result of :func:`pack_rng_states`; raise StateCorrupt if it is invalid."""
    with tempfile.TemporaryFile() as file:
        file.write(octets)
        file.flush()
        source = Source("the random state of another process", file)
        states: dict[str, Any] = copy_values(read_tree(source))
    return states


def select_rank(states: dict[str, Any], rank: int, size: int) -> tuple[dict[str, Any] | None, str]:
    """Return the states for one process, and a message about missing ones.

    Parameters
    ----------
    states : dict
        The states of the process with rank 0, and under ``ranks`` those of the others.
    rank : int
        The rank of this process.
    size : int
        The number of processes.

    Returns
    -------
    tuple
        The states are None if there are none for this rank; use :func:`seed_rank` then.
    """
    ranks = states.get("ranks")
    ranks = ranks if isinstance(ranks, list) else [None]
    own = states if rank == 0 else ranks[rank] if rank < len(ranks) else None
    saved = 1 + sum(1 for one in ranks[1:size] if one is not None)
    message = ""
    if len(ranks) not in (1, size):
        message = (
            f"The checkpoint is of {len(ranks)} processes, and this training has {size}: it "
            "continues, but not bit for bit. "
        )
    if saved < size:
        message += (
            f"Random numbers continue in {saved} of {size} processes; the others get new seeds."
        )
    return own, message.strip()


def seed_rank(states: dict[str, Any], rank: int) -> None:
    """Seed the generators of a rank without states, with numbers derived from ``states``."""
    digest = hashlib.sha256(f"{rank}/{states.get('python')}".encode()).digest()
    seed = int.from_bytes(digest[:8], "little")
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed >> 1)  # seeds the devices as well
