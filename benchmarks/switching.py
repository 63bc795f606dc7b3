"""A server extension for `saves.py` that switches this project's hooks, and measures them.

Switching off unregisters the hooks, so that the server is a bare one. Measuring wraps functions; it
is off while saves are timed, except for the worker.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado import web

from jupyter_axon_notebooks.handlers import SETTING
from jupyter_axon_notebooks.sync import CONTENTS_SCHEMA

#: The route of the switch, and its key in the server's settings.
URL = "benchmark"
#: Seconds between two wake-ups of a measuring task.
BEAT = 0.0005
#: The switch interval of the interpreter in seconds while its longest steps are measured. The
#: default of five milliseconds hides shorter steps.
QUICK_HANDOVER = 0.00005


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "switching"}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    assert server.web_app is not None
    url = url_path_join(server.web_app.settings["base_url"], URL)
    server.web_app.add_handlers(".*$", [(url, SwitchHandler, {"switch": Switch(server)})])


class SwitchHandler(JupyterHandler):
    """A handler that waits for the worker, answers with the measurements, and switches."""

    def initialize(self, switch: Switch) -> None:  # type: ignore[override]  # the options of the route
        """Set the switch of the handler."""
        self._switch = switch

    def check_xsrf_cookie(self) -> None:
        """Accept requests without a cookie; the token authenticates them."""

    @web.authenticated
    async def post(self) -> None:
        """Switch as the body of the request says."""
        asked = json.loads(self.request.body)
        await asyncio.get_running_loop().run_in_executor(None, self._switch.settle)
        seen = self._switch.seen()
        self._switch.set(**asked)
        self.finish(json.dumps(seen))


class Switch:
    """The registered hooks and the measurements of them.

    `set` takes `hooks` and `listener` (whether those of this project are registered), `subscriber`
    (whether another listener for contents events is registered, as with an open JupyterLab), and
    `watch`: what to measure, "hooks" (their time in the event loop), "loop" (its delay), "steps"
    (how long the worker holds the interpreter at a time) or nothing.
    """

    def __init__(self, server: ServerApp) -> None:
        self._contents = server.contents_manager
        self._pre = list(self._contents._pre_save_hooks)
        self._post = list(self._contents._post_save_hooks)
        self._events = server.event_logger._modified_listeners
        self._listeners = set(self._events.get(CONTENTS_SCHEMA, ()))
        if not (len(self._pre) == len(self._post) == len(self._listeners) == 1):
            raise RuntimeError("there are other hooks or listeners than those to be switched")
        self._emit = self._contents.emit
        self._sync = server.web_app.settings[SETTING].sync
        self._works = Stopwatch(self._sync._process)
        self._sync._process = self._works
        self._watched: dict[str, list[float]] = {}
        self._heart: LoopHeart | StepHeart | None = None
        self._handover = sys.getswitchinterval()
        self._began = time.thread_time()

    def settle(self) -> None:
        """Wait for the worker."""
        self._sync.drain()

    def set(
        self,
        *,
        hooks: bool = True,
        listener: bool = True,
        subscriber: bool = False,
        watch: str = "",
    ) -> None:
        """Register the requested hooks, measured or not."""
        self._watched = {}
        self._heart = None
        sys.setswitchinterval(self._handover)
        pre, post = (self._pre, self._post) if hooks else ([], [])
        listeners = set(self._listeners) if hooks and listener else set()
        emit = self._emit
        if watch == "hooks":
            pre, post = (
                [self._timed(h, "hooks") for h in pre],
                [self._timed(h, "hooks") for h in post],
            )
            listeners = {self._timed_listener(heard) for heard in listeners}
            emit = self._timed(emit, "emit")
        elif watch == "loop":
            self._heart = LoopHeart()
        elif watch == "steps":
            sys.setswitchinterval(QUICK_HANDOVER)
            self._heart = StepHeart()
        self._contents._pre_save_hooks, self._contents._post_save_hooks = list(pre), list(post)
        self._events[CONTENTS_SCHEMA] = listeners | {_subscribed} if subscriber else listeners
        self._contents.emit = emit
        self._works.laps.clear()
        self._began = time.thread_time()

    def seen(self) -> dict[str, Any]:
        """Return the measured seconds of every call of the watched functions and of the worker.

        `loop` is the CPU time of the event loop's thread since the last switch.
        """
        loop = time.thread_time() - self._began
        works = [(lap.end - lap.start, lap.cpu) for lap in self._works.laps]
        heart = None if self._heart is None else self._heart.stop()
        seen = {
            **self._watched,
            "loop": [loop],
            "worker": [w for w, _ in works],
            "worker_cpu": [c for _, c in works],
        }
        if isinstance(self._heart, LoopHeart):
            seen["late"] = [max((late for _, late in heart or ()), default=0.0)]
        elif isinstance(self._heart, StepHeart):
            seen["step"] = [
                max((late for due, late in heart or () if lap.start <= due <= lap.end), default=0.0)
                for lap in self._works.laps
            ]
        return seen

    def _timed(self, hook: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return hook(*args, **named)
            finally:
                self._watched.setdefault(name, []).append(time.perf_counter() - began)

        return timed

    def _timed_listener(self, listener: Callable[..., Any]) -> Callable[..., Any]:
        async def timed(**named: Any) -> None:
            began = time.perf_counter()
            await listener(**named)
            self._watched.setdefault("listener", []).append(time.perf_counter() - began)

        return timed


async def _subscribed(**_: Any) -> None:
    """Encode an event as JupyterLab's event stream would."""


class Lap:
    """The times and the CPU time of one call."""

    def __init__(self, start: float, end: float, cpu: float) -> None:
        self.start, self.end, self.cpu = start, end, cpu


class Stopwatch:
    """A wrapper that times the calls of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.laps: list[Lap] = []

    def __call__(self, *args: Any) -> Any:
        """Call the function and note the time."""
        start, cpu = time.perf_counter(), time.thread_time()
        try:
            return self._function(*args)
        finally:
            self.laps.append(Lap(start, time.perf_counter(), time.thread_time() - cpu))


class LoopHeart:
    """A task of the event loop that measures how late it is woken."""

    def __init__(self) -> None:
        self._beats: list[tuple[float, float]] = []
        self._task = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            due = time.perf_counter() + BEAT
            await asyncio.sleep(BEAT)
            self._beats.append((due, time.perf_counter() - due))

    def stop(self) -> list[tuple[float, float]]:
        """Stop, and return when it was due to wake and how late it woke."""
        self._task.cancel()
        return self._beats


class StepHeart:
    """A thread that measures how late it is woken."""

    def __init__(self) -> None:
        self._beats: list[tuple[float, float]] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stopped:
            due = time.perf_counter() + BEAT
            time.sleep(BEAT)
            self._beats.append((due, time.perf_counter() - due))

    def stop(self) -> list[tuple[float, float]]:
        """Stop, and return when it was due to wake and how late it woke."""
        self._stopped = True
        self._thread.join()
        return self._beats
