"""Arrays of NumPy and JAX and tensors of PyTorch, as stored in safetensors files.

Types that safetensors supports are stored as such, so that other programs can read them. Items of
other types (``complex128``, dates, texts) are stored as bytes in one more dimension, and the type
is stored in the JSON. No framework is imported unless one of its arrays is used.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

from . import sharding
from .tensor_files import Entry, OpenedFile, Tensor

#: The type codes of the format by the names of NumPy, ml_dtypes and PyTorch.
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
#: A type with two items per byte: PyTorch's shapes count bytes, those of the format items.
_PAIRS: Final = "float4_e2m1fn_x2"
#: PyTorch's numeric types without a code.
_TORCH_RAW: Final = frozenset({"complex32", "complex128"})
#: Packages whose arrays have labels, which would be lost.
_LABELLED: Final = frozenset({"pandas", "polars", "xarray"})


class ArrayEncoding(NamedTuple):
    """The stored form of an array.

    ``dtype`` is the type of the array if the type in the file does not determine it. ``identity``
    is equal for objects that share memory, shape, strides and type; None if unknown.
    """

    tensor: Tensor
    dtype: str | None
    identity: tuple[Any, ...] | None


def is_tensor(value: Any) -> bool:
    """Return whether ``value`` is a PyTorch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """Return whether ``value`` is a NumPy array, or one that NumPy can convert, like JAX's."""
    numpy = sys.modules.get("numpy")
    if numpy is None or isinstance(value, type) or is_scalar(value) or is_tensor(value):
        return False
    if isinstance(value, numpy.ndarray):
        return True
    if type(value).__module__.partition(".")[0] in _LABELLED:
        return False
    return all(hasattr(value, name) for name in ("__array__", "dtype", "shape"))


def is_numeric(value: Any) -> bool:
    """Return whether ``value`` is a tensor or an array."""
    return is_tensor(value) or is_array(value)


def is_scalar(value: Any) -> bool:
    """Return whether ``value`` is a NumPy scalar."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def is_key(value: Any) -> bool:
    """Return whether ``value`` is an array of keys of ``jax.random.key``."""
    jax = sys.modules.get("jax")
    return (
        jax is not None
        and isinstance(value, jax.Array)
        and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    )


def split_keys(keys: Any) -> tuple[str, Any]:
    """Return the generator's name and the data of JAX keys; raise TypeError if it has no name."""
    import jax
    import numpy as np

    generator = jax.random.key_impl(keys)
    if not isinstance(generator, str):
        raise TypeError(f"a key of {generator} cannot be kept; keep jax.random.key_data(…) of it")
    return generator, np.asarray(jax.random.key_data(keys))


def make_keys(generator: str, data: Any) -> Any:
    """Return the JAX keys with this generator and data; raise TypeError or ValueError."""
    import jax

    return jax.random.wrap_key_data(data.copy(), impl=generator)


def encode_array(array: Any) -> ArrayEncoding:
    """Return how an array is stored.

    Raises TypeError if it contains more than numbers, dates and texts.
    """
    import numpy as np

    if isinstance(array, np.ndarray) and type(array) not in (np.ndarray, np.memmap):
        raise TypeError(
            f"a {type_name(array)} also has other data, which would be lost; save np.asarray(…) "
            "of it, or its parts"
        )
    dtype = np.dtype(array.dtype)
    if not _is_plain(dtype):
        raise TypeError(
            f"an array of type {dtype} has no plain numbers; keep lists, or an array for each field"
        )
    little = _to_little_endian(dtype)
    code = _CODES.get(dtype.name)

    def get_bytes() -> memoryview:
        plain = np.ascontiguousarray(np.asarray(array).astype(little, copy=False))
        return plain.reshape(-1).view(np.uint8).data

    shape = tuple(int(size) for size in array.shape)
    tensor = Tensor(code or "U8", shape if code else (*shape, dtype.itemsize), get_bytes)
    stored_dtype = None if code and little == dtype else numpy_name(dtype)
    identity: tuple[Any, ...] | None = None
    if not isinstance(array, np.ndarray):
        identity = ("object", id(array))
    elif array.nbytes:
        identity = ("numpy", array.ctypes.data, shape, array.strides, dtype.str, dtype.name)
    return ArrayEncoding(tensor, stored_dtype, identity)


