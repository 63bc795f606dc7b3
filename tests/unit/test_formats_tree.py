"""Nested values are restored with their exact types and bits, or refused with their place."""

from __future__ import annotations

import collections
import importlib
import importlib.util
import math
import random
import struct
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.state_files import restore_model, restore_training, round_trip, save_state

from jupyter_axon_notebooks.errors import InvalidData
from jupyter_axon_notebooks.training.formats import encode_model, encode_training
from jupyter_axon_notebooks.training.formats.tree import TreeWriter


class Moments(NamedTuple):
    count: Any
    mean: Any


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        (1 << 63) - 1,
        1 << 63,
        -(1 << 64),
        3**20_000,
        0.1,
        5e-324,
        math.inf,
        -math.inf,
        1 + 2j,
        complex(math.inf, -0.0),
        "",
        "ключ\0\n\"'",
        "\ud800",
        b"",
        bytes(range(256)),
        bytearray(b"ab"),
        [],
        {},
        (),
        [[], [[]]],
        (1, [2, (3, {"four": (4,)})]),
        {1: "a", "1": "b", (1, 2): "c", None: "d", 1.5: "e", b"x": "f"},
        {"$": "tensor", "name": "none"},
        {"items": [1], "": {"": 0}},
        {1, 2, 3},
        frozenset({"a"}),
        collections.OrderedDict(b=1, a=2),
        collections.Counter({30: 1, 80: 2}),
        collections.deque([1, 2], maxlen=5),
        collections.deque(),
    ],
    ids=lambda value: hex(value)[:20] if isinstance(value, int) else ascii(value)[:20],
)
def test_a_value_is_restored_with_its_type(value: Any, tmp_path: Path) -> None:
    restored = round_trip(value, tmp_path)
    assert restored == value
    assert type(restored) is type(value)
    assert type(restored) is int or repr(restored) == repr(value)


def test_signs_of_zero_and_payloads_of_nans_are_kept(tmp_path: Path) -> None:
    octets = [bytes.fromhex(bits + "00" * 4) for bits in ("80000000", "7ff80000", "fff80001")]
    values = [struct.unpack(">d", one)[0] for one in octets]
    restored = round_trip({"floats": values, "complex": complex(*values[1:])}, tmp_path)
    assert [struct.pack(">d", one) for one in restored["floats"]] == octets
    number = restored["complex"]
    assert [struct.pack(">d", one) for one in (number.real, number.imag)] == octets[1:]
    array = np.array([0x7FC00001, 0xFFC0DEAD, 0x7F800001], "u4")
    assert round_trip(array.view("f4"), tmp_path).view("u4").tolist() == array.tolist()


def test_order_and_default_of_dicts_are_kept(tmp_path: Path) -> None:
    restored = round_trip(collections.defaultdict(list, {"z": [1], "a": [2]}), tmp_path)
    assert type(restored) is collections.defaultdict
    assert list(restored) == ["z", "a"]
    assert restored["new"] == []


TYPES = ["bool", *(kind + size for kind in "iu" for size in "1248"), "f2", "f4", "f8", "c8", "c16"]
TYPES += ["g", "G", ">i2", ">u4", ">f4", ">f8", ">c8", ">c16"]
TYPES += ["M8[ns]", "m8[s]", ">M8[D]", "S3", "U2", ">U2", "S0", "V5"]
if importlib.util.find_spec("ml_dtypes"):
    importlib.import_module("ml_dtypes")
    TYPES += ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3b11fnuz"]
    TYPES.append("int4")


@pytest.mark.parametrize("name", TYPES)
def test_arrays_of_every_type_and_layout_are_restored(name: str, tmp_path: Path) -> None:
    dtype = np.dtype(name)
    most = 2 if name == "bool" else 120
    raw = np.random.default_rng(0).integers(0, most, 24 * dtype.itemsize, np.uint8)
    array = raw.view(dtype).reshape(2, 3, 4) if dtype.itemsize else np.zeros((2, 3, 4), dtype)
    layouts = {
        "whole": array,
        "transposed": array.T,
        "fortran": np.asfortranarray(array),
        "sliced": array[:, 1:, ::2],
        "backwards": array[::-1, ::-1, ::-1],
        "broadcast": np.broadcast_to(array[0], (5, 3, 4)),
        "empty": array[:0],
        "0-d": array[0, 0, :1].reshape(()),
    }
    scalar = np.ones((), name)[()]
    restored = round_trip({**layouts, "scalar": scalar}, tmp_path)
    for layout, expected in layouts.items():
        found = restored[layout]
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), layout
        assert found.dtype.byteorder == expected.dtype.byteorder, layout
        assert found.tobytes() == np.ascontiguousarray(expected).tobytes(), layout
        assert found.flags.writeable, layout
        assert found.base is None, f"{layout}: a view of the file"
    found = restored["scalar"]
    assert (type(found), found.dtype) == (type(scalar), scalar.dtype)
    assert found.tobytes() == scalar.tobytes()


