"""Servers, kernels and stores for the tests of kernels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.kernel import Kernel, running_kernel
from support.server_kernels import SessionKernel, isolated_environment, session_kernel
from support.server_processes import Server, notebook, write
from support.training_script import SET_UP, train

from jupyter_axon_notebooks import stores
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.training.discovery import location


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tests share; each test uses its own notebooks."""
    with Server(tmp_path_factory.mktemp("shared")).running() as running:
        yield running


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers for one test, and stop them after it."""
    servers: list[Server] = []

    def start_server(name: str = "server", **options: Any) -> Server:
        servers.append(Server(tmp_path / name, **options).start())
        return servers[-1]

    yield start_server
    for server in servers:
        server.stop()


@pytest.fixture
def start_session() -> Iterator[Callable[..., SessionKernel]]:
    """Start the kernel of a session, by default of a notebook that exists."""
    with ExitStack() as stack:

        def start_session(
            server: Server, path: str, *, create: bool = True, **options: Any
        ) -> SessionKernel:
            if create and not (server.root / path).exists():
                write(server.root / path, notebook("train()", path))
            return stack.enter_context(session_kernel(server, path, **options))

        yield start_session


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that no server started, with a data folder of its own."""
    return isolated_environment(tmp_path)


@pytest.fixture
def data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The data folder of this process, isolated from any server."""
    for name in list(os.environ):
        if name.startswith(("AXON", "JPY_", "JUPYTERHUB")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr(stores, "_warned", set())
    monkeypatch.setattr(location, "_used", None)
    monkeypatch.setattr(location, "_resolved", {})
    return tmp_path / "data"


# Trainings


@pytest.fixture
def notebook_file(tmp_path: Path) -> Path:
    """The notebook of the trainings."""
    return write(tmp_path / "train.ipynb", notebook(SET_UP, train()))


@pytest.fixture
def start_kernel(
    environment: dict[str, str], tmp_path: Path, notebook_file: Path
) -> Iterator[Callable[..., Kernel]]:
    """Start kernels that train :func:`notebook_file`, and end them after the test."""
    with ExitStack() as stack:

        def start_kernel(**variables: str) -> Kernel:
            all_variables = {**environment, "AXON_NOTEBOOK": str(notebook_file), **variables}
            kernel = stack.enter_context(running_kernel(tmp_path, all_variables))
            kernel.execute(SET_UP)
            return kernel

        yield start_kernel


@pytest.fixture
def records(tmp_path: Path) -> Iterator[NotebookRepository]:
    """The records of the trainings of this test."""
    folder = tmp_path / "data" / "axon_notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{folder}/axon.db")
    yield NotebookRepository(store, states=StateStorage(folder / "states"))
    store.close()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], bytes]:
    """The losses and weights of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with running_kernel(folder, isolated_environment(folder)) as kernel:
        kernel.execute(SET_UP)
        kernel.execute(train())
        losses = kernel.evaluate("[c.metrics['loss'] for c in reversed(axon.checkpoints())]")
        return losses, bytes.fromhex(kernel.evaluate("model['w'].tobytes().hex()"))
