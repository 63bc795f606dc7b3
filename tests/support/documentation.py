"""The commands and code blocks of README and documentation."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Blocks that use another tracker; they need its package.
OTHER_TRACKERS = re.compile(r"^(?:import|from) (?:wandb|mlflow|torch)", re.M)


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def shell_commands(page: Path) -> list[str]:
    """Return the commands of the shell blocks, without comments."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def own_environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a data directory of its own, and this Python's programs first."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AXON", "JUPYTER", "JPY_"))
    }
    programs = str(Path(sys.executable).parent)
    return {
        **inherited,
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "PATH": os.pathsep.join([programs, inherited["PATH"]]),
    }


def write_script(code: list[str], folder: Path) -> Path:
    """Write code blocks as one script, and return its path."""
    script = folder / "train.py"
    script.write_text("\n".join(code))
    return script


def run(command: str | list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command, which must succeed, and return what it prints."""
    arguments = shlex.split(command) if isinstance(command, str) else command
    done = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
