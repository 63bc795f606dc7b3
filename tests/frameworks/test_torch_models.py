"""The file of a module is its state dict, which other programs read, restored bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from support.state_files import restore_model, save_state
from torch import nn

from jupyter_axon_notebooks.errors import InvalidData, StateCorrupt
from jupyter_axon_notebooks.training.formats import encode_model
from jupyter_axon_notebooks.training.formats.arrays import encode_tensor
from jupyter_axon_notebooks.training.formats.tensor_files import TensorFile

TYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
TYPES += ["float16", "bfloat16", "float32", "float64", "complex64"]
TYPES += ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
PAIRS = "float4_e2m1fn_x2"


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def octets(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return plain.view(-1).view(torch.uint8).numpy().tobytes()


def are_equal(one: Any, other: Any) -> bool:
    """Return whether two modules or state dicts have equal tensors under equal names."""
    states = [
        value.state_dict() if isinstance(value, nn.Module) else value for value in (one, other)
    ]
    first, second = ({name: octets(value) for name, value in state.items()} for state in states)
    return first == second


def make_file(metadata: dict[str, str], **tensors: torch.Tensor) -> bytes:
    encoded = {name: encode_tensor(tensor).tensor for name, tensor in tensors.items()}
    return b"".join(TensorFile(encoded, metadata).chunks())


def test_other_programs_read_the_file(tmp_path: Path) -> None:
    model, other = network(1), network(2)
    loaded = safetensors.torch.load_file(save_state(encode_model(model), tmp_path))
    other.load_state_dict(loaded)
    assert are_equal(other, model)


def test_a_module_is_restored_in_place(tmp_path: Path) -> None:
    def identities(model: nn.Module) -> dict[str, Any]:
        tensors = [*model.named_parameters(), *model.named_buffers()]
        return {name: (id(value), value.data_ptr()) for name, value in tensors}

    model, other = network(1), network(2)
    model(torch.randn(4, 1, 4, 4))
    before = identities(other)
    frozen = next(other.parameters()).requires_grad_(False)
    assert restore_model(save_state(encode_model(model), tmp_path), other) is other
    assert are_equal(other, model)
    assert identities(other) == before
    assert not frozen.requires_grad
    assert other[3].weight.requires_grad


def test_without_a_model_the_state_dict_is_returned(tmp_path: Path) -> None:
    model = network(1)
    path = Path(save_state(encode_model(model), tmp_path))
    state = restore_model(str(path), None)
    assert list(state) == list(model.state_dict())
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert are_equal(state, model)  # not a view of the file
    restore_model(save_state(encode_model(model.state_dict()), tmp_path), other := network(2))
    assert are_equal(other, model)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.parametrize("name", [*TYPES, "complex128", "complex32", PAIRS])
def test_tensors_of_every_type_and_layout_are_restored(name: str, tmp_path: Path) -> None:
    dtype = getattr(torch, name)
    # All patterns of bits, including NaNs with a payload.
    raw = torch.arange(1536).mul(37).remainder(2 if name == "bool" else 256).to(torch.uint8)
    whole = raw.view(dtype).view(6, -1)
    layouts = {
        "whole": whole,
        "transposed": whole.t(),
        "sliced": whole[1::2, 1:],
        "broadcast": whole[:1].expand(4, -1),
        "strided": whole[:, ::3],
        "empty": whole[:0],
        "no columns": whole[:, :0],
        "parameter": nn.Parameter(whole, requires_grad=dtype.is_floating_point),
    }
    if name != PAIRS:
        layouts["0-d"] = whole[0, 0]
    if dtype.is_complex:
        layouts |= {"conjugate": whole.conj(), "imaginary": whole.conj().imag}
    path = save_state(encode_model(layouts), tmp_path)
    restored = restore_model(path, None)
    for layout, tensor in layouts.items():
        found = restored[layout]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), layout
        assert octets(found) == octets(tensor), layout
        assert found.requires_grad == tensor.requires_grad, layout
        assert type(found) is type(tensor), layout
    target = {
        layout: torch.empty_like(tensor.detach(), memory_format=torch.contiguous_format)
        for layout, tensor in layouts.items()
    }
    restore_model(path, target)
    assert are_equal(target, layouts)


@pytest.mark.parametrize("name", [*TYPES, PAIRS])
def test_files_equal_those_of_the_library(name: str) -> None:
    tensor = torch.arange(64, dtype=torch.uint8).remainder(2).view(getattr(torch, name)).view(2, -1)
    theirs = safetensors.torch.save({"a": tensor, "b": tensor[:0]}, {"format": "pt"})
    assert make_file({"format": "pt"}, a=tensor, b=tensor[:0]) == theirs


def test_types_have_the_order_of_the_library() -> None:
    octet = torch.zeros(8, dtype=torch.uint8)
    tensors = {name: octet.clone().view(getattr(torch, name)) for name in [*TYPES, PAIRS]}
    assert make_file({}, **tensors) == safetensors.torch.save(tensors)


# Tied tensors and views


class Tied(nn.Module):
    def __init__(self, *, is_tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 8)
        self.head = nn.Linear(8, 100, bias=False)
        if is_tied:
            self.head.weight = self.embedding.weight


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path: Path) -> None:
    model, other, theirs, untied = Tied(), Tied(), Tied(), Tied(is_tied=False)
    encoded = encode_model(model)
    assert encoded.size < 1.5 * 100 * 8 * 4
    path = save_state(encoded, tmp_path)
    restore_model(path, other)
    assert other.head.weight is other.embedding.weight
    state = restore_model(path, None)
    assert state["head.weight"] is state["embedding.weight"]
    assert safetensors.torch.load_model(theirs, path) == (set(), [])
    restore_model(path, untied)
    assert untied.head.weight is not untied.embedding.weight
    assert all(are_equal(one, model) for one in (other, theirs, untied))


def test_files_with_tensors_that_others_tied_are_restored(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    safetensors.torch.save_model(model, str(tmp_path / "theirs"))
    restore_model(str(tmp_path / "theirs"), other)
    assert are_equal(other, model)


def test_tied_tensors_cannot_have_different_values(tmp_path: Path) -> None:
    path = save_state(encode_model(Tied(is_tied=False)), tmp_path)
    reason = r"embedding.weight and head.weight are one tensor, but differ"
    with pytest.raises(InvalidData, match=reason):
        restore_model(path, Tied())


def test_overlapping_views_are_restored_apart(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    views = {"whole": whole, "first": whole[:6], "last": whole[4:]}
    views |= {"matrix": whole.view(2, 5), "transposed": whole.view(5, 2).t()}
    restored = restore_model(save_state(encode_model(views), tmp_path), None)
    assert are_equal(restored, views)
    assert len({tensor.data_ptr() for tensor in restored.values()}) == len(views)


# Names


def compile_a_part(model: nn.Sequential) -> nn.Module:
    return nn.Sequential(model[0], torch.compile(model[1]), *model[2:])


WRAPPERS: list[Callable[[Any], Any]] = [
    lambda model: model,
    nn.DataParallel,
    torch.compile,
    lambda model: torch.compile(nn.DataParallel(model)),
    lambda model: nn.DataParallel(torch.compile(model)),
    compile_a_part,
    lambda model: nn.DataParallel(compile_a_part(model)),
]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_names_do_not_depend_on_wrappers(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    plain = network(1)
    path = save_state(encode_model(wrap(network(1))), tmp_path)
    assert are_equal(restore_model(path, None), plain)
    for wrap_other in WRAPPERS:
        target = wrap_other(network(2))
        restore_model(path, target)
        values = dict(zip(plain.state_dict(), target.state_dict().values(), strict=True))
        assert are_equal(values, plain)


def test_names_like_those_of_wrappers_are_kept(tmp_path: Path) -> None:
    model = nn.ModuleDict({"module": nn.Linear(1, 1), "_orig_mod": nn.Linear(1, 1)})
    state = restore_model(save_state(encode_model(model), tmp_path), None)
    assert state.keys() == model.state_dict().keys()


# Mismatches


@pytest.mark.parametrize(
    ("other", "reasons"),
    [
        (
            nn.Linear(2, 3),
            ["weight is float32 (3, 2), in the checkpoint float32 (2, 2)", "bias is float32 (3,)"],
        ),
        (nn.Linear(2, 2, bias=False), ["has bias, which the model does not have"]),
        (nn.Bilinear(2, 2, 2), ["weight is float32 (2, 2, 2), in the checkpoint float32 (2, 2)"]),
        (nn.Linear(2, 2).double(), ["weight is float64 (2, 2), in the checkpoint float32 (2, 2)"]),
        (nn.Linear(2, 2).bfloat16(), ["weight is bfloat16 (2, 2)"]),
        (
            nn.PReLU(2),
            ["weight is float32 (2,), in the checkpoint float32 (2, 2)", "has bias, which"],
        ),
        (
            nn.ModuleDict({"0": nn.Linear(2, 2)}),
            ["missing 0.weight, 0.bias", "has weight, bias, which"],
        ),
    ],
)
def test_a_mismatch_is_named_and_changes_nothing(
    other: nn.Module, reasons: list[str], tmp_path: Path
) -> None:
    path = save_state(encode_model(nn.Linear(2, 2)), tmp_path)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(InvalidData) as refused:
        restore_model(path, other)
    assert all(reason in str(refused.value) for reason in reasons), refused.value
    assert are_equal(other, before)


def test_arrays_of_numpy_are_not_restored_into_a_module(tmp_path: Path) -> None:
    arrays = {"weight": np.ones((1, 1), "f4"), "bias": np.ones(1, "f4")}
    path = save_state(encode_model(arrays), tmp_path)
    with pytest.raises(InvalidData, match="weight is float32"):
        restore_model(path, nn.Linear(1, 1))


def test_a_truncated_file_changes_nothing(tmp_path: Path) -> None:
    path = Path(save_state(encode_model(network(1)), tmp_path))
    path.write_bytes(path.read_bytes()[:-1])
    other = network(2)
    with pytest.raises(StateCorrupt, match="truncated"):
        restore_model(str(path), other)
    assert are_equal(other, network(2))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.ones(2, device="meta"), "on the meta device"),
        (torch.eye(2).to_sparse(), "a sparse_coo tensor"),
        (torch.zeros(8, dtype=torch.uint8).view(torch.bits8), "type bits8"),
    ],
)
def test_tensors_without_plain_memory_are_refused(tensor: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason) as refused:
        encode_model({"w": [tensor]})
    assert 'model["w"][0]' in str(refused.value)


# Other modules


class Remembering(nn.Linear):
    """A module with more than tensors in its state."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.seen: Any = {"batches": 0, "weight": torch.zeros(2)}

    def get_extra_state(self) -> Any:
        return self.seen

    def set_extra_state(self, state: Any) -> None:
        self.seen = state


