"""Whatever nests in a state comes back with its exact type and bits, or is refused where it stands."""

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
from support.state_files import written

from jupyter_axon_notebooks.errors import InvalidData, NotFound, StateError
from jupyter_axon_notebooks.training.formats import (
    encode_model,
    encode_training,
    restore_model,
    restore_training,
)
from jupyter_axon_notebooks.training.formats.tree import Writer


class Moments(NamedTuple):
    count: Any
    mean: Any


def there_and_back(value: Any, folder: Path) -> Any:
    path = written(encode_training(None, value, rng=False), folder)
    return restore_training(path, None, None, rng=False).extra


def bits_of_float(bits: int) -> float:
    (value,) = struct.unpack(">d", bits.to_bytes(8, "big"))
    return value


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
def test_a_value_comes_back_with_its_type(value: Any, tmp_path: Path) -> None:
    back = there_and_back(value, tmp_path)
    assert back == value
    assert type(back) is type(value)
    assert type(back) is int or repr(back) == repr(value)


def test_signs_of_zero_and_payloads_of_nans_are_kept(tmp_path: Path) -> None:
    bits = [1 << 63, 0x7FF8000000000000, 0xFFF8000000000001, 0x7FF80000DEADBEEF]
    values = [bits_of_float(one) for one in bits]
    back = there_and_back({"floats": values, "complex": complex(values[2], values[3])}, tmp_path)
    assert [int.from_bytes(struct.pack(">d", one), "big") for one in back["floats"]] == bits
    assert struct.pack(">2d", back["complex"].real, back["complex"].imag) == struct.pack(
        ">2d", *values[2:]
    )


def test_order_and_default_of_dicts_are_kept(tmp_path: Path) -> None:
    value = collections.defaultdict(list, {"z": [1], "a": [2]})
    back = there_and_back(value, tmp_path)
    assert list(back) == ["z", "a"]
    assert type(back) is collections.defaultdict
    assert back["new"] == []


NAMES = [
    "bool",
    "i1",
    "u1",
    "i2",
    "u2",
    "i4",
    "u4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "g",
    "G",
]
NAMES += [
    ">i2",
    ">u4",
    ">f4",
    ">f8",
    ">c8",
    ">c16",
    "M8[ns]",
    "m8[s]",
    ">M8[D]",
    "S3",
    "U2",
    ">U2",
    "S0",
    "V5",
]

