"""Notebooks that are deleted, moved or replaced while they train, and changes of directory."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.kernel import running_kernel
from support.server_kernels import SessionKernel, python, restarted_kernel
from support.server_processes import Server, notebook, write

StartSession = Callable[..., SessionKernel]

TRAIN = (
    "import jupyter_axon_notebooks as axon\n"
    "saved = axon.checkpoint(None, epoch={epoch}, metrics={{'loss': 1.0}})"
)
CONTENT = notebook("train()", axon={"notebook_id": "00000000-0000-4000-8000-000000000001"})


def train(kernel: SessionKernel, epoch: int) -> tuple[str, str]:
    """Make a checkpoint in a cell of its own; return the ids of its record and its run."""
    kernel.execute(TRAIN.format(epoch=epoch))
    assert kernel.evaluate("saved.is_recorded")
    record, run = kernel.evaluate("[saved.record.notebook_id, saved.run_id]")
    return record, run


def delete_by_jupyter(server: Server, path: str) -> None:
    assert server.contents("DELETE", path).status == 204


def delete_by_shell(server: Server, path: str) -> None:
    (server.root / path).unlink()


def delete_by_jupyter_after_a_rename(server: Server, path: str) -> None:
    assert server.rename(path, f"renamed-{path}").status == 200
    delete_by_jupyter(server, f"renamed-{path}")


def move_by_jupyter(server: Server, path: str) -> None:
    (server.root / "sub").mkdir(exist_ok=True)
    assert server.rename(path, f"sub/{path}").status == 200


def move_by_shell(server: Server, path: str) -> None:
    (server.root / "sub").mkdir(exist_ok=True)
    (server.root / path).rename(server.root / "sub" / path)


def move_by_shell_and_open(server: Server, path: str) -> None:
    move_by_shell(server, path)
    server.sync(f"sub/{path}")


def move_and_reuse_the_name(server: Server, path: str) -> None:
    move_by_jupyter(server, path)
    assert server.save(path, notebook("another()")).status == 201
    server.sync(path)


def replace(server: Server, path: str) -> None:
    new = write(server.root / f".{path}.new", notebook("edited()"))
    new.replace(server.root / path)


REMOVALS = [
    delete_by_jupyter,
    delete_by_shell,
    delete_by_jupyter_after_a_rename,
    move_by_jupyter,
    move_by_shell,
    move_by_shell_and_open,
    replace,
]


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name.translate(str.maketrans('[]', '--'))}.ipynb"


@pytest.mark.parametrize("saved", [True, False], ids=["saved by Jupyter", "never saved"])
@pytest.mark.parametrize("remove", REMOVALS, ids=lambda remove: remove.__name__)
def test_a_training_whose_notebook_is_removed_stays_one_run(
    server: Server,
    start_session: StartSession,
    path: str,
    remove: Callable[[Server, str], None],
    saved: bool,
) -> None:
    if saved:
        assert server.save(path, notebook("train()")).status == 201
    kernel = start_session(server, path)
    first = train(kernel, 0)
    remove(server, path)
    assert train(kernel, 1) == train(kernel, 2) == first
    with restarted_kernel(server, kernel) as restarted:
        assert train(restarted, 3)[0] == first[0]


def test_a_new_notebook_with_the_old_name_does_not_get_the_training(
    server: Server, start_session: StartSession, path: str
) -> None:
    kernel = start_session(server, path)
    first = train(kernel, 0)
    move_and_reuse_the_name(server, path)
    assert train(kernel, 1) == first
    assert train(kernel, 0)[0] == first[0]


def test_a_notebook_that_is_moved_back_keeps_its_record(
    server: Server, start_session: StartSession, path: str
) -> None:
    assert server.save(path, notebook("train()")).status == 201
    kernel = start_session(server, path)
    first = train(kernel, 0)
    move_by_shell_and_open(server, path)
    assert train(kernel, 1) == first
    (server.root / "sub" / path).rename(server.root / path)
    assert train(kernel, 2) == first
    assert server.sync(path)["id"] == first[0]


def test_a_run_continues_after_a_checkout_of_a_branch_without_the_notebook(
    server: Server, start_session: StartSession, path: str
) -> None:
    def git(*command: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *author, *command], cwd=folder, check=True, capture_output=True)

    folder = server.root / "repository"
    folder.mkdir()
    git("init", "--initial-branch=main")
    git("commit", "--allow-empty", "-m", "empty")
    git("checkout", "-b", "with")
    kernel = start_session(server, f"repository/{path}")
    git("add", path)
    git("commit", "-m", "notebook")
    first = train(kernel, 0)
    git("checkout", "main")
    assert train(kernel, 1) == first
    git("checkout", "with")
    assert train(kernel, 2) == first


def test_a_deleted_record_is_not_used(
    server: Server, start_session: StartSession, path: str
) -> None:
    kernel = start_session(server, path)
    record, run = train(kernel, 0)
    assert server.axon("DELETE", f"/notebooks/{record}").status == 204
    new_record, new_run = train(kernel, 1)
    assert new_record != record
    assert new_run != run


def test_use_begins_a_run_in_another_notebook(
    server: Server, start_session: StartSession, path: str
) -> None:
    kernel = start_session(server, path)
    first = train(kernel, 0)
    other = write(server.root / f"other-{path}", notebook("train()"))
    kernel.execute(f"axon.use({str(other)!r})")
    after = train(kernel, 1)
    assert after[0] == server.sync(other.name)["id"] != first[0]
    assert after[1] != first[1]


# Folders


def test_a_relative_path_is_relative_to_the_start_folder_of_the_kernel(
    environment: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path / "train.ipynb", notebook("train()"))
    write(tmp_path / "elsewhere" / "train.ipynb", notebook("another()"))
    with running_kernel(tmp_path, {**environment, "AXON_NOTEBOOK": "train.ipynb"}) as kernel:
        kernel.execute("%cd elsewhere")
        kernel.execute(f"{TRAIN.format(epoch=0)}\nfirst = axon.notebook().path")
        kernel.execute(f"import os\nos.chdir('..')\n{TRAIN.format(epoch=1)}")
        assert (
            kernel.evaluate("[first, axon.notebook().path]") == [str(tmp_path / "train.ipynb")] * 2
        )
        kernel.execute("%cd elsewhere")
        kernel.execute("axon.use('train.ipynb')\n%cd ..")
        kernel.execute(TRAIN.format(epoch=2))
        assert kernel.evaluate("axon.notebook().path") == str(
            tmp_path / "elsewhere" / "train.ipynb"
        )


def test_a_variable_set_in_a_notebook_may_be_relative_to_the_working_directory(
    environment: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path / "elsewhere" / "train.ipynb", notebook("train()"))
    with running_kernel(tmp_path, environment) as kernel:
        kernel.execute(
            "import os\nos.chdir('elsewhere')\nos.environ['AXON_NOTEBOOK'] = 'train.ipynb'"
        )
        kernel.execute(TRAIN.format(epoch=0))
        kernel.execute(f"os.chdir('..')\n{TRAIN.format(epoch=1)}")
        assert kernel.evaluate("axon.notebook().path") == str(
            tmp_path / "elsewhere" / "train.ipynb"
        )


SCRIPT = """
import os
FIRST
if __name__ == "__main__":
    os.chdir("elsewhere")
