"""Tests that the commands and code blocks of README and documentation work as printed."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from support.documentation import (
    OTHER_TRACKERS,
    ROOT,
    blocks,
    own_environment,
    run,
    shell_commands,
    write_script,
)

from jupyter_axon_notebooks.cli.group import commands
from jupyter_axon_notebooks.run_filters import (
    FIELDS,
    InvalidFilter,
    check_names,
    parse_filter,
    variables,
)

SAMPLE = ROOT / "examples" / "train_digits.ipynb"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Pages whose Python blocks run one after another as one script.
SCRIPTS = [
    "README.md",
    "docs/how-to/per-batch-metrics.md",
    "docs/how-to/searches.md",
    "docs/how-to/compare-runs.md",
    "docs/how-to/coming-from-wandb.md",
    "docs/how-to/coming-from-mlflow.md",
    "docs/how-to/coming-from-tensorboard.md",
    "docs/how-to/early-stopping.md",
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return own_environment(tmp_path)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_code_of_a_page_runs(name: str, tmp_path: Path, environment: dict[str, str]) -> None:
    code = [
        block
        for block in blocks(ROOT / name, "python")
        if "    ...\n" not in block and not OTHER_TRACKERS.search(block)
    ]
    assert code
    run([sys.executable, str(write_script(code, tmp_path))], tmp_path, environment)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("compare-runs.md", "compare-runs.md"),
        ("per-batch-metrics.md", "per-batch-metrics.md"),
        ("export-runs.md", "compare-runs.md"),
    ],
)
def test_the_commands_of_a_guide_work(
    name: str, code: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    guides = ROOT / "docs" / "how-to"
    cells = [nbformat.v4.new_code_cell(block) for block in blocks(guides / code, "python")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "train.ipynb")
    environment["AXON_NOTEBOOK"] = "train.ipynb"
    run("jupyter execute train.ipynb", tmp_path, environment)
    for command in shell_commands(guides / name):
        is_ours = command.startswith("jupyter axon") and " jupyter axon " not in command
        if is_ours and ("--to" not in command or "--to csv" in command):
            run(["bash", "-c", command], tmp_path, environment)


def test_the_errors_of_filters_are_those_of_the_page() -> None:
    page = ROOT / "docs" / "reference" / "filters.md"
    rows = re.findall(
        r"^\| `(.*)` \| (.*) \|$", page.read_text("utf-8").split("## Errors")[1], re.M
    )
    assert len(rows) == 6
    for text, error in rows:
        with pytest.raises(InvalidFilter) as raised:
            check_names(text, list(variables(parse_filter(text))), ["lr"], ["loss"], "where")
        assert str(raised.value).startswith(f"where: {error} (at position ")


def test_the_fields_of_filters_are_those_of_the_page() -> None:
    text = (ROOT / "docs" / "reference" / "filters.md").read_text("utf-8")
    names = text.split("## Names")[1].split("## Meaning")[0]
    assert [name for name in FIELDS if f"`{name}`" not in names] == []


def test_the_commands_of_the_readme_work_on_what_its_quickstart_recorded(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(block) for block in blocks(ROOT / "README.md", "python")]
    )
    nbformat.write(notebook, tmp_path / "train.ipynb")
    environment["AXON_NOTEBOOK"] = "train.ipynb"
    run("jupyter execute train.ipynb", tmp_path, environment)
    axon = [line for line in shell_commands(ROOT / "README.md") if line.startswith("jupyter axon")]
    printed = [run(command, tmp_path, environment) for command in axon]
    assert len(printed) == 5
    assert all("train" in text or "loss" in text for text in printed)
    assert "rate 0.03" not in printed[3]
    assert "config" in printed[4]


def test_the_tutorial_shows_the_sample_and_its_commands_work(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    tutorial = ROOT / "docs" / "tutorial.md"
    sample = nbformat.read(SAMPLE, as_version=4)
    source = "\n".join(cell.source for cell in sample.cells if cell.cell_type == "code")
    *shown, questions, search = blocks(tutorial, "python")
    lines = [line for block in shown for line in block.splitlines()]
    assert [line for line in lines if line.strip() != "..." and line not in source] == []
    assert "rate = 3e-4" in source

    folder = tmp_path / ".lab"
    folder.mkdir()
    notebook = folder / SAMPLE.name
    assert "epochs, batches = 30, 50" in source
    for cell in sample.cells:
        cell.source = cell.source.replace("epochs, batches = 30, 50", "epochs, batches = 2, 5")
    sample.cells += [nbformat.v4.new_code_cell(source) for source in (questions, search)]
    nbformat.write(sample, notebook)
    environment["AXON_NOTEBOOK"] = str(notebook)
    run(["jupyter", "execute", str(notebook)], tmp_path, environment)
    commands = [line for line in shell_commands(tutorial) if line.startswith(".venv/bin/jupyter")]
    assert len(commands) == 5
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
