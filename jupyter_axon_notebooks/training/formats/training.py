"""The file of all that a training needs beside the model to go on: optimizer, whatever else has state, random generators."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..distributed import place
from ..messages import print_message
from .reader import read_tree
from .rng import begin_states, check_rng_states, get_rng_states, set_rng_states, states_of_rank
from .template import PendingRestore, Plan
from .tensorfile import Source, TensorFile, corrupt
from .tree import Writer


class RestoredTraining(NamedTuple):
    """The objects that were given, set to what was stored; what was stored, where none was given."""

    optimizer: Any
    extra: Any


def encode_training(
    optimizer: Any, extra: Any, *, rng: bool = True, ranks: list[Any] | None = None
) -> TensorFile:
    """The file of an optimizer, of ``extra``, and of the states of the random generators.

    Parameters
    ----------
    optimizer : object
        With ``state_dict()`` and ``load_state_dict()``, or a tree of arrays as optax has; or several in a list or dict; or None.
    extra : object
        Values of Python, arrays, and objects with state, nested as one likes; or None.
    rng : bool
        Whether to keep the generators' states.
    ranks : list, optional
        The generators' states in the processes of the other ranks, each at its place; None where there are none.

    Raises
    ------
    TypeError
        For what cannot be kept: says where it is and what to do.
    """
    writer = Writer()
    states = get_rng_states() if rng else None
    if states is not None and ranks is not None:
        states["ranks"] = ranks
    tree = {
        "optimizer": writer.value(optimizer, "optimizer", "optimizer"),
        "extra": writer.value(extra, "extra", "extra"),
        "rng": writer.value(states, "rng", "rng"),
    }
    return writer.file(tree, None)


def prepare_training(
    source: Source,
    optimizer: Any | None,
    extra: Any | None,
    *,
    rng: bool,
    trusted: bool = False,  # noqa: ARG001 - safe whoever wrote it
) -> PendingRestore:
    """What puts what the file in ``source`` has into ``optimizer`` and ``extra``, and sets the random generators if asked to.

    ``extra`` may have less than is stored: what it lacks is put into its dicts and lists as well.

    Raises
    ------
    InvalidData
        If what is given does not fit what is stored.
    StateCorrupt, StateError
        If the file is none, or cannot be read.
    """
    tree = read_tree(source)
    if not isinstance(tree, dict) or tree.keys() != {"optimizer", "extra", "rng"}:
        raise corrupt(source.path, "it is not the state of a training")
    states = tree["rng"]
    own, told, here = None, "", place()
    if rng and states is not None:
        check_rng_states(source.path, states)
        own, told = states_of_rank(states, here.rank, here.size)
        if own is not None:
            check_rng_states(source.path, own)
    plan = Plan()
    steps = []
    for name, template in (("optimizer", optimizer), ("extra", extra)):
        stored = tree[name]
        if template is None:
            steps.append(plan.own(stored))
            continue
        if stored is None:
            plan.refuse(f"it has no {name}")
        else:
            steps.append(plan.fit(template, stored, name, strict=name == "optimizer"))
        plan.check(name)

    def restore() -> RestoredTraining:
        restored = RestoredTraining(*(step() for step in steps))
        if rng and states is not None:
            if own is not None:
                set_rng_states(own)
            else:
                begin_states(states, here.rank)
            if told and here.rank == 0:
                print_message(told)
        return restored

    return PendingRestore(plan.begin, restore)
