"""What the two halves of the package, Python and the panel, have to agree on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jupyter_axon_notebooks

ROOT = Path(__file__).parents[2]


def panel(name: str) -> Any:
    return json.loads((ROOT / "frontend" / name).read_text())


def test_the_panel_has_the_version_of_the_package() -> None:
    versions = {panel(name)["version"] for name in ("package.json", "package-lock.json")}
    assert versions == {jupyter_axon_notebooks.__version__}


def test_the_lock_file_names_packages_by_version_and_digest_and_no_host() -> None:
    packages = {
        name: package for name, package in panel("package-lock.json")["packages"].items() if name
    }
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if not package.get("integrity")] == []


def test_the_panel_says_which_package_it_is_uninstalled_with() -> None:
    assert (
        panel("install.json")["packageName"]
        == panel("package.json")["name"]
        == "jupyter-axon-notebooks"
    )
