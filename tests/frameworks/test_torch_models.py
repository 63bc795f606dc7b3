"""A module's file is its state dict, for every program; what is restored is what was kept, to the last bit."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from support.state_files import save_state
from torch import nn

from jupyter_axon_notebooks.errors import InvalidData, StateCorrupt
from jupyter_axon_notebooks.training.formats import encode_model, restore_model
from jupyter_axon_notebooks.training.formats.arrays import encode_tensor
from jupyter_axon_notebooks.training.formats.tensor_files import TensorFile

DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
DTYPES += ["float16", "bfloat16", "float32", "float64", "complex64"]
DTYPES += ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
#: Types the format has none for.
OWN = ["complex128", "complex32"]
PAIRS = "float4_e2m1fn_x2"


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def octets(tensor: torch.Tensor) -> bytes:
    return (
        tensor.detach()
        .resolve_conj()
        .resolve_neg()
        .contiguous()
        .view(-1)
        .view(torch.uint8)
        .numpy()
        .tobytes()
    )


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        octets(one[name]) == octets(other[name]) for name in one
    )


def test_other_programs_load_the_file_without_us(tmp_path: Path) -> None:
    model, other = network(1), network(2)
    loaded = safetensors.torch.load_file(save_state(encode_model(model), tmp_path))
    assert same(loaded, dict(sorted(model.state_dict().items())) | loaded)
    other.load_state_dict(loaded)
    assert same(other.state_dict(), model.state_dict())


def test_a_module_is_restored_in_place_and_stays_the_same_objects(tmp_path: Path) -> None:
    model, other = network(1), network(2)
    model(torch.randn(4, 1, 4, 4))
    before = {
        name: id(value) for name, value in [*other.named_parameters(), *other.named_buffers()]
    }
    memory = {name: value.data_ptr() for name, value in other.state_dict().items()}
    frozen = next(other.parameters()).requires_grad_(False)
    assert restore_model(save_state(encode_model(model), tmp_path), other) is other
    assert same(other.state_dict(), model.state_dict())
    assert {
        name: id(value) for name, value in [*other.named_parameters(), *other.named_buffers()]
    } == before
    assert {name: value.data_ptr() for name, value in other.state_dict().items()} == memory
    assert not frozen.requires_grad
    assert other[3].weight.requires_grad


def test_without_a_model_the_state_dict_comes_back(tmp_path: Path) -> None:
    model = network(1)
    path = Path(save_state(encode_model(model), tmp_path))
    state = restore_model(str(path), None)
    assert same(state, dict(model.state_dict()))
    assert list(state) == list(model.state_dict())
    with path.open("r+b") as file:  # what was returned is in memory of its own
        file.write(bytes(path.stat().st_size))
    assert same(state, dict(model.state_dict()))


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.parametrize("name", [*DTYPES, *OWN, PAIRS])
def test_every_type_and_layout_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    dtype = getattr(torch, name)
    # All patterns of bits, those of NaNs with a payload among them.
    raw = torch.arange(1536).mul(37).remainder(2 if name == "bool" else 256).to(torch.uint8)
    whole = raw.view(dtype).view(6, -1)
    forms = {
        "whole": whole,
        "transposed": whole.t(),
        "sliced": whole[1::2, 1:],
        "broadcast": whole[:1].expand(4, -1),
        "strided": whole[:, ::3],
        "empty": whole[:0],
        "empty too": whole[:, :0],
        "parameter": nn.Parameter(whole, requires_grad=dtype.is_floating_point),
    }
    if name != PAIRS:
        forms["0-d"] = whole[0, 0]
    if dtype.is_complex:
        forms |= {"conjugate": whole.conj(), "imaginary": whole.conj().imag}
    path = save_state(encode_model(forms), tmp_path)
    back = restore_model(path, None)
    for form, tensor in forms.items():
        assert (back[form].dtype, back[form].shape) == (tensor.dtype, tensor.shape), form
        assert octets(back[form]) == octets(tensor), form
        assert back[form].requires_grad == tensor.requires_grad, form
        assert type(back[form]) is type(tensor), form
    target = {
        form: torch.empty_like(tensor.detach(), memory_format=torch.contiguous_format)
        for form, tensor in forms.items()
    }
    restore_model(path, target)
    assert all(octets(target[form]) == octets(tensor) for form, tensor in forms.items())


@pytest.mark.parametrize("name", [*DTYPES, PAIRS])
def test_the_file_of_every_type_is_the_librarys_to_the_last_bit(name: str) -> None:
    tensor = torch.arange(64, dtype=torch.uint8).remainder(2).view(getattr(torch, name)).view(2, -1)
    ours = TensorFile(
        {"a": encode_tensor(tensor).tensor, "b": encode_tensor(tensor[:0]).tensor},
        {"format": "pt"},
    )
    theirs = safetensors.torch.save({"a": tensor, "b": tensor[:0]}, {"format": "pt"})
    assert b"".join(ours.chunks()) == theirs


def test_types_in_one_file_come_in_the_librarys_order() -> None:
    tensors = {
        name: torch.zeros(8, dtype=torch.uint8).view(getattr(torch, name))
        for name in [*DTYPES, PAIRS]
    }
    ours = TensorFile({name: encode_tensor(tensor).tensor for name, tensor in tensors.items()}, {})
    assert b"".join(ours.chunks()) == safetensors.torch.save(tensors)


class Tied(nn.Module):
    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 8)
        self.head = nn.Linear(8, 100, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    encoded = encode_model(model)
    assert encoded.size < 1.5 * 100 * 8 * 4
    path = save_state(encoded, tmp_path)
    restore_model(path, other)
    assert other.head.weight is other.embedding.weight
    assert same(other.state_dict(), model.state_dict())
    state = restore_model(path, None)
    assert state["head.weight"] is state["embedding.weight"]
    missing, unexpected = safetensors.torch.load_model(theirs := Tied(), path)
    assert not missing
    assert not unexpected
    assert same(theirs.state_dict(), model.state_dict())
    apart = Tied(tied=False)
    restore_model(path, apart)
    assert same(apart.state_dict(), model.state_dict())
    assert apart.head.weight is not apart.embedding.weight


def test_a_file_that_others_tied_is_restored(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    safetensors.torch.save_model(model, str(tmp_path / "theirs"))
    restore_model(str(tmp_path / "theirs"), other)
    assert same(other.state_dict(), model.state_dict())


def test_what_is_tied_cannot_take_values_that_differ(tmp_path: Path) -> None:
    path = save_state(encode_model(Tied(tied=False)), tmp_path)
    with pytest.raises(
        InvalidData, match=r"embedding.weight and head.weight are one tensor, but differ"
    ):
        restore_model(path, Tied())


def test_views_that_overlap_in_part_are_stored_on_their_own(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    views = {
        "whole": whole,
        "first": whole[:6],
        "last": whole[4:],
        "matrix": whole.view(2, 5),
        "turned": whole.view(5, 2).t(),
    }
    back = restore_model(save_state(encode_model(views), tmp_path), None)
    assert all(torch.equal(back[name], view) for name, view in views.items())
    assert len({tensor.data_ptr() for tensor in back.values()}) == len(views)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_names_are_plain_in_whatever_a_module_is_wrapped(tmp_path: Path) -> None:
    def compiled_within(model: nn.Sequential) -> nn.Module:
        return nn.Sequential(model[0], torch.compile(model[1]), *model[2:])

    wrappers = [
        lambda model: model,
        nn.DataParallel,
        torch.compile,
        lambda model: torch.compile(nn.DataParallel(model)),
        lambda model: nn.DataParallel(torch.compile(model)),
        compiled_within,
        lambda model: nn.DataParallel(compiled_within(model)),
    ]
    plain = network(1)
    for number, wrap in enumerate(wrappers):
        path = save_state(encode_model(wrap(network(1))), tmp_path, str(number))
        assert same(restore_model(path, None), dict(plain.state_dict()))
        for other in wrappers:
            target = other(network(2))
            restore_model(path, target)
            assert same(
                dict(zip(plain.state_dict(), target.state_dict().values(), strict=True)),
                dict(plain.state_dict()),
            )


def test_a_name_that_only_looks_like_a_wrapper_stays(tmp_path: Path) -> None:
    model = nn.ModuleDict({"module": nn.Linear(1, 1), "_orig_mod": nn.Linear(1, 1)})
    assert (
        restore_model(save_state(encode_model(model), tmp_path), None).keys()
        == model.state_dict().keys()
    )


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
        (nn.PReLU(2), ["missing", "has bias"]),
        (
            nn.ModuleDict({"0": nn.Linear(2, 2)}),
            ["missing 0.weight, 0.bias", "has weight, bias, which"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_nothing_changes(
    other: nn.Module, reasons: list[str], tmp_path: Path
) -> None:
    path = save_state(encode_model(nn.Linear(2, 2)), tmp_path)
    before = {name: octets(value) for name, value in other.state_dict().items()}
    if isinstance(other, nn.PReLU):
        reasons = [
            "weight is float32 (2,), in the checkpoint float32 (2, 2)",
            "has bias, which the model does not have",
        ]
    with pytest.raises(InvalidData) as refused:
        restore_model(path, other)
    assert all(reason in str(refused.value) for reason in reasons), refused.value
    assert {name: octets(value) for name, value in other.state_dict().items()} == before


class Remembers(nn.Linear):
    """A module with more than tensors in its state."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.seen: Any = {"batches": 0, "weight": torch.zeros(2)}

    def get_extra_state(self) -> Any:
        return self.seen

    def set_extra_state(self, state: Any) -> None:
        self.seen = state


