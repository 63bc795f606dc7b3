"""Claims about notebooks and scripts that run without a server, by the tools that do so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.engines import eventually
from support.server_kernels import ASKED, python, python_path, run
from support.server_processes import Server, notebook, write

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
    assert (first["place"]["found_by"], again["place"]["found_by"]) == (
        "nbconvert",
        "jupyter execute",
    )
    assert first["record"]["id"] == again["record"]["id"]


def test_of_several_it_is_the_one_that_has_what_was_executed(
    execute: Execute, tmp_path: Path
) -> None:
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


NBCLIENT = "import nbclient, nbformat; nbclient.execute(nbformat.read('train.ipynb', 4))"


def test_a_library_tells_nothing_so_its_user_does(execute: Execute, train: Path) -> None:
    (told,) = execute("python", "-c", NBCLIENT)
    assert (told["place"]["kind"], told["place"]["found_by"]) == ("unknown", "nothing")
    assert (told["record"].get("path"), told["record"]["cell_count"]) == (None, 0)
    assert "AXON_NOTEBOOK" in told["record"]["description"]
    (named,) = execute("python", "-c", NBCLIENT, AXON_NOTEBOOK="train.ipynb")
    assert (named["place"]["found_by"], named["place"]["path"]) == ("AXON_NOTEBOOK", str(train))


# Copies that are executed


def papermill(output: str | None, **given: Any) -> str:
    return f"import papermill; papermill.execute_notebook('train.ipynb', {output!r}, progress_bar=False, **{given!r})"


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
    assert told["place"]["path"] == str(tmp_path / output)
    link = told["record"]["metadata"]["extra"]["axon"]["executed_from"]
    assert link == {"program": "papermill", "path": str(train), "parameters": {"rate": 0.1}}


#: Says where a kernel takes itself to be, and how many bytes it read to find out.
MEASURED = (
    "import json, os, psutil\n"
    "from jupyter_axon_notebooks.training.discovery.location import find_location\n"
    "def read(): return psutil.Process().io_counters().read_chars\n"
    "before = read()\n"
    "place = find_location()\n"
    "told_by = [place.path, read() - before]"
)
MEGABYTE = 1 << 20


def large(file: Path, size: int, **metadata: Any) -> Path:
    """Write a notebook with a large output; written in the future, so that it is as new as any."""
    content = notebook("print('x')", **PYTHON, **metadata)
    text = {"output_type": "stream", "name": "stdout", "text": "x" * size}
    content["cells"][0]["outputs"] = [text]
    file.write_text(nbformat.writes(nbformat.from_dict(content)))
    os.utime(file, (2**32, 2**32))
    return file


def test_large_notebooks_beside_an_unknown_one_are_not_read_whole(
    execute: Execute, tmp_path: Path
) -> None:
    write(tmp_path / "train.ipynb", notebook(MEASURED, TOLD, MEASURED, TOLD, **PYTHON))
    for number in range(4):
        large(tmp_path / f"large-{number}.ipynb", 5 * MEGABYTE)
    told = execute("python", "-c", NBCLIENT)
    assert [path for path, _ in told] == [None, None]
    assert all(read < 5 * MEGABYTE for _, read in told)


@pytest.mark.parametrize("size", [5 * MEGABYTE, 40 * MEGABYTE], ids=["large", "too large"])
def test_notebooks_that_papermill_executes_meanwhile_are_read_once(
    execute: Execute, tmp_path: Path, size: int
) -> None:
    write(tmp_path / "train.ipynb", notebook(MEASURED, TOLD, MEASURED, TOLD, **PYTHON))
    noted = {
        "output_path": "large.ipynb",
        "start_time": "2020-01-01T00:00:00.000000",
        "end_time": None,
    }
    other = large(tmp_path / "large.ipynb", size, papermill=noted)
    (first, read), (again, read_again) = execute("python", "-c", papermill("out.ipynb"))
    is_read = size < 32 * MEGABYTE
    assert (first, again) == ((str(tmp_path / "out.ipynb"),) * 2 if is_read else (None, None))
    assert (read > size) == is_read
    assert read_again < MEGABYTE * 5
    large(other, size, papermill={**noted, "end_time": "2020-01-01T00:01:00.000000"})
    assert [path for path, _ in execute("python", "-c", papermill("out.ipynb"))] == [
        str(tmp_path / "out.ipynb")
    ] * 2


@pytest.mark.parametrize(
    "content", ["", '{"cells": [{"cell_type": "code", "sour', "{}", "[" * 10**5]
)
def test_a_damaged_notebook_beside_it_is_in_nobodys_way(
    execute: Execute, train: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "damaged.ipynb").write_text(content)
    os.utime(tmp_path / "damaged.ipynb", (2**32, 2**32))
    (told,) = execute("python", "-c", papermill("out.ipynb"))
    assert told["place"]["path"] == str(tmp_path / "out.ipynb")


def test_equal_executions_of_papermill_at_once_are_not_told_apart(
    execute: Execute, train: Path, tmp_path: Path
) -> None:
    noted = {
        "output_path": "twin.ipynb",
        "start_time": "2020-01-01T00:00:00.000000",
        "end_time": None,
    }
    twin = write(tmp_path / "twin.ipynb", notebook(*ASKING, **PYTHON, papermill=noted))
    os.utime(twin, (2**32, 2**32))  # still being written
    (told,) = execute("python", "-c", papermill("out.ipynb"))
    assert told["place"]["found_by"] == "nothing"
    (told,) = execute("python", "-c", papermill("out.ipynb", parameters={"rate": 0.1}))
    assert told["place"]["path"] == str(tmp_path / "out.ipynb")


def test_without_a_file_papermills_parameters_are_those_of_its_cell(
    execute: Execute, train: Path
) -> None:
    parameters = {"rate": 0.1, "layers": [64, 64], "name": "x", "none": None}
    (told,) = execute("python", "-c", papermill(None, parameters=parameters))
    assert told["place"]["kind"] == "unknown"
    assert told["record"]["metadata"]["extra"]["axon"]["executed_from"] == {
        "parameters": parameters
    }


def test_papermills_output_is_linked_to_its_input(
    execute: Execute, train: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (first,) = execute("jupyter", "execute", "train.ipynb")  # which has a record from now on
    content = notebook(*ASKING, **PYTHON, axon={"notebook_id": first["record"]["id"]})
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


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_copy_takes_over_nothing_of_its_input(
    execute: Execute, train: Path, is_recorded: bool, tmp_path: Path
) -> None:
    id = "00000000-0000-4000-8000-000000000001"
    write(train, notebook(*ASKING, **PYTHON, axon={"notebook_id": id}))
    if is_recorded:
        assert execute("jupyter", "execute", "train.ipynb")[0]["record"]["id"] == id
    (told,) = execute("papermill", "train.ipynb", "out.ipynb")
    assert told["record"]["id"] != id
    (after,) = execute("jupyter", "execute", "train.ipynb")
    assert after["record"]["id"] != told["record"]["id"]
    assert (after["record"]["id"] == id) == is_recorded


def test_a_notebook_that_is_executed_in_place_is_no_copy(execute: Execute, train: Path) -> None:
    (first,) = execute("jupyter", "execute", "train.ipynb")
    (told,) = execute("papermill", "-p", "rate", "0.1", "train.ipynb", "train.ipynb")
    assert told["record"]["id"] == first["record"]["id"]
    assert "executed_from" not in told["record"]["metadata"]["extra"].get("axon", {})


# What is said of a notebook that cannot be identified

TRAINING = "import jupyter_axon_notebooks as axon\nfor epoch in range(2):\n    axon.checkpoint(None, epoch=epoch)"
SAID = "axon.use("


def test_a_notebook_that_cannot_be_identified_is_told_of_once(
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


def test_a_prompt_is_told_of_and_a_script_is_not(
    environment: dict[str, str], tmp_path: Path
) -> None:
    assert python("-c", TRAINING, cwd=tmp_path, **environment).stdout.count(SAID) == 1
    (tmp_path / "train.py").write_text(TRAINING)
    assert python("train.py", cwd=tmp_path, **environment).stdout.count(SAID) == 0


ASKING_SCRIPT = "from support.server_kernels import ASKED\nexec(ASKED)\nprint(json.dumps(told()))\n"


def test_a_script_is_its_file(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(ASKING_SCRIPT)
    told = json.loads(python("train.py", cwd=tmp_path, **environment).stdout)
    assert told["place"] == {
        "kind": "script",
        "found_by": "script",
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
        "from support.server_kernels import ASKED\nexec(ASKED)\n"
        "def child(): print(json.dumps(place()))\n"
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
            "TOLD": str(told),
            "IPYTHONDIR": str(tmp_path / "ipython"),
        },
    )
    content = notebook("rate = 1", *ASKING, **PYTHON)
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
            assert found["place"]["found_by"] == "jupyter-scheduler"
            made = found["record"]
            assert (made["id"] != record["id"], made["name"]) == (True, "train")
            assert made["metadata"]["extra"]["axon"]["executed_from"] == {
                "program": "jupyter-scheduler",
                "path": str(server.root / "train.ipynb"),
                "notebook_id": record["id"],
                "parameters": {"rate": "0.5"},
            }
