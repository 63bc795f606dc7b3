"""scikit-learn estimators, by skops: no pickle, and no type is made that nobody vouches for.

skops itself vouches for the types that it has checked. Of the others, those are made that are in a file with the signature of this
user (see :mod:`..signing`), and with ``trusted`` all. The signature is in the comment of the zip file that skops writes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from ...errors import InvalidData, StateError
from ...states.folders import explained
from .. import signing
from .arrays import type_name
from .template import Prepared
from .tensorfile import Source, corrupt

NAMES = "scikit-learn estimators"

#: The first release of skops without a known way around the types that are trusted.
_OLDEST: Final = (0, 13)
_INSTALL: Final = "pip install 'skops>=0.13'"
#: What the comment of a signed file begins with; the signature follows.
_COMMENT: Final = b"axon"


class SkopsFile:
    """A skops file about to be written; an :class:`Encoded`."""

    format: ClassVar[str] = "skops"

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def chunks(self) -> Iterator[memoryview]:
        """All of it."""
        yield memoryview(self._content)


def recognises(model: Any) -> bool:
    """Whether ``model`` is an estimator."""
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(model, base.BaseEstimator)


def encode(model: Any) -> SkopsFile:
    """The file of ``model``.

    Raises
    ------
    TypeError
        If skops cannot keep all that is in it.
    StateError
        If skops is not installed.
    """
    skops = _skops()
    try:
        content = skops.dumps(model)
        named = skops.get_untrusted_types(data=content)
    except Exception as error:
        raise TypeError(f"model: skops cannot keep this {type_name(model)}: {error}") from error
    # Functions and classes are kept by name alone. skops finds out only on reading that nothing has the name.
    if lost := [name for name in named if not _is_found(name)]:
        raise TypeError(
            f"model: skops cannot keep this {type_name(model)}: {lost[0]} is a function or class that has no name "
            "of its own in a module; define it at the top level"
        )
    return SkopsFile(_signed(content, is_needed=bool(named)))


def prepare(source: Source, model: Any, *, trusted: bool) -> Prepared:
    """What sets ``model``, of the same class, to what the file in ``source`` has and returns it; of None, what was stored.

    Raises
    ------
    InvalidData
        If it has types that skops does not trust and is not signed, if those are not defined here, or if it is of another class.
    StateCorrupt
        If the file is none that skops can read.
    StateError
        If skops is not installed.
    """
    skops = _skops()
    path, file = source
    with explained("read", os.path.dirname(path)):
        file.seek(0)
        content = file.read()
    content, refusal = _opened(content)
    try:
        untrusted = skops.get_untrusted_types(data=content)
    except Exception as error:
        raise corrupt(path, f"skops cannot read it: {error}") from error
    if untrusted and refusal is not None and not trusted:
        raise InvalidData(
            "trusted",
            f"{path} has types that are not known to be harmless: {', '.join(untrusted)}. {refusal}. "
            "Restore it with trusted=True if you trust whoever wrote it",
        )
    if lost := [name for name in untrusted if not _is_found(name)]:
        raise InvalidData(
            "model", f"has {lost[0]} in the checkpoint, which is not defined here; define it first"
        )
    try:
        stored = skops.loads(content, trusted=untrusted)
    except ModuleNotFoundError as error:
        raise InvalidData("model", f"needs the module {error.name}, which cannot be imported here") from error
    except Exception as error:
        raise corrupt(path, f"skops cannot read it: {error}") from error
    if model is None:
        return Prepared(lambda: None, lambda: stored)
    if type_name(stored) != type_name(model):  # a notebook's class is another one when its cell has run again
        raise InvalidData("model", f"is a {type_name(model)}, in the checkpoint a {type_name(stored)}")

    def step() -> Any:
        model.__dict__.clear()
        model.__dict__.update(stored.__dict__)
        return model

    return Prepared(lambda: None, step)


def is_skops(source: Source) -> bool:
    """Whether the file in ``source`` is of this format, rather than safetensors; both begin as no other does."""
    path, file = source
    with explained("read", os.path.dirname(path)):
        file.seek(0)
        return file.read(4) in (b"PK\3\4", b"PK\5\6")


def _signed(content: bytes, *, is_needed: bool) -> bytes:
    """Return a zip file with its signature as its comment; as it was, with a warning if it needs one, where there is no key."""
    if content[-2:] != b"\0\0":  # it has a comment
        return content
    try:
        signature = signing.sign(content)
    except signing.NoKey as reason:
        if is_needed:
            signing.warn_unsigned(reason)
        return content
    comment = _COMMENT + signature
    return content[:-2] + len(comment).to_bytes(2, "little") + comment


def _opened(content: bytes) -> tuple[bytes, str | None]:
    """Return a zip file as it was before it was signed, and why it is not known to be this user's; None if it is."""
    size = len(_COMMENT) + signing.SIZE
    rest, comment = content[:-size], content[-size:]
    if not comment.startswith(_COMMENT) or rest[-2:] != size.to_bytes(2, "little"):
        return content, "It is not signed"
    plain = rest[:-2] + b"\0\0"
    return plain, signing.refusal(plain, comment[len(_COMMENT) :])


def _is_found(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return module not in sys.modules or hasattr(sys.modules[module], attribute)


def _skops() -> Any:
    try:
        import skops
        import skops.io
    except ImportError as error:
        raise StateError(
            f"scikit-learn estimators are kept by skops, which is not installed: {_INSTALL}"
        ) from error
    found = tuple(int(part) for part in skops.__version__.split(".")[:2] if part.isdecimal())
    if found < _OLDEST:
        raise StateError(
            f"skops {skops.__version__} can be made to run code by a file, whatever types are trusted "
            f"(CVE-2025-54412, CVE-2025-54413): {_INSTALL}"
        )
    return skops.io
