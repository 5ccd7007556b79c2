"""Read the tensors of a TorchScript archive without TorchScript: path -> state dict.

Such an archive is a zip with a pickle of the module tree and one raw file a tensor. The tree is
read with an unpickler that knows tensors and attribute records only; no code in it is run.
"""

import collections
import pickle
import zipfile
from typing import Any

import torch
from torch import Tensor

__all__ = ["is_torchscript", "read_tensors"]

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Record(dict):
    """A module of the archive reduced to its attributes."""

    def __setstate__(self, state: Any) -> None:
        self.update(state if isinstance(state, dict) else {})


def is_torchscript(path: str) -> bool:
    """Whether `path` is a zip in TorchScript's layout."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_tensors(path: str) -> dict[str, Tensor]:
    """Every tensor attribute of the module tree, under its dotted name."""
    with zipfile.ZipFile(path) as archive:
        (tree_name,) = [
            n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")
        ]
        with archive.open(tree_name) as file:
            tree = _TreeUnpickler(file, archive, tree_name.removesuffix("data.pkl")).load()
    tensors: dict[str, Tensor] = {}
    _flatten(tree, "", tensors)
    return tensors


def _flatten(node: dict, prefix: str, tensors: dict[str, Tensor]) -> None:
    for name, value in node.items():
        if isinstance(value, Tensor):
            tensors[prefix + name] = value
        elif isinstance(value, _Record):
            _flatten(value, f"{prefix}{name}.", tensors)


class _TreeUnpickler(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file, encoding="utf-8")
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Record
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch.jit._pickle":  # builders of typed lists: only tensors are of interest
            return _ignore
        raise pickle.UnpicklingError(f"the archive asks for {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: tuple) -> Tensor:
        _, dtype, key, _, _ = pid
        raw = bytearray(self.archive.read(f"{self.root}data/{key}"))
        return torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)


def _ignore(*args: Any) -> None:
    return None


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)
