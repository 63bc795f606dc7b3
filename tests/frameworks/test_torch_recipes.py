"""The recipes of docs/how-to/resume.md: an interrupted training ends with the same weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.distributed import KILL, ProcessLauncher

_PAGE = (Path(__file__).parents[2] / "docs/how-to/resume.md").read_text()
_BEGIN = re.findall(r"<!-- begin -->\n```python\n(.*?)```", _PAGE, re.S)[0]
RECIPES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", _PAGE, re.S))
_INTERRUPTION = f"""
save, calls = axon.checkpoint, []
def checkpoint(*args, **named):
    saved = save(*args, **named)
    calls.append(saved)
    if len(calls) == KILL_AT:
        exec({KILL!r}, globals())
    return saved
axon.checkpoint = checkpoint
"""
_WEIGHTS = "\nresults['weights'] = [p.tolist() for p in model.parameters()]\n"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_training_continues_bit_for_bit_with_the_recipe(
    launcher: ProcessLauncher, recipe: str
) -> None:
    if "torchdata" in RECIPES[recipe]:
        pytest.importorskip("torchdata")
    code = _BEGIN + RECIPES[recipe] + _WEIGHTS
    ranks = 2 if recipe == "distributed" else 1
    folders = ["whole"] * ranks
    whole = launcher.run(code, data_folders=folders, ranks=ranks)
    interruptions = [[2], [2, 1]]  # of a training that was resumed once, too
    if recipe in ("gradients", "middle", "order"):
        interruptions.append([6])  # where an epoch ends
    for number, kill_at in enumerate(interruptions):
        folders = [f"interrupted {number}"] * ranks
        for calls in kill_at:
            launcher.run(
                _INTERRUPTION.replace("KILL_AT", str(calls)) + code,
                ranks=ranks,
                data_folders=folders,
            )
        rest = launcher.run(code, ranks=ranks, data_folders=folders)
        assert "Resumed from" in launcher.output[0]
        assert rest == whole
