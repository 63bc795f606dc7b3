"""The Python package and the JupyterLab extension agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jupyter_axon_notebooks

ROOT = Path(__file__).parents[2]


def read_frontend(name: str) -> Any:
    return json.loads((ROOT / "frontend" / name).read_text())


def test_both_have_the_same_version() -> None:
    """The build sets it in the files of npm."""
    versions = {read_frontend(name)["version"] for name in ("package.json", "package-lock.json")}
    assert versions == {jupyter_axon_notebooks.__version__}


def test_the_lock_file_has_digests_and_no_hosts() -> None:
    packages = {
        name: package
        for name, package in read_frontend("package-lock.json")["packages"].items()
        if name
    }
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if not package.get("integrity")] == []


def test_the_settings_and_their_schema_have_the_same_sections() -> None:
    schema = read_frontend("schema/panel.json")["properties"]["sections"]["properties"]
    source = (ROOT / "frontend" / "src" / "settings.ts").read_text()
    defaults = re.findall(r"^  (\w+): '(open|closed|hidden)',?$", source, re.MULTILINE)
    assert defaults == [(name, section["default"]) for name, section in schema.items()]
