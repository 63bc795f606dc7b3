"""The command line on Jupyter folders of its own.

``axon`` runs a command in this process, ``process`` the installed one; both give what was printed
and the exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from jupyter_axon_notebooks.cli.group import commands
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store

EXECUTABLE = Path(sys.executable).with_name("jupyter")
CORPUS = Path(__file__).parents[1] / "data" / "corpus"
USER = "ada"


class Ran(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


Axon = Callable[..., Ran]


@pytest.fixture(autouse=True)
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds Jupyter's data and configuration, with the extension enabled."""
    home = tmp_path / "jupyter"
    for variable, folder in (("JUPYTER_DATA_DIR", "data"), ("JUPYTER_CONFIG_DIR", "config")):
        (home / folder).mkdir(parents=True)
        monkeypatch.setenv(variable, str(home / folder))
    monkeypatch.setenv("JUPYTERHUB_USER", USER)
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setenv("COLUMNS", "80")
    for variable in (
        "AXON_STORE_URL",
        "NO_COLOR",
        "FORCE_COLOR",
        "TTY_COMPATIBLE",
        "TTY_INTERACTIVE",
    ):
        monkeypatch.delenv(variable, raising=False)
    enable(home, True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return home


def enable(jupyter: Path, enabled: bool) -> None:
    folder = jupyter / "config" / "jupyter_server_config.d"
    folder.mkdir(exist_ok=True)
    content = {"ServerApp": {"jpserver_extensions": {"jupyter_axon_notebooks": enabled}}}
    (folder / "axon.json").write_text(json.dumps(content))


@pytest.fixture
def db(jupyter: Path) -> Path:
    """Return the default path of the store."""
    return jupyter / "data" / "axon_notebooks" / "axon.db"


@pytest.fixture
def root(jupyter: Path) -> Path:
    """Return the default folder of state files."""
    return jupyter / "data" / "axon_notebooks" / "states"


@pytest.fixture
def axon() -> Axon:
    def run(*arguments: object) -> Ran:
        result = CliRunner().invoke(
            commands, [str(argument) for argument in arguments], prog_name="jupyter axon"
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def process() -> Axon:
    def run(*arguments: object, **environment: str) -> Ran:
        ended = subprocess.run(
            [EXECUTABLE, "axon", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=False,
            timeout=60,
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    return run


@contextmanager
def repository(db: Path) -> Iterator[NotebookRepository]:
    """The records, as a server has them."""
    store = open_store(f"sqlite:///{db}")
    try:
        yield NotebookRepository(store)
    finally:
        store.close()


@pytest.fixture
def records(db: Path) -> Iterator[NotebookRepository]:
    """The records, as a server has them while a command runs."""
    with repository(db) as opened:
        yield opened


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files under ``folder``, with the times they changed and what is in them."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }
