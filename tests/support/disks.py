"""Disks that only one process and its children see, as commands to run that process with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SMALL = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'
_READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'


def small_disk(folder: Path, size: str) -> list[str]:
    """Mount a disk of a size such as ``8m`` at ``folder``, which must not exist yet."""
    folder.mkdir(parents=True)
    return [*_unshare(), "sh", "-c", _SMALL, "sh", size, str(folder)]


def read_only_folder(folder: Path) -> list[str]:
    """Make ``folder`` read-only."""
    return [*_unshare(), "sh", "-c", _READ_ONLY, "sh", str(folder)]


def remount(pid: int, folder: Path, options: str) -> None:
    """Change the options of the disk that a process sees at ``folder``."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    enter = ["nsenter", f"--target={pid}", "--mount", *user]
    subprocess.run([*enter, "mount", "-o", f"remount,{options}", str(folder)], check=True)


def path_seen_by(pid: int, path: Path) -> Path:
    """Return the path at which others find a file that a process sees at ``path``."""
    return Path(f"/proc/{pid}/root{path}")


def _unshare() -> list[str]:
    return ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
