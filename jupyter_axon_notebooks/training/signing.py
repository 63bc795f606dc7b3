"""Signatures of the user's own state files, which may then create objects of any type.

The key is 32 random bytes in Jupyter's data folder, readable by its owner only. It is in no record,
archive or response. So whoever can write state files or records, but not read the data folder, can
sign nothing, and a signed file was written by a process of this user.
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
from ..stores import find_settings
from ..userfiles import FileTooLarge, NotRegular, open_regular, read_at_most
from .messages import warn

#: The name of the key's file in :func:`.defaults.data_folder`.
KEY_FILE: Final = "signing.key"
#: The size of a key, and of a signature, in bytes.
SIZE: Final = 32
#: What is signed begins with this, so that a signature has no meaning elsewhere.
_PURPOSE: Final = b"jupyter-axon-notebooks state 1\0"

_is_warned = False


class SigningKeyError(Exception):
    """The signing key is unusable; the message says why, and what to do."""


def sign(content: bytes) -> bytes:
    """Return the signature of ``content``; raises SigningKeyError."""
    file = _key_file()
    try:
        if not os.path.lexists(file):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):  # another process was faster
                write_atomic(file, secrets.token_bytes(SIZE), overwrite=False)
    except OSError as error:
        reason = f"the signing key {file} cannot be created: {_reason(error)}"
        raise SigningKeyError(
            f"{reason}. Make {file.parent} a folder that you can write to"
        ) from error
    return _signature(_read_key(file), content)


def signature_error(content: bytes, signature: bytes) -> str | None:
    """Return why ``signature`` is not this user's for ``content``, as a sentence; None if it is."""
    file = _key_file()
    try:
        key = _read_key(file)
    except SigningKeyError as error:
        return f"Its signature cannot be checked: {error}"
    if hmac.compare_digest(_signature(key, content), signature):
        return None
    return f"It was signed with another key than {file}, or was changed after it was signed"


def warn_unsigned(reason: SigningKeyError) -> None:
    """Warn the user, once in this process, that a file is written without a signature."""
    global _is_warned
    if not _is_warned:
        _is_warned = True
        warn(f"estimators are saved unsigned, so restoring them needs trusted=True: {reason}")


def _signature(key: bytes, content: bytes) -> bytes:
    signer = hmac.new(key, _PURPOSE, "sha256")
    signer.update(content)
    return signer.digest()


def _key_file() -> Path:
    return find_settings().data_folder / KEY_FILE


def _read_key(file: Path) -> bytes:
    remove = "remove it to have a new one created"
    try:
        with open_regular(file, follow_links=False) as stream:
            if exposed := _why_exposed(os.fstat(stream.fileno()), file):
                raise SigningKeyError(f"the signing key {file} is not used: {exposed}")
            key = read_at_most(stream, SIZE, file)
    except FileNotFoundError as error:
        raise SigningKeyError(f"the signing key {file} is missing") from error
    except NotRegular as error:
        raise SigningKeyError(
            f"the signing key {file} is not used: {_reason(error)}. Put a file there, or {remove}"
        ) from error
    except FileTooLarge:
        key = b""
    except OSError as error:
        raise SigningKeyError(
            f"the signing key {file} cannot be read: {_reason(error)}. Make it readable for "
            f"yourself only, or {remove}"
        ) from error
    if len(key) != SIZE:
        raise SigningKeyError(
            f"the signing key {file} is damaged: it does not have {SIZE} bytes; {remove}"
        )
    return key


def _why_exposed(status: os.stat_result, file: Path) -> str | None:
    """Return how other users could know the key, or have put it there, and what to do."""
    if not hasattr(os, "geteuid"):
        return None  # on Windows the user's profile is private
    if status.st_uid != os.geteuid():
        owner = f"it belongs to the user {status.st_uid}, not to {os.geteuid()}"
        return f"{owner}. Remove it to have a new one created"
    if (mode := stat.S_IMODE(status.st_mode)) & 0o077:
        fix = f"Run `chmod 600 {file}`, or remove it if others may have read it"
        return f"others than its owner have access to it (mode {mode:03o}). {fix}"
    return None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
