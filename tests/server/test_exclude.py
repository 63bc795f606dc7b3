"""Tests that notebooks can be excluded from recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.rest_client import Client


@pytest.fixture
def jp_server_config(jp_server_config: dict[str, Any]) -> dict[str, Any]:
    jp_server_config["AxonNotebooks"]["exclude"] = ["private/*", "*-scratch.ipynb"]
    return jp_server_config


@pytest.mark.parametrize(
    ("path", "is_recorded"),
    [
        ("train.ipynb", True),
        ("work/private.ipynb", True),
        ("private/train.ipynb", False),
        ("private/deep/train.ipynb", False),
        ("work/try-scratch.ipynb", False),
    ],
)
async def test_saves_of_excluded_notebooks_are_not_recorded_and_leave_the_file_alone(
    path: str, is_recorded: bool, axon: Client, jp_fetch: Any, jp_root_dir: Path
) -> None:
    (jp_root_dir / path).parent.mkdir(parents=True, exist_ok=True)
    content = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    body = json.dumps({"type": "notebook", "content": content})
    await jp_fetch("api", "contents", *path.split("/"), method="PUT", body=body)
    answer = await jp_fetch("axon", "notebooks")
    assert len(json.loads(answer.body)) == is_recorded
    metadata = json.loads((jp_root_dir / path).read_text())["metadata"]
    assert ("axon" in metadata) == is_recorded
