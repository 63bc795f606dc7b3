"""What code runs in: Python, packages, commit, graphics cards.

What does not change while a process lives is asked for once; the commit each time. Nothing here imports a framework,
nothing takes long and nothing is raised: what does not answer in time, or cannot be read, is left out.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ...provenance import Environment, GitState
from ...userfiles import read_regular

#: Seconds that another program is given.
_PATIENCE = 2.0
#: Bytes beyond which a file describes no package.
_LONGEST = 16 << 20
_FIELD = re.compile(r"^(Name|Version):[ \t]*(\S+)", re.MULTILINE)


def environment(folder: str | os.PathLike[str] | None = None) -> Environment:
    """What this process runs in, with the commit of ``folder``, by default the working directory."""
    gpus = _gpus()
    return Environment(
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        platform=platform.platform(),
        packages=dict(_packages()),
        git=read_git_state(
            Path(os.curdir if folder is None else folder)
        ),  # which may have been deleted
        gpus=list(gpus.names),
        driver=gpus.driver,
        **_versions(),
    )


@functools.cache
def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    with contextlib.suppress(
        Exception
    ):  # whoever else finds distributions in this process may fail at it
        for distribution in metadata.distributions():
            fields = _fields_of(distribution)
            if len(fields) == 2:  # what a broken installation left has neither
                found.setdefault(
                    fields["Name"], fields["Version"]
                )  # the first on the path is imported
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def _fields_of(distribution: metadata.Distribution) -> dict[str, str]:
    # Its `metadata` would parse the long description of each as well, which takes ten times as long.
    try:
        text = _read(distribution, "METADATA") or _read(distribution, "PKG-INFO") or ""
    except Exception:  # noqa: BLE001 - not UTF-8, as in old installations, or on a disk that fails
        return {}
    return dict(_FIELD.findall(text.partition("\n\n")[0]))


def _read(distribution: metadata.Distribution, name: str) -> str | None:
    # The working directory of a kernel is searched as well, and what is called METADATA there may be a pipe.
    folder = getattr(distribution, "_path", None)
    if not isinstance(folder, Path):  # in a zip file
        return distribution.read_text(name)
    with contextlib.suppress(OSError):
        return read_regular(folder / name, _LONGEST).decode("utf-8").replace("\r\n", "\n")
    return None


def read_git_state(folder: Path) -> GitState | None:
    """The commit that ``folder`` is at; None where it is in no repository, or there is no git.

    Whether it is dirty is left open where git needs too long to tell, as in a very large repository.
    """
    head = _git(folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if head is None:
        return _unborn(folder)
    commit, _, branch = head.partition("\n")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return GitState(
        commit=commit,
        branch=None if branch == "HEAD" else branch,  # no branch is checked out
        dirty=None if changed is None else bool(changed),
    )


def _unborn(folder: Path) -> GitState | None:
    """The state of a repository that has no commit yet."""
    branch = _git(folder, "symbolic-ref", "--short", "HEAD")
    return None if branch is None else GitState(branch=branch, dirty=True)


def _git(folder: Path, *command: str) -> str | None:
    # Its file system monitor would be a program that the repository names.
    return _said("git", "-C", str(folder), "-c", "core.fsmonitor=false", *command)


class _Gpus(NamedTuple):
    names: tuple[str, ...] = ()
    driver: str | None = None


@functools.cache
def _gpus() -> _Gpus:
    said = _said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if not said:
        return _Gpus()
    pairs = [line.rpartition(",") for line in said.splitlines() if "," in line]
    return _Gpus(
        tuple(name.strip() for name, _, _ in pairs), pairs[0][2].strip() if pairs else None
    )


def _versions() -> dict[str, str | None]:
    """The versions of CUDA and cuDNN that an imported framework uses."""
    torch: Any = sys.modules.get("torch")
    try:
        cudnn = torch.backends.cudnn.version()
        return {"cuda": torch.version.cuda, "cudnn": None if cudnn is None else str(cudnn)}
    except Exception:  # noqa: BLE001 - not imported, only half of it, or another module of that name
        return {}


def _said(*command: str) -> str | None:
    """What a program prints; None where it is not there, fails or takes too long."""
    try:
        ended = subprocess.run(  # noqa: S603 - the programs are those named above
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (
        OSError,
        ValueError,
        subprocess.SubprocessError,
    ):  # of values: a folder that no program can be told
        return None
    return ended.stdout.decode("utf-8", "replace").strip()
