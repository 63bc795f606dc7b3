"""Tests that the commands and code blocks of README and documentation work as printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from jupyter_axon_notebooks.cli.group import commands

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "train_digits.ipynb"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Pages whose Python blocks run one after another as one script.
SCRIPTS = [
    "README.md",
    "docs/how-to/per-batch-metrics.md",
    "docs/how-to/searches.md",
    "docs/how-to/early-stopping.md",
]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def shell_commands(page: Path) -> list[str]:
    """Return the commands of the shell blocks, without comments."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
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


def run(command: str | list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command, which must succeed, and return what it prints."""
    arguments = shlex.split(command) if isinstance(command, str) else command
    done = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_code_of_a_page_runs(name: str, tmp_path: Path, environment: dict[str, str]) -> None:
    code = [block for block in blocks(ROOT / name, "python") if "    ...\n" not in block]
    assert code
    script = tmp_path / "train.py"
    script.write_text("\n".join(code))
    run([sys.executable, str(script)], tmp_path, environment)


def test_the_commands_of_the_readme_work_on_what_its_quickstart_recorded(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(blocks(ROOT / "README.md", "python")[0])]
    )
    nbformat.write(notebook, tmp_path / "train.ipynb")
    environment["AXON_NOTEBOOK"] = "train.ipynb"
    run("jupyter execute train.ipynb", tmp_path, environment)
    axon = [line for line in shell_commands(ROOT / "README.md") if line.startswith("jupyter axon")]
    printed = [run(command, tmp_path, environment) for command in axon]
    assert len(printed) == 3
    assert all("train" in text or "loss" in text for text in printed)


def test_the_tutorial_shows_the_sample_and_its_commands_work(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    tutorial = ROOT / "docs" / "tutorial.md"
    sample = nbformat.read(SAMPLE, as_version=4)
    source = "\n".join(cell.source for cell in sample.cells if cell.cell_type == "code")
    shown = [line for block in blocks(tutorial, "python") for line in block.splitlines()]
    assert [line for line in shown if line.strip() != "..." and line not in source] == []
    assert "rate=3e-4" in source

    folder = tmp_path / ".lab"
    folder.mkdir()
    notebook = folder / SAMPLE.name
    text = SAMPLE.read_text("utf-8")
    assert "epochs, batches = 30, 50" in text
    notebook.write_text(text.replace("epochs, batches = 30, 50", "epochs, batches = 2, 5"))
    environment["AXON_NOTEBOOK"] = str(notebook)
    run(["jupyter", "execute", str(notebook)], tmp_path, environment)
    commands = [line for line in shell_commands(tutorial) if line.startswith(".venv/bin/jupyter")]
    assert len(commands) == 3
    for command in commands:
        assert run(command.removeprefix(".venv/bin/"), tmp_path, environment)


def test_every_command_that_a_page_names_exists() -> None:
    targets = re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    known = {target for line in targets for target in line.split()}
    for page in PAGES:
        for command in shell_commands(page):
            if command.startswith("make "):
                assert command.split()[1] in known, f"{page}: {command}"
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"jupyter axon ([a-z][a-z-]*)", page.read_text("utf-8"))
    }
    help_of = {name: CliRunner().invoke(commands, [name, "--help"]) for _, name in named}
    assert [(page, name) for page, name in sorted(named) if help_of[name].exit_code] == []


def test_every_option_that_a_page_shows_exists() -> None:
    for page in PAGES:
        for command in shell_commands(page):
            words = shlex.split(command)
            if words[:2] != ["jupyter", "axon"]:
                continue
            help_text = CliRunner().invoke(commands, [words[2], "--help"]).output
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            assert [option for option in options if option not in help_text] == [], (
                f"{page}: {command}"
            )


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) < 1000