def encode_tensor(tensor: Any) -> ArrayEncoding:
    """Return how a PyTorch tensor is stored; raise TypeError unless it is strided memory."""
    import torch

    if is_lazy(tensor):
        raise TypeError("has no values yet; run the model on a first batch")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise TypeError(
            f"a {type_name(tensor)} also has other data, which would be lost; save its parts as "
            "plain tensors"
        )
    if tensor.layout is not torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else torch_name(tensor.layout)
        raise TypeError(
            f"a {kind} tensor cannot be stored; keep its parts, or to_dense() or dequantize() of it"
        )
    if tensor.is_meta:
        raise TypeError("a tensor on the meta device has no values to store")
    name, shape = torch_name(tensor.dtype), tuple(tensor.shape)
    code, stored, stored_dtype = _CODES.get(name), shape, None
    if name == _PAIRS:
        if not shape:
            raise TypeError(f"a single {name} cannot be stored; keep it as an array of one")
        code, stored = "F4", (*shape[:-1], 2 * shape[-1])
    elif name in _TORCH_RAW:
        stored, stored_dtype = (*shape, tensor.element_size()), name
    elif code is None:
        raise TypeError(f"a tensor of type {name} cannot be stored; convert it to another type")

    def get_bytes() -> memoryview:
        plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        return memoryview(plain.view(-1).view(torch.uint8).numpy())

    identity: tuple[Any, ...] | None = None
    if tensor.numel():
        place = (str(tensor.device), tensor.data_ptr(), shape, tensor.stride())
        identity = ("torch", *place, name, tensor.is_conj(), tensor.is_neg())
    return ArrayEncoding(Tensor(code or "U8", stored, get_bytes), stored_dtype, identity)


def read_array(file: OpenedFile, entry: Entry, stored_dtype: str | None) -> Any:
    """Return the NumPy array at ``entry`` as a view of the file's memory.

    Parameters
    ----------
    stored_dtype : str, optional
        The type of the array where the file's type does not determine it.

    Raises
    ------
    TypeError, ValueError
        If there is no such array.
    """
    import numpy as np

    dtype = numpy_dtype(stored_dtype or _NAMES.get(entry.code, entry.code))
    shape = _array_shape(entry, stored_dtype, dtype.name, dtype.itemsize)
    if entry.stop == entry.start:
        return np.empty(shape, dtype)
    octets = np.frombuffer(file.memory, np.uint8, entry.stop - entry.start, entry.start)
    return octets.view(_to_little_endian(dtype)).reshape(shape).astype(dtype, copy=False)


def read_tensor(file: OpenedFile, entry: Entry, stored_dtype: str | None) -> Any:
    """Return the PyTorch tensor at ``entry``; see :func:`read_array`."""
    import torch

    name = stored_dtype or (_PAIRS if entry.code == "F4" else _NAMES.get(entry.code, entry.code))
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"this version of PyTorch has no type {name}")
    shape = _array_shape(entry, stored_dtype, name, dtype.itemsize)
    size = entry.stop - entry.start
    if not size:
        return torch.empty(shape, dtype=dtype, device="cpu")
    octets = torch.frombuffer(file.memory, dtype=torch.uint8, count=size, offset=entry.start)
    return octets.view(dtype).view(shape)


