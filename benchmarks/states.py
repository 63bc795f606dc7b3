"""Time writing a model's state durably and restoring it, beside the libraries' functions."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from reporting import Goal, milliseconds, place, plain, written
from safetensors.torch import load_file, save_file
from timing import Timed, describe_machine, temporary_folder, time_side_by_side

from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.training.formats import Source, encode_model, prepare_model

#: The limit of bytes times rounds: large states are written less often.
_MOST = 20 * 1000**3
#: The number of large tensors of a model, and the bytes in small ones.
_LAYERS = 16
_GOAL = Goal(ratio=1.15)
#: The size to which the goal applies.
_HELD = 1000


class Row(NamedTuple):
    """A line of the result: the times of a model of so many megabytes, by way."""

    what: str
    megabytes: int
    ours: Timed
    safetensors: Timed
    torch: Timed | None
    goal: Goal | None = None

    @property
    def ratio(self) -> float:
        """Return this project's median divided by that of safetensors."""
        return self.ours.median / self.safetensors.median


def main() -> None:
    chosen = options()
    rows = []
    with temporary_folder(chosen.folder) as folder:
        where = describe_machine(
            folder, [f"{name} {version(name)}" for name in ("torch", "safetensors")]
        )
        for megabytes in chosen.sizes:
            rounds = max(3, min(chosen.rounds, _MOST // (megabytes * 1000**2)))
            with models(megabytes) as (model, other):
                rows += measure(folder, model, other, megabytes, min(rounds, chosen.rounds))
    lines = [{**plain(row), "ratio": row.ratio} for row in rows]
    if not written({"machine": where, "rows": lines}, json_to=chosen.json):
        print_table(rows)
        print(f"\n{place(where)}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[10, 100, 1000],
        metavar="MB",
        help="sizes of the models in megabytes",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=30,
        help="number of timed states of each kind; fewer for large ones",
    )
    parser.add_argument("--folder", type=Path, help="folder for the states, on a real disk")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the result as JSON, in seconds: to a file, or instead of the table",
    )
    return parser.parse_args()


@contextmanager
def models(megabytes: int) -> Iterator[tuple[torch.nn.Module, torch.nn.Module]]:
    """Return two models of that size with different weights."""
    width = megabytes * 1000**2 // 4 // _LAYERS // 1000
    yield tuple(
        torch.nn.Sequential(*(torch.nn.Linear(1000, width) for _ in range(_LAYERS)))
        for _ in range(2)
    )
    gc.collect()


def measure(
    folder: Path, model: torch.nn.Module, other: torch.nn.Module, megabytes: int, rounds: int
) -> list[Row]:
    """Time writing one model, and restoring it into the other."""
    files = StateStorage(folder / "states")
    expected = model.state_dict()
    theirs = folder / "theirs.safetensors"
    torchs = folder / "theirs.pt"
    stored = ""

    def ours(number: int) -> None:
        nonlocal stored
        encoded = encode_model(model)
        with files.open_writer(
            "notebook", str(number), "model", format=encoded.format, expected_size=encoded.size
        ) as writer:
            for chunk in encoded.chunks():
                writer.write(chunk)
            stored = writer.commit().path

    def by_safetensors(_number: int) -> None:
        save_file(model.state_dict(), theirs)
        synced(theirs)

    def by_torch(_number: int) -> None:
        with torchs.open("wb") as file:
            torch.save(model.state_dict(), file)
            file.flush()
            os.fsync(file.fileno())

    def emptied(_number: int) -> None:
        files.remove_notebook("notebook")
        theirs.unlink(missing_ok=True)
        torchs.unlink(missing_ok=True)
        os.sync()

    def restore_ours() -> None:
        with open(stored, "rb") as file:
            restore = prepare_model(Source(stored, file), other)
        restore()

    ways: dict[str, Callable[[int], Any]] = {
        "ours": ours,
        "safetensors": by_safetensors,
        "torch": by_torch,
    }
    saved = time_side_by_side(ways, rounds, warm_up=1, prepare=emptied)
    restored = time_side_by_side(
        {
            "ours": lambda _round: restore_ours(),
            "safetensors": lambda _round: other.load_state_dict(load_file(theirs)),
        },
        rounds,
        warm_up=1,
    )
    for restore in (
        lambda: other.load_state_dict(load_file(theirs)),
        restore_ours,
    ):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        restore()
        if not all(map(torch.equal, other.state_dict().values(), expected.values())):
            sys.exit("what was restored is not what was written")
    emptied(0)
    goal = _GOAL if megabytes == _HELD else None
    return [
        Row("write", megabytes, saved["ours"], saved["safetensors"], saved["torch"], goal),
        Row("restore", megabytes, restored["ours"], restored["safetensors"], None),
    ]


def synced(path: Path) -> None:
    """Sync a file to disk."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def print_table(rows: list[Row]) -> None:
    """Print the result as Markdown."""
    print("| | MB | ours | p95 | safetensors | p95 | ratio | goal | torch.save | p95 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |")
    for row in rows:
        goal = (
            ""
            if row.goal is None
            else f"{row.goal}{'' if row.ratio <= _GOAL.ratio else ', missed'}"
        )
        print(
            f"| {row.what} | {row.megabytes:,} | {_times(row.ours)} | {_times(row.safetensors)} "
            f"| {row.ratio:.2f} | {goal} | {_times(row.torch)} |"
        )


def _times(timed: Timed | None) -> str:
    return " | " if timed is None else f"{milliseconds(timed.median)} | {milliseconds(timed.p95)}"


if __name__ == "__main__":
    main()
