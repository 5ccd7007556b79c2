"""A path -> what the torch file there holds."""

import io
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dassl.errors import RequestError
from dassl.utils.torchfile.archive import Archive
from dassl.utils.torchfile.limits import (
    MAX_ITEM_STEPS,
    MAX_PICKLE,
    check_tree,
    max_tensor_bytes,
)
from dassl.utils.torchfile.opcodes import run
from dassl.utils.torchfile.records import Record, UnsafeFileError
from dassl.utils.torchfile.tensors import Storages

__all__ = ["named_tensors", "read", "read_pickle"]

_MAX_REASON = 500  # letters of a message, in which names of the file stand
_MAX_PREFIX = 500  # letters of a module's dotted name


def read(path: str | os.PathLike) -> Any:
    """Numbers, text, containers and tensors on the CPU; objects of classes are `Record`s.

    A TorchScript archive gives the record of its module; `named_tensors` makes a state of it.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeFileError: it holds something that is not data, or more than it should.
        RequestError: it is torn, or of another kind. All messages name the file.
    """
    return _read_with(_read, path)


def read_pickle(path: str | os.PathLike) -> Any:
    """What a pickle of plain data and objects holds that lies in a file of its own, as `read`.

    Raises:
        FileNotFoundError, UnsafeFileError, RequestError: as `read`; a tensor in it is no data.
    """
    return _read_with(_read_pickle, path)


def _read_with(read_open: Callable[[io.BufferedIOBase], Any], path: str | os.PathLike) -> Any:
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            return read_open(file)
    except UnsafeFileError as error:
        reason = f"{error}"[:_MAX_REASON]
        raise UnsafeFileError(f"Cannot read {name!r}: {reason}. Nothing was executed.") from None
    except ValueError as error:
        raise RequestError(f"Cannot read {name!r}: {f'{error}'[:_MAX_REASON]}") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RequestError(f"Cannot read {name!r}: {error.strerror}") from error


def _read_pickle(file: io.BufferedIOBase) -> Any:
    code = file.read(MAX_PICKLE + 1)
    if len(code) > MAX_PICKLE:
        raise UnsafeFileError(f"it has more than {MAX_PICKLE >> 20} MiB")
    value = run(code, _no_storage, max_tensor_bytes=0, max_steps=MAX_ITEM_STEPS)
    check_tree(value)
    return value


def _no_storage(described: Any) -> Any:
    raise UnsafeFileError("it holds a tensor without its bytes")


def _read(file: io.BufferedIOBase) -> Any:
    archive = Archive(file)
    roots = [
        name for name in archive.entries if name.count("/") == 1 and name.endswith("/data.pkl")
    ]
    if len(roots) != 1:
        raise RequestError(f"it is a zip of another kind: it holds {len(roots)} */data.pkl")
    root = roots[0].removesuffix("data.pkl")
    _check_byte_order(archive, root)
    code = archive.read(roots[0], MAX_PICKLE)
    value = run(code, Storages(archive, root).load, max_tensor_bytes(archive.size))
    check_tree(value)
    return value


def _check_byte_order(archive: Archive, root: str) -> None:
    name = f"{root}byteorder"  # torch before 2.1 does not write it
    order = archive.read(name, 16).decode("latin-1") if name in archive.entries else "little"
    if order != sys.byteorder:
        raise RequestError(
            f"its numbers are in {order!a} byte order, this machine's are {sys.byteorder}-endian"
        )


def named_tensors(module: Record) -> dict[str, Tensor]:
    """The tensors of a TorchScript module and of the modules in it, by dotted name.

    A module in two places is entered once, and names beyond any model's are left out: a small
    file can have more names than memory has room for.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()

    def visit(record: Record, prefix: str) -> None:
        seen.add(id(record))
        for name, value in record.items():
            if isinstance(value, Tensor):
                found[prefix + name] = value.detach()
            elif isinstance(value, Record) and id(value) not in seen and len(prefix) < _MAX_PREFIX:
                visit(value, f"{prefix}{name}.")

    visit(module, "")
    return found
