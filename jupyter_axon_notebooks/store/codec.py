"""The text a document is stored as, and the text promoted fields are compared as.

Documents are JSON as Python's ``json`` module speaks it, which keeps what strict JSON loses: NaN and the
infinities as floats, integers of any size, and lone surrogates inside strings.
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
    """``document`` as text that any UTF-8 column can hold.

    Raises
    ------
    TypeError, ValueError
        For what JSON cannot express, as ``json.dumps`` does.
    """
    text = _encode_unicode(document)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # A lone surrogate has no UTF-8 form; escaped, it survives.
            return _encode_ascii(document)
    return text


def encode_ending(document: Mapping[Any, Any], names: Collection[str]) -> str:
    """As :func:`encode`, with the fields ``names`` at the end, in this order, as far as there are any.

    Of a name that an object has twice, :func:`decode` takes the last. So who sees the end of a text knows these fields.
    """
    ending = {name: document[name] for name in names if name in document}
    rest = {name: value for name, value in document.items() if name not in ending}
    if not rest or not ending:
        return encode(rest or ending)
    return f"{encode(rest)[:-1]},{encode(ending)[1:]}"


def decode(text: str, doc_id: str | None = None) -> Any:
    """The document that :func:`encode` made ``text`` of.

    Raises
    ------
    RecordDamaged
        When it made ``text`` of none; names the document by ``doc_id``, if given.
    """
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        which = "a stored document" if doc_id is None else f"the stored document {doc_id}"
        raise RecordDamaged(f"{which} is damaged: {error}") from error


_UNSTORABLE = re.compile("[\x00\x01\ud7ff\ud800-\udfff]")


def column_text(text: str) -> str:
    """``text`` without the characters a text column refuses: NUL and lone surrogates.

    One to one, and order-preserving by code point, so equality and ranges mean in SQL what they mean in Python.
    """
    return _UNSTORABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    # Each refused character is written with the nearest character below it that can be stored;
    # that one is escaped as well, in a way that keeps the order among them.
    character = match[0]
    if character == "\x00":
        return "\x01\x01"
    if character == "\x01":
        return "\x01\x02"
    if character == "\ud7ff":
        return "\ud7ff\x02"
    return f"\ud7ff\x03{ord(character):04x}"


_STORED = re.compile("\x01[\x01\x02]|\ud7ff(?:\x02|\x03[0-9a-f]{4})")


def plain_text(text: str) -> str:
    """The text that :func:`column_text` made ``text`` of; raises RecordDamaged for what is no text."""
    try:
        if "\x01" not in text and "\ud7ff" not in text:  # as it nearly always is
            return text
        return _STORED.sub(_unescaped, text)
    except TypeError as error:
        raise RecordDamaged(f"a stored id is damaged: {text!r}") from error


def _unescaped(match: re.Match[str]) -> str:
    escaped = match[0]
    if escaped[0] == "\x01":
        return "\x00" if escaped[1] == "\x01" else "\x01"
    return "\ud7ff" if len(escaped) == 2 else chr(int(escaped[2:], 16))
