"""A pickle of Dassl's items -> `Datum`s, opcode by opcode; nothing in it is executed.

Published code keeps its few-shot draws in such files. Anything but an item is refused by name.
"""

import pickletools
from pathlib import Path
from typing import Any

from dassl.data.datasets import Datum

__all__ = ["read_datums"]

ITEM_CLASS = "dassl.data.datasets.base_dataset Datum"
ATTRIBUTES = {"_impath": str, "_label": int, "_domain": int, "_classname": str}
# The largest published one, 16 shots of ImageNet, has 1.5 MB and 300,000 opcodes.
MAX_BYTES = 2**26
MAX_OPCODES = 3_000_000


def read_datums(path: Path) -> dict[str, list[Datum]]:
    """Part (train, mostly val) -> its items, with the paths that the file has.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is torn, too large, or holds something other than items.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No cached draw at {str(path)!r}")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"{str(path)!r} has more than {MAX_BYTES >> 20} MiB: it is not a cached draw"
        )
    try:
        parts = _Machine().run(path.read_bytes())
        return {part: [_datum(item) for item in items] for part, items in parts.items()}
    except OSError as error:
        raise ValueError(f"Cannot read {str(path)!r}: {error.strerror}") from error
    except _RefusedError as error:
        raise ValueError(f"Refused to read {str(path)!r}: {error}. Nothing was executed.") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is torn or not a cached draw; remove it, or get it again"
        ) from error


class _RefusedError(Exception):
    """The file holds what no cached draw holds."""


class _Item:
    """An object of the pickle: its attributes, and no behaviour."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}


class _Machine:
    """The opcodes that protocols 2 to 5 write for dicts of lists of items; others are refused."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # stacks below the open marks
        self.memo: dict[int, Any] = {}  # a dict: an index of 2^31 takes no more than any other

    def run(self, data: bytes) -> dict[str, list[_Item]]:
        """What the pickle holds."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number > MAX_OPCODES:
                raise _RefusedError(f"it has more than {MAX_OPCODES:,} opcodes")
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        (result,) = self.stack
        return result

    def _step(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME":
                return
            case "BININT" | "BININT1" | "BININT2" | "SHORT_BINUNICODE" | "BINUNICODE":
                self.stack.append(argument)
            case "EMPTY_DICT":
                self.stack.append({})
            case "EMPTY_LIST":
                self.stack.append([])
            case "EMPTY_TUPLE":
                self.stack.append(())
            case "MARK":
                self.outer.append(self.stack)
                self.stack = []
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                self._push_class(argument)
            case "STACK_GLOBAL":
                attribute, module = self.stack.pop(), self.stack.pop()
                self._push_class(f"{module} {attribute}")
            case _:
                self._build(name)

    def _push_class(self, name: str) -> None:
        if name != ITEM_CLASS:
            raise _RefusedError(
                f"it asks for {name.replace(' ', '.')}, which is not an item of Dassl"
            )
        self.stack.append(_Item)

    def _build(self, name: str) -> None:
        """The opcodes that put values into the container or object below them."""
        if name in ("APPENDS", "SETITEMS"):
            values, self.stack = self.stack, self.outer.pop()
        elif name in ("APPEND", "BUILD", "NEWOBJ"):
            values = [self.stack.pop()]
        elif name == "SETITEM":
            values = [self.stack.pop(-2), self.stack.pop()]
        else:
            raise _RefusedError(f"it has the opcode {name}, which no cached draw has")
        target = self.stack[-1]
        if name == "NEWOBJ" and target is _Item and values == [()]:
            self.stack[-1] = _Item()
        elif name == "BUILD" and isinstance(target, _Item) and isinstance(values[0], dict):
            target.attributes.update(values[0])
        elif name.startswith("APPEND") and isinstance(target, list):
            target.extend(values)
        elif name.startswith("SETITEM") and isinstance(target, dict):
            target.update(zip(values[::2], values[1::2], strict=True))
        else:
            raise _RefusedError(f"it has the opcode {name} on a {type(target).__name__}")


def _datum(item: _Item) -> Datum:
    values = [item.attributes[name] for name in ATTRIBUTES]
    for (name, kind), value in zip(ATTRIBUTES.items(), values, strict=True):
        if type(value) is not kind:
            raise _RefusedError(f"{name} of an item is {value!r}")
    return Datum.unchecked(*values)
