"""A run gets its status from the code that trains, also if its error is caught."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from support.engines import eventually
from support.kernel import Kernel, running_kernel
from support.server_kernels import isolated_environment
from support.server_processes import notebook, write

from jupyter_axon_notebooks.records import TrainingRun, new_id
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store

SET_UP = """
import asyncio, os, pathlib, signal, sys, threading, time
import numpy as np
import jupyter_axon_notebooks as axon

model = {"w": np.zeros(2)}

def train(error=None, first=0, last=2):
    for epoch in range(first, last):
        axon.checkpoint(model, epoch=epoch)
    if error is not None:
        raise error

def wait():
    pathlib.Path("waiting").touch()
    while not pathlib.Path("continue").exists():
        time.sleep(0.01)
"""
#: Files that cells run.
FILES = {
    "good.py": f"{SET_UP}\ntrain()",
    "bad.py": f"{SET_UP}\ntrain(MemoryError('bad'))",
    "waits.py": f"{SET_UP}\ntrain()\nwait()",
    "other.py": "1 / 0",
    "inner_good.py": "train()",
    "inner_bad.py": "train(MemoryError('bad'))",
    "inner_other.py": "train(MemoryError('too early'), last=0)",
    "exits.py": f"{SET_UP}\ntrain()\nsys.exit(3)",
    "leaves.py": f"{SET_UP}\ntrain()\nsys.exit()",
    "bad.ipy": "train(MemoryError('bad'))",
}


@dataclass
class Trainings:
    """A kernel, and the records of its trainings in the notebook of a test."""

    kernel: Kernel
    records: NotebookRepository
    folder: Path
    notebook_id: str = ""

    @property
    def runs(self) -> list[TrainingRun]:
        """The runs of the notebook, oldest first."""
        return self.records.runs.list(self.notebook_id)[::-1]

    @property
    def statuses(self) -> list[str]:
        return [run.status.value for run in self.runs]

    def wait_for(self, *expected: str) -> None:
        """Wait until the runs have these statuses."""
        eventually(lambda: self.statuses == [*expected])


@contextmanager
def trainings_in(folder: Path) -> Iterator[Trainings]:
    for name, source in FILES.items():
        (folder / name).write_text(source)
    cells = [nbformat.v4.new_code_cell("train(MemoryError('bad'))")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "bad.ipynb")
    with running_kernel(folder, isolated_environment(folder)) as kernel:
        data = folder / "data" / "axon_notebooks"
        data.mkdir(parents=True)
        with closing(open_store(f"sqlite:///{data}/axon.db")) as store:
            yield Trainings(kernel, NotebookRepository(store), folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    with trainings_in(tmp_path_factory.mktemp("ends")) as trainings:
        trainings.kernel.execute(SET_UP)
        yield trainings


def use_new_notebook(trainings: Trainings) -> Trainings:
    """Have the kernel train another notebook than before."""
    for name in ("waiting", "continue"):
        (trainings.folder / name).unlink(missing_ok=True)
    path = write(trainings.folder / f"{new_id()}.ipynb", notebook("train()"))
    trainings.kernel.execute(f"import jupyter_axon_notebooks as axon\naxon.use({str(path)!r})")
    trainings.notebook_id = trainings.kernel.evaluate("axon.notebook().id")
    trainings.kernel.execute(SET_UP)
    return trainings


@pytest.fixture
def trainings(shared: Trainings) -> Trainings:
    """The trainings of this test, in a kernel that others use as well."""
    return use_new_notebook(shared)


@pytest.fixture
def own_trainings(tmp_path: Path) -> Iterator[Trainings]:
    """The trainings of this test, in a kernel that it may end."""
    with trainings_in(tmp_path) as trainings:
        yield use_new_notebook(trainings)


# Errors that IPython or a widget catches


@pytest.mark.parametrize(
    "cell",
    [
        "%%capture\ntrain(MemoryError('bad'))",
        "get_ipython().run_cell('train(MemoryError())')",
        "get_ipython().run_cell('train(MemoryError())', silent=True)",
        "get_ipython().run_cell('train(SystemExit(3))')",
        "await asyncio.sleep(0); get_ipython().run_cell('train(MemoryError())')",
        "axon.checkpoint(model, epoch=0)\nget_ipython().run_cell('train(MemoryError(), first=1)')",
        "%run bad.py",
        "%run -i inner_bad.py",
        "%run -p -D profile bad.py",
        "%run -m bad",
        "%run -n exits.py",
        "%run bad.ipy",
        "%run bad.ipynb",
        "%run bad.py\n%run other.py",
        "%run bad.py\nimport asyncio; await asyncio.sleep(0)",
        "%%time\ntrain(MemoryError('bad'))",
        "%%time\ntrain()\n1 / 0",
        "%time train(MemoryError('bad'))",
        "%%timeit -n1 -r1\ntrain(MemoryError('bad'))",
        "%prun -q train(MemoryError('bad'))",
        "import ipywidgets\nwith ipywidgets.Output(): train(MemoryError('bad'))",
        "import ipywidgets\n@ipywidgets.Output().capture()\n"
        "def train_in_output(): train(MemoryError('bad'))\ntrain_in_output()",
        "try: train(MemoryError())\nexcept MemoryError: get_ipython().showtraceback()",
    ],
)
def test_a_run_whose_error_was_caught_has_failed(trainings: Trainings, cell: str) -> None:
    trainings.kernel.run(cell)
    assert trainings.statuses == ["failed"]
    trainings.kernel.execute("resumed = axon.resume(model)")
    assert trainings.kernel.evaluate("resumed.epoch") in (1, 3)


@pytest.mark.parametrize(
    "cell",
    [
        "%%capture\ntrain(); wait()",
        "get_ipython().run_cell('train(); wait()')",
        "%run waits.py",
        "%%time\ntrain(); wait()",
        "%timeit -n1 -r1 (train(), wait())",
    ],
)
def test_a_run_whose_interrupt_was_caught_was_stopped(trainings: Trainings, cell: str) -> None:
    message = trainings.kernel.send(cell)
    eventually((trainings.folder / "waiting").exists)
    trainings.kernel.interrupt()
    trainings.kernel.wait_for_reply(message)
    assert trainings.statuses == ["stopped"]


@pytest.mark.parametrize(
    "cell",
    [
        "%%capture\ntrain()",
        "%run leaves.py",
        "%run other.py\ntrain()",
        "train()\n%run other.py",
        "train()\nget_ipython().run_cell('1 / 0')",
        "%run good.py\n%run other.py",
        "%run -i inner_good.py\n%run -i inner_other.py",
        "%time train()\n%run other.py",
        "train()\ntry: train(MemoryError(), last=0)\nexcept MemoryError: pass",
    ],
)
def test_an_error_of_other_code_does_not_fail_a_run(trainings: Trainings, cell: str) -> None:
    trainings.kernel.run(cell)
    assert trainings.statuses == ["completed"]


def test_each_run_of_a_cell_ends_with_its_own_code(trainings: Trainings) -> None:
    trainings.kernel.run("%run bad.py\n%run good.py\n%run exits.py\ntrain()\n%run other.py")
    assert trainings.statuses == ["failed", "completed", "failed", "completed"]


def test_nested_cells_end_with_their_outer_cell(trainings: Trainings) -> None:
    trainings.kernel.run("get_ipython().run_cell('train()'); inner = axon.checkpoints()[0]\n1 / 0")
    assert trainings.statuses == ["failed"]


def test_the_hooks_of_the_shell_are_removed_after_the_run(trainings: Trainings) -> None:
    trainings.kernel.run("%run bad.py\n%run other.py\ntrain()")
    assert trainings.kernel.evaluate("'showtraceback' in vars(get_ipython())") is False
    assert trainings.kernel.evaluate("signal.getsignal(signal.SIGTERM) is signal.SIG_DFL") is True


def test_the_package_may_be_imported_in_a_nested_cell(tmp_path: Path) -> None:
    with trainings_in(tmp_path) as trainings:
        path = write(tmp_path / "train.ipynb", notebook("train()"))
        first = SET_UP.replace("as axon", f"as axon; axon.use({str(path)!r})")
        trainings.kernel.execute(f"%%capture\n{first}\ntrain()")
        trainings.notebook_id = trainings.kernel.evaluate("axon.notebook().id")
        trainings.kernel.execute("train(first=2, last=4)")
        assert trainings.statuses == ["completed"]
        trainings.kernel.run("get_ipython().run_cell('train()')\n1 / 0")
        assert trainings.statuses == ["completed", "failed"]


# Debuggers

#: Functions that stop at a breakpoint and continue, or are traced, between two trainings.
DEBUGGED = """
import io, pdb
def debug(commands="c"):
    options = {"stdin": io.StringIO(commands + "\\n"), "stdout": io.StringIO()}
    pdb.Pdb(**options, nosigint=True, readrc=False).set_trace(sys._getframe(1))
