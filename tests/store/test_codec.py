"""What is stored comes back as it was, and columns compare as the texts they stand for."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_axon_notebooks.store.codec import (
    column_text,
    decode,
    encode,
    encode_ending,
    plain_text,
)

EDGES = (
    "\x00\x01\x02\x03ab\ud7fe\ud7ff\ud800\udbff\udc00\udfff\ue000\uffff\U00010000\U0010ffff0123f"
)

any_text = st.text(
    st.one_of(st.sampled_from(EDGES), st.characters(exclude_categories=())), max_size=8
)


def joined(text: str) -> str:
    """``text`` with each surrogate pair as the one character it spells, as JSON reads it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


json_text = any_text.map(joined)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), json_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(json_text, inner, max_size=4)
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types, NaN included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return one == other


@given(json_values)
def test_every_json_value_survives(value: Any) -> None:
    assert same(decode(encode(value)), value)


@given(json_values)
def test_a_stored_document_is_utf_8_without_nul(value: Any) -> None:
    assert b"\0" not in encode(value).encode()


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, -0.0, "\ud800", "\x00", "\ud7ff", "é\udfff"]
)
def test_what_strict_json_loses_survives(value: Any) -> None:
    assert same(
        decode(encode({"value": value, value if isinstance(value, str) else "": 1}))["value"], value
    )


def test_plain_text_is_kept_readable() -> None:
    assert encode({"name": "café 😀"}) == '{"name":"café 😀"}'


def test_a_pair_of_surrogates_becomes_the_character_it_spells() -> None:
    # JSON knows no other reading of the two.
    assert decode(encode("\ud83d\ude00")) == "😀"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"user_id": "u", "a": 1, "id": "i", "b": 2}, '{"a":1,"b":2,"id":"i","user_id":"u"}'),
        ({"user_id": "u", "id": "i"}, '{"id":"i","user_id":"u"}'),
        ({"user_id": "u", "a": "\ud800"}, '{"a":"\\ud800","user_id":"u"}'),
        ({"b": 1, "a": 2}, '{"b":1,"a":2}'),
        ({}, "{}"),
    ],
)
def test_a_stored_document_ends_with_whose_it_is(document: dict[str, Any], text: str) -> None:
    assert encode_ending(document, ("id", "user_id")) == text


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": b""}, {(1, 2): 3}])
def test_what_json_cannot_express_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


@given(any_text)
def test_column_text_has_an_inverse(text: str) -> None:
    assert plain_text(column_text(text)) == text


@given(any_text)
def test_column_text_can_be_stored(text: str) -> None:
    assert b"\0" not in column_text(text).encode()


@given(any_text, any_text)
def test_column_text_keeps_equality_and_order(one: str, other: str) -> None:
    assert (column_text(one) == column_text(other)) == (one == other)
    assert (column_text(one) < column_text(other)) == (one < other)
    assert (column_text(one).encode() < column_text(other).encode()) == (
        one < other
    )  # as engines compare