def test_shared_memory_is_stored_once_and_shared_again(tmp_path: Path) -> None:
    array = np.arange(1000.0)
    views = {"a": array, "b": array, "same memory": array[:], "part": array[:10]}
    encoded = encode_model({**views, "reversed": array[::-1]})
    assert encoded.size < 3 * array.nbytes
    restored = restore_model(save_state(encoded, tmp_path), None)
    assert restored["a"] is restored["b"] is restored["same memory"]
    assert restored["part"].tolist() == list(range(10))
    assert restored["reversed"][0] == 999
    restored["a"][0] = -1
    assert restored["part"][0] == 0


def test_a_memory_mapped_array_is_kept(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "numbers", np.int16, "w+", shape=(4,))
    mapped[:] = [1, 2, 3, 4]
    assert round_trip(mapped, tmp_path).tolist() == [1, 2, 3, 4]


def test_clashing_names_of_tensors_are_changed(tmp_path: Path) -> None:
    value = {"a": {"b": np.ones(1)}, "a.b": np.zeros(1), "__metadata__": np.full(1, 2.0)}
    value |= {"": np.full(1, 3.0), "\ud800": np.full(1, 4.0)}
    restored = restore_model(save_state(encode_model(value), tmp_path), None)
    assert float(restored.pop("a")["b"][0]) == 1
    names = ("a.b", "__metadata__", "", "\ud800")
    assert [float(restored[name][0]) for name in names] == [0, 2, 3, 4]


# Refused values


