"""What a training says about itself stops it in no kernel, and what is asked leaves no trace."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.training_script import SET_UP

ASKED = """
import jupyter_axon_notebooks as axon
from jupyter_axon_notebooks.errors import NotFound

assert axon.latest() is None
assert axon.checkpoints() == []
assert axon.resume() is None
try:
    axon.best("val_loss")
except NotFound as error:
    print(error)
"""
COUNTED_IN_TOKENS = """
for number in range(1, 4):
    axon.checkpoint(
        model,
        epoch=number / 2,
        step=np.float64(number * 5_000_000_000),
        metrics={"val_loss": 1 / number, "confusion": np.eye(2), 0: number},
    )
"""


def test_a_kernel_that_only_asks_makes_no_record(training, records):
    for told in ({}, {"AXON_NOTEBOOK": ""}):  # a notebook, and a console
        assert "as val_loss; no metrics are recorded" in training(**told).do(ASKED).text
    assert records.list_all() == []


def test_a_script_that_only_asks_makes_no_record(environment, tmp_path, records):
    script = tmp_path / "ask.py"
    script.write_text(ASKED)
    ran = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert "as val_loss; no metrics are recorded" in ran.stdout
    assert records.list_all() == []
    script.write_text(
        f"{ASKED}axon.checkpoint(None, metrics={{'val_loss': 1.0}})\nassert axon.best('val_loss').epoch == 0\n"
    )
    ran = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert "The best val_loss: lower is better." in ran.stdout
    assert len(records.list_all()) == 1


def test_odd_numbers_stop_no_training(training, records):
    kernel = training()
    kernel.do(SET_UP)
    said = kernel.do(COUNTED_IN_TOKENS).text
    assert said.count("epoch is not a whole number") == 1
    assert said.count("metrics are left out: confusion") == 1
    (notebook,) = records.list_all()
    made = records.list_checkpoints(notebook.id)
    assert [(one.epoch, one.step) for one in reversed(made)] == [
        (0, 5_000_000_000),
        (1, 10_000_000_000),
        (1, 15_000_000_000),
    ]
    assert len({one.run_id for one in made}) == 1
    assert made[0].metrics == {"val_loss": 1 / 3, "0": 3}
    assert all(one.model_state_path for one in made)
    said = kernel.do("print(axon.best('val_loss').step)\nprint(axon.best('val_loss').step)").text
    assert said == "The best val_loss: lower is better.\n15000000000\n15000000000\n"
    with pytest.raises(AssertionError, match="did you mean val_loss"):
        kernel.do("axon.best('val_los')")
