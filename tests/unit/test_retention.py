"""The rules of retention, which decide whose state files are kept."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.records import NotebookCheckpoint
from jupyter_axon_notebooks.repository.retention import (
    find_kept,
    find_newest,
    find_removable,
)
from jupyter_axon_notebooks.repository.retention_rules import (
    Best,
    Every,
    Newest,
    Rule,
    Tagged,
    parse_rules,
)

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def checkpoint(id: str, minute: int = 0, **fields: Any) -> NotebookCheckpoint:
    values = {
        "epoch": 0,
        "step": 0,
        "metrics": {},
        "model_state_path": f"/s/nb/{id}/model.bin",
        **fields,
    }
    return NotebookCheckpoint(
        id=id, notebook_id="nb", created_at=START + timedelta(minutes=minute), **values
    )


def newest_first(*checkpoints: NotebookCheckpoint) -> list[NotebookCheckpoint]:
    return sorted(checkpoints, key=lambda one: one.created_at, reverse=True)


LOSSES = [3, 1, math.nan, 1, None, "0", True, 2]
CHECKPOINTS = newest_first(
    *(
        checkpoint(
            id,
            n,
            step=10 * n,
            metrics={"val": {"loss": loss}},
            run_id="r" if id in "abcd" else "s",
            tags=["t"] if id == "c" else [],
            pinned=id == "e",
        )
        for n, (id, loss) in enumerate(zip("abcdefgh", LOSSES, strict=True))
    )
)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], ""),
        ([Newest(0)], ""),
        ([Newest(2)], "gh"),
        ([Newest(99)], "abcdefgh"),
        ([Best("val.loss", minimize=True)], "b"),
        ([Best("val.loss", minimize=True, count=2)], "bd"),
        ([Best("val.loss", minimize=True, count=99)], "abdh"),
        ([Best("val.loss", minimize=False)], "a"),
        ([Best("unknown", minimize=False)], ""),
        ([Every(30)], "adg"),
        ([Tagged()], "c"),
        ([Newest(1), Best("val.loss", minimize=True), Tagged()], "bch"),
    ],
)
def test_a_checkpoint_is_kept_if_any_rule_keeps_it(rules: list[Rule], expected: str) -> None:
    assert "".join(sorted(find_kept(CHECKPOINTS, rules))) == expected
    assert find_kept([], rules) == set()


def test_the_last_checkpoints_are_those_of_the_notebook_and_of_unfinished_runs() -> None:
    assert find_newest(CHECKPOINTS, set()) == {None: "h"}
    assert find_newest(CHECKPOINTS, {"r", "s", "t"}) == {None: "h", "r": "d", "s": "h"}
    assert find_newest([], {"r"}) == {}


def test_only_own_files_without_other_references_can_be_removed() -> None:
    checkpoints = [
        checkpoint("own", optimizer_state_path="/s/nb/own/optimizer.bin"),
        checkpoint("registered", model_state_path="/elsewhere/model.bin"),
        checkpoint(
            "half", model_state_path="/elsewhere/m", optimizer_state_path="/s/nb/half/optimizer.bin"
        ),
        checkpoint("shared"),
        checkpoint("sharing", model_state_path="/real/s/nb/shared/model.bin"),
        checkpoint("empty", model_state_path=""),
    ]

    def owns(one: NotebookCheckpoint, path: str) -> bool:
        return path.startswith(f"/s/nb/{one.id}/")

    assert find_removable(checkpoints, owns) == {
        "own": {"model": "/s/nb/own/model.bin", "optimizer": "/s/nb/own/optimizer.bin"},
        "half": {"optimizer": "/s/nb/half/optimizer.bin"},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("last:2", [Newest(2)]),
        (
            "last:2, best:val_loss:3, every:1000",
            [Newest(2), Best("val_loss", minimize=True, count=3), Every(1000)],
        ),
        (" best : accuracy ,last: 1 ", [Best("accuracy", minimize=False), Newest(1)]),
        ("best:score_a:min", [Best("score_a", minimize=True)]),
        ("best:score_a:max:3", [Best("score_a", minimize=False, count=3)]),
        ("best:val_loss:max", [Best("val_loss", minimize=False)]),
        ("best:gap:a:min:2", [Best("gap:a", minimize=True, count=2)]),
        ("best:min:max:1", [Best("min", minimize=False)]),
        ("last:1,last:3", [Newest(1), Newest(3)]),
    ],
)
def test_a_text_has_rules(text: str, expected: list[Rule]) -> None:
    assert list(parse_rules(text)) == expected


EXPECTED = r"expected last:N, best:METRIC:N, .* or every:STEPS"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", rf"{EXPECTED} \(at position 1\)"),
        ("last:2,", rf"{EXPECTED} \(at position 8\)"),
        ("last:2,, every:5", rf"{EXPECTED} \(at position 8\)"),
        ("last:2, newest:3", rf"{EXPECTED} \(at position 9, 'newest:3'\)"),
        ("last:2; best:loss", rf"{EXPECTED} \(at position 1, "),
        ("last", EXPECTED),
        ("last:-1", EXPECTED),
        ("last:1.5", EXPECTED),
        ("last:²", EXPECTED),
        ("every:1000:2", EXPECTED),
        ("best", EXPECTED),
        ("best:", EXPECTED),
        ("tagged", EXPECTED),
        ("every:0", r"a number of at least 1 \(at position 1, 'every:0'\)"),
        ("last:1, best:loss:0", r"keeps no checkpoint; .* \(at position 9, 'best:loss:0'\)"),
        (
            "best:gap:2",
            r"not known whether lower or higher values of gap are better; write best:gap:min:2 or "
            r"best:gap:max:2 \(at position 1, 'best:gap:2'\)",
        ),
        ("last:1" + " " * 250, "at most 255 characters, got 256"),
    ],
)
def test_an_invalid_rule_is_named_with_its_position(text: str, message: str) -> None:
    with pytest.raises(InvalidData, match=rf"^\$\.keep: .*{message}"):
        parse_rules(text)
