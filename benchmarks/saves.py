"""Time saves with and without the hooks in one server, and the hooks in the event loop."""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from notebooks import TrainingNotebook
from reporting import milliseconds, place
from servers import Client, jupyter_server
from timing import describe_machine, temporary_folder

#: The limit of kilobytes times rounds: large notebooks are saved less often.
_LARGEST_ROUNDS = 1_000_000
#: The storm: kilobytes of the notebook, number of saves, seconds.
_STORM, _STORM_SAVES, _STORM_SECONDS = 1_000, 100, 1.0
#: The number of connections of a browser to one server.
_CONNECTIONS = 6
#: The number of saves in a row without a pause for the worker.
_ROW = 4


def main() -> None:
    chosen = options()
    extensions = ["jupyter_axon_notebooks", "switching"]
    with (
        temporary_folder(chosen.folder) as folder,
        jupyter_server(folder / "server", extensions) as client,
    ):
        server = Server(client)
        where = describe_machine(folder, [f"SQLite {sqlite3.sqlite_version}"])
        sizes = {}
        for size in chosen.sizes:
            rounds = max(1, min(chosen.rounds, _LARGEST_ROUNDS // size))
            sizes[size] = measure(server, size, rounds)
        storms = storm(server, max(1, chosen.rounds // 20))
    if chosen.json:
        print(json.dumps({"machine": where, "sizes": sizes, "storm": storms}, indent=2))
    else:
        print_tables(where, sizes, storms)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[50, 1_000, 10_000, 50_000],
        metavar="KB",
        help="sizes of the notebooks in kilobytes",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=200,
        help="number of timed saves of each kind; fewer for large notebooks",
    )
    parser.add_argument("--folder", type=Path, help="folder for the server's files, on a real disk")
    parser.add_argument(
        "--json", action="store_true", help="print JSON, in seconds, instead of tables"
    )
    return parser.parse_args()


class Server:
    """The server whose hooks are switched on and off."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.connected = client.connected

    def save(self, body: bytes, connection: HTTPConnection | None = None) -> float:
        """Save a notebook and return the seconds that it took."""
        began = time.perf_counter()
        self._client.ask("PUT", "/api/contents/train.ipynb", body, connection)
        return time.perf_counter() - began

    def switch(self, **wanted: Any) -> dict[str, list[float]]:
        """Wait for the worker, switch the hooks, and return the measurements before."""
        seen: dict[str, list[float]] = self._client.say("POST", "/benchmark", wanted)
        return seen


class Compared(NamedTuple):
    """Two ways in turn, in seconds per save, and the 95 % interval of their ratio."""

    on: float
    off: float
    on_p95: float
    off_p95: float
    ratio: float
    low: float
    high: float
    rounds: int


def compared(on: Sequence[float], off: Sequence[float]) -> Compared:
    """Compare two ways, with an interval from a bootstrap over the rounds."""
    draw = random.Random(0)
    pairs = list(zip(on, off, strict=True))
    ratios = []
    for _ in range(1000):
        drawn = draw.choices(pairs, k=len(pairs))
        ratios.append(
            statistics.median(a for a, _ in drawn) / statistics.median(b for _, b in drawn)
        )
    medians = statistics.median(on), statistics.median(off)
    return Compared(
        *medians,
        p95(on),
        p95(off),
        medians[0] / medians[1],
        quantile(ratios, 0.025),
        quantile(ratios, 0.975),
        len(on),
    )


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def p95(values: Sequence[float]) -> float:
    return quantile(values, 0.95)


def measure(server: Server, size: int, rounds: int) -> dict[str, Any]:
    """Measure saves of a notebook of `size` kilobytes, with the hooks on and off in turn."""
    notebook = TrainingNotebook(size * 1000)
    seen = _in_turn(server, notebook, rounds)
    beside = _in_turn(server, notebook, rounds, subscriber=True)
    few = max(1, rounds // 4)
    row = _in_turn(server, notebook, few, saves=_ROW)
    hooks = _watched(server, notebook, few, {}, "hooks")
    bare_emit = _watched(server, notebook, few, {"listener": False}, "hooks")["emit"]
    steps = _watched(server, notebook, few, {}, "steps")["step"]
    per_save = [
        pre + post for pre, post in zip(hooks["hooks"][::2], hooks["hooks"][1::2], strict=True)
    ]
    off = statistics.median(seen["off"])
    return {
        "bytes": len(notebook.body()),
        "save": compared(seen["on"], seen["off"])._asdict(),
        "beside_lab": compared(beside["on"], beside["off"])._asdict(),
        "row": compared(row["on"], row["off"])._asdict(),
        "hooks": _told(per_save),
        "emit": _told(hooks["emit"]),
        "bare_emit": _told(bare_emit),
        "listener": _told(hooks["listener"]),
        "added": _added(seen),
        "added_beside_lab": _added(beside),
        "worker": _told(seen["worker"]),
        "worker_cpu": _told(seen["worker_cpu"]),
        "worker_share": statistics.median(seen["worker_cpu"]) / off,
        "step": _told(steps),
    }


def _added(seen: dict[str, list[float]]) -> float:
    """Return the additional CPU time of the event loop's thread with the hooks, in seconds."""
    return statistics.median(
        on - off for on, off in zip(seen["loop_on"], seen["loop_off"], strict=True)
    )


def _told(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "p95": p95(values), "rounds": len(values)}


def _in_turn(
    server: Server,
    notebook: TrainingNotebook,
    rounds: int,
    *,
    saves: int = 1,
    subscriber: bool = False,
) -> dict[str, list[float]]:
    """Return the seconds per save with the hooks ("on") and without, and the time of the worker.

    The saves of a turn follow each other without a pause. The worker is awaited before the next
    turn.
    """
    taken: dict[str, list[float]] = defaultdict(list)
    for number in range(-min(3, rounds), rounds):
        for way in ("on", "off") if number % 2 else ("off", "on"):
            bodies = [notebook.body() for _ in range(saves)]
            server.switch(hooks=way == "on", subscriber=subscriber)
            seconds = [server.save(body) for body in bodies]
            seen = server.switch(subscriber=subscriber)
            if number < 0:
                continue
            taken[way].append(statistics.mean(seconds))
            taken[f"loop_{way}"] += seen["loop"]
            if way == "on":
                taken["worker"] += seen["worker"]
                taken["worker_cpu"] += seen["worker_cpu"]
    return taken


def _watched(
    server: Server, notebook: TrainingNotebook, rounds: int, wanted: dict[str, Any], watch: str
) -> dict[str, list[float]]:
    """Return what the server measures during some saves."""
    taken: dict[str, list[float]] = defaultdict(list)
    for number in range(-1, rounds):
        body = notebook.body()
        server.switch(**wanted, watch=watch)
        server.save(body)
        if number >= 0:
            for name, values in server.switch().items():
                taken[name] += values
    return taken


def storm(server: Server, rounds: int) -> dict[str, Any]:
    """Measure saves and the worst delay of the event loop while many saves arrive in a second."""
    notebook = TrainingNotebook(_STORM * 1000)
    bodies = [notebook.body() for _ in range(20)]
    save: dict[bool, list[float]] = {True: [], False: []}
    late: dict[bool, list[float]] = {True: [], False: []}
    written = []
    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        connections = [server.connected() for _ in range(_CONNECTIONS)]
        for number in range(rounds):
            for on in (True, False) if number % 2 else (False, True):
                server.switch(hooks=on, watch="loop")
                save[on] += _stormed(threads, server, connections, bodies)
                seen = server.switch()
                late[on] += seen["late"]
                if on:
                    written.append(len(seen["worker"]))
    return {
        "save": compared(save[True], save[False])._asdict(),
        "late": compared(late[True], late[False])._asdict(),
        "saves": _STORM_SAVES,
        "written": statistics.median(written),
    }


def _stormed(
    threads: ThreadPoolExecutor,
    server: Server,
    connections: list[HTTPConnection],
    bodies: list[bytes],
) -> list[float]:
    began = time.perf_counter()

    def one_after_the_other(first: int) -> list[float]:
        taken = []
        for number in range(first, _STORM_SAVES, len(connections)):
            time.sleep(
                max(0.0, began + number * _STORM_SECONDS / _STORM_SAVES - time.perf_counter())
            )
            taken.append(server.save(bodies[number % len(bodies)], connections[first]))
        return taken

    return [
        seconds
        for taken in threads.map(one_after_the_other, range(len(connections)))
        for seconds in taken
    ]


def print_tables(
    where: dict[str, Any], sizes: dict[int, dict[str, Any]], storms: dict[str, Any]
) -> None:
    """Print three Markdown tables: saves, hooks in the event loop, and the worker."""
    print(
        "| a save | hooks on, median | p95 | off, median | p95 "
        "| ratio | 95 % within | ratio of p95 | goal |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for size, seen in sizes.items():
        _print_compared(_kilobytes(size), seen["save"], "≤ 1.02")
        _print_compared(f"{_kilobytes(size)}, JupyterLab listening", seen["beside_lab"], "≤ 1.02")
        _print_compared(f"{_kilobytes(size)}, {_ROW} in a row", seen["row"], "")
    saves = storms["saves"]
    _print_compared(f"storm: {saves} of {_kilobytes(_STORM)} in a second", storms["save"], "")
    _print_compared("storm: the event loop's worst delay", storms["late"], "")
    print(
        "\n| in the event loop | hooks | p95 | goal "
        "| event, with listener | without | listener | p95 "
        "| CPU time added | JupyterLab listening |"
    )
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for size, seen in sizes.items():
        times = [seen["emit"]["median"], seen["bare_emit"]["median"], *_both(seen["listener"])]
        times += [seen["added"], seen["added_beside_lab"]]
        print(
            f"| {_kilobytes(size)} | {_cells(_both(seen['hooks']))} | < 0.1 ms | {_cells(times)} |"
        )
    print(
        "\n| the worker | elapsed | p95 | CPU | p95 | of the save | goal "
        "| longest step | p95 | goal |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | --- |")
    for size, seen in sizes.items():
        times = _cells([*_both(seen["worker"]), *_both(seen["worker_cpu"])])
        goal = "≤ 5 ms" if size <= 10_000 else ""
        share = f"{100 * seen['worker_share']:.0f} % | ≤ 20 %"
        print(
            f"| {_kilobytes(size)} | {times} | {share} | {_cells(_both(seen['step']))} | {goal} |"
        )
    print(
        f"\nOf a storm's {saves} saves the worker wrote {storms['written']:.0f}, "
        "including the last one."
    )
    print(place(where))


def _print_compared(what: str, seen: dict[str, float], goal: str) -> None:
    times = _cells([seen["on"], seen["on_p95"], seen["off"], seen["off_p95"]])
    within = f"{seen['low']:.3f} – {seen['high']:.3f}"
    by_p95 = seen["on_p95"] / seen["off_p95"]
    print(f"| {what} | {times} | {seen['ratio']:.3f} | {within} | {by_p95:.2f} | {goal} |")


def _both(told: dict[str, float]) -> list[float]:
    return [told["median"], told["p95"]]


def _cells(seconds: Sequence[float]) -> str:
    return " | ".join(map(milliseconds, seconds))


def _kilobytes(size: int) -> str:
    return f"{size / 1000:g} MB" if size >= 1000 else f"{size} KB"


if __name__ == "__main__":
    main()
