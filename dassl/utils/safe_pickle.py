"""Read a torch file without running anything in it: path -> tensors, numbers and containers.

torch's own weights-only reader comes first. It refuses checkpoints that hold a scheduler object
(Dassl 0.6.3 with warm-up writes them); those are read by an unpickler that rebuilds tensors and
plain containers, replaces torch's and Dassl's optimizers and schedulers by inert records, and
refuses every other global by name.
"""

import collections
import pickle
from typing import Any

import torch

__all__ = ["InertObject", "RestrictedUnpickler", "UnsafeFileError", "load_file"]


class UnsafeFileError(pickle.UnpicklingError, ValueError):
    """A file asks for something to be executed; nothing of it was."""


class InertObject(dict):
    """A pickled object reduced to its attributes: `obj["last_epoch"]`. It can do nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "InertObject":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        attributes = state[0] or {} if isinstance(state, tuple) else state
        self.update(attributes if isinstance(attributes, dict) else {})

    def __call__(self, *args: Any, **kwargs: Any) -> "InertObject":
        return self


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("collections", "Counter"): collections.Counter,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "set"): set,
    ("builtins", "int"): int,
    ("builtins", "float"): float,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
}
_REBUILD = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"}
_INERT_MODULES = ("torch.optim.", "dassl.optim.")


def _find_global(module: str, name: str) -> Any:
    module = {"__builtin__": "builtins"}.get(module, module)
    if (module, name) in _ALLOWED:
        return _ALLOWED[module, name]
    if module == "torch._utils" and name in _REBUILD:
        return getattr(torch._utils, name)
    if module in ("torch", "torch.storage") and name.endswith("Storage"):
        return getattr(torch if hasattr(torch, name) else torch.storage, name)
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    if f"{module}.".startswith(_INERT_MODULES):
        return InertObject
    raise UnsafeFileError(f"the file asks for {module}.{name}, which is not data")


class RestrictedUnpickler(pickle.Unpickler):
    """Rebuilds data; everything else in a pickle is inert or refused."""

    def find_class(self, module: str, name: str) -> Any:
        return _find_global(module, name)


class _RestrictedPickle:
    """What `torch.load` wants of a `pickle_module`."""

    Unpickler = RestrictedUnpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: Any, **kwargs: Any) -> Any:
        return RestrictedUnpickler(file, **kwargs).load()


def load_file(path: str) -> Any:
    """What the torch file at `path` holds, with all tensors on the CPU.

    Raises:
        UnsafeFileError: it holds a global that is not data; the message names both.
        ValueError: it is torn or no torch file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError):
        pass  # the second reader either succeeds or knows the reason
    try:
        return torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=_RestrictedPickle
        )
    except UnsafeFileError as error:
        raise UnsafeFileError(f"Refused to load {path!r}: {error}. Nothing was executed.") from None
    except Exception as error:  # a torn file can fail anywhere in torch's reader
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"Cannot read {path!r}: {reason}. The file is torn or of another kind."
        ) from error
