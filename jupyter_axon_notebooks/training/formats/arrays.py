"""NumPy arrays and PyTorch tensors, as a safetensors file has them.

What the format has a type for is stored under it, so that others can read it. What it has none for (``complex128``,
dates, texts) is stored as plain bytes with one more dimension, and the value's own type is noted beside it. Neither
framework is imported unless one of its arrays is met.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

from . import sharding
from .tensorfile import Entry, OpenedFile, Tensor

#: The format's types, by the name NumPy (with ml_dtypes) and PyTorch have in common for them.
_CODES: Final = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "complex64": "C64",
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
}
_NAMES: Final = {code: name for name, code in _CODES.items()}
#: Two of these in each byte: PyTorch counts the bytes, the format the numbers.
_PAIRS: Final = "float4_e2m1fn_x2"
#: Of torch's types, those that hold plain numbers and have no code.
_TORCH_RAW: Final = frozenset({"complex32", "complex128"})
#: Packages whose arrays have labels, which the numbers alone would lose.
_LABELLED: Final = frozenset({"pandas", "polars", "xarray"})


class Described(NamedTuple):
    """How an array is stored.

    ``note`` is its own type where the file's does not tell it, and ``identity`` the same for two names of one array: equal
    memory, shape, strides and type.
    """

    tensor: Tensor
    note: str | None
    identity: tuple[Any, ...] | None


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a PyTorch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """Whether ``value`` is a NumPy array, or an array of another framework that NumPy can read, as JAX's."""
    numpy = sys.modules.get("numpy")
    if numpy is None or isinstance(value, type) or is_scalar(value) or is_tensor(value):
        return False
    if isinstance(value, numpy.ndarray):
        return True
    if type(value).__module__.partition(".")[0] in _LABELLED:
        return False
    return all(hasattr(value, name) for name in ("__array__", "dtype", "shape"))


def is_key(value: Any) -> bool:
    """Whether ``value`` is an array of JAX's keys, as ``jax.random.key`` makes it."""
    jax = sys.modules.get("jax")
    return (
        jax is not None
        and isinstance(value, jax.Array)
        and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    )


def key_parts(keys: Any) -> tuple[str, Any]:
    """Return the name of the generator that ``keys`` are for, and their numbers as an array of NumPy.

    Raises
    ------
    TypeError
        If JAX knows the generator by no name.
    """
    import jax
    import numpy as np

    generator = jax.random.key_impl(keys)
    if not isinstance(generator, str):
        raise TypeError(f"a key of {generator} cannot be kept; keep jax.random.key_data(…) of it")
    return generator, np.asarray(jax.random.key_data(keys))


def make_keys(generator: str, numbers: Any) -> Any:
    """Return the array of keys that :func:`key_parts` took apart.

    Raises
    ------
    TypeError, ValueError
        If there are none such.
    """
    import jax

    return jax.random.wrap_key_data(numbers.copy(), impl=generator)


