"""Disks that only one process and its children see: what is to be put before the command that runs them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SMALL = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'
_READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'


def small(folder: Path, size: str) -> list[str]:
    """A disk of so many bytes (``8m``) at ``folder``, which must not be there yet."""
    folder.mkdir(parents=True)
    return [*_own_mounts(), "sh", "-c", _SMALL, "sh", size, str(folder)]


def read_only(folder: Path) -> list[str]:
    """``folder`` as one that cannot be written to."""
    return [*_own_mounts(), "sh", "-c", _READ_ONLY, "sh", str(folder)]


def remount(pid: int, folder: Path, options: str) -> None:
    """Change the disk that a process sees at ``folder``."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    enter = ["nsenter", f"--target={pid}", "--mount", *user]
    subprocess.run([*enter, "mount", "-o", f"remount,{options}", str(folder)], check=True)


def seen_by(pid: int, path: Path) -> Path:
    """Where a file that a process sees can be found from here."""
    return Path(f"/proc/{pid}/root{path}")


def _own_mounts() -> list[str]:
    return ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