from jupyter_axon_notebooks.training.discovery.location import find_location
def child():
    print(find_location().path)
if __name__ == "__main__":
    child()
"""
SPAWNS = """
    import multiprocessing
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start(); process.join()
"""


@pytest.mark.parametrize(
    "command",
    [
        ("train.py",),
        ("./train.py",),
        ("-m", "pdb", "-c", "c", "-c", "q", "train.py"),
    ],
    ids=["by name", "dot", "pdb"],
)
def test_a_script_that_changes_its_folder_is_found(
    environment: dict[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    is_tool = "-m" in command  # which names its script by a relative path
    script = SCRIPT.replace("FIRST", "import jupyter_axon_notebooks" if is_tool else "")
    (tmp_path / "train.py").write_text(script + ("" if is_tool else SPAWNS))
    out = python(*command, cwd=tmp_path, **environment).stdout
    paths = [line for line in out.splitlines() if line.startswith("/")]
    assert paths == [str(tmp_path / "train.py")] * (1 if is_tool else 2)


def test_a_relative_path_is_relative_to_the_start_folder_of_the_script(
    environment: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path / "named.ipynb", notebook("train()"))
    write(tmp_path / "elsewhere" / "named.ipynb", notebook("another()"))
    (tmp_path / "train.py").write_text(SCRIPT.replace("FIRST", "") + SPAWNS)
    out = python("train.py", cwd=tmp_path, **environment, AXON_NOTEBOOK="named.ipynb").stdout
    assert out.splitlines() == [str(tmp_path / "named.ipynb")] * 2
