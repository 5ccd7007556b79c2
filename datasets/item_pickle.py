"""A pickle of Dassl's items -> `Datum`s; nothing in it is executed.

Published code keeps its few-shot draws in such files. Anything but an item is refused by name.
"""

from pathlib import Path
from typing import Any

from dassl.data.datasets import Datum
from dassl.errors import RequestError
from dassl.utils import torchfile

__all__ = ["read_datums"]

ITEM_CLASS = "dassl.data.datasets.base_dataset.Datum"
ATTRIBUTES = {"_impath": str, "_label": int, "_domain": int, "_classname": str}


def read_datums(path: Path) -> dict[str, list[Datum]]:
    """Part (train, mostly val) -> its items, with the paths that the file has.

    Raises:
        FileNotFoundError: there is no such file.
        RequestError: it is torn, too large, or holds something other than items.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No cached draw at {str(path)!r}")
    try:
        parts = torchfile.read_pickle(path)
    except torchfile.UnsafeFileError as error:
        advice = "It is torn or no cached draw; remove it, or get it again"
        raise RequestError(f"{error} {advice}") from None
    if not isinstance(parts, dict) or not all(type(items) is list for items in parts.values()):
        raise RequestError(f"{str(path)!r} is no cached draw: it holds no lists of items")
    return {part: [_datum(item, path) for item in items] for part, items in parts.items()}


def _datum(item: Any, path: Path) -> Datum:
    if not isinstance(item, torchfile.Record) or item.name != ITEM_CLASS:
        raise RequestError(f"{str(path)!r} is no cached draw: a {type(item).__name__} is in a list")
    for name, kind in ATTRIBUTES.items():
        if type(item.get(name)) is not kind:
            raise RequestError(
                f"{str(path)!r} is no cached draw: {name} of an item is {item.get(name)!r:.99}"
            )
    return Datum.unchecked(*(item[name] for name in ATTRIBUTES))
