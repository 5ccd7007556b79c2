"""The names that a file may use, and what they are turned into. There are no others.

Python's unpickler takes a name, imports what it names and calls it. Here a name stays a `Name`, and
what a call of it gives is built by a function of `_BUILDERS`, from plain values. Classes of which
only the attributes matter (`_CARRIED`) give a `Record`, whatever they are called with.
"""

import collections
import struct
from collections.abc import Callable
from typing import Any

import torch

from dassl.utils.torchfile.limits import check_element
from dassl.utils.torchfile.records import Name, NumpyType, Record, UnsafeFileError
from dassl.utils.torchfile.tensors import DTYPES, REBUILD, STORAGES, TENSOR_CLASSES, rebuild_typed

__all__ = ["call", "instantiate", "resolve", "set_attributes"]

# Optimizers and schedules of published checkpoints, the modules of a TorchScript archive, and the
# items of published few-shot draws.
_CARRIED = ("torch.optim.", "dassl.optim.", "__torch__.", "dassl.data.datasets.base_dataset.")
_FACTORIES = ("builtins.dict", "builtins.list", "builtins.set", "builtins.int", "builtins.float")
_NUMBERS = {
    **{"f8": "d", "f4": "f", "f2": "e", "b1": "?"},
    **{"i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B"},
}
_MAX_LETTERS = 200  # of a module's, class's or attribute's name
_MAX_VERSIONS = 8  # torch writes one


def _of_type(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError
    return value


def _ordered_dict() -> collections.OrderedDict:
    return collections.OrderedDict()


def _default_dict(factory: Any = None) -> dict:
    """A plain dict: looking up a key that is not there adds nothing to it."""
    return {}


def _counter(counts: Any) -> collections.Counter:
    return collections.Counter(_of_type(counts, dict))


def _set(items: Any = ()) -> set:
    for item in _of_type(items, list, tuple):
        check_element(item)
    return set(items)


def _frozen_set(items: Any = ()) -> frozenset:
    return frozenset(_set(items))


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, which Python 3 writes as text for readers in Python 2."""
    return _of_type(text, str).encode("latin-1")


def _bytes() -> bytes:
    return b""


def _byte_array(data: Any = b"") -> bytearray:
    return bytearray(_of_type(data, bytes))


def _complex(real: Any, imaginary: Any) -> complex:
    return complex(_of_type(real, float), _of_type(imaginary, float))


def _size(sizes: Any) -> torch.Size:
    return torch.Size(_of_type(sizes, tuple))


def _device(kind: Any, index: Any = None) -> torch.device:
    return torch.device(_of_type(kind, str), *([] if index is None else [_of_type(index, int)]))


def _number(kind: Any, data: Any) -> int | float | bool:
    """A NumPy scalar as Python's number."""
    form = _of_type(kind, NumpyType).form
    if len(_of_type(data, bytes)) != struct.calcsize(form):
        raise ValueError
    return struct.unpack(form, data)[0]


def _numpy_type(kind: Any, *_: Any) -> NumpyType:
    return NumpyType(f"={_NUMBERS[_of_type(kind, str)]}")


def _as_it_is(value: Any, *_: Any) -> Any:
    return value


_BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "collections.Counter": _counter,
    "builtins.set": _set,
    "builtins.frozenset": _frozen_set,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _byte_array,
    "builtins.complex": _complex,
    "_codecs.encode": _encode,
    "torch.Size": _size,
    "torch.device": _device,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _number,
    "torch._tensor._rebuild_from_type_v2": rebuild_typed,
    **REBUILD,
    # what TorchScript wraps its typed lists and dicts in
    "torch.jit._pickle.build_intlist": _as_it_is,
    "torch.jit._pickle.build_doublelist": _as_it_is,
    "torch.jit._pickle.build_boollist": _as_it_is,
    "torch.jit._pickle.build_tensorlist": _as_it_is,
    "torch.jit._pickle.restore_type_tag": _as_it_is,
}
_NAMES = {*_BUILDERS, *STORAGES, *TENSOR_CLASSES, *_FACTORIES}
_RENAMED = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}


