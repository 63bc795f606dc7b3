"""The processes that train one model together: which of them writes, and how they agree.

They talk through the key-value store of PyTorch's process group, never through collective operations of their own: a process
that waits looks again and again, and gives up after a while. A process that does not come is named in an error on
all that did; it cannot make the others hang. The same holds for the collective operations that gather a sharded model:
they begin only after every process has said that it takes part.
"""

from __future__ import annotations

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

#: Seconds to wait for the random states of other processes, which a checkpoint can do without.
BRIEF: float = 10.0
#: Seconds to wait until every process has made a call that all have to make.
PATIENCE: float = 120.0
#: Seconds that a process which has come may then work, reading a state for example.
WORK: float = 1800.0
#: Seconds between two looks, at most.
_POLL: Final = 0.2

#: What launchers tell a process of its rank and of how many there are. Inner ones first: MPI's processes inherit what SLURM
#: says to the one that started them.
_LAUNCHERS: Final = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
#: Variables that a launcher of PyTorch processes sets as well: without them, RANK in a kernel is a leftover.
_LAUNCHED: Final = ("MASTER_ADDR", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")

_said: set[str] = set()
_calls: Counter[str] = Counter()
#: By function, the number of the first call at one position that rank 0 made alone: it and those after it are not waited for.
_unaccompanied: dict[str, int] = {}
_spent: list[str] = []


class RanksDisagree(AxonError):
    """The processes that train one model cannot all do what one of them was asked to do."""


class ProcessRank(NamedTuple):
    """The rank of this process, how many processes there are, and the variable that tells; None if PyTorch does."""

    rank: int
    size: int
    told_by: str | None = None


def place() -> ProcessRank:
    """Return the place of this process among those that train one model; it never waits.

    It is PyTorch's, where its processes have found each other, else what the launcher says in the environment.
    """
    distributed = _initialized()
    if distributed is not None:
        return ProcessRank(distributed.get_rank(), distributed.get_world_size())
    for name, size_name in _LAUNCHERS:
        rank, size = _number(name), _number(size_name)
        if rank is None:
            continue
        if name == "RANK" and (rank, size) == (0, 1):  # torchrun, of a task that trains by itself
            break
        if size is None or size < 2 or rank >= size:
            reason = f"{size_name} is {os.environ.get(size_name) or 'not set'}"
        elif (
            name == "RANK"
            and connection_file()
            and not any(os.environ.get(one) for one in _LAUNCHED)
        ):
            reason = "no launcher started this kernel"
        else:
            return ProcessRank(rank, size, name)
        if rank:
            _say_once(
                f"{name}={rank} is ignored, since {reason}: checkpoints of this process are saved."
            )
    return ProcessRank(0, 1)


def is_first() -> bool:
    """Return whether this process is the one that writes: the only one, or the one of rank 0."""
    return place().rank == 0


def _initialized() -> Any:
    distributed: Any = sys.modules.get("torch.distributed")
    ready = distributed is not None and distributed.is_available() and distributed.is_initialized()
    return distributed if ready else None


def _number(name: str) -> int | None:
    with suppress(ValueError):
        number = int(os.environ.get(name, ""))
        return number if number >= 0 else None
    return None


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        print_message(text)


# What the processes do together


def encode_together(
    model: Any, optimizer: Any, extra: Any, *, epoch: int | None, step: int | None
) -> dict[Part, EncodedState] | None:
    """Return the state files of a checkpoint; None in a process that does not write.

    The process of rank 0 adds the random states of the others, as far as they make the same call. A sharded model is
    gathered, for which all have to make it.

    Raises
    ------
    RanksDisagree
        If the model is sharded, and not every process saves it.
    TypeError
        For what cannot be kept.
    """
    from .formats import sharding

    here = place()
    if model is None and optimizer is None and extra is None:
        return {} if here.rank == 0 else None
    is_sharded = here.size > 1 and sharding.is_sharded(
        model=model, optimizer=optimizer, extra=extra
    )
    channel = _channel(here)
    if channel is None:
        if is_sharded:
            raise TypeError(
                "a sharded model cannot be saved: its process group has no store to agree through"
            )
        if here.rank:
            if here.told_by is not None:
                _say_once(
                    f"This is process {here.rank} of {here.size} ({here.told_by}): process 0 saves the checkpoints. If "
                    f"it trains a model of its own, remove {here.told_by} from its environment."
                )
            return None
        with sharding.gather_tensors(keep=True):
            return _encode(model, optimizer, extra, None)
    position = f"{epoch}/{step}"
    if is_sharded:
        return _encode_sharded(Call(channel, "checkpoint", position), model, optimizer, extra)
    function = _calling_function()
    call = Call(channel, "checkpoint", f"{function}/{position}")
    from .formats.rng import get_rng_states, pack_rng_states, unpack_rng_states

    if here.rank:
        with suppress(Exception):  # a store that is gone: rank 0 says so
            call.tell(pack_rng_states(get_rng_states()))
        return None
    heard: dict[int, bytes] = {}
    with suppress(Exception):  # the same; the checkpoint is worth having all the same
        is_awaited = call.number < _unaccompanied.get(function, call.number + 1)
        heard = call.hear(BRIEF if is_awaited else 0.0)
    if not heard:
        _unaccompanied[function] = min(call.number, _unaccompanied.get(function, call.number))
    elif call.number >= _unaccompanied.get(function, call.number):
        _unaccompanied.pop(function, None)
    if len(heard) < here.size - 1:
        _say_once(
            f"checkpoint() was called by {len(heard) + 1} of {here.size} processes: the random states of the others "
            "are not saved. Call it in every process, in the same function and with the same epoch and step; that of "
            "rank 0 writes."
        )
    states = {rank: unpack_rng_states(octets) for rank, octets in heard.items()}
    return _encode(
        model, optimizer, extra, [None, *(states.get(rank) for rank in range(1, here.size))]
    )


def _encode_sharded(
    call: Call, model: Any, optimizer: Any, extra: Any
) -> dict[Part, EncodedState] | None:
    from .formats import sharding
    from .formats.rng import get_rng_states, pack_rng_states, unpack_rng_states

    here = call.place
    states: list[Any] = [None] * here.size

    def keep(heard: dict[int, bytes]) -> None:
        for rank, octets in heard.items():
            states[rank] = unpack_rng_states(octets)

    call.meet(pack_rng_states(get_rng_states()), keep, PATIENCE)
    with agreement(call), sharding.gather_tensors(keep=here.rank == 0):
        parts = _encode(model, optimizer, extra, states)
    return parts if here.rank == 0 else None


def _encode(
    model: Any, optimizer: Any, extra: Any, ranks: list[Any] | None
) -> dict[Part, EncodedState]:
    from .formats import encode_model, encode_training

    parts: dict[Part, EncodedState] = {}
    if model is not None:
        parts["model"] = encode_model(model)
    parts["optimizer"] = encode_training(optimizer, extra, ranks=ranks)
    return parts


def decide(
    find: Callable[[], NotebookCheckpoint | None],
) -> tuple[NotebookCheckpoint | None, Call | None]:
    """Return the checkpoint that every process goes on from: the one that ``find`` gives in the process of rank 0.

    Also returns the call, for :func:`agreement`; None where processes cannot tell each other.

    Raises
    ------
    RanksDisagree
        If not every process asks, or ``find`` fails in that of rank 0, where its own error is raised.
    """
    here = place()
    channel = _channel(here)
    if channel is None:
        if here.size > 1 and here.rank == 0:
            _say_once(
                f"Whether all {here.size} processes resume from the same checkpoint cannot be checked: call resume() after "
                "torch.distributed.init_process_group()."
            )
        return find(), None
    call = Call(channel, "resume", "decision")
    chosen: NotebookCheckpoint | None = None

    def choose(heard: dict[int, bytes]) -> Any:  # noqa: ARG001 - that all have come is all there is to know
        nonlocal chosen
        chosen = find()
        return None if chosen is None else chosen.to_json()

    told = call.meet(b"", choose, PATIENCE)
    if here.rank and told is not None:
        chosen = NotebookCheckpoint.from_json(told)
    return chosen, call


@contextmanager
def agreement(call: Call | None) -> Iterator[None]:
    """Have what is done in the ``with`` statement fail in every process if it fails in one of them.

    Raises
    ------
    RanksDisagree
        If it failed in another process; the message says where, and why. Here its own error is raised.
    """
    if call is None:
        yield
        return
    call = call.following()
    where = f"rank {call.place.rank} on {socket.gethostname()}"
    error: Exception | None = None
    try:
        yield
    except Exception as raised:  # noqa: BLE001 - raised below
        error = raised
    except BaseException as raised:  # an interrupt, which waits for nobody
        call.leave(f"{where}: {type(raised).__name__}")
        raise
    outcome = "" if error is None else f"{where}: {_text(error)}"

    def judge(heard: dict[int, bytes]) -> None:
        failed = [
            text for text in (outcome, *(octets.decode() for octets in heard.values())) if text
        ]
        if failed:
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            if not outcome and call.kind == "resume":
                more += (
                    ". Rank 0 can read it. Every process reads the state files itself: machines have to share the folder "
                    "that they are in"
                )
            raise RanksDisagree(_failed_on(call.kind, failed[0]) + more)

    try:
        call.meet(outcome.encode(), judge, WORK)
    except RanksDisagree:
        if error is None:
            raise
    if error is not None:
        raise error


def _failed_on(kind: str, where: str) -> str:
    return f"{kind}() failed in every process because it failed on {where}"


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, AxonError) else f"{type(error).__name__}: {error}"


