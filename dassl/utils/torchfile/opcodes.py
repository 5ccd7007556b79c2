"""One pickle -> one value, by the opcodes that `torch.save` and TorchScript write.

The table at the end is the whole language. Each entry pushes a plain value, puts values into a
container, or hands a name and plain values to `names`, which holds no code of the file's.
"""

import collections
import struct
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dassl.utils.torchfile.limits import MAX_STEPS, check_element, check_key
from dassl.utils.torchfile.names import call, instantiate, resolve, set_attributes
from dassl.utils.torchfile.records import UnsafeFileError

__all__ = ["run"]

_DICTS = (dict, collections.OrderedDict, collections.Counter)
_TEXT_PER_STEP = 64  # letters copied in the time of an opcode
_MAX_LINE = 256


class _Machine:
    """Code, position, stack and memo of one pickle."""

    def __init__(
        self,
        code: bytes,
        load_storage: Callable[[Any], Any],
        max_tensor_bytes: int,
        max_steps: int,
    ) -> None:
        self.code, self.position = code, 0
        self.load_storage = load_storage
        self.steps_left = self.max_steps = max_steps
        self.tensor_bytes_left = max_tensor_bytes
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stack under each mark
        self.memo: dict[int, Any] = {}  # a dict, so that a large index costs nothing

    def run(self) -> Any:
        while (opcode := self.take(1)) != b".":
            self.spend(1)
            if opcode not in _OPCODES:
                raise UnsafeFileError(
                    f"its pickle has the opcode {opcode!r}, which torch never writes"
                )
            read_argument, act = _OPCODES[opcode]
            act(self, read_argument(self))
        return self.pop()

    def take(self, size: int) -> bytes:
        """The next bytes of the code."""
        start, self.position = self.position, self.position + size
        if self.position > len(self.code):
            raise UnsafeFileError("its pickle ends in the middle")
        return self.code[start : self.position]

    def spend(self, steps: int) -> None:
        """Count work that a file asks for."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise UnsafeFileError(f"its pickle takes more than {self.max_steps:,} steps")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def top(self, *kinds: type) -> Any:
        """The uppermost value; of one of `kinds`, if any are given."""
        if not self.stack or (kinds and type(self.stack[-1]) not in kinds):
            raise UnsafeFileError("its pickle misses a value, or has one of another type")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        self.stack.pop()
        return value

    def pop_to_mark(self) -> list[Any]:
        """All values above the last mark."""
        if not self.below:
            raise UnsafeFileError("its pickle misses a mark")
        values, self.stack = self.stack, self.below.pop()
        return values


# How an argument is read from the code.


def _none(m: _Machine) -> None:
    return None


def _number(form: str) -> Callable[[_Machine], Any]:
    layout = struct.Struct(form)
    return lambda m: layout.unpack(m.take(layout.size))[0]


def _counted(form: str, convert: Callable[[bytes], Any]) -> Callable[[_Machine], Any]:
    """Bytes behind their number."""
    read_size = _number(form)
    return lambda m: convert(m.take(read_size(m)))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _two_lines(m: _Machine) -> tuple[str, str]:
    lines = m.code[m.position : m.position + _MAX_LINE].split(b"\n")
    if len(lines) < 3:
        raise UnsafeFileError("its pickle has a name without end")
    m.position += len(lines[0]) + len(lines[1]) + 2
    return _text(lines[0]), _text(lines[1])


# What is done with it.


def _skip(m: _Machine, _: Any) -> None:
    """Protocol numbers and frames change nothing."""


def _push(m: _Machine, value: Any) -> None:
    m.push(value)


def _mark(m: _Machine, _: Any) -> None:
    m.below.append(m.stack)
    m.stack = []


def _tuple(m: _Machine, _: Any) -> None:
    values = m.pop_to_mark()
    m.push(tuple(values))


def _tuple_of(size: int) -> Callable[[_Machine, Any], None]:
    return lambda m, _: m.push(tuple([m.pop() for _ in range(size)][::-1]))


def _append(m: _Machine, _: Any) -> None:
    value = m.pop()
    m.top(list).append(value)


def _extend(m: _Machine, _: Any) -> None:
    values = m.pop_to_mark()
    m.top(list).extend(values)


def _set_item(m: _Machine, _: Any) -> None:
    value, key = m.pop(), m.pop()
    _put(m, [key, value])


def _set_items(m: _Machine, _: Any) -> None:
    _put(m, m.pop_to_mark())


def _put(m: _Machine, flat: list[Any]) -> None:
    """Keys and values in turn, into the dict on the stack."""
    target = m.top(*_DICTS)
    if len(flat) % 2:
        raise UnsafeFileError("its pickle has a key without a value")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        m.spend(check_key(key))
        target[key] = value


def _add_to_set(m: _Machine, _: Any) -> None:
    values = m.pop_to_mark()
    for value in values:
        check_element(value)
    m.top(set).update(values)


def _frozen_set(m: _Machine, _: Any) -> None:
    values = m.pop_to_mark()
    for value in values:
        check_element(value)
    m.push(frozenset(values))


def _memoize(m: _Machine, index: int | None) -> None:
    m.memo[len(m.memo) if index is None else index] = m.top()


def _recall(m: _Machine, index: int) -> None:
    if index not in m.memo:
        raise UnsafeFileError("its pickle recalls what it did not keep")
    m.push(m.memo[index])


def _global(m: _Machine, words: tuple[str, str]) -> None:
    m.push(resolve(*words))


def _stack_global(m: _Machine, _: Any) -> None:
    name, module = m.pop(), m.pop()
    m.push(resolve(module, name))


def _reduce(m: _Machine, _: Any) -> None:
    arguments, function = m.pop(), m.pop()
    m.spend(_weight(arguments))
    value = call(function, arguments)
    if isinstance(value, Tensor):
        m.tensor_bytes_left -= value.numel() * value.element_size()
        if m.tensor_bytes_left < 0:
            raise UnsafeFileError("its tensors, written out, are many times larger than the file")
    m.push(value)


def _new_object(m: _Machine, _: Any) -> None:
    m.pop()  # arguments for a class that is not here
    m.push(instantiate(m.pop()))


def _build(m: _Machine, _: Any) -> None:
    state = m.pop()
    m.spend(_weight(state))
    set_attributes(m.top(), state)


def _weight(value: Any, depth: int = 0) -> int:
    """What copying a value, and those in it, costs: a small pickle may recall a large one often."""
    if isinstance(value, (str, bytes)):
        return len(value) // _TEXT_PER_STEP
    if not isinstance(value, (list, tuple, dict)):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return len(value) + (sum(_weight(item, 1) for item in inner) if depth == 0 else 0)


def _storage(m: _Machine, _: Any) -> None:
    m.push(m.load_storage(m.pop()))


_OPCODES: dict[bytes, tuple[Callable[[_Machine], Any], Callable[[_Machine, Any], None]]] = {
    b"\x80": (_number("<B"), _skip),  # PROTO
    b"\x95": (_number("<Q"), _skip),  # FRAME
    b"N": (_none, _push),
    b"\x88": (lambda m: True, _push),
    b"\x89": (lambda m: False, _push),
    b"K": (_number("<B"), _push),  # BININT1
    b"M": (_number("<H"), _push),  # BININT2
    b"J": (_number("<i"), _push),  # BININT
    b"\x8a": (_counted("<B", _long), _push),  # LONG1
    b"G": (_number(">d"), _push),  # BINFLOAT
    b"\x8c": (_counted("<B", _text), _push),  # SHORT_BINUNICODE
    b"X": (_counted("<I", _text), _push),  # BINUNICODE
    b"\x8d": (_counted("<Q", _text), _push),  # BINUNICODE8
    b"C": (_counted("<B", bytes), _push),  # SHORT_BINBYTES
    b"B": (_counted("<I", bytes), _push),  # BINBYTES
    b"\x8e": (_counted("<Q", bytes), _push),  # BINBYTES8
    b"\x96": (_counted("<Q", bytearray), _push),  # BYTEARRAY8
    b")": (lambda m: (), _push),  # EMPTY_TUPLE
    b"]": (lambda m: [], _push),  # EMPTY_LIST
    b"}": (lambda m: {}, _push),  # EMPTY_DICT
    b"\x8f": (lambda m: set(), _push),  # EMPTY_SET
    b"(": (_none, _mark),  # MARK
    b"t": (_none, _tuple),  # TUPLE
    b"\x85": (_none, _tuple_of(1)),  # TUPLE1
    b"\x86": (_none, _tuple_of(2)),  # TUPLE2
    b"\x87": (_none, _tuple_of(3)),  # TUPLE3
    b"a": (_none, _append),  # APPEND
    b"e": (_none, _extend),  # APPENDS
    b"s": (_none, _set_item),  # SETITEM
    b"u": (_none, _set_items),  # SETITEMS
    b"\x90": (_none, _add_to_set),  # ADDITEMS
    b"\x91": (_none, _frozen_set),  # FROZENSET
    b"q": (_number("<B"), _memoize),  # BINPUT
    b"r": (_number("<I"), _memoize),  # LONG_BINPUT
    b"\x94": (_none, _memoize),  # MEMOIZE
    b"h": (_number("<B"), _recall),  # BINGET
    b"j": (_number("<I"), _recall),  # LONG_BINGET
    b"c": (_two_lines, _global),  # GLOBAL
    b"\x93": (_none, _stack_global),  # STACK_GLOBAL
    b"R": (_none, _reduce),  # REDUCE
    b"\x81": (_none, _new_object),  # NEWOBJ
    b"b": (_none, _build),  # BUILD
    b"Q": (_none, _storage),  # BINPERSID
}


def run(
    code: bytes,
    load_storage: Callable[[Any], Any],
    max_tensor_bytes: int,
    max_steps: int = MAX_STEPS,
) -> Any:
    """The value of a pickle. `load_storage` turns a storage's description into the storage.

    Raises:
        UnsafeFileError: it asks for too much, or for what is not data, or is not a pickle.
    """
    return _Machine(code, load_storage, max_tensor_bytes, max_steps).run()
