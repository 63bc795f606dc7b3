"""A real kernel that is given cells, as JupyterLab gives them: each with the id that it has in the notebook's file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

#: Seconds that anything may take.
PATIENCE = 60


class Kernel:
    """A kernel, asked in silence: what a test wants to know is no cell."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self._client = client

    def send(self, source: str, cell_id: str | None = None, **content: Any) -> str:
        """Have a cell run; the message that asks for it."""
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
        """What a cell was answered with, once it has ended."""
        while True:
            message = self._client.get_shell_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") == message_id:
                content: dict[str, Any] = message["content"]
                return content

    def run(self, source: str, cell_id: str | None = None, **content: Any) -> dict[str, Any]:
        return self.reply(self.send(source, cell_id, **content))

    def ask(self, expression: str) -> Any:
        """The value of an expression, which has to be a literal."""
        reply = self.run("", silent=True, store_history=False, user_expressions={"it": expression})
        assert reply["user_expressions"]["it"]["status"] == "ok", reply
        return ast.literal_eval(reply["user_expressions"]["it"]["data"]["text/plain"])

    def printed(self, text: str) -> None:
        """Return when a cell has printed ``text``."""
        while True:
            message = self._client.get_iopub_msg(timeout=PATIENCE)
            if message["msg_type"] == "stream" and text in message["content"]["text"]:
                return


@contextmanager
def started(folder: Path) -> Iterator[Kernel]:
    """A kernel that works in ``folder``."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy()
