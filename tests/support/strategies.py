"""Notebooks for property tests, and an exact comparison."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The time of an example depends on the machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

#: Any text, including half surrogate pairs and NUL.
texts = st.text(st.characters(exclude_categories=()), max_size=12)
lines = texts | st.lists(texts, max_size=3)
numbers = st.sampled_from(
    [0, 1, 1.0, True, False, -0.0, 0.0, 2**32, 10**30, float("nan"), float("inf")]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | numbers
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, values, max_size=3)
valid_ids = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)

_bundles = st.builds(
    lambda plain, rich: {**plain, **rich},
    st.dictionaries(
        st.sampled_from(["text/plain", "image/png", "text/html", "x", ""]), lines, max_size=3
    ),
    st.dictionaries(
        st.sampled_from(
            ["application/json", "application/vnd.plotly.v1+json", "application/+json"]
        ),
        values,
        max_size=2,
    ),
)
_counts = st.none() | st.integers(0, 2**33) | st.sampled_from([0, 1, 2**32 - 1, 2**32])
_outputs = st.one_of(
    st.fixed_dictionaries({"output_type": st.just("stream"), "name": texts, "text": lines}),
    st.fixed_dictionaries(
        {"output_type": st.just("display_data"), "data": _bundles, "metadata": objects}
    ),
    st.fixed_dictionaries(
        {
            "output_type": st.just("execute_result"),
            "data": _bundles,
            "metadata": objects,
            "execution_count": _counts,
        }
    ),
    st.fixed_dictionaries(
        {
            "output_type": st.just("error"),
            "ename": texts,
            "evalue": texts,
            "traceback": st.lists(texts, max_size=3),
        }
    ),
)
_restricted = ["name", "tags", "jupyter", "collapsed", "scrolled", "execution", "format"]
_restricted += ["kernelspec", "language_info", "orig_nbformat", "title", "authors"]
_free_metadata = objects.map(
    lambda free: {key: value for key, value in free.items() if key not in _restricted}
)
_cell_metadata = st.builds(
    lambda free, known: {**free, **known},
    _free_metadata,
    st.fixed_dictionaries(
        {},
        optional={
            "tags": st.lists(st.sampled_from(["parameters", "a b", "é"]), unique=True),
            "name": st.just("first"),
            "trusted": st.booleans(),
            "jupyter": st.fixed_dictionaries({"source_hidden": st.booleans()}),
            "collapsed": st.booleans(),
            "scrolled": st.sampled_from([True, False, "auto"]),
        },
    ),
)
_attachments = st.dictionaries(texts, _bundles, max_size=2)
_notebook_metadata = st.builds(
    lambda free, known: {**free, **known},
    _free_metadata,
    st.fixed_dictionaries(
        {},
        optional={
            "kernelspec": st.fixed_dictionaries(
                {"name": texts, "display_name": texts}, optional={"language": texts}
            ),
            "language_info": st.fixed_dictionaries({"name": texts}, optional={"version": texts}),
            "tags": st.lists(texts, max_size=2) | values,
            "orig_nbformat": st.just(4),
            "signature": texts,
            "widgets": objects,
        },
    ),
)


@st.composite
def valid_notebooks(draw: Any) -> dict[str, Any]:
    """Draw valid notebooks of version 4."""
    minor = draw(st.integers(0, 5))
    ids = draw(st.lists(valid_ids, unique=True, max_size=5))
    cells = []
    for cell_id in ids:
        kind = draw(st.sampled_from(["code", "markdown", "raw"]))
        cell: dict[str, Any] = {
            "cell_type": kind,
            "metadata": draw(_cell_metadata),
            "source": draw(lines),
        }
        if minor >= 5:
            cell["id"] = cell_id
        if kind == "code":
            cell["execution_count"] = draw(_counts)
            cell["outputs"] = draw(st.lists(_outputs, max_size=3))
        elif minor >= 1 and draw(st.booleans()):
            cell["attachments"] = draw(_attachments)
        cells.append(cell)
    return {
        "nbformat": 4,
        "nbformat_minor": minor,
        "metadata": draw(_notebook_metadata),
        "cells": cells,
    }


_format_keys = ["nbformat", "nbformat_minor", "metadata", "cells", "cell_type", "id", "source"]
_format_keys += ["outputs", "execution_count", "attachments", "output_type", "text", "data", "name"]
_format_keys += ["ename", "traceback", "kernelspec", "language_info", "tags", "trusted"]
_format_names = st.sampled_from(_format_keys)
_format_values = st.sampled_from(
    ["code", "markdown", "raw", "stream", "error", "display_data", "a", 4, 5, None, ""]
)
_broken = st.recursive(
    _format_values | scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_format_names, inner, max_size=6),
    max_leaves=15,
)
#: Broken notebooks and other JSON objects.
broken_notebooks = st.dictionaries(_format_names, _broken, max_size=5) | st.fixed_dictionaries(
    {
        "nbformat": st.just(4),
        "nbformat_minor": st.sampled_from([4, 5, 5.0, True, "5", None]),
        "metadata": _broken,
        "cells": st.lists(
            _broken
            | st.fixed_dictionaries(
                {"cell_type": st.sampled_from(["code", "raw", "new", 1])},
                optional={
                    "id": st.sampled_from(["a", "b", "", "no spaces", 1, None]),
                    "source": _broken,
                    "metadata": _broken,
                    "outputs": st.lists(_broken, max_size=3) | _broken,
                    "execution_count": _broken,
                    "attachments": _broken,
                },
            ),
            max_size=5,
        ),
    }
)


def exactly(value: Any) -> Any:
    """Return ``value`` in a form whose ``==`` compares types, the sign of zero, and NaN."""
    if isinstance(value, dict):
        return {key: exactly(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [exactly(inner) for inner in value]
    return type(value).__name__, repr(value)
