"""Adversarial texts: every function that reads text handles 1 MB of any text in seconds.

The tests measure no times: a function with quadratic run time takes minutes or hours, and fails by
the timeout. Most texts have 110 kB, since there are many, which is enough.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jupyter_axon_notebooks.cli.provenance import _cell_diff as source_diff
from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.handlers.requests import Page, parse_object, parse_query
from jupyter_axon_notebooks.mapping import (
    detect_framework,
    export_notebook,
    find_fault,
    map_notebook,
    notebook_file_name,
    notebook_text,
    read_notebook,
)
from jupyter_axon_notebooks.metrics import (
    decode_nonfinite,
    direction,
    encode_nonfinite,
    finite_metrics,
    flatten_metrics,
    resolve,
)
from jupyter_axon_notebooks.provenance import ExecutedCell
from jupyter_axon_notebooks.records import (
    CellChange,
    CellStatus,
    Moment,
    NotebookCell,
    NotebookMetadata,
)
from jupyter_axon_notebooks.repository.diff import diff_cells, match_ids
from jupyter_axon_notebooks.repository.flags import SavedCells, find_flags
from jupyter_axon_notebooks.repository.magics import MAX_PARSED
from jupyter_axon_notebooks.repository.script import export_script

FULL_LENGTH = 1_000_000
LENGTH = 110_000
#: The number of texts that have the full length, the first ones.
FULL_LENGTH_COUNT = 7
#: The beginning, the repeated part and the end of the texts.
PATTERNS = [
    ("", " ", "x"),
    ("", "\n", "x"),
    *(("from ", "a", end) for end in ("", " import", "!")),
    *(("from a", unit, " !") for unit in (".", " ", "\t", ".a", " \t")),
    *(("import ", unit, "!") for unit in ("a,", "a", " ", ".", "a, ")),
    *(("use ", unit, "!") for unit in ("a", " ", ":")),
    *(("", unit, "") for unit in "%!?=;,:./\\'\"()[]{}<>#`$@~_-*0a \t\n\r\f\v\0"),
    *(("", unit, "x") for unit in ("    ", "\n", " \n", "\t\n", "\r\n")),
    *(("", unit, "x") for unit in ("?", "? ", "= ", " =", "%%")),
    *(("", unit, "") for unit in ("%time ", "%%time\n", "%%capture\n%%time\n", "!!")),
    *(("", unit, "") for unit in ("x = %time ", "x?\n", "/f ", "%time f()\n", "x = !ls\n")),
    *(("", unit, "") for unit in ("!ls\n", "x = 1\n", "if a:\n", "for a in b:\n  %cd\n")),
    *(("%timeit ", unit, "f()") for unit in ("-n 1 ", "-", '-n " ', "--a ", "-q")),
    *(("!", unit, "") for unit in ("ls;", "ls|", "'", '"', "\\\n", ">", "a=1 ", "sudo ")),
    *(("%%bash\n", unit, "") for unit in ("ls\n", "#\n", "\\\n")),
    *((">>> ", unit, "") for unit in ("a\n>>> ", "...: ", "In [1]: ")),
    *(("", unit, "") for unit in ("'''", '"""', "'\\'", "f'{", "a\\\n", "lambda:", "not ")),
    *(("", unit, "") for unit in ("1+", "a.", "a(", "{1:", "- at `", " - at `a`", "pub use ")),
    *(("", unit, "") for unit in ("import a;", "from a import b;", ";from a", "http://a@")),
    *(("", unit, "") for unit in "\u00a0\u2003\u2028\u0301\ufeff\U0001f9e0\ud800\udfff"),
    *(("", unit, "") for unit in ("e\u0301", "\ud7ff\x01", "\x1b[31m", "aA", "A", "a1", "f1")),
    ("    ", "x = 1\n    ", ""),
    ("axon.checkpoint(", " ", "a"),
    ("%time from a", ".a", " import x"),
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    lengths = [FULL_LENGTH] * FULL_LENGTH_COUNT + [LENGTH] * (len(PATTERNS) - FULL_LENGTH_COUNT)
    return [
        begin + unit * (length // len(unit)) + end
        for length, (begin, unit, end) in zip(lengths, PATTERNS, strict=True)
    ]


def check_framework(text: str) -> None:
    assert detect_framework([NotebookCell(source=text)]) is None


def check_notebook(text: str) -> None:
    cell = {
        "id": text,
        "cell_type": "code",
        "source": text,
        "metadata": {"name": text, "tags": [text], text: text},
        "outputs": [
            {"output_type": text, "name": text, "data": {text: text}, "text": text, text: 1},
            text,
        ],
        "execution_count": None,
        "attachments": {text: {text: text}},
        text: text,
    }
    kernelspec = {"name": text, "language": text}
    metadata = {"tags": [text], "kernelspec": kernelspec, text: text}
    content = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": metadata,
        "cells": [cell, cell, text],
    }
    mapped = map_notebook(content)
    again = map_notebook(content, previous=mapped.cells)
    assert [one.id for one in again.cells] == [one.id for one in mapped.cells]
    assert export_notebook(mapped.cells, mapped.metadata)["cells"][0]["id"] == text


def check_file(text: str) -> None:
    assert len(notebook_file_name(text)) < 100
    for content in (
        {text: 1},
        {"nbformat": 4, "cells": [text], "metadata": {text: {str(n): text[:9] for n in range(9)}}},
    ):
        for written in (json.dumps(content), notebook_text(content)):
            with contextlib.suppress(InvalidData):
                read_notebook(written)
    find_fault(export_notebook([NotebookCell(id="a", source=text)], NotebookMetadata()))
    with contextlib.suppress(InvalidData):
        read_notebook(text)


def check_script(text: str) -> None:
    failed = ExecutedCell(source=text[:MAX_PARSED], execution_count=1, status=CellStatus.ERROR)
    export_script([failed, ExecutedCell(source=text, execution_count=2)], text)


def check_flags(text: str) -> None:
    cells = [NotebookCell(id="a", source=text), NotebookCell(id="c", source=text[:MAX_PARSED])]
    cells.append(NotebookCell(id="b", source="train()"))
    runs = [ExecutedCell(source=text, execution_count=count) for count in (1, 2)]
    runs += [ExecutedCell(source=text[:MAX_PARSED], execution_count=count) for count in (1, 2)]
    executed = [*runs, ExecutedCell(source="train()", cell_id="b", execution_count=3)]
    find_flags(executed, SavedCells(cells), SavedCells(cells[1:]))


def check_diff(text: str) -> None:
    one, other = NotebookCell(id="a", source=text), NotebookCell(id="b", source=text + "\n")
    changes = diff_cells(match_ids([one], [other]), [other])
    assert [change.change for change in changes] == ["changed"]
    source_diff(
        CellChange(cell_id=text, change="changed", before=text[:LENGTH], after=text[5:LENGTH])
    )


def check_metrics(text: str) -> None:
    direction(text)
    metrics = {"a": {text: 1, "b": {text: float("nan")}}, text: 2, "": {"": {"": 1}}}
    assert resolve(metrics, text) == 2
    assert resolve(metrics, f"a.{text}") == 1
    assert resolve(metrics, f"{text}.x") is None
    assert resolve(metrics, f"a.b.{text}.x") is None
    assert finite_metrics(metrics)[".."] == flatten_metrics(metrics)[".."] == 1
    spelled, names = encode_nonfinite(metrics)
    decode_nonfinite(spelled, [*names, text])


class Arguments(Page):
    since: Moment | None = None
    pinned: bool = False
    text: str = ""


def check_request(text: str) -> None:
    encoded = text.encode("utf-8", "surrogatepass")
    for name in ("limit", "since", "pinned", "text"):
        with contextlib.suppress(InvalidData):
            parse_query({name: [encoded]}, Arguments)
    for body in (encoded, json.dumps({text: [text]}).encode()):
        with contextlib.suppress(InvalidData):
            parse_object(body)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "check",
    [
        check_framework,
        check_notebook,
        check_file,
        check_script,
        check_flags,
        check_diff,
        check_metrics,
        check_request,
    ],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
def test_every_text_is_handled_quickly(check: Callable[[str], None], texts: list[str]) -> None:
    for text in texts:
        check(text)


def build_metrics(keys: int) -> Iterator[tuple[str, Any]]:
    """Yield names and metrics whose nesting or long keys are expensive to flatten."""
    name = ".".join("a" * 400)
    yield name, {name: 1.0}
    nested: Any = {"x": 1.0}
    for _ in range(90):
        nested = {"a": nested, "a.a": {"b": 1.0}, "a.a.a": {"c": 1.0}}
    yield name, nested
    yield "k", {"k" * 100_000: {str(number): 1 for number in range(keys)}}
    yield "k", {"k" * 900: {str(number): 1 for number in range(keys)}}


@pytest.mark.timeout(60)
def test_names_of_nested_metrics_take_little_time_and_memory() -> None:
    for name, metrics in build_metrics(20_000):
        assert resolve(metrics, name) in (None, 1.0)
        assert sum(map(len, flatten_metrics(metrics))) < 50_000_000
    with pytest.raises(InvalidData, match="names of non-finite values"):
        encode_nonfinite({"k" * 100_000: dict.fromkeys(map(str, range(1000)), float("nan"))})


DOTTED = "a." * 14_900 + "a"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "source",
    [
        f"%time from {DOTTED} import x\n" * 33,
        f"x = %time import {DOTTED}\n" * 33,
        f"get_ipython().run_line_magic('time', 'import {DOTTED}')\n" * 33,
        *(
            f"{begin}{DOTTED}{end}"
            for begin in ("from ", "import ")
            for end in ("", ".", " import", " =")
        ),
    ],
    ids=range(11),
)
def test_imports_of_long_dotted_names_are_parsed_quickly(source: str) -> None:
    failed = ExecutedCell(source=source, execution_count=1, status=CellStatus.ERROR)
    script = export_script([failed] * 5)
    assert all(line.startswith("#") for line in script.splitlines() if line)
    executed = [ExecutedCell(source=source, execution_count=count) for count in range(1, 6)]
    executed.append(ExecutedCell(source="train()", cell_id="b"))
    assert find_flags(executed, SavedCells([]), SavedCells([]))
