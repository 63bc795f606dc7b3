"""Commands follow the pointer file that the user's server left, as kernels do."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.factories import new_notebook

from jupyter_axon_notebooks.config import AxonNotebooks
from jupyter_axon_notebooks.kernel_config import read_kernel_config, write_kernel_config
from jupyter_axon_notebooks.kernel_environment import KernelEnvironment
from jupyter_axon_notebooks.stores import find_settings
from jupyter_axon_notebooks.sync import read_origin

from .conftest import Axon, repository
from .test_configuration import listed

HER = "grace"


def store_named(folder: Path, name: str) -> str:
    """Return the URL of a store with one notebook of that name."""
    with repository(folder / f"{name}.db") as records:
        records.create(new_notebook(name=name))
    return f"sqlite:///{folder}/{name}.db"


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that no server opened."""
    for variable in ("AXON_USER", "AXON_STATES_ROOT", "AXON_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)


@contextmanager
def served(db: Path, user: str = HER) -> Iterator[None]:
    """A server that records in ``db``, while it runs; what it leaves stays."""
    config = AxonNotebooks(
        store_url=f"sqlite:///{db}", user_id=user, states_root=str(db.with_name("its states"))
    )
    kernel_environment = KernelEnvironment(config, logging.getLogger("test"))
    kernel_environment.install(None, lambda: user)
    try:
        yield
    finally:
        kernel_environment.restore()


@pytest.fixture
def pointer(jupyter: Path, tmp_path: Path) -> Path:
    """The pointer file that a server left; its store has a record of its user."""
    with repository(tmp_path / "its.db") as records:
        records.create(new_notebook(user_id=HER, name="its"))
    with served(tmp_path / "its.db"):
        pass
    return jupyter / "data" / "axon_notebooks" / "kernels.json"


def test_a_command_works_on_the_store_of_the_server_as_its_user(
    axon: Axon, pointer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = find_settings()
    assert listed(axon) == "its"
    facts = axon("doctor", "--json").json["facts"]
    assert facts["store"]["url"] == kernels.store_url == f"sqlite:///{tmp_path}/its.db"
    assert facts["store"]["user"] == kernels.user_id == HER
    assert facts["state files"]["root"] == kernels.states_root == f"{tmp_path}/its states"
    for section, source in (
        ("store", "url from"),
        ("store", "user from"),
        ("state files", "root from"),
    ):
        assert facts[section][source] == str(pointer)
    with served(tmp_path / "its.db"):  # a terminal of the server
        facts = axon("doctor", "--json").json["facts"]
    assert (facts["store"]["url"], facts["store"]["url from"]) == (
        kernels.store_url,
        "AXON_STORE_URL",
    )


def test_the_origin_is_that_of_the_servers_data_folder(
    axon: Axon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AXON_DATA_DIR", str(tmp_path / "of the server"))
    origin = read_origin(tmp_path / "of the server" / "axon_notebooks")
    store = axon("doctor", "--json").json["facts"]["store"]
    assert store["origin"] == origin
    assert store["url"] == f"sqlite:///{tmp_path}/of the server/axon_notebooks/axon.db"
    monkeypatch.setenv("AXON_DATA_DIR", "relative")
    refused = axon("list")
    assert "AXON_DATA_DIR is ignored: relative is a relative path" in refused.stderr


def test_what_lay_in_a_data_folder_that_was_moved_is_found_in_the_new_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    left = {"store_url": f"sqlite:///{old}/axon.db", "states_root": f"{old}/states", "user_id": HER}
    write_kernel_config(old / "kernels.json", left)
    assert read_kernel_config(old / "kernels.json") == left
    shutil.copytree(old, new)
    moved = {
        "store_url": f"sqlite:///{new}/axon.db",
        "states_root": f"{new}/states",
        "user_id": HER,
    }
    assert read_kernel_config(new / "kernels.json") == moved
    elsewhere = {"store_url": "sqlite:////srv/axon.db", "states_root": f"{old}-other/states"}
    write_kernel_config(old / "kernels.json", elsewhere)
    shutil.copy(old / "kernels.json", new)
    assert read_kernel_config(new / "kernels.json") == elsewhere


def test_options_environment_and_configuration_come_before_what_a_server_left(
    axon: Axon, pointer: Path, jupyter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AXON_USER", "ada")
    urls = {name: store_named(tmp_path, name) for name in ("py", "environment", "option")}
    (jupyter / "config" / "jupyter_server_config.py").write_text(
        f"c.AxonNotebooks.store_url = {urls['py']!r}\nc.AxonNotebooks.user_id = 'configured'\n"
    )
    assert listed(axon) == "py"
    monkeypatch.setenv("AXON_STORE_URL", urls["environment"])
    assert listed(axon) == "environment"
    assert listed(axon, "--store-url", urls["option"]) == "option"
    monkeypatch.delenv("AXON_USER")
    monkeypatch.setenv("AXON_STATES_ROOT", "/of/the/environment")
    facts = axon("doctor", "--json").json["facts"]
    assert (facts["store"]["user"], facts["store"]["user from"]) == (
        "configured",
        "the configuration",
    )
    assert facts["state files"]["root"] == "/of/the/environment"
    monkeypatch.setenv("AXON_STATES_ROOT", "relative")
    assert "AXON_STATES_ROOT is ignored" in axon("list").stderr


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("garbage", "it is damaged"),
        ("a later version", "it was written by another version"),
        ("writable by others", "other users may write to it"),
        ("a link", "it cannot be read: it is a link"),
    ],
)
def test_a_pointer_file_that_is_not_to_be_believed_is_ignored_with_a_warning(
    axon: Axon, pointer: Path, db: Path, trouble: str, why: str
) -> None:
    match trouble:
        case "garbage":
            pointer.write_bytes(b"\xff\x00{")
        case "a later version":
            pointer.write_text(json.dumps({"version": 99}))
        case "writable by others":
            pointer.chmod(0o622)
        case "a link":
            pointer.symlink_to(pointer.rename(pointer.with_name("elsewhere")))
    with repository(db) as records:
        records.create(new_notebook(name="by default"))
    ran = axon("list", "--json")
    assert [found["name"] for found in ran.json] == ["by default"]
    assert f"Warning: {pointer} is ignored: {why}" in ran.stderr
    [problem] = axon("doctor", "--json").json["problems"]
    assert problem["code"] == "pointer-ignored"
