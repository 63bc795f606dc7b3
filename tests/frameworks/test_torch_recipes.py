"""The recipes of docs/how-to/resume.md: an interrupted training ends with the weights of an uninterrupted one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.distributed import STOP, Nodes

_PAGE = (Path(__file__).parents[2] / "docs/how-to/resume.md").read_text()
_BEGIN = re.findall(r"<!-- begin -->\n```python\n(.*?)```", _PAGE, re.S)[0]
RECIPES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", _PAGE, re.S))
_STOPS = f"""
save, calls = axon.checkpoint, []
def checkpoint(*args, **named):
    made = save(*args, **named)
    calls.append(made)
    if len(calls) == STOPS_AT:
        exec({STOP!r}, globals())
    return made
axon.checkpoint = checkpoint
"""
_WEIGHTS = "\ntold['weights'] = [p.tolist() for p in model.parameters()]\n"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_training_goes_on_bit_for_bit_with_the_recipe(nodes: Nodes, recipe: str) -> None:
    if "torchdata" in RECIPES[recipe]:
        pytest.importorskip("torchdata")
    code = _BEGIN + RECIPES[recipe] + _WEIGHTS
    ranks = 2 if recipe == "distributed" else 1
    homes = ["whole"] * ranks
    whole = nodes.run(code, homes=homes, ranks=ranks)
    stops = [[2], [2, 1]]  # of a training that was resumed once, too
    if recipe in ("gradients", "middle", "order"):
        stops.append([6])  # where an epoch ends
    for number, stops_at in enumerate(stops):
        homes = [f"stopped {number}"] * ranks
        for calls in stops_at:
            nodes.run(_STOPS.replace("STOPS_AT", str(calls)) + code, ranks=ranks, homes=homes)
        rest = nodes.run(code, ranks=ranks, homes=homes)
        assert "Resumed from" in nodes.output[0]
        assert rest == whole
