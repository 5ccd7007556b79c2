"""A table from a name that users type to the class behind it."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar, overload

from dassl.utils.tools import get_most_similar_str_to_a_from_b

T = TypeVar("T")


class NameTaken(KeyError):
    """A name is registered already; the message says by which file."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would quote it


class Registry:
    """Objects by their `__name__`; `register()` is a decorator, `register(obj)` a plain call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._objects: dict[str, Any] = {}

    @overload
    def register(self, obj: None = None, force: bool = False) -> Callable[[T], T]: ...

    @overload
    def register(self, obj: Callable, force: bool = False) -> None: ...

    def register(self, obj: Any = None, force: bool = False) -> Callable | None:
        """Enter `obj`, or return a decorator that does.

        Raises:
            NameTaken: a KeyError; the name is taken and `force` is False.
        """
        if obj is not None:
            self._add(obj.__name__, obj, force)
            return None

        def decorate(obj: Any) -> Any:
            self._add(obj.__name__, obj, force)
            return obj

        return decorate

    def _add(self, name: str, obj: Any, force: bool) -> None:
        if name in self._objects and not force:
            raise NameTaken(
                f"An object named {name!r} is already registered in {self._name!r}, by "
                f"{self.source(name)}"
            )
        self._objects[name] = obj

    def get(self, name: str) -> Any:
        """The object of that name.

        Raises:
            KeyError: nothing is registered under it; the message lists what is.
        """
        if name not in self._objects:
            known = self.registered_names()
            nearest = get_most_similar_str_to_a_from_b(name, known)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            raise KeyError(
                f"Object named {name!r} is not in the registry {self._name!r} ({known}).{hint}"
            )
        return self._objects[name]

    def source(self, name: str) -> str:
        """The file that defines the object of that name, or the name of its module."""
        module = self.get(name).__module__
        return getattr(sys.modules.get(module), "__file__", None) or module

    def registered_names(self) -> list[str]:
        """All names, in order of registration."""
        return list(self._objects)
