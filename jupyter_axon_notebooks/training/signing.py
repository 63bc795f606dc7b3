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

from ..atomic_files import write_atomic
from ..defaults import data_folder
from ..userfiles import FileTooLarge, NotRegular, open_regular, read_at_most

#: The name of the key's file in :func:`data_folder`.
KEY_FILE: Final = "signing.key"
#: Bytes of a key, and of a signature.
SIZE: Final = 32
#: What is signed begins with this, so that no signature is one of anything else.
_PURPOSE: Final = b"jupyter-axon-notebooks state 1\0"


_is_warned = False


class NoKey(Exception):
    """There is no key that can be used; the message says why, and what to do."""


def sign(content: bytes) -> bytes:
    """Return the signature of ``content``.

    Raises
    ------
    NoKey
        When the key cannot be used, or cannot be made, as in a data folder that is read-only.
    """
    file = _key_file()
    try:
        if not os.path.lexists(file):
            _make(file)
    except OSError as error:
        reason = f"the signing key {file} cannot be made: {_reason(error)}"
        raise NoKey(f"{reason}. Make {file.parent} a folder that you can write to") from error
    return _signature(_key(file), content)


def refusal(content: bytes, signature: bytes) -> str | None:
    """Return why ``signature`` is not accepted as this user's for ``content``, as a sentence; None if it is accepted."""
    file = _key_file()
    try:
        key = _key(file)
    except NoKey as error:
        return f"Its signature cannot be checked: {error}"
    if hmac.compare_digest(_signature(key, content), signature):
        return None
    return f"It was signed with another key than {file}, or was changed after it was signed"


def warn_unsigned(reason: NoKey) -> None:
    """Warn the user, once in this process, that a file that needs a signature is written without one."""
    from .messages import warn

    global _is_warned
    if not _is_warned:
        _is_warned = True
        warn(f"estimators are saved unsigned, so that restoring them takes trusted=True: {reason}")


def _signature(key: bytes, content: bytes) -> bytes:
    signer = hmac.new(key, _PURPOSE, "sha256")
    signer.update(content)
    return signer.digest()


def _key_file() -> Path:
    from ..stores import find_settings

    return data_folder(find_settings().data_dir) / KEY_FILE


def _key(file: Path) -> bytes:
    """Return the key of this user; raises NoKey where there is none, or where others could have read it or put it there."""
    try:
        with open_regular(file, follow_links=False) as stream:
            found = os.fstat(stream.fileno())
            if exposed := _exposed(found, file):
                raise NoKey(f"the signing key {file} is not used: {exposed}")
            key = read_at_most(stream, SIZE, file)
    except FileNotFoundError as error:
        raise NoKey(f"the signing key {file} is missing") from error
    except NotRegular as error:
        replace = "Put the file itself there, or remove it to have a new one made"
        raise NoKey(f"the signing key {file} is not used: {_reason(error)}. {replace}") from error
    except FileTooLarge:
        key = b""
    except OSError as error:
        do = "Make it readable for you alone, or remove it to have a new one made"
        raise NoKey(f"the signing key {file} cannot be read: {_reason(error)}. {do}") from error
    if len(key) != SIZE:
        raise NoKey(
            f"the signing key {file} is damaged: it does not have {SIZE} bytes. Remove it to have a new one made"
        )
    return key


def _exposed(found: os.stat_result, file: Path) -> str | None:
    """Return why others could know the key, or could have put it there, and what to do; None if they could not."""
    if not hasattr(os, "geteuid"):
        return None  # on Windows the user's profile is private
    if found.st_uid != os.geteuid():
        return f"it belongs to the user {found.st_uid}, not to {os.geteuid()}. Remove it to have a new one made"
    if (mode := stat.S_IMODE(found.st_mode)) & 0o077:
        do = f"Run `chmod 600 {file}`, or remove it if others may have read it"
        return f"others than its owner have access to it (mode {mode:03o}). {do}"
    return None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _make(file: Path) -> None:
    """Put a new key into ``file``, unless another process is first."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        write_atomic(file, secrets.token_bytes(SIZE), overwrite=False)
