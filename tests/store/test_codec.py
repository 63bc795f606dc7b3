"""Documents survive encoding, and column texts compare as the strings that they stand for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_axon_notebooks.store.codec import column_text, decode, encode, plain_text

EDGES = (
    "\x00\x01\x02\x03ab\ud7fe\ud7ff\ud800\udbff\udc00\udfff\ue000\uffff\U00010000\U0010ffff0123f"
)

any_text = st.text(
    st.one_of(st.sampled_from(EDGES), st.characters(exclude_categories=())), max_size=8
)
#: Texts whose surrogate pairs are the characters that they stand for, as JSON reads them.
json_text = any_text.map(
    lambda text: text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), json_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(json_text, inner, max_size=4)
    ),
    max_leaves=20,
)


def is_same(one: Any, other: Any) -> bool:
    """Compare with types, signs of zero and NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, float):
        return repr(one) == repr(other)
    return bool(one == other)


@given(json_values)
def test_every_json_value_survives_as_utf_8_without_nul(value: Any) -> None:
    text = encode(value)
    assert is_same(decode(text), value)
    assert b"\0" not in text.encode()


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": b""}, {(1, 2): 3}])
def test_other_types_are_rejected(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


@given(any_text, any_text)
def test_column_text_is_storable_and_invertible_and_keeps_the_order(one: str, other: str) -> None:
    columns = column_text(one), column_text(other)
    assert plain_text(columns[0]) == one
    assert b"\0" not in columns[0].encode()
    assert (columns[0] == columns[1]) == (one == other)
    assert (columns[0] < columns[1]) == (one < other)
    assert (columns[0].encode() < columns[1].encode()) == (one < other)