# How they tell each other


def _channel(here: ProcessRank) -> Any:
    """Return the store of PyTorch's process group; None where there is none, or nobody else."""
    if _initialized() is None or here.size < 2:
        return None
    with suppress(
        Exception
    ):  # not public, if widely used; without it, processes cannot tell each other
        from torch.distributed.distributed_c10d import _get_default_store

        return _get_default_store()
    return None


class Call:
    """One call that the processes make together, each for its own part, from whichever line of their code.

    The process of rank 0 hears the others, and answers; the others tell, and may listen to the answer.

    Parameters
    ----------
    channel : torch.distributed.Store
        What they talk through.
    kind : str
        The function that is called.
    detail : str
        What tells calls of the function apart, besides their number.
    """

    def __init__(self, channel: Any, kind: str, detail: str) -> None:
        self.kind = kind
        self.place = place()
        name = f"axon/{kind}/{detail}"
        _calls[name] += 1
        self.number = _calls[name]
        self._key = f"{name}/{self.number}"
        self._channel = channel

    def following(self) -> Call:
        """Return the next step of this call."""
        return Call(self._channel, self.kind, f"{self._key}/outcome")

    def tell(self, payload: bytes) -> None:
        """Leave something for the process of rank 0."""
        self._channel.set(self._name("payload"), payload)
        self._channel.set(self._name("state"), "here")

    def leave(self, reason: str) -> None:
        """Have the call fail in every process, without waiting for any."""
        if self.place.rank:
            self.tell(reason.encode())
        else:
            self._answer({"failed": _failed_on(self.kind, reason)})

    def hear(self, patience: float) -> dict[int, bytes]:
        """Return what the others have told, by rank, once all have, or ``patience`` is at its end."""
        others = range(1, self.place.size)
        states = [self._name("state", rank) for rank in others]
        self._wait(states, patience)
        heard = {}
        for rank, state in zip(others, states, strict=True):
            if self._channel.check([state]) and self._swap(state, "taken") == "taken":
                heard[rank] = self._channel.get(self._name("payload", rank))
                self._channel.delete_key(self._name("payload", rank))
        if len(heard) == len(others):  # so all are done with the call before
            for name in _spent:
                self._channel.delete_key(name)
            _spent[:] = [*states, self._name("state"), self._name("answer")]
        return heard

    def meet(
        self, payload: bytes, answer: Callable[[dict[int, bytes]], Any], patience: float
    ) -> Any:
        """Return what ``answer`` makes, in the process of rank 0, of what all the others tell.

        Raises
        ------
        RanksDisagree
            If a process does not come, or ``answer`` fails in that of rank 0, where its own error is raised.
        """
        if self.place.rank:
            self.tell(payload)
            told = json.loads(self._listen(patience))
            if "failed" in told:
                raise RanksDisagree(told["failed"])
            return told["value"]
        try:
            self._channel.set(self._name("state"), "here")
            heard = self.hear(patience)
            if missing := [rank for rank in range(1, self.place.size) if rank not in heard]:
                raise self._incomplete(missing, patience)
            value = answer(heard)
        except BaseException as error:
            told = str(error) if isinstance(error, RanksDisagree) else None
            text = told or f"{self.kind}() failed on rank 0: {type(error).__name__}: {error}"
            self._answer({"failed": text})
            raise
        self._answer({"value": value})
        return value

    def _answer(self, answer: dict[str, Any]) -> None:
        self._channel.set(self._name("answer"), json.dumps(answer))

    def _listen(self, patience: float) -> bytes:
        """Return the answer of the process of rank 0, which never gets this call if it does not come."""
        if (
            not self._wait([self._name("state", 0)], patience)
            and self._swap(self._name("state"), "gone") == "gone"
        ):
            raise self._incomplete([0], patience)
        answer = self._name("answer", 0)
        if not self._wait([answer], patience + WORK):
            raise self._incomplete([0], patience + WORK)
        octets: bytes = self._channel.get(answer)
        return octets

    def _incomplete(self, missing: list[int], patience: float) -> RanksDisagree:
        ranks = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        return RanksDisagree(
            f"{self.kind}() has to be called in every process, and rank {ranks} did not within {patience:g} s"
        )

    def _swap(self, name: str, state: str) -> str:
        """Change a state from ``here``, unless the other side has changed it; return what it is then."""
        found: bytes = self._channel.compare_set(name, "here", state)
        return found.decode()

    def _wait(self, names: list[str], patience: float) -> bool:
        # Not by the store's own wait, which no interrupt ends.
        begin, pause = time.monotonic(), 0.001
        while not self._channel.check(names):
            waited = time.monotonic() - begin
            if waited >= patience:
                return False
            if waited >= BRIEF:
                _say_once(f"Waiting for the other processes in {self.kind}() …")
            time.sleep(pause)
            pause = min(2 * pause, _POLL)
        return True

    def _name(self, what: str, rank: int | None = None) -> str:
        return f"{self._key}/{self.place.rank if rank is None else rank}/{what}"


def _calling_function() -> str:
    """Return the name of the function outside of this package that led here; empty outside of functions.

    No line: the processes may take different branches of the same code.
    """
    package = __name__.partition(".")[0]
    frame = sys._getframe(1)
    while (
        frame.f_back is not None
        and frame.f_globals.get("__name__", "").partition(".")[0] == package
    ):
        frame = frame.f_back
    name = frame.f_code.co_name
    return "" if name.startswith("<") else name  # IPython's name of a cell has a line in it
