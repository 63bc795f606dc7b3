"""The environment of a training: Python, packages, git commit, graphics cards.

Nothing here imports a framework, takes long or raises. What cannot be found out is omitted.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ...provenance import Environment, GitState
from ...userfiles import read_regular

#: Seconds to wait for another program.
_TIMEOUT: Final = 2.0
#: The largest file with the metadata of a package that is read, in bytes.
_MAX_SIZE: Final = 16 << 20
_FIELD: Final = re.compile(r"^(Name|Version):[ \t]*(\S+)", re.MULTILINE)


def collect_environment(folder: str | os.PathLike[str] | None = None) -> Environment:
    """Return the environment of this process, with the git commit of ``folder``.

    Everything but the commit is looked up once. The default folder is the working directory.
    """
    names, driver = _gpus()
    return Environment(
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        platform=platform.platform(),
        packages=dict(_packages()),
        git=read_git_state(Path(os.curdir if folder is None else folder)),
        gpus=list(names),
        driver=driver,
        **_cuda_versions(),
    )


@functools.cache
def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    with suppress(Exception):  # a finder of another package may raise anything
        for distribution in metadata.distributions():
            fields = _read_fields(distribution)
            if len(fields) == 2:  # a broken installation lacks them
                found.setdefault(fields["Name"], fields["Version"])  # the first on the path counts
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def _read_fields(distribution: metadata.Distribution) -> dict[str, str]:
    # Distribution.metadata also parses the long description, which takes ten times as long.
    with suppress(Exception):  # not UTF-8, or a disk that fails
        text = _read(distribution, "METADATA") or _read(distribution, "PKG-INFO") or ""
        return dict(_FIELD.findall(text.partition("\n\n")[0]))
    return {}


def _read(distribution: metadata.Distribution, name: str) -> str | None:
    # The working directory is searched as well, and a file called METADATA there may be a pipe.
    folder = getattr(distribution, "_path", None)
    if not isinstance(folder, Path):  # in a zip file
        return distribution.read_text(name)
    with suppress(OSError):
        return read_regular(folder / name, _MAX_SIZE).decode("utf-8").replace("\r\n", "\n")
    return None


def read_git_state(folder: Path) -> GitState | None:
    """Return the commit and branch of ``folder``; None outside of a repository, or without git.

    ``dirty`` is None if git takes too long, as in a very large repository.
    """
    head = _git(folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if head is None:  # perhaps a repository without a commit
        branch = _git(folder, "symbolic-ref", "--short", "HEAD")
        return None if branch is None else GitState(branch=branch, dirty=True)
    commit, _, branch = head.partition("\n")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return GitState(
        commit=commit,
        branch=None if branch == "HEAD" else branch,
        dirty=None if changed is None else bool(changed),
    )


def _git(folder: Path, *command: str) -> str | None:
    # A file system monitor would be a program that the repository names.
    return _output("git", "-C", str(folder), "-c", "core.fsmonitor=false", *command)


@functools.cache
def _gpus() -> tuple[tuple[str, ...], str | None]:
    """Return the names of the graphics cards, and the version of their driver."""
    output = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    pairs = [line.rpartition(",") for line in (output or "").splitlines() if "," in line]
    driver = pairs[0][2].strip() if pairs else None
    return tuple(name.strip() for name, _, _ in pairs), driver


def _cuda_versions() -> dict[str, str | None]:
    torch: Any = sys.modules.get("torch")
    with suppress(Exception):  # not imported, half imported, or another module of that name
        cudnn = torch.backends.cudnn.version()
        return {"cuda": torch.version.cuda, "cudnn": None if cudnn is None else str(cudnn)}
    return {}


def _output(*command: str) -> str | None:
    """Return what a program prints; None if it is missing, fails or takes too long."""
    try:
        ended = subprocess.run(  # noqa: S603 - the programs are those named above
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: an impossible path
        return None
    return ended.stdout.decode("utf-8", "replace").strip()
