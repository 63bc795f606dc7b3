"""What a notebook waits for when it imports the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FRAMEWORKS = {"jax", "numpy", "safetensors", "sklearn", "skops", "tensorflow", "torch"}
SERVER = {"jupyter_events", "jupyter_server", "nbformat", "tornado", "zmq"}
KERNEL = {"IPython", "ipykernel", "jupyter_client", "traitlets"}


def loaded(code: str, home: Path) -> set[str]:
    """The packages that ``code`` loads in a new Python, besides its standard library; it keeps its data in ``home``."""
    program = (
        "import sys; before = set(sys.modules)\n"
        f"{code}\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AXON", "JPY_"))
        }
        | {"JUPYTER_DATA_DIR": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


def test_the_import_loads_nothing_but_the_standard_library(tmp_path: Path) -> None:
    assert loaded("import jupyter_axon_notebooks", tmp_path) == {"jupyter_axon_notebooks"}


@pytest.mark.parametrize(
    "code",
    [
        "axon.checkpoint, axon.resume, axon.best, axon.Checkpoint",
        "axon.checkpoint(None, metrics={'loss': 0.5})",
    ],
)
def test_the_api_loads_neither_a_framework_nor_a_server(code: str, tmp_path: Path) -> None:
    found = loaded(f"import jupyter_axon_notebooks as axon; {code}", tmp_path)
    assert "jupyter_axon_notebooks" in found
    assert found & (FRAMEWORKS | SERVER | KERNEL) == set()
