"""Encoding of documents as JSON text, and of strings as values of SQL text columns.

Documents are JSON as Python's ``json`` module writes it, which keeps what strict JSON loses: NaN
and infinity as floats, integers of any size, and lone surrogates inside strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import RecordDamaged

_encode_unicode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def encode(document: Any) -> str:
    """Return ``document`` as JSON text that any UTF-8 column can store.

    Raises TypeError or ValueError for values that JSON cannot express, as ``json.dumps`` does.
    """
    text = _encode_unicode(document)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form, but can be escaped
            return _encode_ascii(document)
    return text


def encode_ending(document: Mapping[Any, Any], names: Collection[str]) -> str:
    """Return ``document`` as JSON text whose last fields are ``names``, in this order.

    Names that the document lacks are omitted. If a name occurs twice in JSON, :func:`decode` uses
    the last one, so the end of the text determines the values of these fields.
    """
    ending = {name: document[name] for name in names if name in document}
    rest = {name: value for name, value in document.items() if name not in ending}
    if not rest or not ending:
        return encode(rest or ending)
    return f"{encode(rest)[:-1]},{encode(ending)[1:]}"


def decode(text: str, doc_id: str | None = None) -> Any:
    """Return the document that :func:`encode` wrote as ``text``.

    Raises
    ------
    RecordDamaged
        When ``text`` is not JSON. The message names ``doc_id``, if given.
    """
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        name = "a stored document" if doc_id is None else f"the stored document {doc_id}"
        raise RecordDamaged(f"{name} is damaged: {error}") from error


# Each character that text columns reject is replaced by the nearest lower character that they
# accept and a suffix. That character is escaped as well, which preserves the order.
_UNSTORABLE = re.compile("[\x00\x01\ud7ff\ud800-\udfff]")
_ESCAPES = {"\x00": "\x01\x01", "\x01": "\x01\x02", "\ud7ff": "\ud7ff\x02"}
_ESCAPED = re.compile("\x01[\x01\x02]|\ud7ff(?:\x02|\x03[0-9a-f]{4})")
_CHARACTERS = {escape: character for character, escape in _ESCAPES.items()}


def column_text(text: str) -> str:
    """Escape the characters that text columns reject: NUL and lone surrogates.

    The mapping is one to one and preserves the order by code point, so that equality and ranges
    mean the same in SQL as in Python.
    """
    return _UNSTORABLE.sub(
        lambda match: _ESCAPES.get(match[0], f"\ud7ff\x03{ord(match[0]):04x}"), text
    )


def plain_text(text: str) -> str:
    """Return the string that :func:`column_text` escaped.

    Raises RecordDamaged if ``text`` is not a string.
    """
    try:
        if "\x01" not in text and "\ud7ff" not in text:
            return text
    except TypeError as error:
        raise RecordDamaged(f"a stored id is damaged: {text!r}") from error
    return _ESCAPED.sub(lambda match: _CHARACTERS.get(match[0]) or chr(int(match[0][2:], 16)), text)
