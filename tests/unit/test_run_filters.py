"""Filters and orders of runs."""

from __future__ import annotations

import json

import pytest

from jupyter_axon_notebooks.run_filters import (
    InvalidFilter,
    RunOrder,
    Variable,
    check_names,
    matches,
    parse_filter,
    parse_order,
    variables,
)

RUN = {
    ("field", "name", "last"): "wide",
    ("field", "status", "last"): "completed",
    ("field", "number", "last"): 3,
    ("field", "tags", "last"): ["baseline", "x"],
    ("field", "started_at", "last"): "2026-11-29T10:00:00.000000Z",
    ("config", "lr", "last"): 0.001,
    ("config", "layers", "last"): [64, 64],
    ("config", "model.depth", "last"): 2,
    ("config", "lr schedule", "last"): "cosine",
    ("config", "amp", "last"): True,
    ("metric", "val_acc", "max"): 0.93,
    ("metric", "val_acc", "last"): 0.91,
    ("metric", "val.loss", "min"): 0.2,
    ("metric", "train/loss", "last"): 0.3,
    ("metric", "train/loss", "min"): 0.25,
    ("metric", "été", "last"): 1.0,
}


def value_of(variable: Variable):
    return RUN.get((variable.kind, variable.name, variable.statistic))


@pytest.mark.parametrize(
    "text",
    [
        'config.lr < 0.01 and val_acc.max > 0.9 and status == "completed" and "baseline" in tags',
        "val_acc > 0.9",
        "0.9 < val_acc < 0.95",
        "0.01 > config.lr",
        "val.loss.min <= 0.2",
        'metrics["train/loss"].min == 0.25',
        "train/loss.min == 0.25 and train/loss == 0.3",
        "metrics.val_acc.max == 0.93",
        "config.model.depth == 2",
        'config["lr schedule"] == "cosine"',
        "config.layers == [64, 64]",
        "64 in config.layers",
        "config.amp == True",
        'status in ("completed", "failed")',
        "status not in ['failed']",
        "'wi' in name",
        "not (number > 3)",
        "config.missing == None and config.lr is not None",
        "config.missing != 3",
        "not config.missing < 3 and not config.missing > 3",
        'started_at > "2026-11-01"',
        "été == 1",
        "config.lr == -1 or number == +3",
        "\n number\n==\n3 ",
        '"other" not in tags',
        'name != "#"',
    ],
)
def test_a_run_matches(text):
    assert matches(parse_filter(text), value_of)


