"""Which run a cell of a notebook resumes: that of its own training, and never another's."""

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


def fails(kernel: Kernel, source: str, cell_id: str | None) -> None:
    ran = kernel.output(kernel.send(source, cell_id))
    assert str(ran.error).startswith("MemoryError"), ran


@pytest.mark.parametrize(
    "ids", [("a", "b"), (None, None)], ids=["with cell ids", "without cell ids"]
)
def test_of_two_trainings_each_continues_itself(
    training: Training, notebook_file: Path, ids: tuple[str | None, str | None]
) -> None:
    pretrain, finetune = train(0), train(1000)
    kernel = training()
    kernel.do(SET_UP)
    kernel.do(pretrain, ids[0])
    broken = finetune if ids[0] is None else train(1000, stops_at=2)
    if ids[0] is None:  # the source names the cell, so that it has to stay
        kernel.do(
            "old = axon.checkpoint\ndef stop(*a, **k):\n    if k['epoch'] == 2: raise MemoryError\n    old(*a, **k)\naxon.checkpoint = stop"
        )
    fails(kernel, broken, ids[1])
    kernel.kill()
    kernel = training()
    kernel.do(SET_UP)
    assert "first epoch 0 weights 0.0" in kernel.do(pretrain, ids[0]).text
    assert "first epoch 2 weights 1002.0" in kernel.do(finetune, ids[1]).text


def test_a_new_cell_continues_what_another_cell_began(
    training: Training, notebook_file: Path, records: NotebookRepository
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    fails(kernel, train(0, stops_at=1), "x")
    fails(kernel, train(0, stops_at=3), "y")
    assert "first epoch 3 weights 3.0" in kernel.do(train(0), "x").text
    assert [run.status for run in list_runs(records)] == [
        RunStatus.FAILED,
        RunStatus.FAILED,
        RunStatus.COMPLETED,
    ]
    assert "first epoch 0" in kernel.do(train(0), "y").text


def test_a_cell_that_asks_for_another_cell_to_train(
    training: Training, notebook_file: Path, records: NotebookRepository
) -> None:
    """``resume`` in one cell, the loop in the next, which is also run again by itself."""
    ask = (
        "model = {'w': np.zeros(2)}\nresumed = axon.resume(model)\nprint(resumed and resumed.epoch)"
    )
    loop = "for epoch in range(resumed.epoch + 1 if resumed else 0, 4):\n    axon.checkpoint(model, epoch=epoch)"
    kernel = training()
    kernel.do(SET_UP)
    assert kernel.do(ask, "ask").text == "None\n"
    kernel.do(loop, "loop")
    fails(kernel, loop + "\n    if epoch == 2: raise MemoryError", "loop")
    kernel.kill()
    kernel = training()
    kernel.do(SET_UP)
    assert kernel.do(ask, "ask").text.splitlines()[-1] == "2"
    kernel.do(loop, "loop")
    assert [run.status for run in list_runs(records)] == [
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.COMPLETED,
    ]


def test_a_loop_over_folds_is_a_run_each_and_continues_by_key(
    training: Training, notebook_file: Path, records: NotebookRepository
) -> None:
    key = ', key=f"fold {fold}"'
    kernel = training()
    kernel.do(SET_UP)
    fails(kernel, folds(key, stops_at=(2, 1)), "cv")
    assert [run.status for run in list_runs(records)] == [
        RunStatus.COMPLETED,
        RunStatus.COMPLETED,
        RunStatus.FAILED,
    ]
    kernel.kill()
    kernel = training()
    kernel.do(SET_UP)
    said = kernel.do(folds(key), "cv").text
    assert [line for line in said.splitlines() if line.startswith("fold")] == [
        "fold 0 first epoch 0",
        "fold 1 first epoch 0",
        "fold 2 first epoch 1",
    ]


def test_a_loop_over_folds_without_keys_trains_each_anew(
    training: Training, notebook_file: Path, records: NotebookRepository
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    for _ in range(2):
        fails(kernel, folds(stops_at=(2, 1)), "cv")
    said = kernel.do(folds(), "cv").text
    assert "is only resumed by name" in said or "only resumed by name" in said
    assert "Resumed" not in said
    completed = [run.status is RunStatus.COMPLETED for run in list_runs(records)]
    assert completed == [True, True, False] * 2 + [True] * 3


def test_an_interrupt_that_the_cell_caught_is_explained(
    training: Training, notebook_file: Path
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    kernel.do(
        "try:\n    for epoch in range(3):\n        axon.checkpoint(model, epoch=epoch)\n        if epoch == 1: raise KeyboardInterrupt\n"
        "except KeyboardInterrupt:\n    print('stopped early')"
    )
    said = kernel.do("assert axon.resume(model, optimizer) is None").text
    assert "completed" in said
    assert "resume(force=True) continues it" in said


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


def test_a_cell_takes_nothing_from_another_one_that_is_still_there(
    training: Training, notebook_file: Path
) -> None:
    with_cells(notebook_file, first=train(0, stops_at=2), second=train(1000))
    kernel = training()
    kernel.do(SET_UP)
    fails(kernel, train(0, stops_at=2), "first")
    assert "first epoch 0 weights 1000.0" in kernel.do(train(1000), "second").text
    assert "first epoch 2 weights 2.0" in kernel.do(train(0), "first").text


def test_a_cell_without_an_id_that_was_edited_continues_its_own_training(
    training: Training, notebook_file: Path
) -> None:
    with_cells(notebook_file, a=train(0), b=train(1000, stops_at=2))
    kernel = training()
    kernel.do(SET_UP)
    kernel.do(train(0))
    fails(kernel, train(1000, stops_at=2), None)
    with_cells(notebook_file, a=train(0), b=train(1000))
    kernel.kill()
    kernel = training()
    kernel.do(SET_UP)
    assert "first epoch 0 weights 0.0" in kernel.do(train(0)).text
    assert "first epoch 2 weights 1002.0" in kernel.do(train(1000)).text


def test_a_training_that_stopped_again_before_its_first_checkpoint_is_not_lost(
    training: Training, notebook_file: Path
) -> None:
    ask = (
        "model = {'w': np.zeros(2)}\nresumed = axon.resume(model)\nprint(resumed and resumed.epoch)"
    )
    loop = "for epoch in range(resumed.epoch + 1 if resumed else 0, 4):\n    if epoch == STOPS_AT: raise MemoryError\n    axon.checkpoint(model, epoch=epoch)"
    kernel = training()
    kernel.do(SET_UP)
    assert kernel.do(ask, "ask").text == "None\n"
    for _ in range(3):
        fails(kernel, loop.replace("STOPS_AT", "2"), "loop")
        assert kernel.do(ask, "ask").text.splitlines()[-1] == "1"
    kernel.do(loop.replace("STOPS_AT", "9"), "loop")
    assert kernel.do(ask, "ask").text.splitlines()[-1] == "None"


def test_a_cell_that_failed_behind_its_training_resumes_it_once(
    training: Training, notebook_file: Path
) -> None:
    kernel = training()
    kernel.do(SET_UP)
    fails(kernel, train(0) + "\nraise MemoryError", "a")
    assert "first epoch 4" in kernel.do(train(0), "a").text  # nothing is left to train
    assert "first epoch 0" in kernel.do(train(0), "a").text


def test_a_button_that_is_pressed_again_resumes_what_it_trained(
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
