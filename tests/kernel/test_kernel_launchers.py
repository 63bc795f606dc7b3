"""Claims about notebooks and scripts that run without a server, by the tools that do so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernels import ASKED, python, run
from processes import notebook, write

#: What a notebook does here: it says where it takes itself to be.
TOLD = "import os\nwith open(os.environ['TOLD'], 'a') as told:\n    told.write(json.dumps(told_by) + '\\n')"
ASKING = [ASKED, "told_by = told()", TOLD]
#: What papermill asks of a notebook.
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
BIN = Path(sys.executable).parent

Execute = Callable[..., list[Any]]


@pytest.fixture
def execute(tmp_path: Path, environment: dict[str, str]) -> Execute:
    """Runs a command, and gives what each notebook that it executed told."""

    def execute(*command: str, cwd: Path = tmp_path, **variables: str) -> list[Any]:
        told = tmp_path / "told"
        told.unlink(missing_ok=True)
        program = [str(BIN / command[0]), *command[1:]]
        run(program, cwd, {**environment, "PWD": str(cwd), "TOLD": str(told), **variables})
        return [json.loads(line) for line in told.read_text().splitlines()]

    return execute


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write(tmp_path / "train.ipynb", notebook(*ASKING, **PYTHON))


@pytest.mark.parametrize(
    "command",
    [
        ("jupyter", "nbconvert", "--execute", "--to", "html", "--output", "other.ipynb", "train.ipynb"),
        ("python", "-m", "nbconvert", "--execute", "--inplace", "--to", "notebook", "./train.ipynb"),
    ],
    ids=" ".join,
)
def test_an_executed_notebook_is_the_one_on_the_command_line(
    execute: Execute, train: Path, command: tuple[str, ...]
) -> None:
    (told,) = execute(*command)
    assert told["place"] == {
        "kind": "notebook",
        "found_by": "nbconvert",
        "path": str(train),
        "record_id": None,
    }


def test_executed_again_it_is_the_same_notebook(execute: Execute, train: Path) -> None:
    (first,) = execute("jupyter", "nbconvert", "--to", "notebook", "--execute", "train.ipynb")
    (again,) = execute("jupyter", "execute", "--inplace", "train.ipynb")
    assert (first["place"]["found_by"], again["place"]["found_by"]) == ("nbconvert", "jupyter execute")
    assert first["record"]["id"] == again["record"]["id"]


def test_of_several_it_is_the_one_that_has_what_was_executed(execute: Execute, tmp_path: Path) -> None:
    names = ["a.ipynb", "b.ipynb", "c.ipynb"]
    for name in names:
        write(tmp_path / name, notebook(f"# {name}", *ASKING))
    told = execute("jupyter", "nbconvert", "--to", "notebook", "--execute", *names)
    assert [each["place"]["path"] for each in told] == [str(tmp_path / name) for name in names]
    assert len({each["record"]["id"] for each in told}) == 3


def test_of_equal_ones_it_is_none(execute: Execute, tmp_path: Path) -> None:
    for name in ("a.ipynb", "b.ipynb"):
        write(tmp_path / name, notebook(*ASKING, **PYTHON))
    told = execute("jupyter", "nbconvert", "--to", "notebook", "--execute", "a.ipynb", "b.ipynb")
    assert [each["place"]["found_by"] for each in told] == ["nothing", "nothing"]
    assert len({each["record"]["id"] for each in told}) == 2


def test_with_papermill_it_is_the_notebook_that_is_written(
    execute: Execute, train: Path, tmp_path: Path
) -> None:
    def executed(rate: str) -> Any:
        parameters = ["-p", "rate", rate, "-p", "data", "somewhere/else.ipynb"]
        (told,) = execute("papermill", *parameters, "train.ipynb", f"out-{rate}.ipynb")
        assert (told["place"]["found_by"], told["place"]["path"]) == (
            "papermill",
            str(tmp_path / f"out-{rate}.ipynb"),
        )
        return told["record"]["id"]

    first = executed("0.1")
    assert first == executed("0.1") != executed("0.2")


def test_papermill_may_run_it_elsewhere(execute: Execute, train: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (told,) = execute("papermill", "train.ipynb", "out.ipynb", "--cwd", "elsewhere")
    assert told["place"]["path"] == str(tmp_path / "out.ipynb")


@pytest.mark.parametrize(
    "code",
    [
        "import nbclient, nbformat; nbclient.execute(nbformat.read('train.ipynb', 4))",
        "import papermill; papermill.execute_notebook('train.ipynb', 'out.ipynb', progress_bar=False)",
    ],
    ids=["nbclient", "papermill"],
)
def test_a_library_tells_nothing_so_its_user_does(
    execute: Execute, train: Path, tmp_path: Path, code: str
) -> None:
    (told,) = execute("python", "-c", code)
    assert (told["place"]["kind"], told["place"]["found_by"]) == ("unknown", "nothing")
    assert (told["record"].get("path"), told["record"]["cell_count"]) == (None, 0)
    assert "AXON_NOTEBOOK" in told["record"]["description"]
    (named,) = execute("python", "-c", code, AXON_NOTEBOOK="train.ipynb")
    assert (named["place"]["found_by"], named["place"]["path"]) == ("AXON_NOTEBOOK", str(train))


ASKING_SCRIPT = "from kernels import ASKED\nexec(ASKED)\nprint(json.dumps(told()))\n"


def test_a_script_is_its_file(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(ASKING_SCRIPT)
    told = json.loads(python("train.py", cwd=tmp_path, **environment).stdout)
    assert told["place"] == {"kind": "script", "found_by": "script", "path": str(script), "record_id": None}
    record = told["record"]
    assert (record["name"], record["metadata"]["language"], record["cell_count"]) == ("train", "python", 1)
    assert "kernel" not in record["metadata"]
    script.write_text(f"{ASKING_SCRIPT}# edited\n")
    again = json.loads(python(script, cwd=tmp_path.parent, **environment).stdout)["record"]
    assert again["id"] == record["id"]
    assert again["version_id"] != record["version_id"]


def test_a_module_is_its_file(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").write_text(ASKING_SCRIPT)
    told = json.loads(python("-m", "project.train", cwd=tmp_path, **environment).stdout)
    assert told["place"]["path"] == str(tmp_path / "project" / "train.py")


@pytest.mark.parametrize(
    "command",
    [
        ("-c", "import train"),
        ("-m", "timeit", "-n1", "-r1", "import train"),
        ("-m", "IPython", "-c", "import train"),
    ],
    ids=["-c", "a tool of Python's", "an installed tool"],
)
def test_what_is_no_script_is_unknown(
    environment: dict[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "train.py").write_text(ASKING_SCRIPT)
    environment["IPYTHONDIR"] = str(tmp_path / "ipython")
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    out = python(*command, cwd=tmp_path, **environment).stdout
    told = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert (told["place"]["kind"], told["place"]["found_by"]) == ("unknown", "nothing")


def test_what_a_script_spawns_is_that_script(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import multiprocessing\n"
        "from kernels import ASKED\nexec(ASKED)\n"
        "def child(): print(json.dumps(place()))\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=child)\n"
        "    process.start(); process.join()\n"
    )
    assert json.loads(python(script, cwd=tmp_path, **environment).stdout)["path"] == str(script)