def is_scalar(value: Any) -> bool:
    """Whether ``value`` is a single NumPy number, date or text."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def describe_array(array: Any) -> Described:
    """How a NumPy array, or what NumPy makes one of, is stored.

    Raises
    ------
    TypeError
        For one whose content is more than plain numbers, dates and texts.
    """
    import numpy as np

    if isinstance(array, np.ndarray) and type(array) not in (np.ndarray, np.memmap):
        raise TypeError(
            f"a {type_name(array)} is more than its numbers; keep np.asarray(…) of it, or its parts"
        )
    dtype = np.dtype(array.dtype)
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise TypeError(
            f"an array of type {dtype} has no plain numbers; keep lists, or an array for each field"
        )
    little = _little(dtype)
    code = _CODES.get(dtype.name)

    def bytes_of() -> memoryview:
        plain = np.ascontiguousarray(np.asarray(array).astype(little, copy=False))
        return memoryview(plain.reshape(-1).view(np.uint8))

    shape = tuple(int(size) for size in array.shape)
    tensor = Tensor(code or "U8", shape if code else (*shape, dtype.itemsize), bytes_of)
    note = None if code and little == dtype else numpy_name(dtype)
    if not isinstance(array, np.ndarray):
        identity: tuple[Any, ...] | None = ("object", id(array))
    elif array.nbytes:
        identity = ("numpy", array.ctypes.data, shape, array.strides, dtype.str, dtype.name)
    else:
        identity = None
    return Described(tensor, note, identity)


def describe_tensor(tensor: Any) -> Described:
    """How a PyTorch tensor is stored.

    Raises
    ------
    TypeError
        For one that is not a plain block of numbers.
    """
    import torch

    if torch.nn.parameter.is_lazy(tensor):
        raise TypeError("has no values yet; let the model work on a first batch")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise TypeError(
            f"a {type_name(tensor)} is more than its numbers; keep its parts as plain tensors"
        )
    if tensor.layout is not torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        raise TypeError(
            f"a {kind} tensor cannot be stored; keep its parts, or to_dense() or dequantize() of it"
        )
    if tensor.is_meta:
        raise TypeError("a tensor on the meta device has no numbers to store")
    name = torch_name(tensor.dtype)
    shape = tuple(tensor.shape)
    code, stored, note = _CODES.get(name), shape, None
    if name == _PAIRS:
        if not shape:
            raise TypeError(f"a single {name} cannot be stored; keep it as an array of one")
        code, stored = "F4", (*shape[:-1], 2 * shape[-1])
    elif name in _TORCH_RAW:
        stored, note = (*shape, tensor.element_size()), name
    elif code is None:
        raise TypeError(f"a tensor of type {name} cannot be stored; convert it to another type")

    def bytes_of() -> memoryview:
        plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        return memoryview(plain.view(-1).view(torch.uint8).numpy())

    identity = None
    if tensor.numel():
        bits = (tensor.is_conj(), tensor.is_neg())
        identity = (
            "torch",
            str(tensor.device),
            tensor.data_ptr(),
            shape,
            tensor.stride(),
            name,
            bits,
        )
    return Described(Tensor(code or "U8", stored, bytes_of), note, identity)


def read_array(file: OpenedFile, entry: Entry, note: str | None) -> Any:
    """The NumPy array at ``entry``, of the type ``note`` where that is given; a view of the file's memory.

    Raises
    ------
    TypeError, ValueError
        If there cannot be such an array.
    """
    import numpy as np

    dtype = numpy_dtype(note or _NAMES.get(entry.code, entry.code))
    shape = _shape_of(entry, note, dtype.name, dtype.itemsize)
    if entry.stop == entry.start:
        return np.empty(shape, dtype)
    found = np.frombuffer(file.memory, np.uint8, entry.stop - entry.start, entry.start)
    return found.view(_little(dtype)).reshape(shape).astype(dtype, copy=False)


def read_tensor(file: OpenedFile, entry: Entry, note: str | None) -> Any:
    """The PyTorch tensor at ``entry``; see :func:`read_array`."""
    import torch

    name = note or (_PAIRS if entry.code == "F4" else _NAMES.get(entry.code, entry.code))
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"this version of PyTorch has no type {name}")
    shape = _shape_of(entry, note, name, dtype.itemsize)
    if entry.stop == entry.start:
        return torch.empty(shape, dtype=dtype, device="cpu")
    octets = torch.frombuffer(
        file.memory, dtype=torch.uint8, count=entry.stop - entry.start, offset=entry.start
    )
    return octets.view(dtype).view(shape)


def _shape_of(entry: Entry, note: str | None, name: str, itemsize: int) -> tuple[int, ...]:
    """The shape of the array itself, which the file's differs from where its types do not suffice."""
    if entry.code == "F4" and note is None:
        if not entry.shape or entry.shape[-1] % 2:
            raise ValueError("numbers of four bits must come in pairs")
        return (*entry.shape[:-1], entry.shape[-1] // 2)
    if note is None or _CODES.get(name) == entry.code:
        return entry.shape
    if entry.code != "U8" or entry.shape[-1:] != (itemsize,):
        raise ValueError(f"stored as {entry.code} of shape {entry.shape}, which is no {note}")
    return entry.shape[:-1]


def owned(view: Any) -> Any:
    """An array or tensor as ``view``, in memory of its own."""
    if is_key(view):
        return view
    if not is_tensor(view):
        return view.copy()
    import torch

    own = view.detach().clone()
    if isinstance(view, torch.nn.Parameter):
        return torch.nn.Parameter(own, requires_grad=view.requires_grad)
    return own.requires_grad_(view.requires_grad)


def is_writable(array: Any) -> bool:
    """Whether each number of an array or tensor can be given another value by itself."""
    if is_tensor(array):
        torch: Any = sys.modules["torch"]
        if array.layout is not torch.strided:
            return True
        return all(
            stride or size < 2 for stride, size in zip(array.stride(), array.shape, strict=True)
        )
    numpy = sys.modules["numpy"]
    return isinstance(array, numpy.ndarray) and bool(array.flags.writeable)


def same_bits(one: Any, other: Any) -> bool:
    """Whether two tensors of one type and shape are the same to the last bit, NaNs too."""
    return one is other or bool(
        describe_tensor(one).tensor.bytes_of() == describe_tensor(other).tensor.bytes_of()
    )


def changing(*tensors: Any) -> AbstractContextManager[Any]:
    """Enter PyTorch's inference mode if some of ``tensors`` were made in it: only there they can be changed."""
    torch: Any = sys.modules["torch"]
    is_lazy = torch.nn.parameter.is_lazy
    if any(tensor.is_inference() for tensor in tensors if not is_lazy(tensor)):
        mode: AbstractContextManager[Any] = torch.inference_mode()
        return mode
    return nullcontext()


def overwrite(array: Any, by: Any) -> None:
    """Give a writable array or tensor the numbers of another of its type and shape."""
    if is_tensor(array):
        import torch

        by = sharding.spread_like(array, by)
        with changing(array), torch.no_grad():
            array.copy_(by)
    else:
        array[...] = by


def as_kind_of(template: Any, array: Any) -> Any:
    """Return a NumPy array as one of JAX, on the devices of ``template``, where that is one; anything else as it is."""
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(template, jax.Array):
        return array
    return jax.device_put(array, template.sharding)


def kind_text(array: Any) -> str:
    """Type and shape, for a person."""
    if is_key(array):
        return f"{array.dtype} {tuple(array.shape)}"
    dtype = torch_name(array.dtype) if is_tensor(array) else numpy_name(array.dtype)
    return f"{dtype} {tuple(array.shape)}"


def torch_name(dtype: Any) -> str:
    """The name of a PyTorch type, which :mod:`torch` has it under."""
    return str(dtype).removeprefix("torch.")


def numpy_name(dtype: Any) -> str:
    """A name that :func:`numpy_dtype` knows the type by."""
    import numpy as np

    dtype = np.dtype(dtype)
    is_of_ml_dtypes = dtype.isbuiltin == 2
    return str(
        dtype.name if is_of_ml_dtypes or (dtype.name in _CODES and dtype.isnative) else dtype.str
    )


def numpy_dtype(name: str) -> Any:
    """The NumPy type with a name that :func:`numpy_name` gave; also those of ml_dtypes.

    Raises
    ------
    TypeError
        If there is none, or it can hold more than plain numbers, dates and texts.
    """
    import numpy as np

    try:
        dtype = np.dtype(name)
    except TypeError:
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError(f"NumPy has no type {name} without the package ml_dtypes") from None
        dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise TypeError(f"arrays of type {name} are not read")
    return dtype


def _little(dtype: Any) -> Any:
    little = dtype.newbyteorder("<")
    return dtype if little == dtype else little


def scalar_bytes(value: Any) -> bytes:
    """The bytes of a NumPy number, for :func:`scalar`."""
    return bytes(value.tobytes()[: value.dtype.itemsize])


def scalar(dtype: str, octets: bytes) -> Any:
    """The NumPy number, date or text with these bytes."""
    import numpy as np

    found = numpy_dtype(dtype)
    if not found.itemsize and not octets:
        return np.zeros((), found)[()]
    if len(octets) != found.itemsize:
        raise ValueError(f"{len(octets)} bytes are no {dtype}")
    return np.frombuffer(octets, found)[0]


def type_name(value: Any) -> str:
    """The whole name of the type of ``value``."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
