"""The notebook or script of a process that no server started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.engines import eventually
from support.server_kernels import QUERIES, python, python_path, querying_script, run
from support.server_processes import Server, notebook, write

#: The cells of the notebooks, which append the notebook's location and record to a file.
CELLS = [
    QUERIES,
    "import os\nwith open(os.environ['OUTPUT'], 'a') as file:\n"
    "    file.write(json.dumps(summary()) + '\\n')",
]
#: The metadata that papermill requires.
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
BIN = Path(sys.executable).parent
NBCONVERT = ("jupyter", "nbconvert", "--execute", "--to", "notebook")

Execute = Callable[..., list[Any]]


@pytest.fixture
def execute(tmp_path: Path, environment: dict[str, str]) -> Execute:
    """Run a command; return the summary of each notebook that it executes."""

    def execute(*command: str, **variables: str) -> list[Any]:
        output = tmp_path / "output"
        output.unlink(missing_ok=True)
        program = [str(BIN / command[0]), *command[1:]]
        context = {"PWD": str(tmp_path), "OUTPUT": str(output)}
        run(program, tmp_path, {**environment, **context, **variables})
        return [json.loads(line) for line in output.read_text().splitlines()]

    return execute


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """A notebook that reports its location and record."""
    return write(tmp_path / "train.ipynb", notebook(*CELLS, **PYTHON))


def executed_from(summary: Any) -> Any:
    """Return the link from the record of a copy to its original."""
    return summary["record"]["metadata"]["extra"]["axon"]["executed_from"]


def test_a_notebook_that_is_executed_again_keeps_its_record(execute: Execute, train: Path) -> None:
    records = set()
    for command, source in [
        (("jupyter", "nbconvert", "--execute", "--to", "html", "train.ipynb"), "nbconvert"),
        (("python", "-m", *NBCONVERT[1:], "--inplace", "./train.ipynb"), "nbconvert"),
        (("jupyter", "execute", "--inplace", "train.ipynb"), "jupyter execute"),
    ]:
        (summary,) = execute(*command)
        assert summary["location"] == {
            "kind": "notebook",
            "source": source,
            "path": str(train),
            "record_id": None,
        }
        records.add(summary["record"]["id"])
    assert len(records) == 1


def test_one_of_several_notebooks_is_found_by_its_executed_cells(
    execute: Execute, tmp_path: Path
) -> None:
    names = ["a.ipynb", "b.ipynb", "c.ipynb"]
    for name in names:
        write(tmp_path / name, notebook(f"# {name}", *CELLS))
    summaries = execute(*NBCONVERT, *names)
    paths = [summary["location"]["path"] for summary in summaries]
    assert paths == [str(tmp_path / name) for name in names]
    assert len({summary["record"]["id"] for summary in summaries}) == 3


def test_equal_notebooks_of_one_command_are_ambiguous(execute: Execute, tmp_path: Path) -> None:
    for name in ("a.ipynb", "b.ipynb"):
        write(tmp_path / name, notebook(*CELLS, **PYTHON))
    summaries = execute(*NBCONVERT, "a.ipynb", "b.ipynb")
    assert [summary["location"]["source"] for summary in summaries] == ["nothing"] * 2
    assert len({summary["record"]["id"] for summary in summaries}) == 2


NBCLIENT = "import nbclient, nbformat; nbclient.execute(nbformat.read('train.ipynb', 4))"


def test_a_notebook_that_nbclient_executes_is_found_by_a_variable(
    execute: Execute, train: Path
) -> None:
    (summary,) = execute("python", "-c", NBCLIENT)
    location, record = summary["location"], summary["record"]
    assert (location["kind"], location["source"]) == ("unknown", "nothing")
    assert (record.get("path"), record["cell_count"]) == (None, 0)
    assert "AXON_NOTEBOOK" in record["description"]
    (summary,) = execute("python", "-c", NBCLIENT, AXON_NOTEBOOK="train.ipynb")
    location = summary["location"]
    assert (location["source"], location["path"]) == ("AXON_NOTEBOOK", str(train))


# papermill


def papermill(output: str | None, **options: Any) -> str:
    """Return code that calls papermill as a library."""
    options["progress_bar"] = False
    return f"import papermill; papermill.execute_notebook('train.ipynb', {output!r}, **{options!r})"


@pytest.mark.parametrize("cwd", [(), ("--cwd", "elsewhere")])
def test_papermill_executes_its_output_file(
    execute: Execute, train: Path, tmp_path: Path, cwd: tuple[str, ...]
) -> None:
    (tmp_path / "elsewhere").mkdir()

    def record_id(rate: str) -> Any:
        parameters = ["-p", "rate", rate, "-p", "data", "somewhere/else.ipynb"]
        output = f"out-{rate}.ipynb"
        (summary,) = execute("papermill", *parameters, "train.ipynb", output, *cwd)
        location = summary["location"]
        assert (location["source"], location["path"]) == ("papermill", str(tmp_path / output))
        return summary["record"]["id"]

    first = record_id("0.1")
    assert first == record_id("0.1") != record_id("0.2")


@pytest.mark.parametrize("output", ["out.ipynb", "deep/out.ipynb"])
@pytest.mark.parametrize("cwd", [None, "elsewhere"])
def test_papermill_as_a_library_executes_its_output_file(
    execute: Execute, train: Path, tmp_path: Path, output: str, cwd: str | None
) -> None:
    for folder in ("deep", "elsewhere"):
        (tmp_path / folder).mkdir()
    execute("papermill", "train.ipynb", "earlier.ipynb")  # equal, but executed before
    (summary,) = execute("python", "-c", papermill(output, cwd=cwd, parameters={"rate": 0.1}))
    assert summary["location"]["path"] == str(tmp_path / output)
    assert executed_from(summary) == {
        "program": "papermill",
        "path": str(train),
        "parameters": {"rate": 0.1},
    }


@pytest.mark.parametrize(
    "content", ["", '{"cells": [{"cell_type": "code", "sour', "{}", "[" * 10**5]
)
def test_a_damaged_notebook_in_the_folder_is_ignored(
    execute: Execute, train: Path, tmp_path: Path, content: str
) -> None:
    damaged = tmp_path / "damaged.ipynb"
    damaged.write_text(content)
    os.utime(damaged, (2**32, 2**32))
    (summary,) = execute("python", "-c", papermill("out.ipynb"))
    assert summary["location"]["path"] == str(tmp_path / "out.ipynb")


def test_equal_concurrent_executions_of_papermill_are_ambiguous(
    execute: Execute, train: Path, tmp_path: Path
) -> None:
    metadata = {
        "output_path": "twin.ipynb",
        "start_time": "2020-01-01T00:00:00.000000",
        "end_time": None,
    }
    twin = write(tmp_path / "twin.ipynb", notebook(*CELLS, **PYTHON, papermill=metadata))
    os.utime(twin, (2**32, 2**32))  # still being written
    (summary,) = execute("python", "-c", papermill("out.ipynb"))
    assert summary["location"]["source"] == "nothing"
    (summary,) = execute("python", "-c", papermill("out.ipynb", parameters={"rate": 0.1}))
    assert summary["location"]["path"] == str(tmp_path / "out.ipynb")


def test_without_an_output_file_the_parameters_of_papermill_are_recorded(
    execute: Execute, train: Path
) -> None:
    parameters = {"rate": 0.1, "layers": [64, 64], "name": "x", "none": None}
    (summary,) = execute("python", "-c", papermill(None, parameters=parameters))
    assert summary["location"]["kind"] == "unknown"
    assert executed_from(summary) == {"parameters": parameters}


def test_the_output_of_papermill_is_linked_to_its_input(
    execute: Execute, train: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (original,) = execute("jupyter", "execute", "train.ipynb")
    original_id = original["record"]["id"]
    write(train, notebook(*CELLS, **PYTHON, axon={"notebook_id": original_id}))
    for _ in range(2):
        parameters = ["-p", "rate", "0.1", "-r", "name", "1", "-y", "{bad: .nan, layers: [1, 2]}"]
        (copy,) = execute("papermill", *parameters, "train.ipynb", "out.ipynb")
    assert executed_from(copy) == {
        "program": "papermill",
        "path": str(train),
        "notebook_id": original_id,
        "parameters": {"rate": 0.1, "name": "1", "bad": "nan", "layers": [1, 2]},
    }
    assert copy["record"]["metadata"]["extra"]["axon"]["copied_from"] == original_id
    assert copy["record"]["id"] != original_id
    output = run([str(BIN / "jupyter-axon"), "show", "out.ipynb"], tmp_path, environment).stdout
    for text in (original_id, "papermill", "train.ipynb", "rate", "0.1", "layers", "[1, 2]"):
        assert text in output


def test_a_notebook_that_papermill_executes_in_place_is_not_a_copy(
    execute: Execute, train: Path
) -> None:
    (first,) = execute("jupyter", "execute", "train.ipynb")
    (second,) = execute("papermill", "-p", "rate", "0.1", "train.ipynb", "train.ipynb")
    assert second["record"]["id"] == first["record"]["id"]
    assert "executed_from" not in second["record"]["metadata"]["extra"].get("axon", {})


# The message about a notebook that cannot be identified

TRAINING = (
    "import jupyter_axon_notebooks as axon\n"
    "for epoch in range(2):\n    axon.checkpoint(None, epoch=epoch)"
)
MESSAGE = "axon.use("


def test_an_unidentified_notebook_is_reported_once(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    cells = [TRAINING, TRAINING, "axon.checkpoint(None, epoch=9)"]
    write(tmp_path / "train.ipynb", notebook(*cells, **PYTHON))
    code = NBCLIENT.replace("nbclient.execute(", "print(nbclient.execute(") + ".cells)"
    output = python("-c", code, cwd=tmp_path, **environment).stdout
    assert (output.count(MESSAGE), output.count("AXON_NOTEBOOK=<path>")) == (1, 1)
    output = python("-c", code, cwd=tmp_path, **environment, AXON_NOTEBOOK="train.ipynb").stdout
    assert MESSAGE not in output


def test_a_prompt_is_reported_and_a_script_is_not(
    environment: dict[str, str], tmp_path: Path
) -> None:
    assert python("-c", TRAINING, cwd=tmp_path, **environment).stdout.count(MESSAGE) == 1
    (tmp_path / "train.py").write_text(TRAINING)
    assert MESSAGE not in python("train.py", cwd=tmp_path, **environment).stdout


# Scripts


def test_a_script_is_identified_by_its_file(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(querying_script())
    summary = json.loads(python("train.py", cwd=tmp_path, **environment).stdout)
    assert summary["location"] == {
        "kind": "script",
        "source": "script",
        "path": str(script),
        "record_id": None,
    }
    record = summary["record"]
    assert (record["name"], record["cell_count"]) == ("train", 1)
    assert record["metadata"]["language"] == "python"
    assert "kernel" not in record["metadata"]
    script.write_text(f"{querying_script()}# edited\n")
    edited = json.loads(python(script, cwd=tmp_path.parent, **environment).stdout)["record"]
    assert edited["id"] == record["id"]
    assert edited["version_id"] != record["version_id"]


def test_a_module_is_identified_by_its_file(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "project" / "train.py"
    script.parent.mkdir()
    script.write_text(querying_script())
    summary = json.loads(python("-m", "project.train", cwd=tmp_path, **environment).stdout)
    assert summary["location"]["path"] == str(script)


@pytest.mark.parametrize(
    "command",
    [
        ("-c", "import train"),
        ("-m", "timeit", "-n1", "-r1", "import train"),
        ("-m", "IPython", "-c", "import train"),
    ],
    ids=["-c", "standard library", "installed"],
)
def test_a_tool_is_not_a_script(
    environment: dict[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "train.py").write_text(querying_script())
    environment["IPYTHONDIR"] = str(tmp_path / "ipython")
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    output = python(*command, cwd=tmp_path, **environment).stdout
    summary = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    location = summary["location"]
    assert (location["kind"], location["source"]) == ("unknown", "nothing")


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


@pytest.mark.parametrize("has_id", [True, False], ids=["with its id", "without its id"])
def test_a_job_of_jupyter_scheduler_is_linked_to_its_input(tmp_path: Path, has_id: bool) -> None:
    pytest.importorskip("jupyter_scheduler")
    output = tmp_path / "output"
    server = Server(
        tmp_path / "server",
        extensions=("jupyter_axon_notebooks", "jupyter_scheduler"),
        environment={
            "PYTHONPATH": python_path(),
            "OUTPUT": str(output),
            "IPYTHONDIR": str(tmp_path / "ipython"),
        },
    )
    content = notebook("rate = 1", *CELLS, **PYTHON)
    content["cells"][0]["metadata"]["tags"] = ["parameters"]
    with server.running():
        if has_id:
            assert server.save("train.ipynb", content).status == 201
        else:
            write(server.root / "train.ipynb", content)
        original = server.sync("train.ipynb")
        assert bool(server.embedded("train.ipynb")) == has_id
        write(server.root / "other.ipynb", notebook("another()"))
        for packages_folder in (False, True):
            summary = run_job(server, output, packages_folder)
            assert summary["location"]["source"] == "jupyter-scheduler"
            assert summary["record"]["id"] != original["id"]
            assert summary["record"]["name"] == "train"
            assert executed_from(summary) == {
                "program": "jupyter-scheduler",
                "path": str(server.root / "train.ipynb"),
                "notebook_id": original["id"],
                "parameters": {"rate": "0.5"},
            }


def run_job(server: Server, output: Path, packages_folder: bool) -> Any:
    """Run a notebook as a job; return its summary."""
    job = {
        "name": "job",
        "input_uri": "train.ipynb",
        "runtime_environment_name": "test",
        "parameters": {"rate": "0.5"},
        "package_input_folder": packages_folder,
    }
    answer = server.ask("POST", "/scheduler/jobs", job)
    assert answer.status == 200, (answer, server.log)
    url = f"/scheduler/jobs/{answer.json['job_id']}"

    def has_ended() -> bool:
        return server.ask("GET", url).json["status"] in ("COMPLETED", "FAILED")

    eventually(has_ended)
    assert server.ask("GET", url).json["status"] == "COMPLETED", server.log
    return json.loads(output.read_text().splitlines()[-1])