@pytest.mark.parametrize(
    "text",
    [
        "config.lr > 0.01",
        'config.lr < "1"',
        "config.lr == None",
        "number != 3",
        "config.model.depth < '3'",
        "64 not in config.layers",
        "config.lr is None",
    ],
)
def test_a_run_does_not_match(text):
    assert not matches(parse_filter(text), value_of)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "is empty"),
        ("lr", 0, "expected a comparison; did you mean lr == True or lr != None"),
        ("status = 'x'", 7, "write =="),
        ("lr < ", None, "incomplete"),
        ("status == ", None, "incomplete"),
        ("status ==", None, "incomplete"),
        ("lr < 1 && x > 2", None, "write `and`"),
        ("(a > 1) & (b > 2)", 0, "combine conditions with `and` and `or`"),
        ("lr < 1 and open('x')", 11, "functions cannot be called"),
        ("a.b().c < 1", 0, "functions cannot be called"),
        ("name.__class__ == 1", 0, "two underscores"),
        ("lr < 1 and name.upper == 'x'", 11, "the field name has no parts"),
        ("é < 1 and val-acc > 1", 10, 'no arithmetic; did you mean metrics["val-acc"]'),
        ("1 < 2", 0, "expected the name of a field"),
        ("lr is 3", 6, "use =="),
        ("lr in 3", 6, "expected a list"),
        ("lr in (1, lr)", 10, "expected a number"),
        ("name < 3", 7, "name is a text"),
        ("3 in name", 0, "name is a text"),
        ("status == 1", 10, "status is a text"),
        ("number == '3'", 10, "number is a number"),
        ("status == 'complet'", 10, "no status 'complet'; did you mean completed"),
        ("status in ('failed', 'done')", 10, "no status 'done'"),
        ("tags == 'baseline'", 8, 'did you mean "baseline" in tags'),
        ("started_at > 2026", 13, "started_at is a text"),
        ("started_at > 'yesterday'", 13, 'such as "2026-11-29"'),
        ("started_at > '2026-11-29 18:30'", 13, "2026-11-29T18:30"),
        ("config < 3", 0, "such as config.lr"),
        ("metrics == 3", 0, "such as metrics.loss"),
        ("[x for x in y]", 0, "expected a name"),
        ("(lambda: 1) == 2", 1, "expected a name"),
        ("lr < 1; import os", None, "not valid"),
        ("x" * 5000, 4000, "at most 4000"),
        (" or ".join(["a<1"] * 101), None, "more than 100 comparisons"),
        ("lr in (" + "1," * 101 + ")", None, "more than 100 comparisons"),
        ("lr < 1 # a\nand x > 2", 7, "no comments"),
        ("é in '#' # a", 9, "no comments"),
        ("a." * 1990 + "b < 1", None, ""),
        ("a/" * 1990 + "b < 1", None, ""),
        ("a+" * 1990 + "b < 1", None, ""),
        ("(" * 500 + "a" + ")" * 500, None, ""),
        ("not " * 900 + "a < 1", None, ""),
        ("lr < 1\0", None, ""),
        ("config[0] == 1", 0, "expected a name"),
        ("lr == b'x'", 6, "expected a name"),
        ("f'{x}' == 1", 0, "expected a name"),
    ],
)
def test_other_expressions_are_refused_with_their_position(text, position, reason):
    with pytest.raises(InvalidFilter) as raised:
        parse_filter(text)
    assert reason in raised.value.reason
    if position is not None:
        assert raised.value.position == position


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("-val_acc.max", RunOrder(Variable("metric", "val_acc", "max"), descending=True)),
        ("started_at", RunOrder(Variable("field", "started_at"), descending=False)),
        ("- config.lr", RunOrder(Variable("config", "lr"), descending=True)),
        ("-train/loss", RunOrder(Variable("metric", "train/loss"), descending=True)),
    ],
)
def test_an_order_names_a_variable(text, order):
    assert parse_order(text) == order


@pytest.mark.parametrize(
    "text", ["", "-", "3", "a < 1", "f(x)", "a # b", "a." * 1990 + "b", "a/" * 1990 + "b"]
)
def test_other_orders_are_refused(text):
    with pytest.raises(InvalidFilter):
        parse_order(text)


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("number > 1 and config.lrr < 1", "config.lr"),
        ("val_ac > 1", "val_acc"),
        ("statu == 'x'", "status"),
        ("lr < 1", "config.lr"),
    ],
)
def test_an_unknown_name_gives_a_suggestion(text, suggestion):
    with pytest.raises(InvalidFilter) as raised:
        check_names(text, list(variables(parse_filter(text))), {"lr"}, {"val_acc"})
    assert suggestion in raised.value.suggestions
    start = raised.value.position
    assert text[start:].startswith(("config.lrr", "val_ac", "statu", "lr"))


@pytest.mark.parametrize("key", ["lr schedule", "lr-schedule", "class.lr", 'lr "x"', "lr.été"])
def test_a_suggestion_is_valid_in_a_filter(key):
    for text in (f"config[{json.dumps(key + 'x')}] == 1", f"metrics[{json.dumps(key + 'x')}] > 1"):
        with pytest.raises(InvalidFilter) as raised:
            check_names(text, list(variables(parse_filter(text))), {key}, {key + "."})
        for suggestion in raised.value.suggestions:
            used = list(variables(parse_filter(f"{suggestion} == 1")))
            check_names(text, used, {key}, {key + "."})
        assert raised.value.suggestions


def test_suggestions_are_similar_names_only():
    with pytest.raises(InvalidFilter) as raised:
        check_names("x", list(variables(parse_filter("config.rate > 1"))), {"lr", "batch"}, ())
    assert raised.value.suggestions == []


def test_an_error_names_its_parameter():
    for field, parse in {"where": parse_filter, "sort": parse_order}.items():
        with pytest.raises(InvalidFilter, match=f"^{field}"):
            parse("f(x)")


def test_objects_of_configurations_are_accepted():
    text = "config.opt == None"
    check_names(text, list(variables(parse_filter(text))), {"opt.lr"}, set())


def test_known_names_are_accepted():
    text = "config.lr < 1 and val_acc > 0 and status == 'failed'"
    check_names(text, list(variables(parse_filter(text))), {"lr"}, {"val_acc"})
