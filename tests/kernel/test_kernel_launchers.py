"""Which notebook or script a process executes that no server started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.engines import eventually
from support.server_kernels import QUERIES, python, python_path, run
from support.server_processes import Server, notebook, write

#: The last cell of the notebooks, which writes what they find out about themselves.
WRITE = (
    "import os\nwith open(os.environ['OUTPUT'], 'a') as file: file.write(json.dumps(found) + '\\n')"
)
QUERYING = [QUERIES, "found = summary()", WRITE]
#: The metadata that papermill requires.
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
BIN = Path(sys.executable).parent

Execute = Callable[..., list[Any]]


@pytest.fixture
def execute(tmp_path: Path, environment: dict[str, str]) -> Execute:
    """Run a command, and return what each notebook that it executes found out."""

    def execute(*command: str, cwd: Path = tmp_path, **variables: str) -> list[Any]:
        told = tmp_path / "told"
        told.unlink(missing_ok=True)
        program = [str(BIN / command[0]), *command[1:]]
        run(program, cwd, {**environment, "PWD": str(cwd), "OUTPUT": str(told), **variables})
        return [json.loads(line) for line in told.read_text().splitlines()]

    return execute


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write(tmp_path / "train.ipynb", notebook(*QUERYING, **PYTHON))


@pytest.mark.parametrize(
    "command",
    [
        (
            "jupyter",
            "nbconvert",
            "--execute",
            "--to",
            "html",
            "--output",
            "other.ipynb",
            "train.ipynb",
        ),
        (
            "python",
            "-m",
            "nbconvert",
            "--execute",
            "--inplace",
            "--to",
            "notebook",
            "./train.ipynb",
        ),
    ],
    ids=" ".join,
)
def test_nbconvert_executes_the_notebook_on_its_command_line(
    execute: Execute, train: Path, command: tuple[str, ...]
) -> None:
    (told,) = execute(*command)
    assert told["location"] == {
        "kind": "notebook",
        "source": "nbconvert",
        "path": str(train),
        "record_id": None,
    }


def test_a_notebook_that_is_executed_again_keeps_its_record(execute: Execute, train: Path) -> None:
    (first,) = execute("jupyter", "nbconvert", "--to", "notebook", "--execute", "train.ipynb")
    (again,) = execute("jupyter", "execute", "--inplace", "train.ipynb")
    assert (first["location"]["source"], again["location"]["source"]) == (
        "nbconvert",
        "jupyter execute",
    )
    assert first["record"]["id"] == again["record"]["id"]


def test_of_several_notebooks_it_is_the_one_with_the_executed_cells(
    execute: Execute, tmp_path: Path
) -> None:
    names = ["a.ipynb", "b.ipynb", "c.ipynb"]
    for name in names:
        write(tmp_path / name, notebook(f"# {name}", *QUERYING))
    told = execute("jupyter", "nbconvert", "--to", "notebook", "--execute", *names)
    assert [each["location"]["path"] for each in told] == [str(tmp_path / name) for name in names]
    assert len({each["record"]["id"] for each in told}) == 3


def test_of_equal_notebooks_it_is_none(execute: Execute, tmp_path: Path) -> None:
    for name in ("a.ipynb", "b.ipynb"):
        write(tmp_path / name, notebook(*QUERYING, **PYTHON))
    told = execute("jupyter", "nbconvert", "--to", "notebook", "--execute", "a.ipynb", "b.ipynb")
    assert [each["location"]["source"] for each in told] == ["nothing", "nothing"]
    assert len({each["record"]["id"] for each in told}) == 2


def test_papermill_executes_the_notebook_that_it_writes(
    execute: Execute, train: Path, tmp_path: Path
) -> None:
    def executed(rate: str) -> Any:
        parameters = ["-p", "rate", rate, "-p", "data", "somewhere/else.ipynb"]
        (told,) = execute("papermill", *parameters, "train.ipynb", f"out-{rate}.ipynb")
        assert (told["location"]["source"], told["location"]["path"]) == (
            "papermill",
            str(tmp_path / f"out-{rate}.ipynb"),
        )
        return told["record"]["id"]

    first = executed("0.1")
    assert first == executed("0.1") != executed("0.2")


def test_papermill_may_execute_it_in_another_folder(
    execute: Execute, train: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (told,) = execute("papermill", "train.ipynb", "out.ipynb", "--cwd", "elsewhere")
    assert told["location"]["path"] == str(tmp_path / "out.ipynb")


NBCLIENT = "import nbclient, nbformat; nbclient.execute(nbformat.read('train.ipynb', 4))"


def test_nbclient_as_a_library_needs_a_variable(execute: Execute, train: Path) -> None:
    (told,) = execute("python", "-c", NBCLIENT)
    assert (told["location"]["kind"], told["location"]["source"]) == ("unknown", "nothing")
    assert (told["record"].get("path"), told["record"]["cell_count"]) == (None, 0)
    assert "AXON_NOTEBOOK" in told["record"]["description"]
    (named,) = execute("python", "-c", NBCLIENT, AXON_NOTEBOOK="train.ipynb")
    assert (named["location"]["source"], named["location"]["path"]) == ("AXON_NOTEBOOK", str(train))


# Copies that are executed


def papermill(output: str | None, **given: Any) -> str:
    options = {"progress_bar": False, **given}
    return f"import papermill; papermill.execute_notebook('train.ipynb', {output!r}, **{options!r})"


@pytest.mark.parametrize("output", ["out.ipynb", "deep/out.ipynb"])
@pytest.mark.parametrize("cwd", [None, "elsewhere"])
def test_papermill_as_a_library_is_known_by_the_file_that_it_writes(
    execute: Execute, train: Path, tmp_path: Path, output: str, cwd: str | None
) -> None:
    for folder in ("deep", "elsewhere"):
        (tmp_path / folder).mkdir()
    execute(
        "papermill", "train.ipynb", "earlier.ipynb"
    )  # what is not being executed any more is another notebook
    (told,) = execute("python", "-c", papermill(output, cwd=cwd, parameters={"rate": 0.1}))
    assert told["location"]["path"] == str(tmp_path / output)
    link = told["record"]["metadata"]["extra"]["axon"]["executed_from"]
    assert link == {"program": "papermill", "path": str(train), "parameters": {"rate": 0.1}}


#: Says where a kernel takes itself to be, and how many bytes it read to find out.
MEASURED = (
    "import json, os, psutil\n"
    "from jupyter_axon_notebooks.training.discovery.location import find_location\n"
    "def read(): return psutil.Process().io_counters().read_chars\n"
    "before = read()\n"
    "place = find_location()\n"
    "found = [place.path, read() - before]"
)


@pytest.mark.parametrize(
    "content", ["", '{"cells": [{"cell_type": "code", "sour', "{}", "[" * 10**5]
)
def test_a_damaged_notebook_in_the_folder_is_ignored(
    execute: Execute, train: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "damaged.ipynb").write_text(content)
    os.utime(tmp_path / "damaged.ipynb", (2**32, 2**32))
    (told,) = execute("python", "-c", papermill("out.ipynb"))
    assert told["location"]["path"] == str(tmp_path / "out.ipynb")


def test_equal_executions_of_papermill_at_once_are_ambiguous(
    execute: Execute, train: Path, tmp_path: Path
) -> None:
    noted = {
        "output_path": "twin.ipynb",
        "start_time": "2020-01-01T00:00:00.000000",
        "end_time": None,
    }
    twin = write(tmp_path / "twin.ipynb", notebook(*QUERYING, **PYTHON, papermill=noted))
    os.utime(twin, (2**32, 2**32))  # still being written
    (told,) = execute("python", "-c", papermill("out.ipynb"))
    assert told["location"]["source"] == "nothing"
    (told,) = execute("python", "-c", papermill("out.ipynb", parameters={"rate": 0.1}))
    assert told["location"]["path"] == str(tmp_path / "out.ipynb")


def test_without_an_output_file_papermills_parameters_come_from_its_cell(
    execute: Execute, train: Path
) -> None:
    parameters = {"rate": 0.1, "layers": [64, 64], "name": "x", "none": None}
    (told,) = execute("python", "-c", papermill(None, parameters=parameters))
    assert told["location"]["kind"] == "unknown"
    assert told["record"]["metadata"]["extra"]["axon"]["executed_from"] == {
        "parameters": parameters
    }


def test_papermills_output_is_linked_to_its_input(
    execute: Execute, train: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (first,) = execute("jupyter", "execute", "train.ipynb")  # which has a record from now on
    content = notebook(*QUERYING, **PYTHON, axon={"notebook_id": first["record"]["id"]})
    write(train, content)
    for _ in range(2):
        parameters = ["-p", "rate", "0.1", "-r", "name", "1", "-y", "{bad: .nan, layers: [1, 2]}"]
        (told,) = execute("papermill", *parameters, "train.ipynb", "out.ipynb")
    axon = told["record"]["metadata"]["extra"]["axon"]
    assert axon["executed_from"] == {
        "program": "papermill",
        "path": str(train),
        "notebook_id": first["record"]["id"],
        "parameters": {"rate": 0.1, "name": "1", "bad": "nan", "layers": [1, 2]},
    }
    assert told["record"]["id"] != first["record"]["id"] == axon["copied_from"]
    shown = run([str(BIN / "jupyter-axon"), "show", "out.ipynb"], tmp_path, environment).stdout
    assert first["record"]["id"] in shown
    for text in ("papermill", "train.ipynb", "rate=0.1", "layers=[1, 2]"):
        assert text in shown


def test_a_notebook_that_is_executed_in_place_is_no_copy(execute: Execute, train: Path) -> None:
    (first,) = execute("jupyter", "execute", "train.ipynb")
    (told,) = execute("papermill", "-p", "rate", "0.1", "train.ipynb", "train.ipynb")
    assert told["record"]["id"] == first["record"]["id"]
    assert "executed_from" not in told["record"]["metadata"]["extra"].get("axon", {})


# The message about a notebook that cannot be identified

TRAINING = (
    "import jupyter_axon_notebooks as axon\n"
    "for epoch in range(2):\n    axon.checkpoint(None, epoch=epoch)"
)
SAID = "axon.use("


def test_an_unidentified_notebook_is_reported_once(
    execute: Execute, tmp_path: Path, environment: dict[str, str]
) -> None:
    write(
        tmp_path / "train.ipynb",
        notebook(TRAINING, TRAINING, "axon.checkpoint(None, epoch=9)", **PYTHON),
    )
    code = (
        "import nbclient, nbformat; print(nbclient.execute(nbformat.read('train.ipynb', 4)).cells)"
    )
    out = python("-c", code, cwd=tmp_path, **environment).stdout
    assert (out.count(SAID), out.count("AXON_NOTEBOOK=<path>")) == (1, 1)
    named = python("-c", code, cwd=tmp_path, **environment, AXON_NOTEBOOK="train.ipynb").stdout
    assert named.count(SAID) == 0


def test_a_prompt_is_reported_and_a_script_is_not(
    environment: dict[str, str], tmp_path: Path
) -> None:
    assert python("-c", TRAINING, cwd=tmp_path, **environment).stdout.count(SAID) == 1
    (tmp_path / "train.py").write_text(TRAINING)
    assert python("train.py", cwd=tmp_path, **environment).stdout.count(SAID) == 0


ASKING_SCRIPT = (
    "from support.server_kernels import QUERIES\nexec(QUERIES)\nprint(json.dumps(summary()))\n"
)


def test_a_script_is_identified_by_its_file(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(ASKING_SCRIPT)
    told = json.loads(python("train.py", cwd=tmp_path, **environment).stdout)
    assert told["location"] == {
        "kind": "script",
        "source": "script",
        "path": str(script),
        "record_id": None,
    }
    record = told["record"]
    assert (record["name"], record["metadata"]["language"], record["cell_count"]) == (
        "train",
        "python",
        1,
    )
    assert "kernel" not in record["metadata"]
    script.write_text(f"{ASKING_SCRIPT}# edited\n")
    again = json.loads(python(script, cwd=tmp_path.parent, **environment).stdout)["record"]
    assert again["id"] == record["id"]
    assert again["version_id"] != record["version_id"]


def test_a_module_is_identified_by_its_file(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").write_text(ASKING_SCRIPT)
    told = json.loads(python("-m", "project.train", cwd=tmp_path, **environment).stdout)
    assert told["location"]["path"] == str(tmp_path / "project" / "train.py")


@pytest.mark.parametrize(
    "command",
    [
        ("-c", "import train"),
        ("-m", "timeit", "-n1", "-r1", "import train"),
        ("-m", "IPython", "-c", "import train"),
    ],
    ids=["-c", "a tool of Python's", "an installed tool"],
)
def test_a_tool_is_not_a_script(
    environment: dict[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "train.py").write_text(ASKING_SCRIPT)
    environment["IPYTHONDIR"] = str(tmp_path / "ipython")
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    out = python(*command, cwd=tmp_path, **environment).stdout
    told = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert (told["location"]["kind"], told["location"]["source"]) == ("unknown", "nothing")


def test_a_spawned_process_belongs_to_its_script(
    environment: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import multiprocessing\n"
        "from support.server_kernels import QUERIES\nexec(QUERIES)\n"
        "def child(): print(json.dumps(location()))\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=child)\n"
        "    process.start(); process.join()\n"
    )
    assert json.loads(python(script, cwd=tmp_path, **environment).stdout)["path"] == str(script)


# jupyter-scheduler


@pytest.mark.parametrize("embeds", [True, False], ids=["with its id", "without"])
def test_a_job_of_jupyter_scheduler_is_linked_to_its_input(tmp_path: Path, embeds: bool) -> None:
    pytest.importorskip("jupyter_scheduler")
    told = tmp_path / "told"
    server = Server(
        tmp_path / "server",
        extensions=("jupyter_axon_notebooks", "jupyter_scheduler"),
        environment={
            "PYTHONPATH": python_path(),
            "OUTPUT": str(told),
            "IPYTHONDIR": str(tmp_path / "ipython"),
        },
    )
    content = notebook("rate = 1", *QUERYING, **PYTHON)
    content["cells"][0]["metadata"]["tags"] = ["parameters"]
    with server.running():
        if embeds:
            assert server.save("train.ipynb", content).status == 201
        else:
            write(server.root / "train.ipynb", content)
        record = server.sync("train.ipynb")
        assert bool(server.embedded("train.ipynb")) == embeds
        write(server.root / "other.ipynb", notebook("another()"))
        for folder in (False, True):
            asked = {
                "name": "job",
                "input_uri": "train.ipynb",
                "runtime_environment_name": "test",
                "parameters": {"rate": "0.5"},
                "package_input_folder": folder,
            }
            answer = server.ask("POST", "/scheduler/jobs", asked)
            assert answer.status == 200, (answer, server.log)
            job = answer.json["job_id"]

            def status(job: str = job) -> str:
                return str(server.ask("GET", f"/scheduler/jobs/{job}").json["status"])

            eventually(lambda: status() in ("COMPLETED", "FAILED"))
            assert status() == "COMPLETED", server.log
            found = json.loads(told.read_text().splitlines()[-1])
            assert found["location"]["source"] == "jupyter-scheduler"
            made = found["record"]
            assert (made["id"] != record["id"], made["name"]) == (True, "train")
            assert made["metadata"]["extra"]["axon"]["executed_from"] == {
                "program": "jupyter-scheduler",
                "path": str(server.root / "train.ipynb"),
                "notebook_id": record["id"],
                "parameters": {"rate": "0.5"},
            }
