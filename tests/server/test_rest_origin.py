"""Tests of the origin on a running server."""

from __future__ import annotations

import fcntl
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.rest_client import Client

from jupyter_axon_notebooks.extension import AxonExtension
from jupyter_axon_notebooks.kernel_config import read_kernel_config, write_kernel_config
from jupyter_axon_notebooks.records import NewNotebook, new_id
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import open_store
from jupyter_axon_notebooks.sync import read_origin


@pytest.fixture
def folder(data: Path) -> Path:
    return data / "axon_notebooks"


@pytest.fixture
def origin(folder: Path) -> str:
    """The origin, in both of its places, before the server starts."""
    origin = read_origin(folder)
    write_kernel_config(
        folder / "kernels.json", {"store_url": "sqlite:////elsewhere.db", "origin": origin}
    )
    return origin


@pytest.fixture
def extension(jp_serverapp: Any) -> AxonExtension:
    [extension] = jp_serverapp.extension_manager.extension_apps["jupyter_axon_notebooks"]
    return extension  # type: ignore[no-any-return]


@pytest.fixture(params=["a link to a disk that is not mounted", "a folder"])
def unreadable(folder: Path, origin: str, request: pytest.FixtureRequest) -> Path:
    """The origin's file, which cannot be read when the server starts."""
    file = folder / "origin"
    file.unlink()
    file.mkdir() if request.param == "a folder" else file.symlink_to("/not/mounted/origin")
    return file


async def test_an_unreadable_origin_is_restored_once_it_is_readable(
    folder: Path, origin: str, unreadable: Path, axon: Client
) -> None:
    refused = await axon.get("/notebooks")
    assert refused.status == 503
    assert str(unreadable) in refused.message
    left = read_kernel_config(folder / "kernels.json")
    assert left["origin"] == origin
    assert left["store_url"] != "sqlite:////elsewhere.db"
    unreadable.unlink() if unreadable.is_symlink() else unreadable.rmdir()
    while (await axon.get("/notebooks")).status == 503:  # it tries again
        pass
    assert read_origin(folder) == origin == unreadable.read_text().strip()


async def test_a_locked_data_directory_is_waited_for_briefly(folder: Path, axon: Client) -> None:
    await axon.get("/notebooks")
    origin = read_origin(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        (folder / "origin").unlink()
        assert (await axon.get("/notebooks")).status == 200
        assert (folder / "origin").read_text().strip() == origin
    finally:
        os.close(descriptor)


async def test_the_kernel_config_of_another_server_is_kept(folder: Path, axon: Client) -> None:
    await axon.get("/notebooks")
    origin = read_origin(folder)
    others = {"store_url": "sqlite:////another/axon.db", "states_root": "/another"}
    write_kernel_config(folder / "kernels.json", others)
    assert (await axon.get("/notebooks")).status == 200
    assert read_kernel_config(folder / "kernels.json") == {**others, "origin": origin}
    (folder / "kernels.json").unlink()
    assert (await axon.get("/notebooks")).status == 200
    assert read_kernel_config(folder / "kernels.json")["user_id"] == "ada"


async def test_any_notebook_name_is_logged_in_one_line(
    axon: Client,
    folder: Path,
    jp_root_dir: Path,
    extension: AxonExtension,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = "a\x1b[31m\nb.ipynb"
    (jp_root_dir / name).write_text(nbformat.writes(nbformat.v4.new_notebook()))
    await axon.get("/notebooks")
    with closing(open_store(f"sqlite:///{folder}/axon.db")) as store:
        lost = NewNotebook(user_id="ada", name="b", path=str(jp_root_dir / name), origin=new_id())
        NotebookRepository(store).create(lost)
    made = await axon.post("/notebooks/sync", {"path": name})
    assert made.status == 200, made
    [line] = [one for one in caplog.records if "gets a new record" in one.getMessage()]
    assert "a\\x1b[31m\\nb.ipynb" in line.getMessage()
    assert line.name == extension.log.name


async def test_stopping_the_extension_restores_the_log(
    jp_serverapp: Any, extension: AxonExtension
) -> None:
    assert extension.log.filters != []
    await extension.stop_extension()
    assert [log.filters for log in (extension.log, jp_serverapp.log)] == [[], []]
