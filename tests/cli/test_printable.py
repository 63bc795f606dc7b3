"""Whatever records hold, no command lets a terminal obey it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.factories import new_checkpoint, new_notebook

from jupyter_axon_notebooks.provenance import Environment, ExecutedCell
from jupyter_axon_notebooks.records import NotebookCell, NotebookMetadata
from jupyter_axon_notebooks.repository import NotebookRepository

from .conftest import Axon

SIGNS = "\x1b]0;x\x07\x9b31m\r\x85\u2028\u202e\u2066\t\n\udc80"
HOSTILE = f"a{SIGNS}z"


@pytest.fixture
def ids(records: NotebookRepository, tmp_path: Path) -> tuple[str, str, str]:
    """A record, and two checkpoints of it, with such text wherever there can be text."""
    cell = NotebookCell(id="c", source=f"x{SIGNS}")
    made = records.create(
        new_notebook(
            cell,
            name=HOSTILE,
            description=HOSTILE,
            metadata=NotebookMetadata(
                kernel=HOSTILE,
                framework=HOSTILE,
                tags=[HOSTILE],
            ),
            model_id=HOSTILE,
        )
    )
    environment = Environment(
        python=HOSTILE, implementation=HOSTILE, platform=HOSTILE, packages={HOSTILE: HOSTILE}
    )
    checkpoints = []
    for epoch in range(2):
        executed = [
            ExecutedCell(source=f"x{SIGNS} = {epoch}", cell_id=HOSTILE, execution_count=epoch)
        ]
        checkpoint = new_checkpoint(
            made.id,
            {HOSTILE: epoch, "loss": 10**400},
            epoch=epoch,
            step=epoch,
            run_id=HOSTILE,
            tags=[HOSTILE],
            provenance_id=records.provenance.add(made.id, executed, environment),
            format=HOSTILE,
            model_state_path=str(tmp_path / HOSTILE.replace("\udc80", "")),
        )
        checkpoints.append(records.create_checkpoint(checkpoint).id)
    return made.id, checkpoints[0], checkpoints[1]


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["list", "--tag", HOSTILE],
        ["show", "NOTEBOOK"],
        ["show", HOSTILE],
        ["checkpoints", "NOTEBOOK"],
        ["best", "NOTEBOOK", HOSTILE, "--max"],
        ["best", "NOTEBOOK", f"x{SIGNS}", "--max"],
        ["diff", "BEFORE", "AFTER"],
        ["provenance", "AFTER"],
        ["prune", "NOTEBOOK", "--keep-best", HOSTILE],
        ["restore", "AFTER", "-o", "out"],
        ["pin", HOSTILE],
        ["export", "NOTEBOOK"],
        ["import", f"{SIGNS}.ipynb".replace("\udc80", "")],
        ["load", HOSTILE],
        ["doctor"],
        ["recover"],
        ["list", "--store-url", f"sqlite:////nowhere/{HOSTILE}"],
    ],
    ids=lambda command: " ".join(command).encode("unicode_escape").decode(),
)
def test_what_is_printed_has_no_effect(
    axon: Axon, ids: tuple[str, str, str], command: list[str], form: list[str]
) -> None:
    named: dict[str, Any] = dict(zip(("NOTEBOOK", "BEFORE", "AFTER"), ids, strict=True))
    ran = axon(*(named.get(word, word) for word in command), *form)
    for printed in (ran.stdout, ran.stderr):
        assert not [
            sign for sign in SIGNS if not sign.isprintable() and sign != "\n" and sign in printed
        ]
        assert not [
            line for line in printed.splitlines() if line.startswith("z")
        ]  # what follows a line break
        printed.encode()
    if form and ran.exit_code == 0 and command[0] not in ("pin", "export", "restore"):
        json.loads(ran.stdout)