def test_extra_state_of_modules_is_kept_and_is_nobody_elses(tmp_path: Path) -> None:
    model, other = nn.Sequential(Remembers()), nn.Sequential(Remembers())
    model[0].seen = {"batches": 3, "weight": torch.ones(2), "names": ("a",)}
    path = Path(save_state(encode_model(model), tmp_path))
    restore_model(str(path), other)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert other[0].seen["weight"].tolist() == [1, 1]
    assert (other[0].seen["batches"], other[0].seen["names"]) == (3, ("a",))


def test_lazy_modules_are_restored_and_only_kept_once_they_have_values(tmp_path: Path) -> None:
    model, lazy = nn.Linear(3, 2), nn.LazyLinear(2)
    with pytest.raises(TypeError, match=r'model\["weight"\]: .*no values yet'):
        encode_model(lazy)
    restore_model(save_state(encode_model(model), tmp_path), lazy)
    assert same(lazy.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.ones(2, device="meta"), "on the meta device"),
        (torch.eye(2).to_sparse(), "a sparse_coo tensor"),
        (torch.zeros(8, dtype=torch.uint8).view(torch.bits8), "type bits8"),
    ],
)
def test_tensors_that_are_no_block_of_numbers_are_refused(tensor: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason) as refused:
        encode_model({"w": [tensor]})
    assert 'model["w"][0]' in str(refused.value)


