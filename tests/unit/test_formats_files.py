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
    OLD_STATES,
    restore_model,
    restore_training,
    save_state,
    tensor_file,
    tree_index,
)

from jupyter_axon_notebooks.errors import StateCorrupt
from jupyter_axon_notebooks.training.formats import Source, encode_model, encode_training
from jupyter_axon_notebooks.training.formats.arrays import encode_array
from jupyter_axon_notebooks.training.formats.tensor_files import BITS, TensorFile, open_tensors

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


def test_files_of_the_library_are_restored(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(save(ARRAYS, metadata={"format": "np", "epoch": "3"}))
    found = restore_model(str(path), None)
    target = {name: np.zeros_like(value) for name, value in ARRAYS.items()}
    restore_model(str(path), target)
    for name, value in ARRAYS.items():
        assert found[name].tobytes() == target[name].tobytes() == value.tobytes()


def test_tensors_are_aligned_to_their_item_size(tmp_path: Path) -> None:
    path = save_state(encode_training(None, ARRAYS), tmp_path)
    with open(path, "rb") as file:
        entries = open_tensors(Source(path, file)).entries.values()
    assert len(entries) > len(TYPES)
    assert all(entry.start % (BITS[entry.code] // 8) == 0 for entry in entries)


def test_chunks_are_not_copies_and_can_be_read_again() -> None:
    array = np.zeros(1 << 20)
    encoded = encode_model({"a": array})
    *_, chunk = encoded.chunks()
    array[0] = 1
    assert chunk.cast("d")[0] == 1
    assert b"".join(encoded.chunks()) == b"".join(encoded.chunks())


def test_a_header_that_is_too_long_is_refused() -> None:
    with pytest.raises(TypeError, match="keep long lists of numbers as arrays"):
        encode_training(None, "x" * 100_000_001)


def test_states_of_the_first_release_are_restored() -> None:
    tree = restore_model(str(OLD_STATES / "tree.safetensors"), None)
    first, second = tree["layers"]
    assert first["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second["w"].shape == (0, 3)
    assert first["b"] is second["b"]
    assert (first["b"].dtype, tree["scale"]) == (np.dtype("i2"), (2.5, np.array(True)))


# Invalid files


def tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def with_tree(tree: Any, version: Any = 1) -> bytes:
    return tensor_file({"a": tensor()}, axon=tree_index(tree, version))


ARRAY = {"$": "array", "name": "a"}
NESTED = "[" * 100_000 + "]" * 100_000
TWICE = b'{"a":%b,"a":%b}' % ((json.dumps(tensor()).encode(),) * 2)
DTYPE_TWICE = b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}'

INVALID: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "0 bytes long"),
    "short": (b"\1\2\3", "3 bytes long"),
    "long header": ((100).to_bytes(8, "little") + b"{}", "header should be 100 bytes"),
    "huge header": (b"\xff" * 8 + b"{}", "header should be 18,446,744,073,709,551,615"),
    "not JSON": (tensor_file(b"<html>", b""), "header is not JSON"),
    "not UTF-8": (tensor_file(b'{"\xff": 1}', b""), "header is not JSON"),
    "no object": (tensor_file(b"[]", b""), "not a JSON object"),
    "nested header": (tensor_file(NESTED.encode(), b""), "header is nested too deeply"),
    "long number": (tensor_file(b'{"a": ' + b"9" * 5000 + b"}", b""), "header is not JSON"),
    "name twice": (tensor_file(TWICE), "header has 'a' twice"),
    "key twice": (tensor_file(DTYPE_TWICE), "header has 'dtype' twice"),
    "metadata not text": (
        tensor_file({"a": tensor()}, axon={"version": 1}),
        "does not map names to st",
    ),
    "metadata list": (tensor_file(b'{"__metadata__":[]}', b""), "does not map names to st"),
    "unknown type": (tensor_file({"a": tensor("F33")}), "unknown type 'F33'"),
    "type list": (tensor_file({"a": tensor(["F32"])}), "unknown type"),
    "no type": (tensor_file({"a": {"shape": [2], "data_offsets": [0, 8]}}), "lacks the type"),
    "more keys": (tensor_file({"a": {**tensor(), "pickle": "x"}}), "lacks the type"),
    "tensor not an object": (tensor_file({"a": 3}), "lacks the type"),
    "negative shape": (tensor_file({"a": tensor(shape=(-2,))}), "not whole numbers"),
    "boolean shape": (tensor_file({"a": tensor(shape=(True, 2))}), "not whole numbers"),
    "float shape": (tensor_file({"a": tensor(shape=(2.0,))}), "not whole numbers"),
    "many dimensions": (tensor_file({"a": tensor(shape=(1,) * 65 + (2,))}), "not whole numbers"),
    "huge shape": (tensor_file({"a": tensor(shape=(1 << 62, 1 << 62))}), "but 8 bytes"),
    "three offsets": (tensor_file({"a": tensor(offsets=(0, 4, 8))}), "not whole numbers"),
    "offsets swapped": (tensor_file({"a": tensor(offsets=(8, 0))}), "but -8 bytes"),
    "wrong size": (tensor_file({"a": tensor(shape=(3,))}), "but 8 bytes"),
    "wrong type": (tensor_file({"a": tensor("F64")}), "but 8 bytes"),
    "beyond the end": (tensor_file({"a": tensor(shape=(4,), offsets=(0, 16))}), "truncated"),
    "truncated": (tensor_file({"a": tensor()}, bytes(7)), "truncated"),
    "overlap": (
        tensor_file({"a": tensor(), "b": tensor(offsets=(4, 12))}, bytes(12)),
        "tensor 'b' overlaps tensor 'a'",
    ),
    "same place": (tensor_file({"a": tensor(), "b": tensor()}), "overlaps"),
    "gap": (
        tensor_file({"a": tensor(), "b": tensor(offsets=(12, 20))}, bytes(20)),
        "gap between tensor 'a'",
    ),
    "gap at the start": (
        tensor_file({"a": tensor(offsets=(4, 12))}, bytes(12)),
        "gap between the header",
    ),
    "more at the end": (tensor_file({"a": tensor()}, bytes(9)), "1 bytes follow"),
    "index not JSON": (tensor_file({"a": tensor()}, axon="{"), "index is not JSON"),
    "index list": (tensor_file({"a": tensor()}, axon="[1]"), "no version or tree"),
    "no version": (tensor_file({"a": tensor()}, axon='{"tree": 1}'), "no version or tree"),
    "no tree": (tensor_file({"a": tensor()}, axon='{"version": 1}'), "no version or tree"),
    "boolean version": (with_tree(ARRAY, True), "no version or tree"),
    "version 0": (with_tree(ARRAY, 0), "no version or tree"),
    "newer version": (with_tree(ARRAY, 2), "from a newer version of this package; upgrade"),
    "tree twice": (
        tensor_file({"a": tensor()}, axon='{"version":1,"tree":1,"tree":2}'),
        "'tree' twice",
    ),
    "nested index": (
        tensor_file({"a": tensor()}, axon='{"version":1,"tree":' + NESTED + "}"),
        "nested too deeply",
    ),
    "nested tree": (with_tree(json.loads("[" * 90 + "]" * 90)), "more than 64 levels"),
    "nested tuples": (
        with_tree(json.loads('{"$":"tuple","items":[' * 80 + "]}" * 80)),
        "more than 64 levels",
    ),
    "missing tensor": (with_tree({"$": "array", "name": "b"}), "there is no tensor 'b'"),
    "unnamed tensor": (with_tree({"$": "array"}), "it has no key 'name'"),
    "name list": (with_tree({"$": "array", "name": ["a"]}), "there is no tensor"),
    "unused tensor": (with_tree([1, 2]), "does not mention tensor 'a'"),
    "objects": (with_tree({**ARRAY, "dtype": "O"}), "invalid value of kind 'array'"),
    "fields": (with_tree({**ARRAY, "dtype": "i4,i4"}), "are not read"),
    "no dtype": (
        with_tree({**ARRAY, "dtype": "nothing"}),
        "invalid value of kind 'array'|no type|not installed",
    ),
    "dtype number": (with_tree({**ARRAY, "dtype": 3}), "its type is 3"),
    "dtype of another size": (with_tree({**ARRAY, "dtype": "<c16"}), "which is no <c16"),
    "unknown kind": (with_tree({"$": "pickle", "value": "gASV"}), "'pickle': the kind is unknown"),
    "kind list": (with_tree({"$": ["tuple"]}), "the kind is unknown"),
    "tuple without items": (with_tree({"$": "tuple"}), "invalid value of kind 'tuple'"),
    "tuple of text": (with_tree({"$": "tuple", "items": "abc"}), "its items are not a list"),
    "set of lists": (with_tree({"$": "set", "items": [[1]]}), "invalid value of kind 'set'"),
    "dict of singles": (with_tree({"$": "dict", "items": [[1]]}), "invalid value of kind 'dict'"),
    "list as key": (with_tree({"$": "dict", "items": [[[], 1]]}), "invalid value of kind 'dict'"),
    "key of dict twice": (with_tree({"$": "dict", "items": [[1, 1], [1, 2]]}), "a key twice"),
    "default factory": (
        with_tree({"$": "defaultdict", "of": "eval", "items": []}),
        "invalid value of kind 'defaultdict'",
    ),
    "deque": (with_tree({"$": "deque", "items": [], "longest": "x"}), "of kind 'deque'"),
    "int of letters": (with_tree({"$": "int", "value": "xyz"}), "of kind 'int'"),
    "int of a float": (with_tree({"$": "int", "value": 1.5}), "expected text"),
    "short float": (with_tree({"$": "float", "value": "00"}), "of kind 'float'"),
    "bytes of letters": (with_tree({"$": "bytes", "value": "zz"}), "of kind 'bytes'"),
    "short scalar": (with_tree({"$": "scalar", "dtype": "<f8", "value": "00"}), "are no <f8"),
    "scalar of objects": (
        with_tree({"$": "scalar", "dtype": "O", "value": "00" * 8}),
        "are not read",
    ),
    "state of a number": (with_tree({"$": "state", "of": 3, "state": {}}), "expected text"),
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
        [],
        {"python": 1},
        {"python": {"$": "tuple", "items": [3, {"$": "tuple", "items": [1, 2]}, None]}},
        {"numpy": {"bit_generator": "MT19937"}},
        {"numpy": {"bit_generator": "__doc__", "state": {}}},
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
    for _ in range(3000):
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
    assert refused > 2000


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
