"""The state file of a training: its optimizer, other objects, and random generators."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..distributed import process_rank
from ..messages import print_message
from .restore_plan import PendingRestore, RestorePlan
from .rng import check_rng_states, get_rng_states, seed_rank, select_rank, set_rng_states
from .tensor_files import Source, TensorFile, corrupt
from .tree import TreeWriter, read_tree


class RestoredTraining(NamedTuple):
    """The restored objects; stored values for objects that were not given."""

    optimizer: Any
    extra: Any


def encode_training(
    optimizer: Any, extra: Any, *, rng: bool = True, ranks: list[Any] | None = None
) -> TensorFile:
    """Encode the state file of a training.

    Parameters
    ----------
    optimizer : object
        An object with ``state_dict()`` and ``load_state_dict()``, a tree of arrays (optax), a list
        or dict of these, or None.
    extra : object
        Python values, arrays and stateful objects, nested in any way; or None.
    rng : bool
        Whether to include the states of the random generators.
    ranks : list, optional
        The states of the generators of the other processes by rank; None where unknown.

    Raises
    ------
    TypeError
        If something cannot be kept; says where it is and what to do.
    """
    writer = TreeWriter()
    states = get_rng_states() if rng else None
    if states is not None and ranks is not None:
        states["ranks"] = ranks
    tree = {
        "optimizer": writer.encode(optimizer, "optimizer", "optimizer"),
        "extra": writer.encode(extra, "extra", "extra"),
        "rng": writer.encode(states, "rng", "rng"),
    }
    return writer.make_file(tree, None)


def prepare_training(
    source: Source, optimizer: Any | None, extra: Any | None, *, rng: bool
) -> PendingRestore:
    """Read and compare a file that restores ``optimizer``, ``extra`` and the random generators.

    ``extra`` may have less than is stored: the rest is added to its dicts and lists. Raises
    InvalidData if the objects do not fit the file, and StateCorrupt or StateError if the file is
    not valid, or cannot be read.
    """
    tree = read_tree(source)
    if not isinstance(tree, dict) or tree.keys() != {"optimizer", "extra", "rng"}:
        raise corrupt(source.path, "it is not the state of a training")
    states = tree["rng"]
    own, message, here = None, "", process_rank()
    if rng and states is not None:
        check_rng_states(source.path, states)
        own, message = select_rank(states, here.rank, here.size)
        if own is not None:
            check_rng_states(source.path, own)
    plan = RestorePlan()
    steps = []
    for name, target in (("optimizer", optimizer), ("extra", extra)):
        stored = tree[name]
        if target is None:
            steps.append(plan.copy(stored))
        elif stored is None:
            plan.refuse(f"it has no {name}")
        else:
            steps.append(plan.fit(target, stored, name, strict=name == "optimizer"))
        plan.check(name)

    def finish() -> RestoredTraining:
        restored = RestoredTraining(*(step() for step in steps))
        if rng and states is not None:
            if own is not None:
                set_rng_states(own)
            else:
                seed_rank(states, here.rank)
            if message and here.rank == 0:
                print_message(message)
        return restored

    return PendingRestore(plan.begin, finish)
