"""Arrays of NumPy and JAX and tensors of PyTorch, as stored in safetensors files.

Types that safetensors supports are stored as such, so that other programs can read them. Items of
other types (``complex128``, dates, texts) are stored as bytes in one more dimension, and the type
is stored in the JSON. No framework is imported unless one of its arrays is used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

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
        raise TypeError(f"a key of {generator} cannot be saved; save jax.random.key_data(…) of it")
    return generator, np.asarray(jax.random.key_data(keys))


def make_keys(generator: str, data: Any) -> Any:
    """Return the JAX keys with this generator and data."""
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
            f"an array of type {dtype} has no plain numbers; save lists, or an array for each field"
        )
    little = _to_little_endian(dtype)
    code = _CODES.get(dtype.name)

    def get_bytes() -> memoryview:
        plain = np.ascontiguousarray(np.asarray(array).astype(little, copy=False))
        return memoryview(plain.reshape(-1).view(np.uint8))

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

    name = torch_name(tensor.dtype)
    is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    if not is_plain or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise TypeError(
            f"a {type_name(tensor)} of type {name}, layout {torch_name(tensor.layout)} and device "
            f"{tensor.device} cannot be saved; save plain tensors with its values"
        )
    shape = stored = tuple(tensor.shape)
    code, stored_dtype = _CODES.get(name), None
    if name in _TORCH_RAW:
        stored, stored_dtype = (*shape, tensor.element_size()), name
    elif code is None:
        raise TypeError(f"a tensor of type {name} cannot be saved; convert it to another type")

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

    ``stored_dtype`` is its type where the file's type does not determine it.
    """
    import numpy as np

    dtype = numpy_dtype(stored_dtype or _NAMES[entry.code])
    shape = _array_shape(entry, stored_dtype, dtype.name, dtype.itemsize)
    if entry.stop == entry.start:
        return np.empty(shape, dtype)
    octets = np.frombuffer(file.memory, np.uint8, entry.stop - entry.start, entry.start)
    return octets.view(_to_little_endian(dtype)).reshape(shape).astype(dtype, copy=False)


def read_tensor(
    file: OpenedFile,
    entry: Entry,
    stored_dtype: str | None,
    is_parameter: bool,
    requires_grad: bool,
) -> Any:
    """Return the PyTorch tensor at ``entry``; see :func:`read_array`."""
    import torch

    name = stored_dtype or _NAMES[entry.code]
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"this version of PyTorch has no type {name}")
    shape = _array_shape(entry, stored_dtype, name, dtype.itemsize)
    size = entry.stop - entry.start
    if size:
        octets = torch.frombuffer(file.memory, dtype=torch.uint8, count=size, offset=entry.start)
        tensor = octets.view(dtype).view(shape)
    else:
        tensor = torch.empty(shape, dtype=dtype, device="cpu")
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


def _array_shape(
    entry: Entry, stored_dtype: str | None, name: str, itemsize: int
) -> tuple[int, ...]:
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


def is_writable(array: Any) -> bool:
    """Return whether the items of an array or tensor can be changed."""
    if is_tensor(array):
        return True
    numpy = sys.modules["numpy"]
    return isinstance(array, numpy.ndarray) and bool(array.flags.writeable)


def overwrite(array: Any, values: Any) -> None:
    """Copy values of the same type and shape into a writable array or tensor."""
    if is_tensor(array):
        import torch

        with torch.no_grad():
            array.copy_(distribute_like(array, values))
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


def find_mismatch(target: Any, stored: Any) -> str | None:
    """Return why an array or tensor cannot be set to a stored value; None if it can."""
    if getattr(target, "is_meta", False):
        return "is on the meta device, without values; call model.to_empty(device=…) first"
    is_same_kind = is_tensor(stored) if is_tensor(target) else is_array(stored)
    here = format_type(target)
    there = format_type(stored) if is_same_kind else f"a {type_name(stored)}"
    return None if here == there else f"is {here} here and {there} in the checkpoint"


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


def make_scalar(dtype: str, octets: bytes) -> Any:
    """Return the NumPy scalar with these bytes."""
    import numpy as np

    return np.frombuffer(octets, numpy_dtype(dtype)).reshape(())[()]


def type_name(value: Any) -> str:
    """Return the full name of the type of ``value``."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


# Tensors that are distributed over processes: DTensors of ``fully_shard`` and tensor parallelism.
# Files contain whole tensors, so that a training can resume with any number of processes.

#: Whether this process saves the gathered tensors; None outside :func:`gather_tensors`.
_saves: ContextVar[bool | None] = ContextVar("saves", default=None)


def is_instance(value: Any, module: str, name: str) -> bool:
    """Return whether ``value`` is an instance of a class of a module, which need not be loaded."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def is_dtensor(value: Any) -> bool:
    """Return whether ``value`` is a distributed tensor."""
    return is_instance(value, "torch.distributed.tensor", "DTensor")


@contextmanager
def gather_tensors(*, save: bool) -> Iterator[None]:
    """Enable :func:`gather`, in all processes; only those with ``save`` get the values."""
    token = _saves.set(save)
    try:
        yield
    finally:
        _saves.reset(token)


def gather(tensor: Any) -> Any:
    """Return a distributed tensor as a whole on the CPU, within :func:`gather_tensors`.

    This is a collective operation, which all processes must start together; :mod:`..distributed`
    ensures it.
    """
    saves = _saves.get()
    if saves is None or not is_dtensor(tensor):
        return tensor
    whole = tensor.detach().full_tensor()
    return whole.cpu() if saves else whole.new_empty(0, device="cpu")


def distribute_like(template: Any, whole: Any) -> Any:
    """Return this process's part of ``whole`` if ``template`` is distributed, else ``whole``."""
    if not is_dtensor(template) or is_dtensor(whole):
        return whole
    from torch.distributed.tensor import distribute_tensor

    # No rank sends its data, since each process has the whole tensor.
    local = whole.detach().to(template.device)
    return distribute_tensor(local, template.device_mesh, template.placements, src_data_rank=None)