def debugged(error=None):
    train()
    debug()
    train(first=2, last=3)
    if error is not None:
        raise error
def traced(error=None):
    sys.settrace(lambda *_: None)
    train()
    sys.settrace(None)
    if error is not None:
        raise error
"""


@pytest.mark.parametrize(("error", "status"), [("None", "completed"), ("MemoryError()", "failed")])
@pytest.mark.parametrize(
    "cell",
    ["%%capture\ndebugged({})", "%time debugged({})", "%run -i debugged.py", "%time traced({})"],
)
def test_a_debugger_does_not_hide_errors(
    trainings: Trainings, cell: str, error: str, status: str
) -> None:
    (trainings.folder / "debugged.py").write_text(f"train()\ndebug()\nif {error}: raise {error}")
    trainings.kernel.execute(DEBUGGED)
    trainings.kernel.run(cell.format(error))
    assert trainings.statuses == [status]


@pytest.mark.parametrize(("error", "status"), [("None", "completed"), ("MemoryError()", "failed")])
def test_a_breakpoint_does_not_end_a_function_of_the_event_loop(
    trainings: Trainings, error: str, status: str
) -> None:
    trainings.kernel.execute(DEBUGGED)
    trainings.kernel.execute(f"asyncio.get_running_loop().call_soon(debugged, {error})")
    eventually(lambda: trainings.statuses == [status])


# Trainings outside of a cell

#: Begins a training that waits in the middle, and continues in another cell.
OUTSIDE = {
    "future": """
