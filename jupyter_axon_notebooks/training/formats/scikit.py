"""scikit-learn estimators, by skops: no pickle, and no type is made that nobody vouches for.

skops itself vouches for the types that it has checked. Of the others, those are made that are in a file with the signature of this
user (see :mod:`..signing`), and with ``trusted`` all. The signature is in the comment of the zip file that skops writes.
"""

from __future__ import annotations

import collections
import os
import sys
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from ...errors import InvalidData, StateError
from ...states.folders import convert_os_errors
from .. import signing
from . import arrays
from .arrays import type_name
from .template import PendingRestore
from .tensorfile import Source, corrupt

NAMES = "scikit-learn estimators"

#: The first release of skops without a known way around the types that are trusted.
_OLDEST: Final = (0, 13)
_INSTALL: Final = "pip install 'skops>=0.13'"
#: What the comment of a signed file begins with; the signature follows.
_COMMENT: Final = b"axon"
#: What containers have beside their items.
_SETTINGS: Final = ((collections.deque, "maxlen"), (collections.defaultdict, "default_factory"))
_MISSING: Final = object()
_ADVICE: Final = "Keep it as numbers, texts, lists, dicts or arrays, or leave it out by __getstate__ and make it anew"


class SkopsFile:
    """A skops file about to be written; an :class:`EncodedState`."""

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
        If skops cannot keep all that is in it, or what it keeps is not what it reads again.
    StateError
        If skops is not installed.
    """
    skops = _skops()
    try:
        content = skops.dumps(model)
        named = skops.get_untrusted_types(data=content)
    except Exception as error:
        raise _refusal(model, error) from error
    # Functions and classes are kept by name alone. skops finds out only on reading that nothing has the name.
    if lost := [name for name in named if not _is_found(name)]:
        raise TypeError(
            f"model: skops cannot keep this {type_name(model)}: {lost[0]} is a function or class that has no name "
            "of its own in a module; define it at the top level"
        )
    try:
        back = skops.loads(content, trusted=named)
    except Exception as error:
        raise _refusal(model, error) from error
    if reason := _difference(model, back, type_name(model), {}):
        raise TypeError(f"model: skops cannot keep this {type_name(model)}: {reason}. {_ADVICE}")
    return SkopsFile(_signed(content, is_needed=bool(named)))


def prepare(source: Source, model: Any, *, trusted: bool) -> PendingRestore:
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
    with convert_os_errors("read", os.path.dirname(path)):
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
        raise InvalidData(
            "model", f"needs the module {error.name}, which cannot be imported here"
        ) from error
    except Exception as error:
        raise corrupt(path, f"skops cannot read it: {error}") from error
    if model is None:
        return PendingRestore(lambda: None, lambda: stored)
    if type_name(stored) != type_name(
        model
    ):  # a notebook's class is another one when its cell has run again
        raise InvalidData(
            "model", f"is a {type_name(model)}, in the checkpoint a {type_name(stored)}"
        )

    def step() -> Any:
        model.__dict__.clear()
        model.__dict__.update(stored.__dict__)
        return model

    return PendingRestore(lambda: None, step)


def is_skops(source: Source) -> bool:
    """Whether the file in ``source`` is of this format, rather than safetensors; both begin as no other does."""
    path, file = source
    with convert_os_errors("read", os.path.dirname(path)):
        file.seek(0)
        return file.read(4) in (b"PK\3\4", b"PK\5\6")


def _refusal(model: Any, error: Exception) -> TypeError:
    """Return an error that names the attribute of ``model`` that cannot be written and read by itself, if there is one."""
    skops = _skops()
    where = ""
    for name, value in getattr(model, "__dict__", {}).items():
        try:
            content = skops.dumps(value)
            skops.loads(content, trusted=skops.get_untrusted_types(data=content))
        except Exception as found:  # noqa: BLE001 - whatever it is, it is told
            where, error = f"its {name} (a {type_name(value)}): ", found
            break
    return TypeError(f"model: skops cannot keep this {type_name(model)}: {where}{error}. {_ADVICE}")


def _difference(value: Any, back: Any, where: str, seen: dict[int, Any]) -> str | None:
    """Say how ``back``, which was read, differs from ``value``, which was written, in types, lengths or plain values.

    Objects that say themselves what of them is kept are taken as they are.
    """
    if value is back or id(value) in seen:
        return None
    if back is _MISSING:
        return f"{where} would not be restored"
    if type(value) is not type(back):
        return f"{where} is a {type_name(value)} and would be restored as a {type_name(back)}"
    if isinstance(value, (bool, int, float, complex, str, bytes)):
        is_same = value == back or value != value
        return None if is_same else f"{where} would be restored as {back!r:.100}"
    seen[id(value)] = value
    if isinstance(value, (dict, list, tuple, set, frozenset, collections.deque)) and len(
        value
    ) != len(back):
        return f"{where} is a {type_name(value)} of {len(value)} items and would be restored with {len(back)}"
    for kind, name in _SETTINGS:
        if isinstance(value, kind) and getattr(value, name) != getattr(back, name):
            return f"{where} is a {type_name(value)} and would be restored without its {name}"
    for place, item, other in _parts(value, back):
        if reason := _difference(item, other, f"{where}{place}", seen):
            return reason
    return None


def _parts(value: Any, back: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield where each part of ``value`` is, the part, and what is there in ``back``."""
    if isinstance(value, dict):
        for (key, item), (other_key, other) in zip(value.items(), back.items(), strict=True):
            yield f": the key {key!r}", key, other_key
            yield f"[{key!r}]", item, other
    elif isinstance(value, (list, tuple, collections.deque)):
        for at, (item, other) in enumerate(zip(value, back, strict=True)):
            yield f"[{at}]", item, other
    elif arrays.is_array(value):
        yield ".shape", value.shape, back.shape
        yield ".dtype", str(value.dtype), str(back.dtype)
        if value.dtype == object:
            for item, other in zip(value.flat, back.flat, strict=True):
                yield "[…]", item, other
    if not _keeps_itself(type(value)):
        for name, item in getattr(value, "__dict__", {}).items():
            yield f".{name}", item, getattr(back, "__dict__", {}).get(name, _MISSING)


def _keeps_itself(kind: type) -> bool:
    """Whether a class, or skops for it, says what is kept of its objects."""
    return kind.__module__.startswith("scipy.sparse.") or any(
        name in vars(base)
        for base in kind.__mro__
        if base is not object and base.__module__ != "sklearn.base"
        for name in ("__getstate__", "__setstate__", "__reduce__", "__reduce_ex__")
    )


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