class Immutable:
    """An array like those of JAX, which NumPy can read and nobody can change."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)
        self.shape, self.dtype = self._values.shape, self._values.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._values if dtype is None else self._values.astype(dtype)


Series = type("Series", (Immutable,), {"__module__": "pandas.core.series"})
LOOP: list[Any] = [1]
LOOP.append({"again": LOOP})


@pytest.mark.parametrize(
    ("value", "where", "advice"),
    [
        ({"scheduler": {"f": [len]}}, 'extra["scheduler"]["f"][0]', "Leave"),
        ({"f": [lambda epoch: 0.9]}, 'extra["f"][0]: a function', "recreate it"),
        ({2: (object(),)}, "extra[2][0]: a builtins.object", "state_dict() and load_state_dict()"),
        ([np.array([object()])], "extra[0]", "plain numbers"),
        (np.zeros(2, [("x", "f4")]), "extra", "for each field"),
        (np.ma.masked_array([1.0], [True]), "extra: a numpy.ma.MaskedArray", "np.asarray"),
        ({"k": types.SimpleNamespace()}, 'extra["k"]: a types.SimpleNamespace', "keep its parts"),
        (
            {"d": collections.defaultdict(lambda: 0)},
            'extra["d"]: a collections.defaultdict',
            "keep its parts",
        ),
        ({"i": type("Flag", (int,), {})(1)}, 'extra["i"]', "Flag"),
        ({"table": Series([1])}, 'extra["table"]', "Series"),
        (LOOP, 'extra[1]["again"]', "contains itself"),
    ],
)
def test_a_value_that_cannot_be_kept_is_named(value: Any, where: str, advice: str) -> None:
    with pytest.raises(TypeError) as refused:
        encode_training(None, value)
    assert where in str(refused.value)
    assert advice in str(refused.value)


def test_nesting_is_limited(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(64):
        value = {1: value}
    assert round_trip(value, tmp_path) == value
    for _ in range(100_000):
        value = [value]
    with pytest.raises(TypeError, match="levels deep"):
        encode_training(None, value)


@pytest.mark.parametrize("model", [None, 1, "weights.pt", object(), lambda: 0, np.float64(1)])
def test_a_model_of_no_format_is_refused(model: Any) -> None:
    supported = "supported are: PyTorch modules; scikit-learn estimators; mappings"
    with pytest.raises(TypeError, match=supported):
        encode_model(model)


# Named tuples


class Counted(NamedTuple):
    count: Any

    @classmethod
    def outer(cls) -> Any:
        class Inner(NamedTuple):
            count: Any

        return Inner(5)


class Alarming(collections.namedtuple("Alarming", "count")):
    def __new__(cls, count: Any) -> Any:
        if count == 5:
            raise AssertionError("code of the class has run")
        return super().__new__(cls, count)


def restore_namedtuple(of: Any, folder: Path) -> Any:
    tree = {"optimizer": None, "extra": {"$": "namedtuple", "of": of, "items": [5]}, "rng": None}
    path = save_state(TreeWriter().make_file(tree, None), folder)
    return restore_training(path, None, None, rng=False).extra


def test_named_tuples_have_their_class_if_it_is_defined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"a": Moments(np.ones(2), [Counted(5)]), "local": Counted.outer()}
    restored = round_trip(value, tmp_path)
    kinds = (type(restored["a"]), type(restored["a"].mean[0]), type(restored["local"]))
    assert kinds == (Moments, Counted, tuple)
    restored["a"].count[0] = 3  # not a view of the file
    path = save_state(encode_training(None, value, rng=False), tmp_path)
    monkeypatch.delattr(f"{__name__}.Moments")
    assert type(restore_training(path, None, None, rng=False).extra["a"]) is tuple
    assert restore_namedtuple([__name__, "Alarming"], tmp_path) == (5,)


@pytest.mark.parametrize(
    "of",
    [
        None,
        "os.system",
        ["os", "system"],
        ["os", "stat_result"],
        ["time", "struct_time"],
        ["builtins", "tuple"],
        ["builtins", "list"],
        [__name__, "Moments"],
        [__name__, "Counted.outer"],
        [__name__, "round_trip.__class__"],
        ["", ""],
        [1, 2],
        {"a": 1},
    ],
)
def test_a_file_creates_no_other_types_by_name(of: Any, tmp_path: Path) -> None:
    restored = restore_namedtuple(of, tmp_path)
    assert type(restored) is tuple
    assert restored == (5,)


# Restoring into existing objects


def test_arrays_are_restored_in_place(tmp_path: Path) -> None:
    layers = [np.arange(6.0).reshape(2, 3), np.ones(2, np.int8)]
    weights = {"layers": layers, "pair": (np.zeros(()), np.ones(1))}
    path = save_state(encode_model(weights), tmp_path)
    before = [np.zeros((3, 2)).T, np.zeros(2, np.int8), np.ones(()), np.zeros(1)]
    target = {"layers": before[:2], "pair": tuple(before[2:])}
    restored = restore_model(path, target)
    assert restored is target
    after = [*restored["layers"], *restored["pair"]]
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert after[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [int(one.sum()) for one in after[1:]] == [2, 0, 1]


def test_immutable_trees_are_rebuilt_with_their_structure(tmp_path: Path) -> None:
    moments = Moments(Immutable(7), [Immutable([1])])
    tree = types.MappingProxyType({"params": [Immutable([1.5, 2.5])], "opt": moments})
    restored = restore_model(save_state(encode_model(tree), tmp_path), tree)
    assert type(restored) is types.MappingProxyType
    assert type(restored["opt"]) is Moments
    assert restored["params"][0].tolist() == [1.5, 2.5]
    assert int(restored["opt"].count) == 7
    read_only = np.zeros(2)
    read_only.flags.writeable = False
    path = save_state(encode_model({"a": np.ones(2)}), tmp_path)
    assert restore_model(path, {"a": read_only})["a"].tolist() == [1, 1]
    assert read_only.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (
            {"a": np.zeros(3), "b": [np.zeros(2)]},
            "model['a'] is float64 (3,), in the checkpoint float64 (2,)",
        ),
        (
            {"a": np.zeros(2, "f4"), "b": [np.zeros(2)]},
            "model['a'] is float32 (2,), in the checkpoint float64 (2,)",
        ),
        ({"a": np.zeros(2)}, "the checkpoint also has model['b']"),
        (
            {"a": np.zeros(2), "b": [np.zeros(2)], "c": np.zeros(2)},
            "the checkpoint has no model['c']",
        ),
        ({"a": np.zeros(2), "b": []}, "model['b'] has 0 items, in the checkpoint 1"),
        (
            {"a": np.zeros(2), "b": np.zeros(2)},
            "model['b'] is float64 (2,), in the checkpoint a builtins.list",
        ),
        (
            {"a": {}, "b": [np.zeros(2)]},
            "model['a'] is a builtins.dict, in the checkpoint a numpy.ndarray",
        ),
        (
            {"a": np.zeros(2), "b": (np.zeros(2),)},
            "model['b'] is a builtins.tuple, in the checkpoint a builtins.list",
        ),
    ],
)
def test_a_mismatch_is_named_and_changes_nothing(target: Any, reason: str, tmp_path: Path) -> None:
    path = save_state(encode_model({"a": np.ones(2), "b": [np.ones(2)]}), tmp_path)
    with pytest.raises(InvalidData) as refused:
        restore_model(path, target)
    assert reason in str(refused.value)
    assert all(not np.any(one) for one in target.values() if isinstance(one, np.ndarray))


def test_extra_gets_further_stored_values(tmp_path: Path) -> None:
    stored = {"best": 0.25, "history": [3, 2, 1], "ema": {"w": np.ones(2)}, "more": {"x": 1}}
    path = save_state(encode_training(None, stored, rng=False), tmp_path)
    ema = np.zeros(2)
    target: dict[str, Any] = {"best": None, "history": [9], "ema": {"w": ema}}
    assert restore_training(path, None, target, rng=False).extra is target
    assert (target["best"], target["history"], target["more"]) == (0.25, [3, 2, 1], {"x": 1})
    assert target["ema"]["w"] is ema
    assert ema.tolist() == [1, 1]
    with pytest.raises(InvalidData, match=r"has no extra\['scaler'\]"):
        restore_training(path, None, {"scaler": None}, rng=False)


# Objects with a state


class Sampler:
    """An object with a state."""

    def __init__(self, position: int = 0) -> None:
        self.position = position

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def test_nested_objects_are_restored_in_place(tmp_path: Path) -> None:
    one, other = Sampler(5), Sampler(7)
    path = save_state(encode_training([one], {"two": (other, {"one": one})}, rng=False), tmp_path)
    new, newer = Sampler(), Sampler()
    restored = restore_training(path, [new], {"two": (newer, {"one": Sampler()})}, rng=False)
    assert (new.position, newer.position) == (5, 7)
    assert restored.optimizer[0] is new
    assert restored.extra["two"][0] is newer
    plain = restore_training(path, None, None, rng=False).extra
    assert plain == {"two": ({"position": 7}, {"one": {"position": 5}})}


def test_a_state_is_restored_only_into_its_class(tmp_path: Path) -> None:
    path = save_state(encode_training(Sampler(), None), tmp_path)
    other = type("Other", (Sampler,), {})()
    with pytest.raises(InvalidData, match=r"Other, in the checkpoint a .*Sampler"):
        restore_training(path, other, None, rng=True)
    new = Sampler(9)
    with pytest.raises(InvalidData, match="it has no extra") as refused:
        restore_training(path, new, {"a": 1}, rng=True)
    assert refused.value.path == "extra"
    assert new.position == 9


# Random generators


def test_generators_continue_their_sequences(tmp_path: Path) -> None:
    def create(seed: int) -> list[Any]:
        return [random.Random(seed), np.random.default_rng(seed), np.random.RandomState(seed)]

    def draw(generators: list[Any]) -> list[float]:
        own = [generators[0].random(), generators[1].random(), generators[2].random_sample()]
        return [random.random(), np.random.random(), *own]

    first, second = create(1), create(2)
    path = save_state(encode_training(None, first), tmp_path)
    expected = draw(first)
    restore_training(path, None, second, rng=True)
    assert draw(second) == expected


def test_generators_are_restored_only_on_request(tmp_path: Path) -> None:
    kept = save_state(encode_training(None, None), tmp_path)
    without = save_state(encode_training(None, None, rng=False), tmp_path, "without")
    before = random.getstate()
    random.seed(3)
    seeded = random.getstate()
    restore_training(kept, None, None, rng=False)
    restore_training(without, None, None, rng=True)
    assert random.getstate() == seeded
    restore_training(kept, None, None, rng=True)
    assert random.getstate() == before


def test_the_state_of_another_generator_is_refused(tmp_path: Path) -> None:
    stored = [np.random.Generator(np.random.PCG64(1)), np.zeros(1)]
    path = save_state(encode_training(None, stored), tmp_path)
    target = [np.random.Generator(np.random.Philox(1)), np.ones(1)]
    reason = r"extra\[0\]: the checkpoint has no state of such a generator"
    with pytest.raises(InvalidData, match=reason):
        restore_training(path, None, target, rng=True)
    assert target[1].tolist() == [1]