from concurrent.futures import ThreadPoolExecutor
started, go = threading.Event(), threading.Event()
def work():
    train(); started.set(); go.wait(); train(error, 2, 4)
pool = ThreadPoolExecutor(1)
future = pool.submit(work)
started.wait()
""",
    "task": """
started, go = asyncio.Event(), asyncio.Event()
async def work():
    train(); started.set(); await go.wait(); train(error, 2, 4)
future = asyncio.create_task(work())
await started.wait()
""",
    "thread": """
started, go = threading.Event(), threading.Event()
def work():
    train(); started.set(); go.wait(); train(error, 2, 4)
future = threading.Thread(target=work, daemon=True)
future.start()
started.wait()
""",
}
GO = {
    "future": "go.set(); future.exception()",
    "task": "go.set(); await asyncio.wait([future])",
    "thread": "go.set(); future.join()",
}


@pytest.mark.parametrize(("error", "status"), [("None", "completed"), ("MemoryError()", "failed")])
@pytest.mark.parametrize("kind", OUTSIDE)
def test_a_training_that_outlives_its_cell_has_its_own_status(
    trainings: Trainings, kind: str, error: str, status: str
) -> None:
    trainings.kernel.execute(f"error = {error}")
    trainings.kernel.execute(OUTSIDE[kind])
    trainings.kernel.run("1 / 0")
    assert trainings.statuses == ["running"]
    trainings.kernel.execute(GO[kind])
    trainings.wait_for(status)


@pytest.mark.parametrize(
    ("error", "end", "status"), [("None", "1 / 0", "completed"), ("MemoryError()", "", "failed")]
)
@pytest.mark.parametrize("kind", OUTSIDE)
def test_a_training_that_its_cell_awaits_has_its_own_status(
    trainings: Trainings, kind: str, error: str, end: str, status: str
) -> None:
    trainings.kernel.execute(f"error = {error}")
    trainings.kernel.run(f"{OUTSIDE[kind]}\n{GO[kind]}\n{end}")
    trainings.wait_for(status)


def test_a_task_that_is_cancelled_was_stopped(trainings: Trainings) -> None:
    trainings.kernel.execute(f"error = None\n{OUTSIDE['task']}")
    trainings.kernel.execute("future.cancel(); await asyncio.wait([future])")
    assert trainings.statuses == ["stopped"]


@pytest.mark.parametrize(
    ("kind", "how"),
    [("future", "shutdown"), ("task", "restart"), ("thread", "shutdown"), ("thread", "terminate")],
)
def test_a_training_that_its_kernel_ends_was_stopped(
    own_trainings: Trainings, kind: str, how: str
) -> None:
    own_trainings.kernel.execute(f"error = None\n{OUTSIDE[kind]}")
    own_trainings.kernel.execute("1")
    assert own_trainings.statuses == ["running"]
    if how == "restart":
        own_trainings.kernel.manager.restart_kernel()
    elif how == "shutdown":
        own_trainings.kernel.manager.shutdown_kernel()
    else:
        own_trainings.kernel.manager.signal_kernel(signal.SIGTERM)
    own_trainings.wait_for("stopped")


WIDGET = "import ipywidgets\nbutton = ipywidgets.Button()\nbutton.on_click(lambda _: CODE)"


def click(trainings: Trainings) -> str:
    """Click the button as a front end does; return the id of the message."""
    content = {
        "comm_id": trainings.kernel.evaluate("button.comm.comm_id"),
        "data": {"method": "custom", "content": {"event": "click"}},
    }
    return trainings.kernel.send_message("comm_msg", content)


@pytest.mark.parametrize(
    ("code", "status"), [("train()", "completed"), ("train(MemoryError('bad'))", "failed")]
)
def test_the_training_of_a_widget_ends_with_its_callback(
    trainings: Trainings, code: str, status: str
) -> None:
    trainings.kernel.execute(WIDGET.replace("CODE", code))
    trainings.kernel.wait_for_output(click(trainings))
    assert trainings.statuses == [status]
    trainings.kernel.run("1 / 0")
    assert trainings.statuses == [status]


@pytest.mark.parametrize("how", ["interrupt", "terminate"])
def test_the_training_of_a_widget_that_is_interrupted_was_stopped(
    own_trainings: Trainings, how: str
) -> None:
    own_trainings.kernel.execute(WIDGET.replace("CODE", "(train(), wait())"))
    click(own_trainings)
    eventually((own_trainings.folder / "waiting").exists)
    if how == "interrupt":
        own_trainings.kernel.interrupt()
    else:
        own_trainings.kernel.manager.signal_kernel(signal.SIGTERM)
    own_trainings.wait_for("stopped")


@pytest.mark.parametrize(("error", "status"), [("None", "completed"), ("MemoryError()", "failed")])
def test_a_training_that_the_event_loop_calls_ends_with_the_function(
    trainings: Trainings, error: str, status: str
) -> None:
    trainings.kernel.execute(f"asyncio.get_running_loop().call_soon(lambda: train({error}))")
    trainings.wait_for(status)