def resolve(module: Any, name: Any) -> Name | torch.dtype:
    """What stands for `module.name`.

    Raises:
        UnsafeFileError: it is not known.
    """
    if type(module) is not str or type(name) is not str or len(module) + len(name) > _MAX_LETTERS:
        raise UnsafeFileError("it asks for something that has no name")
    text = f"{_RENAMED.get(module, module)}.{name}"
    if text in DTYPES:
        return DTYPES[text]
    if text in _NAMES or text.startswith(_CARRIED):
        return Name(text)
    raise UnsafeFileError(f"it asks for {text!a}, which is not data")


def call(function: Any, arguments: Any) -> Any:
    """What the builder of a name gives for these arguments.

    Raises:
        UnsafeFileError: the name has no builder, or the arguments do not fit.
    """
    if type(function) is not Name or type(arguments) is not tuple:
        raise UnsafeFileError("it calls something that is not a function")
    if function.text.startswith(_CARRIED):
        return Record(function.text)
    if function.text not in _BUILDERS:
        raise UnsafeFileError(f"it calls {function.text!a}, which is not data")
    try:
        return _BUILDERS[function.text](*arguments)
    except UnsafeFileError:
        raise
    except (TypeError, ValueError, KeyError, RuntimeError, OverflowError):
        raise UnsafeFileError(f"its arguments for {function.text!a} do not fit") from None


def instantiate(kind: Any) -> Record:
    """What stands for a new object of a class that is only carried along.

    Raises:
        UnsafeFileError: the name is not one of these classes.
    """
    if type(kind) is not Name or not kind.text.startswith(_CARRIED):
        raise UnsafeFileError("it makes an object of a class that is not only carried along")
    return Record(kind.text)


def set_attributes(target: Any, state: Any) -> None:
    """Attributes of a record; of an OrderedDict the one that `Module.state_dict` gives to it.

    Raises:
        UnsafeFileError: it is another object, or the attributes are not as they are saved.
    """
    if type(target) is Record:
        for part in state if type(state) is tuple else (state,):
            _fill(target, part)
    elif type(target) is NumpyType:
        target.form = _byte_order(state) + target.form[-1]
    elif type(target) is collections.OrderedDict:
        vars(target)["_metadata"] = _metadata(state)
    else:
        raise UnsafeFileError(f"it sets attributes of a {type(target).__name__}")


def _fill(record: Record, attributes: Any) -> None:
    """Take a dict's entries; a state of another kind means nothing without its class's code."""
    if not isinstance(attributes, dict):
        return
    if not all(type(name) is str and len(name) <= _MAX_LETTERS for name in attributes):
        raise UnsafeFileError("an object in it has an attribute without a name")
    record.update(attributes)


def _byte_order(state: Any) -> str:
    order = state[1] if type(state) is tuple and len(state) > 1 else None
    if order not in ("<", ">", "=", "|"):
        raise UnsafeFileError("a NumPy type in it has no byte order")
    return order.replace("|", "=")


def _metadata(state: Any) -> collections.OrderedDict:
    """Versions by module, `{"layer": {"version": 1}}`, copied: the original can still change."""
    modules = state.get("_metadata") if type(state) is dict and len(state) == 1 else None
    if not isinstance(modules, dict) or not all(map(_is_version, modules.items())):
        raise UnsafeFileError("an OrderedDict in it has attributes other than torch's")
    return collections.OrderedDict((module, dict(values)) for module, values in modules.items())


def _is_version(item: tuple[Any, Any]) -> bool:
    module, values = item
    is_short = type(module) is str and type(values) is dict and len(values) <= _MAX_VERSIONS
    return is_short and all(
        type(name) is str and type(value) in (int, bool, float, str, type(None))
        for name, value in values.items()
    )
