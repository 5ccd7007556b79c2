"""Modules of one's own: a file outside the repository -> the trainers and data sets it registers.

A file is loaded once, under a module name that holds its path. Any process that unpickles an object
of the file, a spawned worker of a data loader for instance, finds the file by that name alone.
"""

import contextlib
import hashlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import RequestError
from dassl.utils.registry import NameTaken, Registry
from trainer import config

__all__ = ["files_of", "load_module", "load_modules", "own_datasets", "registered_by"]

__path__: list[str] = []  # makes `import` ask for modules below this one
_PREFIX = f"{__name__}."
_digests: dict[str, str] = {}  # module -> sha256 of the text that was executed


def load_modules(trainer_modules: Iterable[str] = (), dataset_modules: Iterable[str] = ()) -> None:
    """Load files that register trainers, and files that register data sets.

    Raises:
        FileNotFoundError, RequestError: as `load_module`; or a file registers nothing of its kind.
    """
    for path in trainer_modules:
        if not registered_by(TRAINER_REGISTRY, load_module(path)):
            raise RequestError(
                f"{path} registers no trainer; put @TRAINER_REGISTRY.register() above its class"
            )
    for path in dataset_modules:
        if not registered_by(DATASET_REGISTRY, load_module(path)):
            raise RequestError(
                f"{path} registers no data set; put @DATASET_REGISTRY.register() above its class"
            )


def load_module(path: str) -> ModuleType:
    """The module in the file `path`; it is executed once in a process.

    Raises:
        FileNotFoundError: there is no such file.
        RequestError: it is no Python, imports what is not there, registers a name that is taken, or
            was changed since it was loaded; with the file and, where there is one, the line.
    """
    file = os.path.realpath(os.path.expanduser(path))
    if not os.path.isfile(file):
        raise FileNotFoundError(f"There is no file {path!r} to load a module from")
    if not file.endswith(".py"):
        raise RequestError(
            f"{path!r} is not a .py file, and only such a file is loaded as a module"
        )
    name = _name_of(file)
    if name in sys.modules:
        if _sha256(Path(file).read_bytes()) != _digests[name]:
            raise RequestError(f"{file} has changed since it was loaded; start Python again")
        return sys.modules[name]
    with _undone_if_it_fails(), _errors_of(file):
        return importlib.import_module(name)


def registered_by(registry: Registry, module: ModuleType) -> list[str]:
    """The names that a module has registered."""
    names = registry.registered_names()
    return [name for name in names if registry.get(name).__module__ == module.__name__]


def own_datasets() -> dict[str, str]:
    """Registered name -> file of the data sets that loaded modules define."""
    classes = {name: DATASET_REGISTRY.get(name) for name in DATASET_REGISTRY.registered_names()}
    own = {name: found.__module__ for name, found in classes.items()}
    return {name: _path_of(module) for name, module in own.items() if module in _digests}


def files_of(*classes: type) -> dict[str, str]:
    """File name -> sha256 of the loaded modules that define the classes, or a base of them."""
    names = {base.__module__ for one in classes for base in one.__mro__}
    ours = sorted(names & _digests.keys())
    return {os.path.basename(_path_of(name)): _digests[name] for name in ours}


class _Loader(SourceFileLoader):
    """Writes no bytecode: the file's folder stays as it is, and its text alone is executed."""

    def get_code(self, fullname: str) -> CodeType:
        """The compiled text."""
        path = self.get_filename(fullname)
        text = self.get_data(path)
        _digests[fullname] = _sha256(text)
        try:
            return self.source_to_code(text, path)
        except SyntaxError as error:
            raise RequestError(f"{path}, line {error.lineno}: {error.msg}") from error
        except ValueError as error:  # a zero byte, before Python 3.12
            raise RequestError(f"{path}: {error}") from error


class _Finder:
    """Finds the modules below this one by their names, in whatever process."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As importlib asks."""
        if not fullname.startswith(_PREFIX):
            return None
        file = _path_of(fullname)
        return spec_from_file_location(fullname, file, loader=_Loader(fullname, file))


def _name_of(file: str) -> str:
    # An identifier, since compilers of Python code make variables of such names.
    encoded = re.sub(rb"[^A-Za-z0-9]", lambda found: b"_%02x" % found[0][0], os.fsencode(file))
    return _PREFIX + encoded.decode()


def _path_of(name: str) -> str:
    encoded = name.removeprefix(_PREFIX).encode()
    return os.fsdecode(re.sub(rb"_(..)", lambda found: bytes.fromhex(found[1].decode()), encoded))


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


@contextlib.contextmanager
def _undone_if_it_fails() -> Iterator[None]:
    """Let a file that fails register nothing, so that it can be loaded once it is mended."""
    tables = (TRAINER_REGISTRY._objects, DATASET_REGISTRY._objects, config._METHODS)
    before = [dict(table) for table in tables]
    try:
        yield
    except BaseException:
        for table, entries in zip(tables, before, strict=True):
            table.clear()
            table.update(entries)
        raise


@contextlib.contextmanager
def _errors_of(file: str) -> Iterator[None]:
    """Let what is wrong with the file's request name its line; bugs in it keep their traceback."""
    try:
        yield
    except ImportError as error:
        raise _located(error, file, f"{error}; install it, or correct the import") from error
    except NameTaken as error:
        raise _located(error, file, f"{error}; choose another name") from error
    except RequestError as error:
        raise _located(error, file, str(error)) from error


def _located(error: Exception, file: str, sentence: str) -> RequestError:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    # What does not compile has no frame, and says its line itself.
    return RequestError(f"{file}, line {lines[-1]}: {sentence}" if lines else sentence)


sys.meta_path.append(_Finder)
