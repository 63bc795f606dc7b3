"""Real kernels that execute cells with ids, as JupyterLab sends them."""

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
    displays: list[dict[str, Any]] = field(default_factory=list)


class KernelConnection:
    """A connection to a kernel, which also evaluates expressions without executing a cell."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client

    def send(self, source: str, cell_id: str | None = None, **content: Any) -> str:
        """Begin to execute a cell; return the id of the message."""
        fields = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
            **content,
        }
        metadata = {} if cell_id is None else {"cellId": cell_id}
        return self.send_message("execute_request", fields, metadata)

    def send_message(
        self, type: str, content: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> str:
        """Send a message on the shell channel; return its id."""
        message = self.client.session.msg(type, content, metadata=metadata)
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def wait_for_reply(self, message_id: str) -> dict[str, Any]:
        """Wait until a cell has ended; return the reply."""
        while True:
            message = self.client.get_shell_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") == message_id:
                content: dict[str, Any] = message["content"]
                return content

    def run(self, source: str, cell_id: str | None = None, **content: Any) -> dict[str, Any]:
        """Execute a cell, which may fail; return the reply."""
        return self.wait_for_reply(self.send(source, cell_id, **content))

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, which must be a literal."""
        reply = self.run(
            "", silent=True, store_history=False, user_expressions={"value": expression}
        )
        value = reply["user_expressions"]["value"]
        assert value["status"] == "ok", value
        return ast.literal_eval(value["data"]["text/plain"])


class Kernel(KernelConnection):
    """A kernel that the test started."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        super().__init__(client)
        self.manager = manager

    def execute(self, source: str, cell_id: str | None = None) -> CellOutput:
        """Execute a cell, which must succeed; return its output."""
        output = self.wait_for_output(self.send(source, cell_id))
        assert output.error is None, (output.error, output.text)
        return output

    def wait_for_output(self, message_id: str) -> CellOutput:
        """Wait until a cell has ended; return its output."""
        output = CellOutput()
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                output.text += content["text"]
            elif kind == "error":
                output.error = f"{content['ename']}: {content['evalue']}"
            elif kind in ("display_data", "execute_result", "update_display_data"):
                output.displays.append(content["data"])
            elif kind == "status" and content["execution_state"] == "idle":
                return output

    def wait_for_text(self, text: str) -> None:
        """Wait until a cell has printed ``text``."""
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            if message["msg_type"] == "stream" and text in message["content"]["text"]:
                return

    def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self.manager.interrupt_kernel()

    def kill(self) -> None:
        """Kill the process, as the out-of-memory killer does."""
        provisioner: Any = self.manager.provisioner
        os.kill(provisioner.process.pid, signal.SIGKILL)
        provisioner.process.wait(TIMEOUT)


@contextmanager
def running_kernel(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Kernel]:
    """Start a kernel in ``folder``, with this environment or that of the tests."""
    manager = KernelManager(kernel_name="python3")
    options = {} if environment is None else {"env": dict(environment)}
    manager.start_kernel(cwd=str(folder), **options)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy()
