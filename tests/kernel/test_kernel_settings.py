"""Tests of a kernel's settings: environment, kernel configuration file, and defaults."""

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
from jupyter_axon_notebooks.training.tracker import has_system_metrics

SETTINGS = {
    "store_url": "sqlite:////configured/axon.db",
    "states_root": "/configured/states",
    "user_id": "ada",
}


@pytest.fixture
def file(data_folder: Path) -> Path:
    """The kernel configuration file of a server."""
    file = data_folder / "axon_notebooks" / "kernels.json"
    write_kernel_config(file, SETTINGS)
    return file


def defaults(data: Path) -> StoreSettings:
    folder = data / "axon_notebooks"
    return StoreSettings(
        f"sqlite:///{folder}/axon.db", f"{folder}/states", default_user(), str(data)
    )


def test_defaults_apply_without_configuration(data_folder: Path) -> None:
    assert find_settings() == defaults(data_folder)


def test_the_configuration_file_of_a_server_applies(file: Path, data_folder: Path) -> None:
    assert find_settings() == StoreSettings(**SETTINGS, data_dir=str(data_folder))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["kernels.json"]


def test_environment_variables_override_the_configuration_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AXON_STORE_URL", "postgresql+psycopg://ada@db/axon")
    monkeypatch.setenv("AXON_STATES_ROOT", "/environment/states")
    monkeypatch.setenv("AXON_USER", "bob")
    monkeypatch.setenv("AXON_DATA_DIR", "/environment")
    expected = StoreSettings(
        "postgresql+psycopg://ada@db/axon", "/environment/states", "bob", "/environment"
    )
    assert find_settings() == expected


def test_a_server_restores_the_environment_and_keeps_the_file(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AXON_USER", "outside")
    config = AxonNotebooks(
        user_id="bob", store_url="sqlite:////server/axon.db", states_root="/server/states"
    )
    kernel_environment = KernelEnvironment(config, logging.getLogger("test"))
    kernel_environment.install(None, lambda: "bob")
    expected = StoreSettings("sqlite:////server/axon.db", "/server/states", "bob", str(data_folder))
    assert find_settings() == expected
    kernel_environment.restore()
    assert {name: value for name, value in os.environ.items() if name.startswith("AXON")} == {
        "AXON_USER": "outside"
    }
    monkeypatch.delenv("AXON_USER")
    assert find_settings() == expected  # by the configuration file


def test_kernels_do_not_get_the_password_of_the_store(data_folder: Path) -> None:
    config = AxonNotebooks(store_url="postgresql+psycopg://ada:hunter2@db/axon")
    kernel_environment = KernelEnvironment(config, logging.getLogger("test"))
    kernel_environment.install(None, lambda: "ada")
    try:
        assert find_settings().store_url == "postgresql+psycopg://ada:***@db/axon"
        assert "hunter2" not in (data_folder / "axon_notebooks" / "kernels.json").read_text()
    finally:
        kernel_environment.restore()


@pytest.mark.parametrize("value", [None, "1"])
def test_a_server_switches_system_metrics_off_in_its_kernels(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("AXON_SYSTEM_METRICS", value)
    assert has_system_metrics()
    for is_on in (True, False):
        config = AxonNotebooks(system_metrics=is_on)
        kernel_environment = KernelEnvironment(config, logging.getLogger("test"))
        kernel_environment.install(None, lambda: "ada")
        assert has_system_metrics() == is_on
        kernel_environment.restore()
        assert os.environ.get("AXON_SYSTEM_METRICS") == value


@pytest.mark.parametrize(
    ("text", "reason"),
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
    file: Path, data_folder: Path, text: str, reason: str
) -> None:
    file.write_text(text)
    with pytest.warns(RuntimeWarning, match=reason) as warned:
        assert find_settings() == find_settings() == defaults(data_folder)
    assert len(warned) == 1


@pytest.mark.parametrize(
    "problem", ["group", "everybody", "another user", "a link", "a folder", "a pipe"]
)
def test_a_file_that_other_users_may_write_is_ignored(
    file: Path, data_folder: Path, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    match problem:
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
        assert find_settings() == defaults(data_folder)


def test_finding_the_settings_loads_no_server_and_no_framework() -> None:
    heavy = {"jupyter_server", "tornado", "nbformat", "IPython", "ipykernel", "numpy", "torch"}
    code = (
        "import sys, jupyter_axon_notebooks.stores\n"
        "import jupyter_axon_notebooks.training.discovery.record\n"
        f"print(*sorted({heavy!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_relative_paths_are_ignored(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in [
        ("AXON_STORE_URL", "sqlite:///axon.db"),
        ("AXON_STATES_ROOT", "team:a@b/states"),
        ("AXON_DATA_DIR", "data"),
    ]:
        monkeypatch.setenv(name, value)
    with pytest.warns(RuntimeWarning, match="relative path") as warned:
        assert find_settings() == defaults(data_folder)
    assert len(warned) == 3
    assert any("team:a@b/states is a relative path" in str(one.message) for one in warned)
