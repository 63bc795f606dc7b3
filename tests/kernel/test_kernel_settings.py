"""Where a kernel records: environment variables, the kernel configuration file, and defaults."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_axon_notebooks.config import AxonNotebooks
from jupyter_axon_notebooks.defaults import default_user
from jupyter_axon_notebooks.kernel_config import write_kernel_config
from jupyter_axon_notebooks.kernel_environment import KernelEnvironment
from jupyter_axon_notebooks.stores import StoreSettings, find_settings

SETTINGS = {"store_url": "sqlite:////left/axon.db", "states_root": "/left/states", "user_id": "ada"}


@pytest.fixture
def file(alone: Path) -> Path:
    """The kernel configuration file of a server."""
    file = alone / "axon_notebooks" / "kernels.json"
    write_kernel_config(file, SETTINGS)
    return file


def defaults(data: Path) -> StoreSettings:
    own = data / "axon_notebooks"
    return StoreSettings(f"sqlite:///{own}/axon.db", f"{own}/states", default_user(), str(data))


def test_the_defaults_apply_if_nothing_is_configured(alone: Path) -> None:
    assert find_settings() == defaults(alone)


def test_the_configuration_file_of_a_server_applies(file: Path, alone: Path) -> None:
    assert find_settings() == StoreSettings(**SETTINGS, data_dir=str(alone))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [left.name for left in file.parent.iterdir()] == ["kernels.json"]


def test_environment_variables_come_first(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXON_STORE_URL", "postgresql+psycopg://ada@db/axon")
    monkeypatch.setenv("AXON_STATES_ROOT", "/handed/states")
    monkeypatch.setenv("AXON_USER", "bob")
    monkeypatch.setenv("AXON_DATA_DIR", "/handed")
    handed = StoreSettings("postgresql+psycopg://ada@db/axon", "/handed/states", "bob", "/handed")
    assert find_settings() == handed


def test_a_server_restores_its_environment_and_leaves_the_file(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AXON_USER", "outside")
    config = AxonNotebooks(
        user_id="bob", store_url="sqlite:////given/axon.db", states_root="/given/states"
    )
    kernel_environment = KernelEnvironment(config, logging.getLogger("test"))
    kernel_environment.install(None, lambda: "bob")
    given = StoreSettings("sqlite:////given/axon.db", "/given/states", "bob", str(alone))
    assert find_settings() == given
    kernel_environment.restore()
    assert {name: value for name, value in os.environ.items() if name.startswith("AXON")} == {
        "AXON_USER": "outside"
    }
    monkeypatch.delenv("AXON_USER")
    assert find_settings() == given  # by the configuration file


def test_a_password_is_not_passed_on(alone: Path) -> None:
    config = AxonNotebooks(store_url="postgresql+psycopg://ada:hunter2@db/axon")
    kernel_environment = KernelEnvironment(config, logging.getLogger("test"))
    kernel_environment.install(None, lambda: "ada")
    try:
        assert find_settings().store_url == "postgresql+psycopg://ada:***@db/axon"
        assert "hunter2" not in (alone / "axon_notebooks" / "kernels.json").read_text()
    finally:
        kernel_environment.restore()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "damaged"),
        ('{"version": 1', "damaged"),
        ("[]", "damaged"),
        ('{"store_url": "memory://"}', "damaged"),
        ('{"version": 2}', "another version"),
        ('{"version": 1, "store_url": ["x"]}', "damaged"),
        ('{"version": 1, "user_id": ""}', "damaged"),
        ('{"version": 1, "store_url": "sqlite:///axon.db"}', "a relative path"),
        ('{"version": 1, "states_root": "states"}', "a relative path"),
        (" " * 70_000 + json.dumps({"version": 1, **SETTINGS}), "damaged"),
    ],
)
def test_a_damaged_file_is_ignored_with_one_warning(
    file: Path, alone: Path, text: str, why: str
) -> None:
    file.write_text(text)
    with pytest.warns(RuntimeWarning, match=why) as warned:
        assert find_settings() == find_settings() == defaults(alone)
    assert len(warned) == 1


@pytest.mark.parametrize(
    "trouble", ["group", "everybody", "another user", "a link", "a folder", "a pipe"]
)
def test_a_file_that_others_could_have_written_is_ignored(
    file: Path, alone: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    match trouble:
        case "group":
            file.chmod(0o620)
        case "everybody":
            file.chmod(0o602)
        case "another user":
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        case "a link":
            file.symlink_to(file.rename(file.with_name("elsewhere")))
        case "a folder":
            file.unlink()
            file.mkdir()
        case "a pipe":
            file.unlink()
            os.mkfifo(file)
    with pytest.warns(RuntimeWarning, match="is ignored"):
        assert find_settings() == defaults(alone)


def test_finding_the_settings_loads_no_server_and_no_framework() -> None:
    heavy = {"jupyter_server", "tornado", "nbformat", "IPython", "ipykernel", "numpy", "torch"}
    code = (
        "import sys, jupyter_axon_notebooks.stores\n"
        "import jupyter_axon_notebooks.training.discovery.record\n"
        f"print(*sorted({heavy!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_relative_paths_are_ignored(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in [
        ("AXON_STORE_URL", "sqlite:///axon.db"),
        ("AXON_STATES_ROOT", "states"),
        ("AXON_DATA_DIR", "data"),
    ]:
        monkeypatch.setenv(name, value)
    with pytest.warns(RuntimeWarning, match="relative path") as warned:
        assert find_settings() == defaults(alone)
    assert len(warned) == 3
