"""Storages (raw bytes) and tensors on the CPU, each tensor inside of the bytes that a file has."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.storage import TypedStorage

from dassl.errors import RequestError
from dassl.utils.torchfile.archive import Archive
from dassl.utils.torchfile.records import Name, UnsafeFileError

__all__ = ["DTYPES", "REBUILD", "STORAGES", "TENSOR_CLASSES", "Storages", "rebuild_typed"]

_DTYPE_NAMES = (
    *("float64", "float32", "float16", "bfloat16", "complex128", "complex64", "bool"),
    *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
)
DTYPES: dict[str, torch.dtype] = {
    f"torch.{name}": getattr(torch, name) for name in _DTYPE_NAMES if hasattr(torch, name)
}
STORAGES: dict[str, torch.dtype | None] = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.storage.UntypedStorage": None,
}
_MAX_DIMS = 64
_MAX_INT = (1 << 63) - 1


class Storages:
    """The storages of an archive; each is read once, so that tensors share what they shared."""

    def __init__(self, archive: Archive, root: str) -> None:
        self.archive, self.root = archive, root
        self._read: dict[str, UntypedStorage] = {}

    def load(self, described: Any) -> TypedStorage | UntypedStorage:
        """The storage of a tuple ("storage", type, key, device, number of elements).

        Raises:
            UnsafeFileError: it is another tuple, or its entry has another size.
            RequestError: the entry cannot be read.
        """
        match described:
            case ("storage", Name(text=kind), str(key), str(), int(numel)) if kind in STORAGES:
                dtype = STORAGES[kind]
            case _:
                raise UnsafeFileError("a storage in it is described as torch describes none")
        if key not in self._read:
            self._read[key] = self._read_entry(f"{self.root}data/{key}")
        storage = self._read[key]
        if storage.nbytes() != numel * (dtype.itemsize if dtype else 1):
            raise UnsafeFileError(f"storage {key!a} in it has another size than it says")
        if dtype is None:
            return storage
        return TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)

    def _read_entry(self, name: str) -> UntypedStorage:
        size = self.archive.find(name)[1].size
        try:
            # torch aligns its memory; the sums of some CPU kernels depend on that
            raw = torch.empty(size, dtype=torch.uint8, device="cpu")
        except RuntimeError as error:
            raise RequestError(f"there is not enough memory for {size:,} bytes of it") from error
        self.archive.read_into(name, raw.numpy().data)
        return raw.untyped_storage()


def _view(storage: UntypedStorage, dtype: Any, offset: int, size: tuple, stride: tuple) -> Tensor:
    """A tensor over a storage; offset, size and stride are in elements.

    Raises:
        UnsafeFileError: it reaches out of the storage, or has more elements than that.
    """
    if not isinstance(storage, UntypedStorage) or not isinstance(dtype, torch.dtype):
        raise UnsafeFileError("a tensor in it has no storage or no type")
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride):
        raise UnsafeFileError("a tensor in it has no size")
    numbers = (offset, *size, *stride)
    if len(size) > _MAX_DIMS or not all(type(n) is int and 0 <= n <= _MAX_INT for n in numbers):
        raise UnsafeFileError("a tensor in it has no valid size, stride or offset")
    _check_place(storage.nbytes() // dtype.itemsize, offset, size, stride)
    return torch.empty(0, dtype=dtype, device="cpu").set_(storage, offset, size, stride)


def _check_place(elements: int, offset: int, size: tuple, stride: tuple) -> None:
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:  # takes no memory, wherever it lies, but torch multiplies these numbers
        is_inside = max(offset, math.prod(n or 1 for n in size)) <= _MAX_INT // 16
    else:  # a stride of zero repeats elements, which a copy would write out
        is_inside = last < elements and math.prod(size) <= elements
    if not is_inside:
        raise UnsafeFileError("a tensor in it is larger than the bytes that the file has for it")


def _check_no_view(metadata: Any) -> None:
    if metadata is not None and (type(metadata) is not dict or metadata):
        raise UnsafeFileError("a tensor in it is a conjugate or negative view; save its clone()")


def rebuild_v1(storage: Any, offset: int, size: tuple, stride: tuple) -> Tensor:
    """A tensor of the storage's type."""
    if not isinstance(storage, TypedStorage):
        raise UnsafeFileError("a tensor in it has no storage")
    return _view(storage._untyped_storage, storage.dtype, offset, size, stride)


def rebuild_v2(
    storage: Any,
    offset: int,
    size: tuple,
    stride: tuple,
    requires_grad: bool,
    hooks: Any,  # never saved; always empty
    metadata: Any = None,
) -> Tensor:
    """A tensor of the storage's type, with or without gradient."""
    _check_no_view(metadata)
    return rebuild_v1(storage, offset, size, stride).requires_grad_(requires_grad is True)


def rebuild_v3(
    storage: Any,
    offset: int,
    size: tuple,
    stride: tuple,
    requires_grad: bool,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    """A tensor of a type that has no storage of its own, such as uint16."""
    _check_no_view(metadata)
    return _view(storage, dtype, offset, size, stride).requires_grad_(requires_grad is True)


def rebuild_parameter(data: Any, requires_grad: bool, hooks: Any, state: Any = None) -> Tensor:
    """A parameter; attributes that the writing program gave to it are left out."""
    if not isinstance(data, Tensor):
        raise UnsafeFileError("a parameter in it is not a tensor")
    return nn.Parameter(data, requires_grad is True)


def rebuild_typed(function: Any, kind: Any, arguments: Any, state: Any) -> Tensor:
    """A tensor to which the writing program gave attributes, which are left out."""
    is_known = isinstance(function, Name) and function.text in REBUILD
    if not is_known or not isinstance(kind, Name) or kind.text not in TENSOR_CLASSES:
        raise UnsafeFileError("a tensor in it is of a class that is not torch's")
    return REBUILD[function.text](*arguments)


TENSOR_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
REBUILD: dict[str, Callable[..., Tensor]] = {
    "torch._utils._rebuild_tensor": rebuild_v1,
    "torch._utils._rebuild_tensor_v2": rebuild_v2,
    "torch._utils._rebuild_tensor_v3": rebuild_v3,
    "torch._utils._rebuild_parameter": rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": rebuild_parameter,
}
