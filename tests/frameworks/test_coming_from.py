"""The guides for users of other trackers work, with the code for both sides."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.documentation import (
    OTHER_TRACKERS,
    ROOT,
    blocks,
    own_environment,
    run,
    shell_commands,
    write_script,
)

GUIDES = ROOT / "docs" / "how-to"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **own_environment(tmp_path),
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }


@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "tensorboard"])
def test_the_code_of_both_sides_runs(
    tracker: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    there, here = blocks(GUIDES / f"coming-from-{tracker}.md", "python")
    assert OTHER_TRACKERS.search(there)
    script = write_script([there, here], tmp_path)
    run([sys.executable, str(script)], tmp_path, environment)
    listed = run("jupyter axon runs --json", tmp_path, environment)
    assert '"lr": 0.1' in listed


def test_the_commands_of_the_guide_to_exports_work(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    [code] = blocks(GUIDES / "searches.md", "python")[:1]
    run([sys.executable, str(write_script([code], tmp_path))], tmp_path, environment)
    commands = shell_commands(GUIDES / "export-runs.md")
    exports = [one for one in commands if "--to" in one and "--notebook" not in one]
    assert len(exports) == 4
    for command in exports:
        run(command, tmp_path, environment)
    for path in ("exported/runs.csv", "logs/train", "mlruns/mlflow.db", "exported/wandb"):
        assert (tmp_path / path).exists()
