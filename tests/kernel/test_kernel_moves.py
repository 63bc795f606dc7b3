"""Notebooks that are deleted, moved or replaced while they train, and changes of directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.kernel import running_kernel
from support.server_kernels import SessionKernel, restarted_kernel
from support.server_processes import Server, notebook, write

StartSession = Callable[..., SessionKernel]

TRAIN = (
    "import jupyter_axon_notebooks as axon\n"
    "saved = axon.checkpoint(None, epoch={epoch}, metrics={{'loss': 1.0}})"
)


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


def move_by_jupyter(server: Server, path: str) -> None:
    (server.root / "sub").mkdir(exist_ok=True)
    assert server.rename(path, f"sub/{path}").status == 200


def move_by_shell_and_open(server: Server, path: str) -> None:
    (server.root / "sub").mkdir(exist_ok=True)
    (server.root / path).rename(server.root / "sub" / path)
    server.sync(f"sub/{path}")


def move_and_reuse_the_name(server: Server, path: str) -> None:
    move_by_jupyter(server, path)
    assert server.save(path, notebook("another()")).status == 201
    server.sync(path)


def replace(server: Server, path: str) -> None:
    new = write(server.root / f".{path}.new", notebook("edited()"))
    new.replace(server.root / path)


REMOVALS = [delete_by_jupyter, delete_by_shell, move_by_jupyter, move_by_shell_and_open, replace]


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name.translate(str.maketrans('[]', '--'))}.ipynb"


@pytest.mark.parametrize("remove", REMOVALS, ids=lambda remove: remove.__name__)
def test_a_training_whose_notebook_is_removed_stays_one_run(
    server: Server,
    start_session: StartSession,
    path: str,
    remove: Callable[[Server, str], None],
) -> None:
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


def test_a_deleted_record_is_not_used(
    server: Server, start_session: StartSession, path: str
) -> None:
    kernel = start_session(server, path)
    record, run = train(kernel, 0)
    assert server.axon("DELETE", f"/notebooks/{record}").status == 204
    new_record, new_run = train(kernel, 1)
    assert new_record != record
    assert new_run != run


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
