"""Which run a cell of a notebook resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.kernel import Kernel
from support.training_script import SET_UP, list_runs

from jupyter_axon_notebooks.records import RunStatus
from jupyter_axon_notebooks.repository import NotebookRepository

Training = Callable[..., Kernel]

TRAIN = """
model = {"w": np.full(2, float(BASE))}
resumed = axon.resume(model)
print("first epoch", resumed.epoch + 1 if resumed else 0, "weights", model["w"][0])
for epoch in range(resumed.epoch + 1 if resumed else 0, 4):
    if epoch == STOPS_AT:
        raise MemoryError
    model["w"] += 1
    axon.checkpoint(model, epoch=epoch)
"""
FOLDS = """
for fold in range(3):
    model = {"w": np.full(2, 100.0 * fold)}
    resumed = axon.resume(model, KEY)
    print("fold", fold, "first epoch", resumed.epoch + 1 if resumed else 0)
    for epoch in range(resumed.epoch + 1 if resumed else 0, 4):
        if (fold, epoch) == STOPS_AT:
            raise MemoryError
        model["w"] += 1
        axon.checkpoint(model, epoch=epoch)
    assert model["w"][0] == 100.0 * fold + 4
"""


def train(base: int, stops_at: int | None = None) -> str:
    return TRAIN.replace("BASE", str(base)).replace("STOPS_AT", str(stops_at))


def folds(key: str = "", stops_at: tuple[int, int] | None = None) -> str:
    return FOLDS.replace(", KEY", key).replace("STOPS_AT", str(stops_at))


def fail(kernel: Kernel, source: str, cell_id: str | None) -> None:
    ran = kernel.output(kernel.send(source, cell_id))
    assert str(ran.error).startswith("MemoryError"), ran


@pytest.mark.parametrize(
    "ids", [("a", "b"), (None, None)], ids=["with cell ids", "without cell ids"]
)
def test_each_of_two_trainings_resumes_its_own_run(
    training: Training, notebook_file: Path, ids: tuple[str | None, str | None]
) -> None:
    pretrain, finetune = train(0), train(1000)
    kernel = training()
    kernel.do(SET_UP)
    kernel.do(pretrain, ids[0])
    broken = finetune if ids[0] is None else train(1000, stops_at=2)
    if ids[0] is None:  # the source names the cell, so that it has to stay
        kernel.do(
            "old = axon.checkpoint\n"
            "def stop(*a, **k):\n    if k['epoch'] == 2: raise MemoryError\n    old(*a, **k)\n"
            "axon.checkpoint = stop"
        )
    fail(kernel, broken, ids[1])
    kernel.kill()
    kernel = training()
    kernel.do(SET_UP)
    assert "first epoch 0 weights 0.0" in kernel.do(pretrain, ids[0]).text
    assert "first epoch 2 weights 1002.0" in kernel.do(finetune, ids[1]).text


def test_a_new_cell_resumes_the_run_of_another_cell(
    training: Training, notebook_file: Path, records: NotebookRepository
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    fail(kernel, train(0, stops_at=1), "x")
    fail(kernel, train(0, stops_at=3), "y")
    assert "first epoch 3 weights 3.0" in kernel.do(train(0), "x").text
    assert [run.status for run in list_runs(records)] == [
        RunStatus.FAILED,
        RunStatus.FAILED,
        RunStatus.COMPLETED,
    ]
    assert "first epoch 0" in kernel.do(train(0), "y").text


def test_resume_and_the_loop_may_be_in_two_cells(
    training: Training, notebook_file: Path, records: NotebookRepository
) -> None:
    """``resume`` in one cell, the loop in the next, which is also run again by itself."""
    resume = (
        "model = {'w': np.zeros(2)}\nresumed = axon.resume(model)\nprint(resumed and resumed.epoch)"
    )
    loop = (
        "for epoch in range(resumed.epoch + 1 if resumed else 0, 4):\n"
        "    axon.checkpoint(model, epoch=epoch)"
    )
    kernel = training()
    kernel.do(SET_UP)
    assert kernel.do(resume, "resume").text == "None\n"
    kernel.do(loop, "loop")
    fail(kernel, loop + "\n    if epoch == 2: raise MemoryError", "loop")
    kernel.kill()
    kernel = training()
    kernel.do(SET_UP)
    assert kernel.do(resume, "resume").text.splitlines()[-1] == "2"
    kernel.do(loop, "loop")
    assert [run.status for run in list_runs(records)] == [
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.COMPLETED,
    ]


def test_folds_with_keys_are_runs_that_resume(
    training: Training, notebook_file: Path, records: NotebookRepository
) -> None:
    key = ', key=f"fold {fold}"'
    kernel = training()
    kernel.do(SET_UP)
    fail(kernel, folds(key, stops_at=(2, 1)), "cv")
    assert [run.status for run in list_runs(records)] == [
        RunStatus.COMPLETED,
        RunStatus.COMPLETED,
        RunStatus.FAILED,
    ]
    kernel.kill()
    kernel = training()
    kernel.do(SET_UP)
    output = kernel.do(folds(key), "cv").text
    assert [line for line in output.splitlines() if line.startswith("fold")] == [
        "fold 0 first epoch 0",
        "fold 1 first epoch 0",
        "fold 2 first epoch 1",
    ]


def test_folds_without_keys_begin_new_runs(
    training: Training, notebook_file: Path, records: NotebookRepository
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    for _ in range(2):
        fail(kernel, folds(stops_at=(2, 1)), "cv")
    output = kernel.do(folds(), "cv").text
    assert "it is resumed only by name" in output
    assert "Resumed" not in output
    completed = [run.status is RunStatus.COMPLETED for run in list_runs(records)]
    assert completed == [True, True, False] * 2 + [True] * 3


def test_an_interrupt_that_the_cell_caught_completes_the_run(
    training: Training, notebook_file: Path
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    kernel.do(
        "try:\n    for epoch in range(3):\n        axon.checkpoint(model, epoch=epoch)\n"
        "        if epoch == 1: raise KeyboardInterrupt\n"
        "except KeyboardInterrupt:\n    print('stopped early')"
    )
    output = kernel.do("assert axon.resume(model, optimizer) is None").text
    assert "completed" in output
    assert "resume(force=True) continues it" in output


def with_cells(file: Path, **cells: str) -> None:
    """Save cells with these ids into a notebook."""
    content = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [
            {
                "cell_type": "code",
                "id": id,
                "source": source,
                "metadata": {},
                "outputs": [],
                "execution_count": None,
            }
            for id, source in cells.items()
        ],
    }
    file.write_text(json.dumps(content))


def test_a_cell_does_not_resume_the_run_of_an_existing_cell(
    training: Training, notebook_file: Path
) -> None:
    with_cells(notebook_file, first=train(0, stops_at=2), second=train(1000))
    kernel = training()
    kernel.do(SET_UP)
    fail(kernel, train(0, stops_at=2), "first")
    assert "first epoch 0 weights 1000.0" in kernel.do(train(1000), "second").text
    assert "first epoch 2 weights 2.0" in kernel.do(train(0), "first").text


def test_an_edited_cell_without_an_id_resumes_its_run(
    training: Training, notebook_file: Path
) -> None:
    with_cells(notebook_file, a=train(0), b=train(1000, stops_at=2))
    kernel = training()
    kernel.do(SET_UP)
    kernel.do(train(0))
    fail(kernel, train(1000, stops_at=2), None)
    with_cells(notebook_file, a=train(0), b=train(1000))
    kernel.kill()
    kernel = training()
    kernel.do(SET_UP)
    assert "first epoch 0 weights 0.0" in kernel.do(train(0)).text
    assert "first epoch 2 weights 1002.0" in kernel.do(train(1000)).text


def test_a_run_that_stops_before_its_first_checkpoint_is_skipped(
    training: Training, notebook_file: Path
) -> None:
    resume = (
        "model = {'w': np.zeros(2)}\nresumed = axon.resume(model)\nprint(resumed and resumed.epoch)"
    )
    loop = (
        "for epoch in range(resumed.epoch + 1 if resumed else 0, 4):\n"
        "    if epoch == STOPS_AT: raise MemoryError\n"
        "    axon.checkpoint(model, epoch=epoch)"
    )
    kernel = training()
    kernel.do(SET_UP)
    assert kernel.do(resume, "resume").text == "None\n"
    for _ in range(3):
        fail(kernel, loop.replace("STOPS_AT", "2"), "loop")
        assert kernel.do(resume, "resume").text.splitlines()[-1] == "1"
    kernel.do(loop.replace("STOPS_AT", "9"), "loop")
    assert kernel.do(resume, "resume").text.splitlines()[-1] == "None"


def test_a_cell_that_failed_after_its_training_resumes_it_once(
    training: Training, notebook_file: Path
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    fail(kernel, train(0) + "\nraise MemoryError", "a")
    assert "first epoch 4" in kernel.do(train(0), "a").text  # nothing is left to train
    assert "first epoch 0" in kernel.do(train(0), "a").text


def test_a_button_that_is_pressed_again_resumes_its_run(
    training: Training, notebook_file: Path
) -> None:
    """As of widgets: functions that the kernel calls outside of cells."""
    kernel = training()
    kernel.do(SET_UP)
    kernel.do(
        "import asyncio\nfound = []\n"
        "def press(stops_at):\n"
        "    model = {'w': np.zeros(2)}\n"
        "    resumed = axon.resume(model)\n"
        "    found.append(resumed and resumed.epoch)\n"
        "    for epoch in range(resumed.epoch + 1 if resumed else 0, 6):\n"
        "        if epoch == stops_at: raise MemoryError\n"
        "        axon.checkpoint(model, epoch=epoch)\n"
        "pressed = asyncio.Event()\n"
        "def handle(stops_at):\n"
        "    try: press(stops_at)\n"
        "    finally: pressed.set()\n"
    )
    kernel.do("asyncio.get_event_loop().call_soon(handle, 3)")
    kernel.do("await pressed.wait(); pressed.clear()")
    kernel.do("asyncio.get_event_loop().call_soon(handle, 9)")
    kernel.do("await pressed.wait()")
    assert kernel.ask("found") == [None, 2]
