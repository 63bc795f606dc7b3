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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import AxonError
from ..records import NotebookCheckpoint
from .discovery.kernel import connection_file
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
#: Variables that launchers of PyTorch set too. Without them, a kernel has inherited RANK from
#: elsewhere.
_LAUNCHER_VARIABLES: Final = ("MASTER_ADDR", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")

_calls: Counter[str] = Counter()
#: By function, the number of the first call that rank 0 made alone. From that call on, it does not
#: wait for others.
_first_alone: dict[str, int] = {}
#: Keys of the last call, which are deleted with the next one.
_used_keys: list[str] = []


class RanksDisagree(AxonError):
    """The processes that train one model cannot all do what one of them was asked to do."""


class ProcessRank(NamedTuple):
    """The rank of this process and the number of processes.

    Attributes
    ----------
    variable : str or None
        The environment variable that has the rank; None if PyTorch's process group has it.
    """

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
        if rank is None:
            continue
        if variable == "RANK" and (rank, size) == (0, 1):  # torchrun, within a task of SLURM
            break
        if size is None or size < 2 or rank >= size:
            reason = f"{size_variable} is {os.environ.get(size_variable) or 'not set'}"
        elif variable == "RANK" and connection_file() and not _is_launched():
            reason = "no launcher started this kernel"
        else:
            return ProcessRank(rank, size, variable)
        if rank:
            print_once(
                f"{variable}={rank} is ignored, because {reason}. This process saves its own "
                "checkpoints."
            )
    return ProcessRank(0, 1)


def is_first() -> bool:
    """Return whether this process is the one that writes: the only one, or that of rank 0."""
    return process_rank().rank == 0


def has_process_group() -> bool:
    """Return whether PyTorch's process group is initialized; it has the rank then."""
    return _process_group() is not None


def _process_group() -> Any:
    module: Any = sys.modules.get("torch.distributed")
    is_ready = module is not None and module.is_available() and module.is_initialized()
    return module if is_ready else None


def _is_launched() -> bool:
    return any(os.environ.get(name) for name in _LAUNCHER_VARIABLES)


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
    gathered, for which all processes have to make the call.

    Raises
    ------
    RanksDisagree
        If the model is sharded and not every process saves it.
    TypeError
        If something cannot be saved.
    """
    from .formats import sharding
    from .formats.rng import get_rng_states, pack_rng_states, unpack_rng_states

    own = process_rank()
    if model is None and optimizer is None and extra is None:
        return {} if own.rank == 0 else None
    is_sharded = own.size > 1 and sharding.is_sharded(model=model, optimizer=optimizer, extra=extra)
    store = _group_store(own)
    if is_sharded and store is None:
        raise TypeError("a sharded model cannot be saved: its process group has no key-value store")
    if is_sharded:
        return _encode_sharded(
            GroupCall(store, "checkpoint", f"{epoch}/{step}"), model, optimizer, extra
        )
    if store is None and own.rank:
        if own.variable is not None:
            print_once(
                f"This is process {own.rank} of {own.size} ({own.variable}). Process 0 saves the "
                f"checkpoints. If this process trains a model of its own, remove {own.variable} "
                "from its environment."
            )
        return None
    if store is None:
        with sharding.gather_tensors(keep=True):
            return _encode(model, optimizer, extra, None)
    function = _calling_function()
    call = GroupCall(store, "checkpoint", f"{function}/{epoch}/{step}")
    if own.rank:
        with suppress(Exception):  # if the store is gone, rank 0 reports it
            call.send(pack_rng_states(get_rng_states()))
        return None
    received: dict[int, bytes] = {}
    first_alone = _first_alone.get(function, call.number + 1)
    with suppress(Exception):
        received = call.receive(RNG_TIMEOUT if call.number < first_alone else 0.0)
    if not received:
        _first_alone[function] = min(call.number, first_alone)
    elif call.number >= first_alone:
        del _first_alone[function]
    if len(received) < own.size - 1:
        print_once(
            f"checkpoint() was called by {len(received) + 1} of {own.size} processes, so the "
            "random states of the others are not saved. Call it in every process, in the same "
            "function and with the same epoch and step; rank 0 writes."
        )
    states = {rank: unpack_rng_states(content) for rank, content in received.items()}
    return _encode(
        model, optimizer, extra, [None, *(states.get(rank) for rank in range(1, own.size))]
    )


def _encode_sharded(
    call: GroupCall, model: Any, optimizer: Any, extra: Any
) -> dict[Part, EncodedState] | None:
    from .formats import sharding
    from .formats.rng import get_rng_states, pack_rng_states, unpack_rng_states

    states: list[Any] = [None] * call.own.size

    def unpack(received: dict[int, bytes]) -> None:
        for rank, content in received.items():
            states[rank] = unpack_rng_states(content)

    call.exchange(pack_rng_states(get_rng_states()), unpack, JOIN_TIMEOUT)
    is_writer = call.own.rank == 0
    with agreement(call), sharding.gather_tensors(keep=is_writer):
        parts = _encode(model, optimizer, extra, states)
    return parts if is_writer else None


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

    Returns
    -------
    checkpoint : NotebookCheckpoint or None
        None if training begins anew.
    call : GroupCall or None
        The call, for :func:`agreement`; None if processes cannot communicate.

    Raises
    ------
    RanksDisagree
        If not every process calls this, or ``find`` fails in rank 0, where its own error is raised.
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

    Raises
    ------
    RanksDisagree
        If it failed in another process; the message says in which one, and why. Its own error is
        raised otherwise.
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
    outcome = "" if error is None else f"{where}: {_describe(error)}"

    def check(received: dict[int, bytes]) -> None:
        failures = [
            text for text in (outcome, *(content.decode() for content in received.values())) if text
        ]
        if failures:
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            if not outcome and call.function == "resume":
                more += (
                    ". Rank 0 can read it. Every process reads the state files itself, so all "
                    "machines have to share the folder of the state files"
                )
            raise RanksDisagree(_failure_text(call.function, failures[0]) + more)

    try:
        call.exchange(outcome.encode(), check, WORK_TIMEOUT)
    except RanksDisagree:
        if error is None:
            raise
    if error is not None:
        raise error


def _failure_text(function: str, where: str) -> str:
    return f"{function}() failed in every process because it failed on {where}"


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, AxonError) else f"{type(error).__name__}: {error}"


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

    Parameters
    ----------
    store : torch.distributed.Store
        The key-value store of the process group.
    function : str
        The function of the API that is called.
    detail : str
        What distinguishes calls of the function, besides their number.
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
        if len(received) == len(others):  # so all have left the call before
            for key in _used_keys:
                self._store.delete_key(key)
            _used_keys[:] = [*states, self._key("state"), self._key("answer")]
        return received

    def exchange(
        self, content: bytes, answer: Callable[[dict[int, bytes]], Any], timeout: float
    ) -> Any:
        """Send ``content`` to rank 0, and return its ``answer`` to what all others sent.

        Raises
        ------
        RanksDisagree
            If a process does not take part, or ``answer`` fails in rank 0, where its own error is
            raised.
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


def _calling_function() -> str:
    """Return the name of the user's function that called the API; empty outside of functions.

    Not the line, since the processes may take different branches of the same code.
    """
    package = __name__.partition(".")[0]
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(package):
        frame = frame.f_back
    name = frame.f_code.co_name
    return "" if name.startswith("<") else name  # IPython's name of a cell has a line in it
