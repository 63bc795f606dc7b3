"""State files are valid safetensors files, and invalid files are refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save
from support.state_files import (
    restore_model,
    restore_training,
    save_state,
    tensor_file,
    tree_index,
)

from jupyter_axon_notebooks.errors import StateCorrupt
from jupyter_axon_notebooks.training.formats import Source, encode_model, encode_training
from jupyter_axon_notebooks.training.formats.arrays import encode_array
from jupyter_axon_notebooks.training.formats.tensor_files import (
    ITEM_SIZES,
    TensorFile,
    open_tensors,
)

TYPES = ["bool", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]
ARRAYS: dict[str, Any] = {
    **{name: np.arange(5).astype(name) for name in TYPES},
    'λ "\\\n\x01\x7f/': np.ones((2, 0, 3)),
    "0-d": np.array(7),
    "Z": np.ones(3),
    "a": np.ones(1),
}


@pytest.mark.parametrize("count", range(len(ARRAYS) + 1))
def test_files_equal_those_of_the_library(count: int) -> None:
    values = dict(list(ARRAYS.items())[:count])
    ours = TensorFile({name: encode_array(value).tensor for name, value in values.items()}, {})
    assert b"".join(ours.chunks()) == save(values)


def test_the_library_reads_our_files(tmp_path: Path) -> None:
    transposed = np.arange(6).reshape(2, 3).T
    found = load_file(save_state(encode_model({**ARRAYS, "transposed": transposed}), tmp_path))
    assert found["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    for name, value in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].tobytes() == value.tobytes()


def test_tensors_are_aligned_to_their_item_size(tmp_path: Path) -> None:
    path = save_state(encode_training(None, ARRAYS), tmp_path)
    with open(path, "rb") as file:
        entries = open_tensors(Source(path, file)).entries.values()
    assert len(entries) > len(TYPES)
    assert all(entry.start % ITEM_SIZES[entry.code] == 0 for entry in entries)


# Invalid files


def tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def with_tree(tree: Any, version: Any = 1) -> bytes:
    return tensor_file({"a": tensor()}, axon=tree_index(tree, version))


ARRAY = {"$": "array", "name": "a"}
NESTED = "[" * 100_000 + "]" * 100_000

INVALID: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it has 0 bytes"),
    "huge header": (b"\xff" * 8 + b"{}", "it has 10 bytes"),
    "not JSON": (tensor_file(b"<html>", b""), "header is invalid"),
    "nested header": (tensor_file(NESTED.encode(), b""), "header is invalid"),
    "header is invalid": (tensor_file({"a": tensor("F33")}), "header is invalid"),
    "type list": (tensor_file({"a": tensor(["F32"])}), "header is invalid"),
    "more keys": (tensor_file({"a": {**tensor(), "pickle": "x"}}), "header is invalid"),
    "negative shape": (tensor_file({"a": tensor(shape=(-2,))}), "header is invalid"),
    "huge shape": (tensor_file({"a": tensor(shape=(1 << 62, 1 << 62))}), "has 8 bytes"),
    "offsets swapped": (tensor_file({"a": tensor(offsets=(8, 0))}), "has -8 bytes"),
    "beyond the end": (tensor_file({"a": tensor(shape=(4,), offsets=(0, 16))}), "truncated"),
    "truncated": (tensor_file({"a": tensor()}, bytes(7)), "truncated"),
    "overlap": (
        tensor_file({"a": tensor(), "b": tensor(offsets=(4, 12))}, bytes(12)),
        "overlap, or have gaps",
    ),
    "gap": (
        tensor_file({"a": tensor(), "b": tensor(offsets=(12, 20))}, bytes(20)),
        "overlap, or have gaps",
    ),
    "more at the end": (tensor_file({"a": tensor()}, bytes(9)), "end at byte"),
    "index not JSON": (tensor_file({"a": tensor()}, axon="{"), "index is not JSON"),
    "newer version": (with_tree(ARRAY, 2), "from a newer version of this package"),
    "nested tree": (with_tree(json.loads("[" * 90 + "]" * 90)), "more than 64 levels"),
    "missing tensor": (with_tree({"$": "array", "name": "b"}), "KeyError: 'b'"),
    "objects": (with_tree({**ARRAY, "dtype": "O"}), "invalid value of kind 'array'"),
    "dtype of another size": (with_tree({**ARRAY, "dtype": "<c16"}), "which is no <c16"),
    "unknown kind": (with_tree({"$": "pickle", "value": "gASV"}), "the kind is unknown"),
    "set of lists": (with_tree({"$": "set", "items": [[1]]}), "invalid value of kind 'set'"),
    "default factory": (
        with_tree({"$": "defaultdict", "of": "eval", "items": []}),
        "invalid value of kind 'defaultdict'",
    ),
    "short float": (with_tree({"$": "float", "value": "00"}), "of kind 'float'"),
    "short scalar": (with_tree({"$": "scalar", "dtype": "<f8", "value": "00"}), "of kind 'scalar'"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_file_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    content, reason = INVALID[name]
    path = tmp_path / "invalid.safetensors"
    path.write_bytes(content)
    target = {"a": np.zeros(2, "f4")}
    for restore in (
        lambda: restore_model(str(path), None),
        lambda: restore_model(str(path), target),
        lambda: restore_training(str(path), None, None, rng=True),
    ):
        with pytest.raises(StateCorrupt, match=reason) as refused:
            restore()
        assert str(path) in str(refused.value)
    assert target["a"].tolist() == [0, 0]


@pytest.mark.parametrize(
    "states",
    [
        1,
        {"python": 1},
        {"python": {"$": "tuple", "items": [3, {"$": "tuple", "items": [1, 2]}, None]}},
        {"numpy": {"bit_generator": "MT19937"}},
    ],
)
def test_invalid_states_of_generators_change_nothing(states: Any, tmp_path: Path) -> None:
    path = tmp_path / "invalid.safetensors"
    index = tree_index({"optimizer": None, "extra": {"a": 1}, "rng": states})
    path.write_bytes(tensor_file({}, b"", axon=index))
    before = random.getstate()
    target = {"a": 0}
    with pytest.raises(StateCorrupt, match="random generators"):
        restore_training(str(path), None, target, rng=True)
    assert target == {"a": 0}
    assert random.getstate() == before


def test_a_model_is_not_restored_as_a_training(tmp_path: Path) -> None:
    path = save_state(encode_model({"a": np.ones(2)}), tmp_path)
    with pytest.raises(StateCorrupt, match="not the state of a training"):
        restore_training(path, None, None, rng=True)


def test_mutated_files_that_the_library_refuses_are_refused(tmp_path: Path) -> None:
    chance = random.Random(7)
    tree = {"a": np.arange(3.0), "b": [np.arange(4, dtype="i2")], "c": (1, b"x")}
    whole = b"".join(encode_model(tree).chunks())
    path = tmp_path / "mutated.safetensors"
    length = 8 + int.from_bytes(whole[:8], "little")
    texts = [b'"', b"{", b"[", b"9", b"-", b"1e9", b"null", b","]
    refused = 0
    for _ in range(1000):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            end = length if chance.random() < 0.95 else len(content)
            at = chance.randrange(end)
            match chance.randrange(4):
                case 0:
                    content[at] = chance.randrange(256)
                case 1:
                    content[at : at + 1] = chance.choice(texts)
                case 2:
                    del content[at]
                case _:
                    content[at:at] = content[chance.randrange(length) :][: chance.randrange(20)]
        path.write_bytes(content)
        try:
            restore_model(str(path), None)
        except StateCorrupt:
            refused += 1
            continue
        try:
            safe_open(str(path), "np")
        except SafetensorError as error:
            pytest.fail(f"restored a file that the library refuses: {error}: {bytes(content)!r}")
    assert refused > 600


def test_plain_values_need_neither_numpy_nor_a_framework(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from jupyter_axon_notebooks.training.formats import Source, encode_training, prepare_training
path = Path(sys.argv[1])
encoded = encode_training(None, {"epoch": (1, 2.5)})
path.write_bytes(b"".join(encoded.chunks()))
with path.open("rb") as file:
    restore = prepare_training(Source(str(path), file), None, None, rng=True)
assert restore().extra == {"epoch": (1, 2.5)}
names = ("numpy", "torch", "sklearn", "skops", "safetensors")
print([name for name in names if name in sys.modules])
"""
    command = [sys.executable, "-c", script, tmp_path / "state"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr
