"""Tests of escaping of text from others."""

from __future__ import annotations

import io
import logging
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from jupyter_axon_notebooks.errors import InvalidData, NotFound, StoreError
from jupyter_axon_notebooks.metrics import format_number
from jupyter_axon_notebooks.printable import PRINTABLE_LOG, local_time, printable
from jupyter_axon_notebooks.records import NotebookCheckpoint, now
from jupyter_axon_notebooks.states import StateStorage
from jupyter_axon_notebooks.training.checkpoint import Checkpoint, CheckpointList
from jupyter_axon_notebooks.training.display import format_checkpoint
from jupyter_axon_notebooks.training.messages import AxonWarning, print_message, warn

#: What a terminal or a browser would obey, by what it does.
HOSTILE = {
    "sets the title": "\x1b]0;x\x07",
    "C1 control": "\x9b31m",
    "carriage return": "\r",
    "line break": "\n",
    "tab": "\t",
    "NUL": "\0",
    "delete": "\x7f",
    "next line": "\x85",
    "line separator": "\u2028",
    "reorders": "\u202e",
    "isolates": "\u2066",
    "bidi mark": "\u200f",
    "half a surrogate pair": "\udc80",
}


def assert_harmless(text: str, *, lines: bool = False) -> None:
    kept = text.replace("\n", "") if lines else text
    assert not [
        sign
        for sign in HOSTILE.values()
        if any(char in kept for char in sign if not char.isprintable())
    ]
    text.encode()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_is_shown_with_escapes(name: str) -> None:
    shown = printable(f"a{HOSTILE[name]}b")
    assert_harmless(shown)
    assert shown.startswith("a\\")
    assert shown.endswith("b")


def test_ordinary_text_of_any_language_stays_as_it_is() -> None:
    text = "naïve Größe 学習 שלום مرحبا 👩‍🔬 ½ — “x”"
    assert printable(text) == text
    assert printable("two\nlines", keep="\n") == "two\nlines"


def record(**given: Any) -> NotebookCheckpoint:
    fields: dict[str, Any] = {
        "id": "1f9c22ab-0000-4000-8000-000000000000",
        "notebook_id": "n",
        "epoch": 1,
        "step": 2,
        "metrics": {"loss": 0.5},
        "model_state_path": "/x/model.safetensors",
        "created_at": now(),
    }
    return NotebookCheckpoint(**{**fields, **given})


def shown(found: NotebookCheckpoint, tmp_path: Path) -> list[str]:
    """All the ways in which a notebook shows a checkpoint."""
    one = Checkpoint(found, StateStorage(tmp_path))
    table = CheckpointList([one, one])
    return [
        repr(one),
        str(one),
        format_checkpoint(found),
        one._repr_html_(),
        table._repr_html_(),
        *repr(table).split("\n"),
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_checkpoint_shows_names_and_tags_with_escapes(name: str, tmp_path: Path) -> None:
    sign = HOSTILE[name]
    found = record(
        id=f"i{sign}d", tags=[f"a{sign}b"], metrics={f"l{sign}s": 1.0, "deep": {f"x{sign}y": 2}}
    )
    texts = shown(found, tmp_path)
    assert len(texts) == 5 + 3  # a table's lines are its heading and its rows
    for text in texts:
        assert_harmless(text)


def test_a_checkpoint_shows_markup_as_text(tmp_path: Path) -> None:
    sign = "<img src=x onerror=alert(1)>\"'&"
    found = record(id=sign, tags=[sign], metrics={sign: 1.0})
    for text in shown(found, tmp_path):
        if text.startswith("<style>"):
            assert "<img" not in text
            assert "&lt;img" in text


@pytest.mark.parametrize(
    "given",
    [
        {"metrics": {"loss": 10**400, "neg": -(10**400), "big": 10**20, "nan": float("nan")}},
        {"metrics": {"x" * 1_000_000: 1.0}, "tags": ["t" * 1_000_000]},
        {"sizes": {"model": 10**400}},
        {"created_at": datetime.max.replace(tzinfo=timezone.utc)},
        {"created_at": datetime.min.replace(tzinfo=timezone.utc)},
    ],
)
def test_a_checkpoint_of_any_size_and_time_is_shown(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        for zone in ("Pacific/Kiritimati", "Pacific/Midway"):
            patched.setenv("TZ", zone)
            time.tzset()
            for text in shown(record(**given), tmp_path):
                assert len(text) < 10_000
    time.tzset()


def test_deeply_nested_metrics_are_shown(tmp_path: Path) -> None:
    metrics: Any = {"loss": 1}
    for _ in range(400):
        metrics = {"m": metrics}
    shown(record(metrics={"loss": 0.25, "m": metrics}), tmp_path)


@pytest.mark.parametrize("name", HOSTILE)
def test_messages_warnings_and_errors_have_escapes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sign = HOSTILE[name]
    print_message(f"Resumed from {sign}.")
    assert_harmless(capsys.readouterr().out.removesuffix("\n"))
    with pytest.warns(AxonWarning) as warned:
        warn(f"not recorded: {sign}")
    assert_harmless(str(warned[0].message))
    for error in (NotFound("notebook", sign), InvalidData(f"$.{sign}", sign), StoreError(sign)):
        assert_harmless(str(error))
        assert_harmless(f"{error}")


@pytest.mark.parametrize("name", HOSTILE)
def test_only_log_lines_of_this_project_are_escaped(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("test_printable")
    log.addFilter(PRINTABLE_LOG)
    try:
        log.warning("axon: the save of %s (%d %%) is not in its record", f"a{HOSTILE[name]}b", 3)
        log.warning("somebody else's %s", HOSTILE[name])
    finally:
        log.removeFilter(PRINTABLE_LOG)
    ours, others = (entry.getMessage() for entry in caplog.records)
    assert_harmless(ours)
    assert "(3 %)" in ours
    assert others == f"somebody else's {HOSTILE[name]}"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_traceback_in_the_log_is_escaped_and_indented(name: str) -> None:
    log, written = logging.getLogger("test_printable"), io.StringIO()
    handler = logging.StreamHandler(written)
    log.addFilter(PRINTABLE_LOG)
    log.addHandler(handler)
    try:
        raise ValueError(f"a{HOSTILE[name]}b\n[I] all is well")
    except ValueError:
        log.warning("axon: not recorded", exc_info=True)
        log.warning("somebody else's", exc_info=True)
    finally:
        log.removeHandler(handler)
        log.removeFilter(PRINTABLE_LOG)
    ours, _, others = written.getvalue().partition("somebody else's")
    assert_harmless(ours, lines=True)
    assert "ValueError: a" in ours
    assert [line for line in ours.splitlines() if not line.startswith(" ")] == [
        "axon: not recorded"
    ]
    assert HOSTILE[name] in others


def test_any_number_and_time_is_formatted() -> None:
    assert format_number(0.1234567) == "0.123457"
    assert format_number(0.5, "+") == "+0.5"
    assert "e308" in format_number(10**400)
    assert format_number(-(10**400)).startswith("-")
    assert local_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)).startswith("2026-01-0")