def test_extra_state_of_modules_is_restored(tmp_path: Path) -> None:
    model, other = nn.Sequential(Remembering()), nn.Sequential(Remembering())
    model[0].seen = {"batches": 3, "weight": torch.ones(2), "names": ("a",)}
    path = Path(save_state(encode_model(model), tmp_path))
    restore_model(str(path), other)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert other[0].seen["weight"].tolist() == [1, 1]  # not a view of the file
    assert (other[0].seen["batches"], other[0].seen["names"]) == (3, ("a",))


def test_lazy_modules_are_restored_but_not_saved(tmp_path: Path) -> None:
    model, lazy = nn.Linear(3, 2), nn.LazyLinear(2)
    with pytest.raises(TypeError, match=r'model\["weight"\]: .*no values yet'):
        encode_model(lazy)
    restore_model(save_state(encode_model(model), tmp_path), lazy)
    assert are_equal(lazy, model)


def test_several_modules_are_one_model(tmp_path: Path) -> None:
    models = {"generator": network(1), "critics": [network(2), network(3)]}
    target: dict[str, Any] = {"generator": network(4), "critics": [network(5), network(6)]}
    path = save_state(encode_model(models), tmp_path)
    assert restore_model(path, target) is target
    assert are_equal(target["critics"][1], network(3))
    assert are_equal(restore_model(path, None)["generator"], network(1))
    target["critics"][1] = nn.Linear(1, 1)
    reason = r"model\['critics'\]\[1\]: the checkpoint is missing weight"
    with pytest.raises(InvalidData, match=reason):
        restore_model(path, target)


def test_tensors_are_read_when_they_are_written() -> None:
    tensor = torch.zeros(8, 4).t()
    chunks = encode_model({"a": tensor, "b": torch.zeros(3)}).chunks()
    next(chunks)
    tensor[0, 0] = 7
    assert next(chunks).cast("f")[0] == 7