def test_several_modules_by_name_are_one_model(tmp_path: Path) -> None:
    models = {"generator": network(1), "critics": [network(2), network(3)]}
    target: dict[str, Any] = {"generator": network(4), "critics": [network(5), network(6)]}
    path = save_state(encode_model(models), tmp_path)
    assert restore_model(path, target) is target
    assert same(target["critics"][1].state_dict(), models["critics"][1].state_dict())
    assert same(restore_model(path, None)["generator"], dict(models["generator"].state_dict()))
    target["critics"][1] = nn.Linear(1, 1)
    with pytest.raises(
        InvalidData, match=r"model\['critics'\]\[1\]: the checkpoint is missing weight"
    ):
        restore_model(path, target)


def test_a_state_dict_is_a_model_too(tmp_path: Path) -> None:
    model, other = network(1), network(2)
    path = save_state(encode_model(model.state_dict()), tmp_path)
    restore_model(path, other.state_dict())
    assert same(other.state_dict(), model.state_dict())
    restore_model(path, network(3))


def test_arrays_of_numpy_are_not_put_into_a_module(tmp_path: Path) -> None:
    path = save_state(
        encode_model({"weight": np.ones((1, 1), "f4"), "bias": np.ones(1, "f4")}), tmp_path
    )
    with pytest.raises(InvalidData, match="weight is float32"):
        restore_model(path, nn.Linear(1, 1))


def test_the_numbers_are_read_when_their_turn_comes_and_let_go_after() -> None:
    tensor = torch.zeros(8, 4).t()
    encoded = encode_model({"a": tensor, "b": torch.zeros(3)})
    chunks = encoded.chunks()
    next(chunks)
    tensor[0, 0] = 7
    assert next(chunks).cast("f")[0] == 7
    del chunks
    gc.collect()


def test_a_file_cut_short_leaves_the_module_alone(tmp_path: Path) -> None:
    model, other = network(1), network(2)
    path = Path(save_state(encode_model(model), tmp_path))
    path.write_bytes(path.read_bytes()[:-1])
    before = {name: octets(value) for name, value in other.state_dict().items()}
    with pytest.raises(StateCorrupt, match="truncated"):
        restore_model(str(path), other)
    assert {name: octets(value) for name, value in other.state_dict().items()} == before
