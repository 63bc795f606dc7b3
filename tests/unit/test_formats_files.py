"""Files are those the safetensors library writes and reads, and no other file is taken for one."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save
from support.state_files import written

from jupyter_axon_notebooks.errors import StateCorrupt
from jupyter_axon_notebooks.training.formats import (
    encode_model,
    encode_training,
    restore_model,
    restore_training,
)
from jupyter_axon_notebooks.training.formats.arrays import describe_array
from jupyter_axon_notebooks.training.formats.tensorfile import (
    BITS,
    TensorFile,
    open_tensors,
    reading,
)

NAMES = ["bool", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]


def arrays() -> dict[str, Any]:
    made = {name: np.arange(5).astype(name) for name in NAMES}
    return {
        **made,
        'λ "\\\n\x01\x7f/': np.ones((2, 0, 3)),
        "0-d": np.array(7),
        "Z": np.ones(3),
        "a": np.ones(1),
    }


def described(values: dict[str, Any]) -> TensorFile:
    return TensorFile({name: describe_array(value).tensor for name, value in values.items()}, {})


@pytest.mark.parametrize("count", range(len(arrays()) + 1))
def test_files_are_those_the_library_writes_to_the_last_bit(count: int) -> None:
    values = dict(list(arrays().items())[:count])
    assert b"".join(described(values).chunks()) == save(values)


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    path = written(encode_model({**arrays(), "transposed": np.arange(6).reshape(2, 3).T}), tmp_path)
    found = load_file(path)
    assert found["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    for name, value in arrays().items():
        assert found[name].dtype == value.dtype
        assert found[name].tobytes() == value.tobytes()
        assert found[name].shape == value.shape


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(save(arrays(), metadata={"format": "np", "epoch": "3"}))
    found = restore_model(str(path), None)
    target = {name: np.zeros_like(value) for name, value in arrays().items()}
    restore_model(str(path), target)
    for name, value in arrays().items():
        assert found[name].tobytes() == target[name].tobytes() == value.tobytes()


def test_each_tensor_lies_at_a_multiple_of_its_size(tmp_path: Path) -> None:
    path = written(encode_training(None, arrays()), tmp_path)
    with reading(path) as source:
        entries = open_tensors(source).entries.values()
    assert len(entries) > len(NAMES)
    assert all(entry.start % (BITS[entry.code] // 8) == 0 for entry in entries)


def test_nothing_is_copied_that_is_in_order() -> None:
    array = np.zeros(1 << 20)
    *_, chunk = encode_model({"a": array}).chunks()
    array[0] = 1
    assert chunk.cast("d")[0] == 1


def test_the_bytes_can_be_asked_for_again() -> None:
    encoded = encode_model(arrays())
    assert b"".join(encoded.chunks()) == b"".join(encoded.chunks())


def test_what_does_not_fit_into_a_header_is_refused() -> None:
    with pytest.raises(TypeError, match="keep long lists of numbers as arrays"):
        encode_training(None, "x" * 100_000_001)


# Files that are none


def header(tensors: Any, data: bytes = bytes(8), **metadata: Any) -> bytes:
    text = tensors
    if not isinstance(tensors, bytes):
        text = json.dumps({**({"__metadata__": metadata} if metadata else {}), **tensors}).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def index(tree: Any, version: Any = 1) -> str:
    return json.dumps({"version": version, "tree": tree})


def ours(tree: Any, version: Any = 1) -> bytes:
    return header({"a": tensor()}, axon=index(tree, version))


A = {"$": "array", "name": "a"}
DEEP = "[" * 100_000 + "]" * 100_000

BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "0 bytes long"),
    "short": (b"\1\2\3", "3 bytes long"),
    "header beyond the end": (
        (100).to_bytes(8, "little") + b"{}",
        "header is said to be 100 bytes",
    ),
    "header of exabytes": (b"\xff" * 8 + b"{}", "header is said to be 18,446,744,073,709,551,615"),
    "not JSON": (header(b"<html>", b""), "header is not JSON"),
    "not UTF-8": (header(b'{"\xff": 1}', b""), "header is not JSON"),
    "no object": (header(b"[]", b""), "no JSON object"),
    "header nested": (header(DEEP.encode(), b""), "header is nested too deeply"),
    "long number": (header(b'{"a": ' + b"9" * 5000 + b"}", b""), "header is not JSON"),
    "name twice": (
        header(b'{"a":%b,"a":%b}' % ((json.dumps(tensor()).encode(),) * 2)),
        "header has 'a' twice",
    ),
    "key twice": (
        header(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
        "header has 'dtype' twice",
    ),
    "metadata no text": (header({"a": tensor()}, axon={"version": 1}), "not texts"),
    "metadata a list": (header(b'{"__metadata__":[]}', b""), "not texts"),
    "unknown type": (header({"a": tensor("F33")}), "unknown type 'F33'"),
    "type a list": (header({"a": tensor(["F32"])}), "unknown type"),
    "no type": (header({"a": {"shape": [2], "data_offsets": [0, 8]}}), "does not say"),
    "more than that": (header({"a": {**tensor(), "pickle": "x"}}), "does not say"),
    "no dict": (header({"a": 3}), "does not say"),
    "negative shape": (header({"a": tensor(shape=(-2,))}), "not whole numbers"),
    "shape of truths": (header({"a": tensor(shape=(True, 2))}), "not whole numbers"),
    "shape of halves": (header({"a": tensor(shape=(2.0,))}), "not whole numbers"),
    "shape of many": (header({"a": tensor(shape=(1,) * 65 + (2,))}), "not whole numbers"),
    "shape beyond numbers": (header({"a": tensor(shape=(1 << 62, 1 << 62))}), "but has 8 bytes"),
    "three offsets": (header({"a": tensor(offsets=(0, 4, 8))}), "not whole numbers"),
    "backwards": (header({"a": tensor(offsets=(8, 0))}), "but has -8 bytes"),
    "wrong size": (header({"a": tensor(shape=(3,))}), "but has 8 bytes"),
    "wrong type": (header({"a": tensor("F64")}), "but has 8 bytes"),
    "beyond the end": (header({"a": tensor(shape=(4,), offsets=(0, 16))}), "cut short"),
    "cut short": (header({"a": tensor()}, bytes(7)), "cut short"),
    "overlap": (
        header({"a": tensor(), "b": tensor(offsets=(4, 12))}, bytes(12)),
        "tensor 'b' overlaps tensor 'a'",
    ),
    "the same twice": (header({"a": tensor(), "b": tensor()}), "overlaps"),
    "gap": (
        header({"a": tensor(), "b": tensor(offsets=(12, 20))}, bytes(20)),
        "gap between tensor 'a'",
    ),
    "gap at the start": (
        header({"a": tensor(offsets=(4, 12))}, bytes(12)),
        "gap between the header",
    ),
    "more at the end": (header({"a": tensor()}, bytes(9)), "1 bytes follow"),
    "index not JSON": (header({"a": tensor()}, axon="{"), "index is not JSON"),
    "index no object": (header({"a": tensor()}, axon="[1]"), "none of ours"),
    "index without version": (header({"a": tensor()}, axon='{"tree": 1}'), "none of ours"),
    "index without tree": (header({"a": tensor()}, axon='{"version": 1}'), "none of ours"),
    "index of truth": (ours(A, True), "none of ours"),
    "index of version 0": (ours(A, 0), "none of ours"),
    "index of a newer version": (ours(A, 2), "from a newer version of this package; upgrade"),
    "index twice": (
        header({"a": tensor()}, axon='{"version":1,"tree":1,"tree":2}'),
        "'tree' twice",
    ),
    "index nested": (
        header({"a": tensor()}, axon='{"version":1,"tree":' + DEEP + "}"),
        "nested too deeply",
    ),
    "tree nested": (ours(json.loads("[" * 90 + "]" * 90)), "more than 64 levels"),
    "tree of tuples": (
        ours(json.loads('{"$":"tuple","items":[' * 80 + "]}" * 80)),
        "more than 64 levels",
    ),
    "tensor not there": (ours({"$": "array", "name": "b"}), "there is no tensor 'b'"),
    "tensor without name": (ours({"$": "array"}), "nothing under 'name'"),
    "tensor named by a list": (ours({"$": "array", "name": ["a"]}), "there is no tensor"),
    "tensor not mentioned": (ours([1, 2]), "does not mention tensor 'a'"),
    "tensor of objects": (ours({**A, "dtype": "O"}), "array that is none"),
    "tensor of fields": (ours({**A, "dtype": "i4,i4"}), "are not read"),
    "tensor of nothing": (
        ours({**A, "dtype": "nothing"}),
        "has a array that is none|no type|not installed",
    ),
    "tensor of a number": (ours({**A, "dtype": 3}), "its type is 3"),
    "tensor of another size": (ours({**A, "dtype": "<c16"}), "which is no <c16"),
    "unknown kind": (ours({"$": "pickle", "value": "gASV"}), "unknown kind 'pickle'"),
    "kind a list": (ours({"$": ["tuple"]}), "unknown kind"),
    "tuple without items": (ours({"$": "tuple"}), "a tuple that is none"),
    "tuple of text": (ours({"$": "tuple", "items": "abc"}), "its items are no list"),
    "set of lists": (ours({"$": "set", "items": [[1]]}), "a set that is none"),
    "dict of singles": (ours({"$": "dict", "items": [[1]]}), "a dict that is none"),
    "dict of lists": (ours({"$": "dict", "items": [[[], 1]]}), "a dict that is none"),
    "dict with a key twice": (ours({"$": "dict", "items": [[1, 1], [1, 2]]}), "a key twice"),
    "dict of anything": (
        ours({"$": "defaultdict", "of": "eval", "items": []}),
        "a defaultdict that is none",
    ),
    "deque of text": (ours({"$": "deque", "items": [], "longest": "x"}), "a deque that is none"),
    "int of letters": (ours({"$": "int", "value": "xyz"}), "an? int that is none"),
    "int of a float": (ours({"$": "int", "value": 1.5}), "expected text"),
    "float too short": (ours({"$": "float", "value": "00"}), "a float that is none"),
    "bytes of letters": (ours({"$": "bytes", "value": "zz"}), "a bytes that is none"),
    "number too short": (
        ours({"$": "scalar", "dtype": "<f8", "value": "00"}),
        "1 bytes are no <f8",
    ),
    "number of objects": (ours({"$": "scalar", "dtype": "O", "value": "00" * 8}), "are not read"),
    "state of nothing": (ours({"$": "state", "of": 3, "state": {}}), "expected text"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_made_to_do_harm_is_refused_by_name(name: str, tmp_path: Path) -> None:
    content, reason = BAD[name]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    target = {"a": np.zeros(2, "f4")}
    restores: list[Callable[[], Any]] = [
        lambda: restore_model(str(path), None),
        lambda: restore_model(str(path), target),
        lambda: restore_training(str(path), None, None, rng=True),
    ]
    for restore in restores:
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
def test_states_of_random_generators_that_are_none_are_refused(states: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(
        header({}, b"", axon=index({"optimizer": None, "extra": {"a": 1}, "rng": states}))
    )
    before = random.getstate()
    target = {"a": 0}
    with pytest.raises(StateCorrupt, match="random generators"):
        restore_training(str(path), None, target, rng=True)
    assert target == {"a": 0}
    assert random.getstate() == before


def test_a_model_is_not_taken_for_a_training(tmp_path: Path) -> None:
    path = written(encode_model({"a": np.ones(2)}), tmp_path)
    with pytest.raises(StateCorrupt, match="not the state of a training"):
        restore_training(path, None, None, rng=True)


def test_whatever_is_done_to_a_file_is_refused_where_the_library_refuses_it(tmp_path: Path) -> None:
    """And nothing else than a refusal comes of it, nor is a number read from where there is none."""
    chance = random.Random(7)
    whole = b"".join(
        encode_model(
            {"a": np.arange(3.0), "b": [np.arange(4, dtype="i2")], "c": (1, b"x")}
        ).chunks()
    )
    path = tmp_path / "mutated.safetensors"
    length = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for _ in range(3000):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            at = (
                chance.randrange(length)
                if chance.random() < 0.95
                else chance.randrange(len(content))
            )
            match chance.randrange(4):
                case 0:
                    content[at] = chance.randrange(256)
                case 1:
                    content[at : at + 1] = chance.choice(
                        [b'"', b"{", b"[", b"9", b"-", b"1e9", b"null", b","]
                    )
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
            pytest.fail(f"read what the library refuses: {error}: {bytes(content)!r}")
    assert refused > 2000


def test_neither_numpy_nor_a_framework_is_imported_for_values_of_python(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from jupyter_axon_notebooks.training.formats import encode_training, restore_training
path = Path(sys.argv[1])
encoded = encode_training(None, {"epoch": (1, 2.5)})
path.write_bytes(b"".join(encoded.chunks()))
assert restore_training(str(path), None, None, rng=True).extra == {"epoch": (1, 2.5)}
print([name for name in ("numpy", "torch", "sklearn", "skops", "safetensors") if name in sys.modules])
"""
    command = [sys.executable, "-c", script, tmp_path / "state"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "[]\n"
