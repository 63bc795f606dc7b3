"""The processes that train one model together: which one writes, and how they agree.

They communicate through the key-value store of PyTorch's process group, not through collective
operations of their own, so that a process that does not take part makes the others raise an error
that names it, instead of hanging. The collective operations that gather a sharded model begin only
after every process has announced that it takes part.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import AxonError
from ..records import NotebookCheckpoint
from .messages import print_message

if TYPE_CHECKING:
    from ..states import Part
    from .formats import EncodedState

#: Seconds to wait for the random states of other processes. A checkpoint can do without them.
RNG_TIMEOUT: float = 10.0
#: Seconds to wait until all processes have made a call that all have to make.
JOIN_TIMEOUT: float = 120.0
#: Seconds that a process may then work, for example to read a state.
WORK_TIMEOUT: float = 1800.0
#: Seconds between two looks at the key-value store, at most.
_MAX_POLL_INTERVAL: Final = 0.2

#: The variables in which launchers pass the rank and the number of processes. Inner launchers come
#: first: processes of MPI inherit the variables of the SLURM task that started them.
_RANK_VARIABLES: Final = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
#: Modules and classes that distribute in a way that is not supported.
_UNSUPPORTED: Final = (
    ("torch.distributed.fsdp", "FullyShardedDataParallel"),
    ("torch.distributed.optim", "ZeroRedundancyOptimizer"),
)
_calls: Counter[str] = Counter()
#: The first of several calls for one step that rank 0 made alone. From that one on, it does not
#: wait for others.
_first_alone = sys.maxsize


class RanksDisagree(AxonError):
    """The processes that train one model cannot all do what one of them was asked to do."""


class ProcessRank(NamedTuple):
    """The rank of this process, the number of processes, and the variable that has the rank."""

    rank: int
    size: int
    variable: str | None = None


def process_rank() -> ProcessRank:
    """Return the rank of this process, without waiting.

    It is that of PyTorch's process group, or else what the launcher has set in the environment.
    """
    group = _process_group()
    if group is not None:
        return ProcessRank(group.get_rank(), group.get_world_size())
    for variable, size_variable in _RANK_VARIABLES:
        rank, size = _number(variable), _number(size_variable)
        if rank is not None and size is not None and rank < size:
            return ProcessRank(rank, size, variable)
    return ProcessRank(0, 1)


def is_first() -> bool:
    """Return whether this process is the one that writes: the only one, or that of rank 0."""
    return process_rank().rank == 0


def _process_group() -> Any:
    module: Any = sys.modules.get("torch.distributed")
    is_ready = module is not None and module.is_available() and module.is_initialized()
    return module if is_ready else None


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdecimal() else None


@functools.cache
def print_once(text: str) -> None:
    """Print a message to the user, unless this process has printed it before."""
    print_message(text)


# Operations of all processes


def encode_together(
    model: Any, optimizer: Any, extra: Any, *, epoch: int | None, step: int | None
) -> dict[Part, EncodedState] | None:
    """Return the encoded states of a checkpoint; None in processes that do not write.

    Rank 0 adds the random states of the processes that make the same call. A sharded model is
    gathered: if not every process makes the call, RanksDisagree is raised.
    """
    from .formats.arrays import gather_tensors
    from .formats.rng import get_rng_states, pack_rng_states, unpack_rng_states

    global _first_alone
    own = process_rank()
    is_writer = own.rank == 0
    if model is None and optimizer is None and extra is None:
        return {} if is_writer else None
    is_sharded = own.size > 1 and _is_sharded(
        {"model": model, "optimizer": optimizer, "extra": extra}, ""
    )
    store = _group_store(own)
    if store is None:
        if is_sharded:
            raise TypeError(
                "a sharded model cannot be saved without the key-value store of PyTorch"
            )
        if is_writer:
            with gather_tensors(save=True):
                return _encode(model, optimizer, extra, None)
        if own.variable is not None:
            print_once(
                f"This is process {own.rank} of {own.size} ({own.variable}). Process 0 saves the "
                f"checkpoints. If this process trains a model of its own, remove {own.variable} "
                "from its environment."
            )
        return None
    call = GroupCall(store, "checkpoint", f"{epoch}/{step}")
    states = pack_rng_states(get_rng_states())
    received: dict[int, bytes] = {}
    if is_sharded:
        call.exchange(states, received.update, JOIN_TIMEOUT)
    elif is_writer:
        with suppress(Exception):
            received = call.receive(RNG_TIMEOUT if call.number < _first_alone else 0.0)
        if not received:
            _first_alone = min(call.number, _first_alone)
        elif call.number >= _first_alone:
            _first_alone = sys.maxsize
        if len(received) < own.size - 1:
            print_once(
                f"checkpoint() was called by {len(received) + 1} of {own.size} processes, so the "
                "random states of the others are not saved. Call it in every process, with the "
                "same epoch and step; rank 0 writes."
            )
    else:
        with suppress(Exception):  # if the store is gone, rank 0 reports it
            call.send(states)
        return None
    ranks: list[Any] = [None] * own.size
    for rank, content in received.items():
        ranks[rank] = unpack_rng_states(content)
    if not is_sharded:
        return _encode(model, optimizer, extra, ranks)
    with agreement(call), gather_tensors(save=is_writer):
        parts = _encode(model, optimizer, extra, ranks)
    return parts if is_writer else None


def _is_sharded(value: Any, where: str) -> bool:
    """Return whether something in ``value`` is distributed over processes.

    Raises TypeError if it is distributed in an unsupported way; all processes raise it, since they
    have the same objects.
    """
    from .formats.arrays import is_dtensor, is_instance

    if isinstance(value, (Mapping, list, tuple)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        return True in [_is_sharded(item, f"{where}.{key}".strip(".")) for key, item in items]
    is_module = is_instance(value, "torch.nn", "Module")
    for part in value.modules() if is_module else [value]:
        for module, name in _UNSUPPORTED:
            if is_instance(part, module, name):
                raise TypeError(
                    f"{where}: {name} is not supported; shard the model with fully_shard() of "
                    "torch.distributed.fsdp"
                )
        if is_instance(part, "torch.distributed.fsdp", "FSDPModule"):
            return True
    if is_module:
        return any(map(is_dtensor, (*value.parameters(), *value.buffers())))
    if is_instance(value, "torch.optim", "Optimizer"):
        return any(is_dtensor(one) for group in value.param_groups for one in group["params"])
    return is_dtensor(value)


def _encode(
    model: Any, optimizer: Any, extra: Any, rng_states: list[Any] | None
) -> dict[Part, EncodedState]:
    from .formats import encode_model, encode_training

    parts: dict[Part, EncodedState] = {}
    if model is not None:
        parts["model"] = encode_model(model)
    parts["optimizer"] = encode_training(optimizer, extra, ranks=rng_states)
    return parts


def decide(
    find: Callable[[], NotebookCheckpoint | None],
) -> tuple[NotebookCheckpoint | None, GroupCall | None]:
    """Return the checkpoint that all processes resume from: what ``find`` returns in rank 0.

    Also returns the call, for :func:`agreement`; None if processes cannot communicate. Raises
    RanksDisagree if not every process calls this, or ``find`` fails in rank 0, where its own error
    is raised.
    """
    own = process_rank()
    store = _group_store(own)
    if store is None:
        if own.size > 1 and own.rank == 0:
            print_once(
                f"Cannot check whether all {own.size} processes resume from the same checkpoint. "
                "Call resume() after torch.distributed.init_process_group()."
            )
        return find(), None
    call = GroupCall(store, "resume", "decision")
    found: NotebookCheckpoint | None = None

    def answer(_received: dict[int, bytes]) -> Any:
        nonlocal found
        found = find()
        return None if found is None else found.to_json()

    document = call.exchange(b"", answer, JOIN_TIMEOUT)
    if own.rank and document is not None:
        found = NotebookCheckpoint.from_json(document)
    return found, call


@contextmanager
def agreement(call: GroupCall | None) -> Iterator[None]:
    """Make the ``with`` statement fail in every process if it fails in one of them.

    The others raise RanksDisagree, which says in which one it failed, and why.
    """
    if call is None:
        yield
        return
    call = call.next_step()
    where = f"rank {call.own.rank} on {socket.gethostname()}"
    error: Exception | None = None
    try:
        yield
    except Exception as raised:  # noqa: BLE001 - raised below
        error = raised
    except BaseException as raised:  # an interrupt does not wait for the others
        call.abort(f"{where}: {type(raised).__name__}")
        raise
    outcome = ""
    if error is not None:
        reason = str(error) if isinstance(error, AxonError) else f"{type(error).__name__}: {error}"
        outcome = f"{where}: {reason}"

    def check(received: dict[int, bytes]) -> None:
        for failure in (outcome, *(content.decode() for content in received.values())):
            if failure:
                raise RanksDisagree(_failure_text(call.function, failure))

    try:
        call.exchange(outcome.encode(), check, WORK_TIMEOUT)
    except RanksDisagree:
        if error is None:
            raise
    if error is not None:
        raise error


def _failure_text(function: str, where: str) -> str:
    return f"{function}() failed in every process because it failed on {where}"


# Communication


def _group_store(own: ProcessRank) -> Any:
    """Return the key-value store of PyTorch's process group; None without other processes."""
    if _process_group() is None or own.size < 2:
        return None
    with suppress(Exception):  # not public, though widely used
        from torch.distributed.distributed_c10d import _get_default_store

        return _get_default_store()
    return None


class GroupCall:
    """One call that all processes make together, from whichever line of their code.

    Rank 0 receives what the others send, and answers. Between "a process came" and "rank 0 gave up
    waiting for it", an atomic exchange of a key's value decides, so that both sides have the same
    outcome.

    ``function`` is the function of the API, and ``detail`` distinguishes its calls, besides their
    number.
    """

    def __init__(self, store: Any, function: str, detail: str) -> None:
        self.function = function
        self.own = process_rank()
        name = f"axon/{function}/{detail}"
        _calls[name] += 1
        self.number = _calls[name]
        self._prefix = f"{name}/{self.number}"
        self._store = store

    def next_step(self) -> GroupCall:
        """Return the next step of this call."""
        return GroupCall(self._store, self.function, f"{self._prefix}/outcome")

    def send(self, content: bytes) -> None:
        """Send something to rank 0."""
        self._store.set(self._key("payload"), content)
        self._store.set(self._key("state"), "here")

    def abort(self, reason: str) -> None:
        """Make the call fail in every process, without waiting for any."""
        if self.own.rank:
            self.send(reason.encode())
        else:
            self._answer({"failed": _failure_text(self.function, reason)})

    def receive(self, timeout: float) -> dict[int, bytes]:
        """Return what the others have sent, by rank, when all have or after ``timeout`` seconds."""
        others = range(1, self.own.size)
        states = [self._key("state", rank) for rank in others]
        self._wait(states, timeout)
        received = {}
        for rank, state in zip(others, states, strict=True):
            if self._store.check([state]) and self._replace_state(state, "taken") == "taken":
                payload = self._key("payload", rank)
                received[rank] = self._store.get(payload)
                self._store.delete_key(payload)
        return received

    def exchange(
        self, content: bytes, answer: Callable[[dict[int, bytes]], Any], timeout: float
    ) -> Any:
        """Send ``content`` to rank 0, and return its ``answer`` to what all others sent.

        Raises RanksDisagree if a process does not take part, or ``answer`` fails in rank 0, where
        its own error is raised.
        """
        if self.own.rank:
            self.send(content)
            document = json.loads(self._await_answer(timeout))
            if "failed" in document:
                raise RanksDisagree(document["failed"])
            return document["value"]
        try:
            self._store.set(self._key("state"), "here")
            received = self.receive(timeout)
            if missing := [rank for rank in range(1, self.own.size) if rank not in received]:
                raise self._missing(missing, timeout)
            value = answer(received)
        except BaseException as error:
            is_ours = isinstance(error, RanksDisagree)
            reason = f"{self.function}() failed on rank 0: {type(error).__name__}: {error}"
            self._answer({"failed": str(error) if is_ours else reason})
            raise
        self._answer({"value": value})
        return value

    def _answer(self, document: dict[str, Any]) -> None:
        self._store.set(self._key("answer"), json.dumps(document))

    def _await_answer(self, timeout: float) -> bytes:
        is_there = self._wait([self._key("state", 0)], timeout)
        if not is_there and self._replace_state(self._key("state"), "gone") == "gone":
            raise self._missing([0], timeout)
        answer = self._key("answer", 0)
        if not self._wait([answer], timeout + WORK_TIMEOUT):
            raise self._missing([0], timeout + WORK_TIMEOUT)
        content: bytes = self._store.get(answer)
        return content

    def _missing(self, missing: list[int], timeout: float) -> RanksDisagree:
        ranks = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        return RanksDisagree(
            f"{self.function}() has to be called in every process, but rank {ranks} did not call "
            f"it within {timeout:g} s"
        )

    def _replace_state(self, key: str, state: str) -> str:
        """Replace the state ``here`` unless the other side has; return the state after that."""
        found: bytes = self._store.compare_set(key, "here", state)
        return found.decode()

    def _wait(self, keys: list[str], timeout: float) -> bool:
        # The store's own wait cannot be interrupted.
        start, pause = time.monotonic(), 0.001
        while not self._store.check(keys):
            waited = time.monotonic() - start
            if waited >= timeout:
                return False
            if waited >= RNG_TIMEOUT:
                print_once(f"Waiting for the other processes in {self.function}() …")
            time.sleep(pause)
            pause = min(2 * pause, _MAX_POLL_INTERVAL)
        return True

    def _key(self, name: str, rank: int | None = None) -> str:
        return f"{self._prefix}/{self.own.rank if rank is None else rank}/{name}"
