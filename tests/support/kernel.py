"""A real kernel that executes cells with ids, as JupyterLab sends them."""

from __future__ import annotations

import ast
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

#: Seconds to wait for a kernel.
TIMEOUT = 60


@dataclass
class CellOutput:
    """The output of a cell."""

    text: str = ""
    error: str | None = None
    shown: list[dict[str, Any]] = field(default_factory=list)


class Kernel:
    """A kernel, whose state a test reads without executing a cell."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self._client = client

    def send(self, source: str, cell_id: str | None = None, **content: Any) -> str:
        """Begin to execute a cell, and return the id of the message."""
        fields = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
            **content,
        }
        session = self._client.session
        metadata = {} if cell_id is None else {"cellId": cell_id}
        message = session.msg("execute_request", fields, metadata=metadata)
        self._client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def reply(self, message_id: str) -> dict[str, Any]:
        """Return the reply to a message once the cell has ended."""
        while True:
            message = self._client.get_shell_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") == message_id:
                content: dict[str, Any] = message["content"]
                return content

    def run(self, source: str, cell_id: str | None = None, **content: Any) -> dict[str, Any]:
        return self.reply(self.send(source, cell_id, **content))

    def output(self, message_id: str) -> CellOutput:
        """Return the output of a cell once it has ended."""
        ran = CellOutput()
        while True:
            message = self._client.get_iopub_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                ran.text += content["text"]
            elif kind == "error":
                ran.error = f"{content['ename']}: {content['evalue']}"
            elif kind in ("display_data", "execute_result", "update_display_data"):
                ran.shown.append(content["data"])
            elif kind == "status" and content["execution_state"] == "idle":
                return ran

    def do(self, source: str, cell_id: str | None = None) -> CellOutput:
        """Execute a cell, which must not fail, and return its output."""
        ran = self.output(self.send(source, cell_id))
        assert ran.error is None, (ran.error, ran.text)
        return ran

    def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self.manager.interrupt_kernel()

    def kill(self) -> None:
        """Kill the process, as the out-of-memory killer does."""
        provisioner: Any = self.manager.provisioner
        os.kill(provisioner.process.pid, signal.SIGKILL)
        provisioner.process.wait(TIMEOUT)

    def ask(self, expression: str) -> Any:
        """Return the value of an expression, which must be a literal."""
        reply = self.run("", silent=True, store_history=False, user_expressions={"it": expression})
        assert reply["user_expressions"]["it"]["status"] == "ok", reply
        return ast.literal_eval(reply["user_expressions"]["it"]["data"]["text/plain"])

    def printed(self, text: str) -> None:
        """Wait until a cell has printed ``text``."""
        while True:
            message = self._client.get_iopub_msg(timeout=TIMEOUT)
            if message["msg_type"] == "stream" and text in message["content"]["text"]:
                return


@contextmanager
def started(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Kernel]:
    """Start a kernel in ``folder``, with this environment or that of the tests."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(
        cwd=str(folder), **({} if environment is None else {"env": dict(environment)})
    )
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy()
