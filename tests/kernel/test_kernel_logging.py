"""Runs and their configurations, as cells that log values begin them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.engines import eventually
from support.kernel import Kernel
from support.training_script import list_runs

from jupyter_axon_notebooks.records import RunStatus, TrainingRun
from jupyter_axon_notebooks.repository import NotebookRepository

StartKernel = Callable[..., Kernel]

IMPORT = "import jupyter_axon_notebooks as axon"
TRAIN = """\
def train(lr, steps=4):
    for step in range(steps):
        axon.log({"loss": lr / (step + 1)}, step=step)
        if step % 2:
            axon.checkpoint({"lr": [lr]}, step=step, metrics={"acc": 1 - lr})
"""


def loss(records: NotebookRepository, run: TrainingRun) -> dict[int, float]:
    found = records.series.read(run.notebook_id, run.id, "loss")
    return dict(zip(found.steps.tolist(), found.values.tolist(), strict=True))


def configs(records: NotebookRepository) -> list[dict[str, object] | None]:
    return [run.config for run in list_runs(records)]


def test_a_search_in_one_cell_has_a_run_and_a_configuration_for_each_trial(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    kernel.execute(f"{IMPORT}\n{TRAIN}")
    output = kernel.execute("for lr in (0.1, 0.2, 0.3):\n    train(lr)", "search")
    kernel.execute("_ = axon.runs()")  # which waits until the values are stored
    assert output.text.count("A new run begins") == 2
    assert configs(records) == [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}]
    for run, lr in zip(list_runs(records), (0.1, 0.2, 0.3), strict=True):
        assert loss(records, run) == {step: lr / (step + 1) for step in range(4)}
        assert run.status is RunStatus.COMPLETED


def test_trials_that_log_once_are_runs_if_their_configurations_differ(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    kernel.execute(IMPORT)
    kernel.execute("for lr in (0.1, 0.2, 0.3):\n    axon.log({'loss': lr}, step=100)")
    kernel.execute("_ = axon.runs()")  # which waits until the values are stored
    assert configs(records) == [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}]
    assert [loss(records, run) for run in list_runs(records)] == [
        {100: 0.1},
        {100: 0.2},
        {100: 0.3},
    ]


def test_values_that_repeat_a_step_stay_in_the_run_of_their_configuration(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    kernel.execute(f"{IMPORT}\nlr = 0.1")
    kernel.execute("for part in range(3):\n    axon.log({'loss': lr + part}, step=0)")
    kernel.execute("_ = axon.runs()")  # which waits until the values are stored
    [run] = list_runs(records)
    assert loss(records, run) == {0: 2.1}


def test_a_cell_that_is_executed_again_with_another_configuration_is_another_run(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    cell = "for part in range(2):\n    axon.log({'loss': lr})"
    kernel.execute(f"{IMPORT}\nlr = 0.1", "set-up")
    kernel.execute(cell, "train")
    assert "A new run" not in kernel.execute(cell, "train").text  # it goes on
    kernel.execute("lr = 0.2", "set-up")
    output = kernel.execute(cell, "train").text
    kernel.execute("_ = axon.runs()")  # which waits until the values are stored
    assert "the configuration is not that of run 1" in output
    assert configs(records) == [{"lr": 0.1}, {"lr": 0.2}]
    assert [len(loss(records, run)) for run in list_runs(records)] == [4, 2]


def test_a_configuration_is_derived_at_the_first_point(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    kernel.execute(IMPORT)
    for begin in ("axon.start_run(name='wide')", "axon.resume(weights, force=True)"):
        for point in ("axon.log({'loss': lr})", "axon.checkpoint(weights, epoch=9)"):
            cell = f"weights = {{'w': [0.0]}}\n{begin}\nlr = 0.1 + len({point!r})\n{point}"
            kernel.execute(cell)
            kernel.execute("axon.checkpoint(weights)\ndel lr")
    kernel.execute("_ = axon.runs()")
    found = [run.config for run in list_runs(records)]
    assert len(found) == 4
    for config, point in zip(found, (22, 33, 22, 33), strict=True):
        assert config is not None
        assert config["lr"] == pytest.approx(0.1 + point)


def test_values_that_were_given_before_the_first_point_stay(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    kernel = start_kernel()
    kernel.execute(f"{IMPORT}\nrun = axon.start_run()\nrun.config.update(lr=0.5)")
    kernel.execute("rate = 0.1\naxon.log({'loss': rate})\n_ = axon.runs()")
    assert configs(records) == [{"lr": 0.5}]


def test_a_killed_training_shows_its_curve_and_goes_on_after_it(
    start_kernel: StartKernel, records: NotebookRepository
) -> None:
    cell = """\
start = axon.resume(weights := {"w": [0.0]})
for epoch in range(start.epoch + 1 if start else 0, 4):
    for batch in range(3):
        axon.log({"loss": 10.0 * epoch + batch}, step=batch, epoch=epoch)
    axon.checkpoint(weights, epoch=epoch)
    if epoch == 1 and not start:
        axon.log({"loss": 20.0}, step=0, epoch=2)
        print("ready", flush=True)
        input_that_never_comes = __import__("time").sleep(600)
"""
    kernel = start_kernel()
    kernel.execute(IMPORT)
    kernel.send(cell, "train")
    kernel.wait_for_text("ready")
    kernel.kill()
    kernel = start_kernel()
    kernel.execute(IMPORT)
    assert "Resumed from" in kernel.execute(cell, "train").text
    kernel.execute("_ = axon.runs()")  # which waits until the values are stored
    eventually(lambda: len(list_runs(records)) == 2)
    first, second = list_runs(records)
    assert list(loss(records, first).values()) == [0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 20.0]
    expected = [10.0 * epoch + batch for epoch in range(4) for batch in range(3)]
    assert loss(records, second) == dict(enumerate(expected))
