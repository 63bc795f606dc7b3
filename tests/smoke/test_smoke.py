"""The essentials on any operating system: install, save a notebook, train, resume and restore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytest_jupyter.jupyter_server"]

TRAINING = """
import sys
import numpy as np
import jupyter_axon_notebooks as axon

weights = {"w": np.zeros(3)}
resumed = axon.resume(weights)
for epoch in range(resumed.epoch + 1 if resumed else 0, 4):
    weights["w"] += epoch
    axon.checkpoint(weights, epoch=epoch, metrics={"loss": 1 / (epoch + 1)})
    if epoch == 1 and not resumed:
        sys.exit("interrupted")
assert axon.best("loss").epoch == 3
assert weights["w"].tolist() == [6.0, 6.0, 6.0], weights
"""


@pytest.fixture
def jp_server_config(jp_server_config: Any) -> Any:
    """Enable the extension."""
    return {
        **jp_server_config,
        "ServerApp": {"jpserver_extensions": {"jupyter_axon_notebooks": True}},
    }


async def test_a_saved_notebook_gets_a_record(jp_fetch: Any) -> None:
    content = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    body = json.dumps({"type": "notebook", "content": content})
    await jp_fetch("api", "contents", "train.ipynb", method="PUT", body=body)
    answer = await jp_fetch("axon", "notebooks", params={"path": "train.ipynb"})
    assert [notebook["name"] for notebook in json.loads(answer.body)] == ["train"]


def test_an_interrupted_training_is_resumed(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    environment = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, str(script)]
    first = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "interrupted" in first.stderr
    subprocess.run(command, env=environment, check=True)
    programs = Path(sys.executable).parent
    listed = [str(programs / "jupyter-axon"), "list"]
    assert "train" in subprocess.check_output(listed, env=environment, text=True)
