"""Readers with a split file: `[path, label, class name]` under train, val and test.

Where the file is absent, official lists or folders can stand in, if DATASET.OFFICIAL_LISTS allows
it. Such a split is the same on every machine, but it is not the published one.
"""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from dassl.data.datasets import Datum
from dassl.errors import RequestError, read_text
from dassl.utils import read_json
from dassl.utils.pictures import IMAGE_SUFFIXES
from datasets.base import Reader, Split
from datasets.catalog import find

__all__ = [
    "SplitFileReader",
    "cut_in_three",
    "hold_out",
    "list_classes",
    "list_images",
    "read_lines",
    "split_folders",
]

SPLIT_SEED = 1  # of splits made here, whatever SEED a run has


class SplitFileReader(Reader):
    """Reads the split file or, if allowed, what `read_official` makes of the official lists."""

    def read(self, folder: Path, allow_official: bool) -> Split:
        """All items of the data set in `folder`.

        Raises:
            FileNotFoundError: there is no split file, and doing without is not allowed.
        """
        entry = find(self.name)
        path = folder / entry.split_file
        if path.is_file():
            print(f"Reading split from {path}")
            return read_split(path, folder / entry.images)
        if not allow_official:
            raise FileNotFoundError(
                f"{self.name}: no split file at {str(path)!r}. Fetch it with 'gdown "
                f"{entry.drive_id}', or set DATASET.OFFICIAL_LISTS True for a split of your own, "
                "whose results are not comparable with the published ones."
            )
        print(
            f"NOT THE PUBLISHED SPLIT: {path} is absent, {self.name} is split by its official lists"
        )
        return self.read_official(folder, random.Random(SPLIT_SEED))

    def read_official(self, folder: Path, rng: random.Random) -> Split:
        """A split from what the archive itself holds."""
        raise NotImplementedError


def read_split(path: Path, image_dir: Path) -> Split:
    """The items of a split file in its order.

    Raises:
        RequestError: a key is missing, an entry is no `[path, label, class name]`, or a path leaves
            `image_dir`.
    """
    split = _read_lists(path)
    count = sum(len(split[part]) for part in Split._fields)
    return Split(*(_items(split[part], part, count, image_dir, path) for part in Split._fields))


def _read_lists(path: Path) -> dict[str, list]:
    split = read_json(str(path))
    if not isinstance(split, dict):
        raise RequestError(f"{str(path)!r} holds no lists: it is not a split file. Fetch it again.")
    if missing := [part for part in Split._fields if not isinstance(split.get(part), list)]:
        raise RequestError(
            f"{str(path)!r} has no {missing}: it is not a split file. Fetch it again."
        )
    return split


def _check_entry(row: Any, count: int, where: str) -> None:
    """Refuse what is no `[path, label, class name]` of a split file with `count` entries."""
    if not isinstance(row, list) or [type(value) for value in row] != [str, int, str]:
        raise RequestError(
            f"{where} is {row!r}, not [path, label, class name]; fetch the file again"
        )
    name, label, classname = row
    # labels are 0 .. n-1 and every one has a picture, so none can reach the number of entries
    if not 0 <= label < count:
        raise RequestError(f"{where}: the label {label} of {name!r} is not one of 0..n-1")
    if not name or not classname.strip(" _"):
        raise RequestError(f"{where} is {row!r}: its path or class name is empty")


def _items(
    rows: Sequence[Any], part: str, count: int, image_dir: Path, source: Path
) -> list[Datum]:
    prefix = f"{image_dir}{os.sep}"
    items = []
    for number, row in enumerate(rows):
        _check_entry(row, count, f"{str(source)!r}, {part} entry {number}")
        name, label, classname = row
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise RequestError(
                f"{str(source)!r} lists {name!r}, which lies outside {str(image_dir)!r}. "
                "Paths in a split file are relative to that folder; fetch the published file."
            )
        items.append(Datum.unchecked(prefix + name, label, 0, classname))
    return items


def read_lines(path: Path) -> list[str]:
    """The lines of an official list, stripped, without blank ones.

    Raises:
        FileNotFoundError: there is no such list.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"No list at {str(path)!r}: it comes with the data set's official archive"
        )
    lines = read_text(path).split("\n")
    return [line.strip() for line in lines if line.strip()]


def list_classes(folder: Path) -> list[str]:
    """The class folders in `folder`, sorted by code point; files are ignored.

    Raises:
        FileNotFoundError: there is no such folder, or no folder in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {str(folder)!r}: unpack the images there")
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    if not names:
        raise FileNotFoundError(f"{str(folder)!r} holds no class folder: unpack the images there")
    return sorted(names)


def list_images(folder: Path) -> list[str]:
    """The names of the pictures in a class folder, sorted.

    Raises:
        FileNotFoundError: there is none.
    """
    with os.scandir(folder) as entries:
        names = [
            e.name
            for e in entries
            if not e.name.startswith(".") and os.path.splitext(e.name)[1].lower() in IMAGE_SUFFIXES
        ]
    if not names:
        raise FileNotFoundError(f"{str(folder)!r} holds no picture: unpack the archive again")
    return sorted(names)


def split_folders(
    image_dir: Path,
    rng: random.Random,
    ignored: Sequence[str] = (),
    rename: Callable[[str], str] = str,
) -> Split:
    """Class folders, each shuffled once and cut 50/20/30; labels in the folders' sorted order."""
    parts = Split([], [], [])
    names = [name for name in list_classes(image_dir) if name not in ignored]
    for label, name in enumerate(names):
        folder = image_dir / name
        paths = [f"{folder}{os.sep}{image}" for image in list_images(folder)]
        items = [Datum.unchecked(path, label, 0, rename(name)) for path in paths]
        for part, chosen in zip(parts, cut_in_three(items, rng, str(folder)), strict=True):
            part.extend(chosen)
    return parts


def cut_in_three(items: list[Datum], rng: random.Random, source: str) -> Split:
    """One class, shuffled once and cut 50/20/30, rounded half to even.

    Raises:
        RequestError: a part would be empty.
    """
    items = list(items)
    rng.shuffle(items)
    num_train, num_val = round(0.5 * len(items)), round(0.2 * len(items))
    parts = items[:num_train], items[num_train : num_train + num_val], items[num_train + num_val :]
    if not all(parts):
        raise RequestError(f"{source} has {len(items)} pictures, too few to cut 50/20/30; add some")
    return Split(*parts)


def hold_out(train: list[Datum], rng: random.Random) -> tuple[list[Datum], list[Datum]]:
    """(train, val) from the official training list: a fifth of each class, at least one, is val.

    Classes in order of first appearance; each class's positions are shuffled once.
    """
    groups: dict[int, list[Datum]] = {}
    for item in train:
        groups.setdefault(item.label, []).append(item)
    kept: list[Datum] = []
    held: list[Datum] = []
    for group in groups.values():
        num_val = max(1, round(0.2 * len(group)))
        order = list(range(len(group)))
        rng.shuffle(order)
        held.extend(group[i] for i in order[:num_val])
        kept.extend(group[i] for i in order[num_val:])
    return kept, held
