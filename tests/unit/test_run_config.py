"""Configurations of runs, given and derived from code."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import pathlib
import types

import attrs
import numpy as np
import pydantic
import pytest

from jupyter_axon_notebooks.repository.runs import MAX_CONFIG_SIZE
from jupyter_axon_notebooks.training.run_config import (
    CodeCell,
    derive_config,
    normalize_config,
)


@dataclasses.dataclass
class Settings:
    lr: float = 0.1
    layers: tuple[int, ...] = (64, 64)
    api_key: str = "x"


def derive(*sources, **extra):
    """Execute sources, and derive the configuration from them."""
    namespace = {**extra}
    for source in sources:
        exec(source, namespace)
    return derive_config([CodeCell(source) for source in sources], {**namespace, **extra})


@pytest.mark.parametrize(
    ("sources", "config"),
    [
        pytest.param(
            ["lr = 3e-4\nname = 'wide'\nbias = True\nseed = None", "print(lr, name, bias, seed)"],
            {"lr": 3e-4, "name": "wide", "bias": True, "seed": None},
            id="literals",
        ),
        (
            ["layers = [64, 64]\nbetas = 0.9, 0.99", "layers, betas"],
            {"layers": [64, 64], "betas": [0.9, 0.99]},
        ),
        pytest.param(
            ["config = {'lr': 1e-3, 'opt': {'name': 'adam'}}", "config['lr']"],
            {"config": {"lr": 1e-3, "opt": {"name": "adam"}}},
            id="dicts",
        ),
        pytest.param(
            [
                "import argparse\np = argparse.ArgumentParser()\n"
                "p.add_argument('--lr', default=0.1)\nargs = p.parse_args([])",
                "args.lr",
            ],
            {"args": {"lr": 0.1}},
            id="argparse",
        ),
        pytest.param(["lr = 1\nlr = 2", "lr"], {"lr": 2}, id="reassigned"),
        pytest.param(["lr = 1", "lr = 3", "lr"], {"lr": 3}, id="reassigned in another cell"),
        pytest.param(["lr = 1\nprint(lr)"], {"lr": 1}, id="used in the same cell"),
        pytest.param(["lr = 1", "x = 2"], {}, id="never used"),
        pytest.param(
            ["epochs = 3\nsteps = epochs * 100", "steps"],
            {"epochs": 3, "steps": 300},
            id="functions of others",
        ),
        pytest.param(["a, b = 1, 2", "a + b"], {"a": 1, "b": 2}, id="unpacked"),
        pytest.param(
            ["if True:\n    lr = 1\nelse:\n    lr = 2", "lr"], {"lr": 1}, id="conditional"
        ),
        pytest.param(["try:\n    lr = 1\nfinally:\n    pass", "lr"], {"lr": 1}, id="try"),
        pytest.param(["lr: float = 0.5", "lr"], {"lr": 0.5}, id="annotated"),
        pytest.param(["lr = 0.1", "def f():\n    return lr"], {"lr": 0.1}, id="used in a function"),
        pytest.param(["for lr in (1, 2):\n    pass", "lr"], {}, id="loop variable"),
        pytest.param(
            ["best = 0\nfor i in range(3):\n    best = max(best, i)", "best"],
            {},
            id="changed in a loop",
        ),
        pytest.param(["step = 0\nwhile step < 3:\n    step += 1", "step"], {}, id="counter"),
        pytest.param(
            ["losses = [1]\nfor i in range(2):\n    losses.append(i)", "losses"],
            {},
            id="list of results",
        ),
        pytest.param(
            ["seen = {'a': 1}\ndef f():\n    seen['b'] = 1\nf()", "seen"],
            {},
            id="changed in a function",
        ),
        pytest.param(["n = 0\ndef f():\n    global n\n    n += 1\nf()", "n"], {}, id="global"),
        pytest.param(["import time\nstart = time.time()", "start"], {}, id="clock"),
        pytest.param(["import math\nfrom math import pi", "math, pi"], {}, id="imports"),
        pytest.param(["_hidden = 1", "_hidden"], {}, id="private"),
        pytest.param(
            ["lr = 1\ndel lr", "lr = 2", "lr"], {"lr": 2}, id="deleted and assigned again"
        ),
        pytest.param(["x = y = 5", "x, y"], {"x": 5, "y": 5}, id="several targets"),
        pytest.param(
            ["class CFG:\n    lr = 0.1\n    layers = [64]\n    api_key = 'x'", "CFG.lr"],
            {"CFG": {"lr": 0.1, "layers": [64]}},
            id="constants of a class",
        ),
        pytest.param(
            [
                "class Config:\n    lr = 0.1\n    def __init__(self, depth):\n"
                "        self.depth = depth",
                "config = Config(2)\nconfig.lr",
            ],
            {"config": {"lr": 0.1, "depth": 2}},
            id="instance of a class",
        ),
        pytest.param(
            ["class Net:\n    width = 3\n    def forward(self):\n        pass", "Net()"],
            {},
            id="class with methods",
        ),
        pytest.param(
            ["def train(lr):\n    return lr / 2\nacc = train(1)\nerror = 1 - acc", "acc, error"],
            {},
            id="results of functions",
        ),
        pytest.param(
            ["def make():\n    return {'lr': 1}\nconfig = make()", "config"],
            {"config": {"lr": 1}},
            id="dicts of functions",
        ),
        pytest.param(
            ["for lr in (1, 2):\n    print(lr)\n    if lr == 1: break"], {"lr": 1}, id="search"
        ),
        pytest.param(
            ["rates = [1, 2]", "for lr in rates:\n    print(lr)\n    break"],
            {"rates": [1, 2], "lr": 1},
            id="search of a list",
        ),
        pytest.param(
            [
                "import itertools",
                "for lr, n in itertools.product((1, 2), (3, 4)):\n    print(lr, n)\n    break",
            ],
            {"lr": 1, "n": 3},
            id="search of a grid",
        ),
        pytest.param(
            [
                "for lr in (1, 2):\n    for n in [3, 4]:\n        print(lr, n)\n"
                "        break\n    break"
            ],
            {"lr": 1, "n": 3},
            id="nested search",
        ),
        pytest.param(
            ["for i, lr in enumerate([1, 2]):\n    print(i, lr)\n    break"],
            {"lr": 1},
            id="search with a counter",
        ),
        pytest.param(
            ["for seed in range(3):\n    lr = 10 * seed\n    print(lr)\n    if seed: break"],
            {"seed": 1, "lr": 10},
            id="search with assignments",
        ),
        pytest.param(
            [
                "for lr in (1, 2):\n    total = 0\n    for i in range(2):\n        total += lr\n"
                "    break"
            ],
            {"lr": 1},
            id="sums in a search",
        ),
        pytest.param(
            [
                "import random\nlow = 1\nfor trial in range(2):\n"
                "    n = random.randint(low, 1) * 2\n"
                "    print(n, trial)\n    if trial: break"
            ],
            {"low": 1, "trial": 1, "n": 2},
            id="random search",
        ),
        pytest.param(
            [
                "def train(lr): return lr\nfor lr in (1, 2):\n    acc = train(lr)\n"
                "    error = 1 - acc\n    print(acc, error)\n    if lr == 2: break"
            ],
            {"lr": 2},
            id="results of a search",
        ),
        pytest.param(
            ["for epoch in range(3):\n    print(epoch)\n    break"], {}, id="loop over epochs"
        ),
        pytest.param(
            ["for e in [1, 2]:\n    dict(epoch=e)\n    break"], {}, id="loop over listed epochs"
        ),
        pytest.param(
            ["data = [[0.5] * 99] * 9", "for x in data:\n    print(x)\n    break"],
            {},
            id="loop over data",
        ),
        pytest.param(
            ["for lr in (1, 2):\n    print(lr)", "x = 1"], {}, id="search of an earlier cell"
        ),
    ],
)
def test_hyperparameters_are_derived_from_code(sources, config):
    assert derive(*sources) == config


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "API_KEY",
        "apikey",
        "token",
        "hf_token",
        "password",
        "db_passwd",
        "accessKey",
        "secret",
        "AUTH",
    ],
)
def test_secrets_are_not_derived(name):
    assert derive(f"{name} = 'abc'\ncfg = {{'{name}': 'abc', 'lr': 1}}", f"{name}, cfg") == {
        "cfg": {"lr": 1}
    }


@pytest.mark.parametrize(
    "value",
    [
        "sk-" + "a" * 30,
        "hf_" + "b" * 30,
        "ghp_" + "c" * 36,
        "postgresql://ada:pw@host/db",
        "AKIA" + "A" * 16,
        "see postgresql://ada:pw@host/db",
        "https://host/data?api_key=abc",
        "Server=db;User Id=ada;Password=pw;",
        "Authorization: Bearer abcdef123",
    ],
)
def test_values_that_look_like_secrets_are_not_derived(value):
    assert derive(f"url = {value!r}", "url") == {}


@pytest.mark.parametrize(
    "name",
    ["dbpassword", "hftoken", "mysecret", "pw", "passcode", "myApikey", "accesskey", "PRIVATEKEY"],
)
def test_names_with_a_word_for_a_secret_are_not_derived(name):
    assert derive(f"{name} = 'x'", name) == {}
    assert derive(f"settings = {{'lr': 1, {name!r}: 'x'}}", "settings") == {"settings": {"lr": 1}}


@pytest.mark.parametrize(
    "value",
    ["hf-internal-testing/tiny-random-bert", "https://host/a:b", "mask-rcnn-resnet-50-fpn-coco"],
)
def test_ordinary_values_are_no_secrets(value):
    assert derive(f"model = {value!r}", "model") == {"model": value}


def test_what_a_call_did_not_return_is_not_derived():
    source = "resumed = dict().get('x')\ndepth = None"
    assert derive(source, "resumed, depth") == {"depth": None}


@pytest.mark.parametrize("name", ["max_tokens", "tokenizer", "monkey", "keyboard_size"])
def test_ordinary_names_are_no_secrets(name):
    assert derive(f"{name} = 5", name) == {name: 5}


@pytest.mark.parametrize(
    "source", ["x = 'a' * 501", "x = list(range(51))", "x = []", "x = object()", "x = open"]
)
def test_large_and_other_values_are_not_derived(source):
    assert derive(source, "x") == {}


def test_dataclasses_are_derived_without_their_secrets():
    assert derive("settings = 1", "settings", settings=Settings()) == {
        "settings": {"lr": 0.1, "layers": [64, 64]}
    }


def test_numpy_scalars_become_numbers():
    assert derive(
        "a = b = c = 0", "a, b, c", a=np.float32(0.5), b=np.int64(3), c=np.bool_(True)
    ) == {
        "a": 0.5,
        "b": 3,
        "c": True,
    }


def test_parameters_come_first_and_need_no_use():
    cells = [CodeCell("seed = 1"), CodeCell("lr = 0.1", is_parameters=True), CodeCell("seed")]
    assert list(derive_config(cells, {"seed": 1, "lr": 0.2}).items()) == [("lr", 0.2), ("seed", 1)]


def test_invalid_cells_are_skipped():
    cells = [CodeCell("lr ="), CodeCell("lr = 1"), CodeCell("\0"), CodeCell("lr")]
    assert derive_config(cells, {"lr": 1}) == {"lr": 1}


# Given configurations


class Color(enum.Enum):
    RED = "red"


class Model:
    def model_dump(self):
        return {"lr": 1}


def test_mappings_become_json_objects():
    given = {
        "path": pathlib.PurePosixPath("a/b"), "tuple": (1, 2), "set": {2, 1}, "enum": Color.RED,
        "nan": math.nan, "numpy": np.float64(0.5), "big": 2**70, "array": np.zeros(2),
        "bytes": b"x", 3: None,
    }  # fmt: skip
    assert normalize_config(given) == {
        "path": "a/b", "tuple": [1, 2], "set": [1, 2], "enum": "red", "3": None,
        "nan": "NaN", "numpy": 0.5, "big": str(2**70), "array": "array([0., 0.])", "bytes": "b'x'",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "config"),
    [
        (Settings(), {"lr": 0.1, "layers": [64, 64], "api_key": "x"}),
        (argparse.Namespace(lr=1), {"lr": 1}),
        (
            types.SimpleNamespace(inner=Settings(lr=2, layers=(), api_key="")),
            {"inner": {"lr": 2, "layers": [], "api_key": ""}},
        ),
        (Model(), {"lr": 1}),
    ],
)
def test_configuration_objects_become_json_objects(given, config):
    assert normalize_config(given) == config


def test_a_large_configuration_is_refused_and_its_largest_value_named():
    with pytest.raises(ValueError, match=r"at most 1,048,576 .* 'vocabulary'"):
        normalize_config({"lr": 1, "vocabulary": "x" * MAX_CONFIG_SIZE})


def test_a_cyclic_configuration_is_refused():
    config = {"inner": {}}
    config["inner"]["outer"] = config
    with pytest.raises(ValueError, match=r"config.inner.outer contains itself"):
        normalize_config(config)


@pytest.mark.parametrize("given", [3, "lr=1", [("lr", 1)], Settings, object()])
def test_other_objects_are_refused(given):
    with pytest.raises(TypeError, match="expected a mapping"):
        normalize_config(given)


def test_a_failing_repr_does_not_fail():
    class Broken:
        def __repr__(self):
            raise RuntimeError

    assert normalize_config({"x": Broken()}) == {"x": "<Broken>"}


def test_attributes_that_raise_do_not_fail():
    class Lazy:
        def __getattr__(self, name):
            raise RuntimeError(name)

        def __repr__(self):
            return "lazy"

    assert normalize_config({"x": Lazy(), Lazy(): 1}) == {"x": "lazy", "lazy": 1}


def test_objects_of_attrs_and_pydantic_are_derived():
    settings = attrs.make_class("Settings", {"lr": attrs.field(default=0.1)})()
    model = pydantic.create_model("Model", depth=(int, 2))()
    made = [settings, model]
    found = derive("settings = made[0]\nmodel = made[1]", "settings, model", made=made)
    assert found == {"settings": {"lr": 0.1}, "model": {"depth": 2}}
