"""scikit-learn estimators as skops files: nothing is pickled, and only trusted types are created.

skops trusts a list of types by default. Other types are created only if the file has the signature
of this user (see :mod:`..signing`), or if the caller trusts them. A skops file is a zip file; the
signature is its comment.
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
from .restore_plan import PendingRestore
from .tensor_files import Source, corrupt

#: The first release of skops without a known way to bypass the trusted types.
_MIN_VERSION: Final = (0, 13)
_INSTALL: Final = "pip install 'skops>=0.13'"
#: The prefix of the comment with the signature.
_COMMENT: Final = b"axon"
#: Attributes of containers besides their items.
_ATTRIBUTES: Final = (
    (collections.deque, "maxlen"),
    (collections.defaultdict, "default_factory"),
)
_MISSING: Final = object()
_ADVICE: Final = "Keep it as numbers, texts, lists, dicts or arrays, or exclude it in __getstate__"


class SkopsFile:
    """The content of a skops file to be written; an :class:`EncodedState`."""

    format: ClassVar[str] = "skops"

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def chunks(self) -> Iterator[memoryview]:
        """Yield the whole file."""
        yield memoryview(self._content)


class SkopsFormat:
    """The format of scikit-learn estimators."""

    models = "scikit-learn estimators"

    def recognizes(self, model: Any) -> bool:
        """Return whether ``model`` is an estimator."""
        base = sys.modules.get("sklearn.base")
        return base is not None and isinstance(model, base.BaseEstimator)

    def encode(self, model: Any) -> SkopsFile:
        """Encode the file of ``model``.

        Raises TypeError if skops cannot keep a part of it, or would restore something else, and
        StateError if skops is not installed.
        """
        skops = _import_skops()
        name = type_name(model)
        try:
            content = skops.dumps(model)
            untrusted = skops.get_untrusted_types(data=content)
        except Exception as error:
            raise _refuse(model, error) from error
        # skops stores functions and classes by name, and does not check that the name exists.
        if missing := [one for one in untrusted if not _exists(one)]:
            raise TypeError(
                f"model: skops cannot keep this {name}: {missing[0]} is a function or class "
                "without a name in a module; define it at the top level"
            )
        try:
            restored = skops.loads(content, trusted=untrusted)
        except Exception as error:
            raise _refuse(model, error) from error
        if reason := _find_difference(model, restored, name, {}):
            raise TypeError(f"model: skops cannot keep this {name}: {reason}. {_ADVICE}")
        return SkopsFile(_sign(content, is_needed=bool(untrusted)))

    def prepare(self, source: Source, model: Any, *, trusted: bool) -> PendingRestore:
        """Read a file that restores ``model``, of the same class; if None, returns a new one.

        Raises
        ------
        InvalidData
            If it has untrusted types and is not signed, if these types are not defined here, or if
            it is of another class.
        StateCorrupt
            If skops cannot read it.
        StateError
            If skops is not installed.
        """
        stored = _load(source, trusted=trusted)
        if model is None:
            return PendingRestore(lambda: None, lambda: stored)
        # By name, since running a cell again creates its classes again.
        names = type_name(model), type_name(stored)
        if names[0] != names[1]:
            raise InvalidData("model", f"is a {names[0]}, in the checkpoint a {names[1]}")

        def finish() -> Any:
            model.__dict__.clear()
            model.__dict__.update(stored.__dict__)
            return model

        return PendingRestore(lambda: None, finish)


def is_skops(source: Source) -> bool:
    """Return whether a file is of this format: a zip file, which no safetensors file can be."""
    path, file = source
    with convert_os_errors("read", os.path.dirname(path)):
        file.seek(0)
        return file.read(4) in (b"PK\3\4", b"PK\5\6")


def _load(source: Source, *, trusted: bool) -> Any:
    skops = _import_skops()
    path, file = source
    with convert_os_errors("read", os.path.dirname(path)):
        file.seek(0)
        content, refusal = _verify(file.read())
    try:
        untrusted = skops.get_untrusted_types(data=content)
    except Exception as error:
        raise corrupt(path, f"skops cannot read it: {error}") from error
    if untrusted and refusal is not None and not trusted:
        raise InvalidData(
            "trusted",
            f"{path} has types that are not known to be harmless: {', '.join(untrusted)}. "
            f"{refusal}. Restore it with trusted=True if you trust its author",
        )
    if missing := [name for name in untrusted if not _exists(name)]:
        raise InvalidData(
            "model",
            f"has {missing[0]} in the checkpoint, which is not defined here; define it first",
        )
    try:
        return skops.loads(content, trusted=untrusted)
    except ModuleNotFoundError as error:
        raise InvalidData(
            "model", f"needs the module {error.name}, which cannot be imported"
        ) from error
    except Exception as error:
        raise corrupt(path, f"skops cannot read it: {error}") from error


def _refuse(model: Any, error: Exception) -> TypeError:
    """Return an error that names the attribute of ``model`` that cannot be kept, if possible."""
    skops = _import_skops()
    where = ""
    for name, value in getattr(model, "__dict__", {}).items():
        try:
            content = skops.dumps(value)
            skops.loads(content, trusted=skops.get_untrusted_types(data=content))
        except Exception as found:  # noqa: BLE001 - reported below
            where, error = f"its {name} (a {type_name(value)}): ", found
            break
    return TypeError(f"model: skops cannot keep this {type_name(model)}: {where}{error}. {_ADVICE}")


def _find_difference(value: Any, restored: Any, where: str, seen: dict[int, Any]) -> str | None:
    """Describe a difference in types, lengths or plain values, or return None.

    Objects that define their own pickling are not compared.
    """
    if value is restored or id(value) in seen:
        return None
    if restored is _MISSING:
        return f"{where} would not be restored"
    name = type_name(value)
    if type(value) is not type(restored):
        return f"{where} is a {name} and would be restored as a {type_name(restored)}"
    if isinstance(value, (bool, int, float, complex, str, bytes)):
        is_equal = value == restored or value != value
        return None if is_equal else f"{where} would be restored as {restored!r:.100}"
    seen[id(value)] = value
    containers = (dict, list, tuple, set, frozenset, collections.deque)
    if isinstance(value, containers) and len(value) != len(restored):
        sizes = len(value), len(restored)
        return f"{where} is a {name} of {sizes[0]} items and would be restored with {sizes[1]}"
    for kind, attribute in _ATTRIBUTES:
        if isinstance(value, kind) and getattr(value, attribute) != getattr(restored, attribute):
            return f"{where} is a {name} and would be restored without its {attribute}"
    for place, item, other in _pair_parts(value, restored):
        if reason := _find_difference(item, other, f"{where}{place}", seen):
            return reason
    return None


def _pair_parts(value: Any, restored: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each part of ``value``, the part, and the same part of ``restored``."""
    if isinstance(value, dict):
        for (key, item), (other_key, other) in zip(value.items(), restored.items(), strict=True):
            yield f": the key {key!r}", key, other_key
            yield f"[{key!r}]", item, other
    elif isinstance(value, (list, tuple, collections.deque)):
        for at, (item, other) in enumerate(zip(value, restored, strict=True)):
            yield f"[{at}]", item, other
    elif arrays.is_array(value):
        yield ".shape", value.shape, restored.shape
        yield ".dtype", str(value.dtype), str(restored.dtype)
        if value.dtype == object:
            for item, other in zip(value.flat, restored.flat, strict=True):
                yield "[…]", item, other
    if not _defines_pickling(type(value)):
        for name, item in getattr(value, "__dict__", {}).items():
            yield f".{name}", item, getattr(restored, "__dict__", {}).get(name, _MISSING)


def _defines_pickling(kind: type) -> bool:
    return kind.__module__.startswith("scipy.sparse.") or any(
        name in vars(base)
        for base in kind.__mro__
        if base is not object and base.__module__ != "sklearn.base"
        for name in ("__getstate__", "__setstate__", "__reduce__", "__reduce_ex__")
    )


def _sign(content: bytes, *, is_needed: bool) -> bytes:
    """Add a signature to a zip file as its comment; without a key, warn if one is needed."""
    if content[-2:] != b"\0\0":  # it has a comment
        return content
    try:
        signature = signing.sign(content)
    except signing.SigningKeyError as reason:
        if is_needed:
            signing.warn_unsigned(reason)
        return content
    comment = _COMMENT + signature
    return content[:-2] + len(comment).to_bytes(2, "little") + comment


def _verify(content: bytes) -> tuple[bytes, str | None]:
    """Return a zip file without its signature, and why the signature is invalid, if it is."""
    size = len(_COMMENT) + signing.SIZE
    rest, comment = content[:-size], content[-size:]
    if not comment.startswith(_COMMENT) or rest[-2:] != size.to_bytes(2, "little"):
        return content, "It is not signed"
    plain = rest[:-2] + b"\0\0"
    return plain, signing.signature_error(plain, comment[len(_COMMENT) :])


def _exists(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return module not in sys.modules or hasattr(sys.modules[module], attribute)


def _import_skops() -> Any:
    try:
        import skops
        import skops.io
    except ImportError as error:
        raise StateError(
            f"scikit-learn estimators are kept by skops, which is not installed: {_INSTALL}"
        ) from error
    version = tuple(int(part) for part in skops.__version__.split(".")[:2] if part.isdecimal())
    if version < _MIN_VERSION:
        raise StateError(
            f"skops {skops.__version__} lets files run code, whatever types are trusted "
            f"(CVE-2025-54412, CVE-2025-54413): {_INSTALL}"
        )
    return skops.io