if importlib.util.find_spec("ml_dtypes"):
    importlib.import_module("ml_dtypes")
    NAMES += [
        "bfloat16",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e8m0fnu",
        "float8_e4m3b11fnuz",
        "int4",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_an_array_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    dtype = np.dtype(name)
    raw = np.random.default_rng(0).integers(
        0, 2 if name == "bool" else 120, 24 * dtype.itemsize, np.uint8
    )
    array = raw.view(dtype).reshape(2, 3, 4) if dtype.itemsize else np.zeros((2, 3, 4), dtype)
    forms = {
        "whole": array,
        "transposed": array.T,
        "fortran": np.asfortranarray(array),
        "sliced": array[:, 1:, ::2],
        "backwards": array[::-1, ::-1, ::-1],
        "broadcast": np.broadcast_to(array[0], (5, 3, 4)),
        "empty": array[:0],
        "0-d": array[0, 0, :1].reshape(()),
    }
    back = there_and_back(forms, tmp_path)
    for form, made in forms.items():
        assert back[form].dtype == made.dtype, form
        assert back[form].dtype.byteorder == made.dtype.byteorder, form
        assert back[form].shape == made.shape, form
        assert back[form].tobytes() == np.ascontiguousarray(made).tobytes(), form
        assert back[form].flags.writeable, form
        assert back[form].base is None, f"{form}: not in memory of its own"


@pytest.mark.parametrize("name", NAMES)
def test_a_single_number_of_numpy_comes_back_as_one(name: str, tmp_path: Path) -> None:
    scalar = np.ones((), name)[()]
    back = there_and_back({"scalar": scalar}, tmp_path)["scalar"]
    assert type(back) is type(scalar)
    assert back.dtype == scalar.dtype
    assert back.tobytes() == scalar.tobytes()


def test_payloads_of_nans_in_arrays_are_kept(tmp_path: Path) -> None:
    array = np.array([0x7FC00001, 0xFFC0DEAD, 0x7F800001], "u4").view("f4")
    back = there_and_back([array, array.astype(">f4").view(">f4")], tmp_path)
    assert back[0].view("u4").tolist() == [0x7FC00001, 0xFFC0DEAD, 0x7F800001]


def test_one_array_under_two_names_is_stored_once_and_is_one_again(tmp_path: Path) -> None:
    array = np.arange(1000.0)
    value = {
        "a": array,
        "b": array,
        "same memory": array[:],
        "part": array[:10],
        "reversed": array[::-1],
    }
    encoded = encode_model(value)
    assert encoded.size < 3 * array.nbytes
    back = restore_model(written(encoded, tmp_path), None)
    assert back["a"] is back["b"] is back["same memory"]
    assert back["part"].tolist() == list(range(10))
    assert back["reversed"][0] == 999
    back["a"][0] = -1
    assert back["part"][0] == 0


def test_a_memory_mapped_array_is_stored_as_one(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "numbers", np.int16, "w+", shape=(4,))
    mapped[:] = [1, 2, 3, 4]
    assert there_and_back(mapped, tmp_path).tolist() == [1, 2, 3, 4]


def test_names_that_would_clash_get_others(tmp_path: Path) -> None:
    value = {
        "a": {"b": np.ones(1)},
        "a.b": np.zeros(1),
        "__metadata__": np.full(1, 2.0),
        "": np.full(1, 3.0),
    }
    back = there_and_back({**value, "\ud800": np.full(1, 4.0)}, tmp_path)
    found = (back["a"]["b"], back["a.b"], back["__metadata__"], back[""], back["\ud800"])
    assert [float(one[0]) for one in found] == [1, 0, 2, 3, 4]
    model = restore_model(written(encode_model(value), tmp_path), None)
    assert float(model["__metadata__"][0]) == 2


@pytest.mark.parametrize(
    ("value", "where", "advice"),
    [
        (
            {"scheduler": {"lr_lambdas": [len, lambda epoch: 0.9]}},
            'extra["scheduler"]["lr_lambdas"][0]',
            "Leave",
        ),
        ({"f": [lambda epoch: 0.9]}, 'extra["f"][0]: a function', "make it anew"),
        ({2: (object(),)}, "extra[2][0]: a builtins.object", "state_dict() and load_state_dict()"),
        ([np.array([object()])], "extra[0]", "plain numbers"),
        (np.zeros(2, [("x", "f4")]), "extra", "for each field"),
        (np.ma.masked_array([1.0], [True]), "extra: a numpy.ma.MaskedArray", "np.asarray"),
        (
            {"kind": types.SimpleNamespace()},
            'extra["kind"]: a types.SimpleNamespace',
            "keep its parts",
        ),
        (
            {"d": collections.defaultdict(lambda: 0)},
            'extra["d"]: a collections.defaultdict',
            "keep its parts",
        ),
        ({"i": type("Flag", (int,), {})(1)}, 'extra["i"]', "Flag"),
    ],
)
def test_what_cannot_be_kept_is_refused_where_it_stands(
    value: Any, where: str, advice: str
) -> None:
    with pytest.raises(TypeError) as refused:
        encode_training(None, value)
    assert where in str(refused.value)
    assert advice in str(refused.value)


def test_what_refers_to_itself_or_nests_without_end_is_refused() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    with pytest.raises(TypeError, match=r'extra\[1\]\["again"\]: refers back'):
        encode_training(None, loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match="levels deep"):
        encode_training(None, deep)


def test_what_is_nested_as_deeply_as_may_be_comes_back(tmp_path: Path) -> None:
    deep: Any = np.ones(1)
    for _ in range(63):
        deep = {1: (deep,)} if _ % 2 else [deep]
    with pytest.raises(TypeError, match="levels deep"):
        encode_training(None, deep)
    fits: Any = 1
    for _ in range(64):
        fits = {1: fits}
    assert there_and_back(fits, tmp_path) == fits


# Into what is there


def test_arrays_are_restored_in_place(tmp_path: Path) -> None:
    weights = {
        "layers": [np.arange(6.0).reshape(2, 3), np.ones(2, np.int8)],
        "pair": (np.zeros(()), np.ones(1)),
    }
    path = written(encode_model(weights), tmp_path)
    target = {
        "layers": [np.zeros((3, 2)).T, np.zeros(2, np.int8)],
        "pair": (np.ones(()), np.zeros(1)),
    }
    kept = [*target["layers"], *target["pair"]]
    back = restore_model(path, target)
    assert back is target
    assert all(
        one is other for one, other in zip(kept, [*back["layers"], *back["pair"]], strict=True)
    )
    assert back["layers"][0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [int(one.sum()) for one in kept[1:]] == [2, 0, 1]


class Immutable:
    """An array as JAX has them: NumPy can read it, nobody can write it."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)
        self.shape, self.dtype = self._values.shape, self._values.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._values if dtype is None else self._values.astype(dtype)


def test_a_tree_of_arrays_that_nobody_can_write_comes_back_anew_with_its_structure(
    tmp_path: Path,
) -> None:
    tree = types.MappingProxyType(
        {"params": [Immutable([1.5, 2.5])], "opt": Moments(Immutable(7), [Immutable([1])])}
    )
    back = restore_model(written(encode_model(tree), tmp_path), tree)
    assert type(back) is types.MappingProxyType
    assert type(back["opt"]) is Moments
    assert back["params"][0].tolist() == [1.5, 2.5]
    assert int(back["opt"].count) == 7
    read_only = np.zeros(2)
    read_only.flags.writeable = False
    again = restore_model(written(encode_model({"a": np.ones(2)}), tmp_path), {"a": read_only})
    assert again["a"].tolist() == [1, 1]
    assert read_only.tolist() == [0, 0]


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


def test_named_tuples_are_of_their_class_where_that_is_defined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"a": Moments(np.ones(2), [Counted(5)]), "local": Counted.outer()}
    back = there_and_back(value, tmp_path)
    assert (type(back["a"]), type(back["a"].mean[0]), type(back["local"])) == (
        Moments,
        Counted,
        tuple,
    )
    back["a"].count[0] = 3  # in memory of its own
    path = written(encode_training(None, value, rng=False), tmp_path)
    monkeypatch.delattr(f"{__name__}.Moments")
    assert type(restore_training(path, None, None, rng=False).extra["a"]) is tuple


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
        [__name__, "there_and_back.__class__"],
        ["", ""],
        [1, 2],
        {"a": 1},
    ],
)
def test_a_file_makes_no_other_types_by_a_name(of: Any, tmp_path: Path) -> None:
    tree = {"optimizer": None, "extra": {"$": "namedtuple", "of": of, "items": [5]}, "rng": None}
    path = written(Writer().file(tree, None), tmp_path)
    back = restore_training(path, None, None, rng=False).extra
    assert type(back) is tuple
    assert back == (5,)


def test_no_code_of_a_named_tuple_runs(tmp_path: Path) -> None:
    tree = {
        "optimizer": None,
        "extra": {"$": "namedtuple", "of": [__name__, "Alarming"], "items": [5]},
        "rng": None,
    }
    assert restore_training(
        written(Writer().file(tree, None), tmp_path), None, None, rng=False
    ).extra == (5,)


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
        ({"a": np.zeros(2)}, "the checkpoint has model['b'] as well"),
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
def test_what_does_not_fit_is_refused_and_nothing_changes(
    target: Any, reason: str, tmp_path: Path
) -> None:
    path = written(encode_model({"a": np.ones(2), "b": [np.ones(2)]}), tmp_path)
    with pytest.raises(InvalidData) as refused:
        restore_model(path, target)
    assert reason in str(refused.value)
    assert all(not np.any(one) for one in target.values() if isinstance(one, np.ndarray))


def test_extra_takes_what_is_stored_besides(tmp_path: Path) -> None:
    stored = {"best": 0.25, "history": [3, 2, 1], "ema": {"w": np.ones(2)}, "more": {"x": 1}}
    path = written(encode_training(None, stored, rng=False), tmp_path)
    ema = np.zeros(2)
    target: dict[str, Any] = {"best": None, "history": [9], "ema": {"w": ema}}
    restored = restore_training(path, None, target, rng=False)
    assert restored.extra is target
    assert (target["best"], target["history"], target["more"]) == (0.25, [3, 2, 1], {"x": 1})
    assert ema.tolist() == [1, 1]
    assert target["ema"]["w"] is ema
    with pytest.raises(InvalidData, match=r"has no extra\['scaler'\]"):
        restore_training(path, None, {"scaler": None}, rng=False)


class Sampler:
    """An object with state, as schedulers have it."""

    def __init__(self) -> None:
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def test_objects_with_state_are_captured_wherever_they_are_and_set_back_in_place(
    tmp_path: Path,
) -> None:
    one, other = Sampler(), Sampler()
    one.position, other.position = 5, 7
    path = written(encode_training([one], {"two": (other, {"one": one})}, rng=False), tmp_path)
    new, newer = Sampler(), Sampler()
    restored = restore_training(path, [new], {"two": (newer, {"one": Sampler()})}, rng=False)
    assert (new.position, newer.position) == (5, 7)
    assert restored.optimizer[0] is new
    assert restored.extra["two"][0] is newer
    assert restore_training(path, None, None, rng=False).extra == {
        "two": ({"position": 7}, {"one": {"position": 5}})
    }


def test_a_state_goes_into_an_object_of_its_own_class_only(tmp_path: Path) -> None:
    path = written(encode_training(Sampler(), None), tmp_path)
    other = type("Other", (Sampler,), {})()
    with pytest.raises(InvalidData, match=r"Other, in the checkpoint a .*Sampler"):
        restore_training(path, other, None, rng=True)
    new = Sampler()
    new.position = 9
    with pytest.raises(InvalidData, match="it has no extra") as refused:
        restore_training(path, new, {"a": 1}, rng=True)
    assert refused.value.path == "extra"
    assert new.position == 9


def test_generators_draw_what_they_would_have_drawn(tmp_path: Path) -> None:
    mine = [random.Random(1), np.random.default_rng(1), np.random.RandomState(1)]
    path = written(encode_training(None, mine), tmp_path)
    expected = [
        random.random(),
        np.random.random(),
        mine[0].random(),
        mine[1].random(),
        mine[2].random_sample(),
    ]
    others = [random.Random(2), np.random.default_rng(2), np.random.RandomState(2)]
    restore_training(path, None, others, rng=True)
    drawn = [
        random.random(),
        np.random.random(),
        others[0].random(),
        others[1].random(),
        others[2].random_sample(),
    ]
    assert drawn == expected


def test_generators_are_left_alone_where_that_is_asked(tmp_path: Path) -> None:
    kept = written(encode_training(None, None), tmp_path)
    without = written(encode_training(None, None, rng=False), tmp_path, "without")
    before = random.getstate()
    random.seed(3)
    seeded = random.getstate()
    restore_training(kept, None, None, rng=False)
    restore_training(without, None, None, rng=True)
    assert random.getstate() == seeded
    restore_training(kept, None, None, rng=True)
    assert random.getstate() == before


def test_the_generator_of_another_kind_is_refused_before_anything_changes(tmp_path: Path) -> None:
    path = written(
        encode_training(None, [np.random.Generator(np.random.PCG64(1)), np.zeros(1)]), tmp_path
    )
    target = [np.random.Generator(np.random.Philox(1)), np.ones(1)]
    with pytest.raises(
        InvalidData, match=r"extra\[0\]: the checkpoint has no state of such a generator"
    ):
        restore_training(path, None, target, rng=True)
    assert target[1].tolist() == [1]


@pytest.mark.parametrize("model", [None, 1, "weights.pt", object(), lambda: 0, np.float64(1)])
def test_a_model_that_cannot_be_kept_is_refused_with_what_can(model: Any) -> None:
    with pytest.raises(
        TypeError, match="what can: PyTorch modules; scikit-learn estimators; mappings"
    ):
        encode_model(model)


def test_a_file_that_is_gone_or_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        restore_model(str(tmp_path / "none"), None)
    with pytest.raises(NotFound):
        restore_training(str(tmp_path / "none"), None, None, rng=True)
    with pytest.raises(StateError):
        restore_model(str(tmp_path), None)


def test_tables_with_labels_are_not_taken_for_arrays() -> None:
    kind = type("Series", (Immutable,), {"__module__": "pandas.core.series"})
    with pytest.raises(TypeError, match="Series"):
        encode_model({"table": kind([1])})