def _array_shape(
    entry: Entry, stored_dtype: str | None, name: str, itemsize: int
) -> tuple[int, ...]:
    if entry.code == "F4" and stored_dtype is None:
        if not entry.shape or entry.shape[-1] % 2:
            raise ValueError("numbers of four bits must come in pairs")
        return (*entry.shape[:-1], entry.shape[-1] // 2)
    if stored_dtype is None or _CODES.get(name) == entry.code:
        return entry.shape
    if entry.code != "U8" or entry.shape[-1:] != (itemsize,):
        raise ValueError(
            f"stored as {entry.code} of shape {entry.shape}, which is no {stored_dtype}"
        )
    return entry.shape[:-1]


def copy_array(view: Any) -> Any:
    """Return a copy of an array or tensor."""
    if is_key(view):
        return view
    if not is_tensor(view):
        return view.copy()
    import torch

    copy = view.detach().clone()
    if isinstance(view, torch.nn.Parameter):
        return torch.nn.Parameter(copy, requires_grad=view.requires_grad)
    return copy.requires_grad_(view.requires_grad)


def is_lazy(tensor: Any) -> bool:
    """Return whether a PyTorch tensor is not initialized yet."""
    import torch

    return bool(torch.nn.parameter.is_lazy(tensor))


def is_writable(array: Any) -> bool:
    """Return whether the items of an array or tensor can be changed independently."""
    if is_tensor(array):
        torch: Any = sys.modules["torch"]
        if array.layout is not torch.strided:
            return True
        strides = zip(array.stride(), array.shape, strict=True)
        return all(stride or size < 2 for stride, size in strides)
    numpy = sys.modules["numpy"]
    return isinstance(array, numpy.ndarray) and bool(array.flags.writeable)


def has_same_bits(one: Any, other: Any) -> bool:
    """Return whether two tensors of one type and shape are equal bit for bit, including NaNs."""
    return one is other or bool(
        encode_tensor(one).tensor.get_bytes() == encode_tensor(other).tensor.get_bytes()
    )


def allow_changes(*tensors: Any) -> AbstractContextManager[Any]:
    """Enter PyTorch's inference mode if a tensor was created in it, so that it can be changed."""
    torch: Any = sys.modules["torch"]
    if any(tensor.is_inference() for tensor in tensors if not is_lazy(tensor)):
        mode: AbstractContextManager[Any] = torch.inference_mode()
        return mode
    return nullcontext()


def overwrite(array: Any, values: Any) -> None:
    """Copy values of the same type and shape into a writable array or tensor."""
    if is_tensor(array):
        import torch

        values = sharding.distribute_like(array, values)
        with allow_changes(array), torch.no_grad():
            array.copy_(values)
    else:
        array[...] = values


def convert_like(template: Any, array: Any) -> Any:
    """Return a JAX array on the devices of ``template`` if that is one, else ``array``."""
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(template, jax.Array):
        return array
    return jax.device_put(array, template.sharding)


def format_type(array: Any) -> str:
    """Format type and shape for display."""
    if is_key(array):
        name = str(array.dtype)
    else:
        name = torch_name(array.dtype) if is_tensor(array) else numpy_name(array.dtype)
    return f"{name} {tuple(array.shape)}"


def torch_name(value: Any) -> str:
    """Return the name in :mod:`torch` of a type or layout."""
    return str(value).removeprefix("torch.")


def numpy_name(dtype: Any) -> str:
    """Return a name of the type for :func:`numpy_dtype`."""
    import numpy as np

    dtype = np.dtype(dtype)
    is_extension = dtype.isbuiltin == 2  # of ml_dtypes
    is_named = is_extension or (dtype.name in _CODES and dtype.isnative)
    return str(dtype.name if is_named else dtype.str)


def numpy_dtype(name: str) -> Any:
    """Return the NumPy or ml_dtypes type with a name of :func:`numpy_name`.

    Raises TypeError if there is none, or it can contain more than numbers, dates and texts.
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
    if not _is_plain(dtype):
        raise TypeError(f"arrays of type {name} are not read")
    return dtype


def _is_plain(dtype: Any) -> bool:
    return not dtype.hasobject and dtype.names is None and dtype.subdtype is None


def _to_little_endian(dtype: Any) -> Any:
    little = dtype.newbyteorder("<")
    return dtype if little == dtype else little


def scalar_bytes(value: Any) -> bytes:
    """Return the bytes of a NumPy scalar."""
    return bytes(value.tobytes()[: value.dtype.itemsize])


def make_scalar(dtype: str, octets: bytes) -> Any:
    """Return the NumPy scalar with these bytes."""
    import numpy as np

    found = numpy_dtype(dtype)
    if not found.itemsize and not octets:
        return np.zeros((), found)[()]
    if len(octets) != found.itemsize:
        raise ValueError(f"{len(octets)} bytes are no {dtype}")
    return np.frombuffer(octets, found)[0]


def type_name(value: Any) -> str:
    """Return the full name of the type of ``value``."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
