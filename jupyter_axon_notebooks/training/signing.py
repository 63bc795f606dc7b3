"""Signatures of files that may make any type when they are read, so that a user's own files need no permission.

The key is 32 random bytes in Jupyter's data folder, readable by its owner alone. It never leaves that folder: neither records nor
REST nor dumps have it, so whoever can write state files or records, but not read the user's data folder, can sign nothing. A file
with a valid signature was written by a process of this user, from objects that were in its memory.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..defaults import data_folder
from ..records import new_id
from ..userfiles import open_regular, read_at_most

#: The name of the key's file in :func:`data_folder`.
KEY_FILE: Final = "signing.key"
#: Bytes of a key, and of a signature.
SIZE: Final = 32
#: What is signed begins with this, so that no signature is one of anything else.
_PURPOSE: Final = b"jupyter-axon-notebooks state 1\0"


def sign(content: bytes) -> bytes | None:
    """Return the signature of ``content``; None where there can be no key, as in a data folder that is read-only."""
    key = _key(make=True)
    return None if key is None else _signature(key, content)


def is_signed(content: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is that of ``content``, made by a process of this user."""
    key = _key(make=False)
    return key is not None and hmac.compare_digest(_signature(key, content), signature)


def _signature(key: bytes, content: bytes) -> bytes:
    signer = hmac.new(key, _PURPOSE, "sha256")
    signer.update(content)
    return signer.digest()


def _key(*, make: bool) -> bytes | None:
    """Return the key of this user; None where there is none, or where others could have read it or put it there."""
    from .settings import settings

    file = data_folder(settings().data_dir) / KEY_FILE
    with suppress(OSError):
        if make and not os.path.lexists(file):
            _make(file)
        with open_regular(file, follow_links=False) as stream:
            found = os.fstat(stream.fileno())
            key = read_at_most(stream, SIZE, file)
        if len(key) == SIZE and _is_private(found):
            return key
    return None


def _is_private(found: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):
        return True  # on Windows the user's profile is private
    return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _make(file: Path) -> None:
    """Put a new key into ``file``, unless another process is first."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f"{file.name}.{new_id()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(SIZE))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            return
        except OSError:  # no hard links on this file system
            if not os.path.lexists(file):
                os.rename(draft, file)
    finally:
        draft.unlink(missing_ok=True)
