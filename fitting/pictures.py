"""Own pictures as they lie -> one list with training, validation and test parts, for all methods.

What the pictures have no part for is cut from the training pictures of each class, by a seed.
"""

import csv
import io
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dassl.data.datasets import Datum
from dassl.errors import RequestError, read_text
from dassl.utils.pictures import turned_note
from dassl.whole_files import write_text
from datasets.base import Split
from datasets.check import unreadable_files
from datasets.csv_list import PARTS, Row, read_csv
from datasets.folder import read_folders, twins_note

__all__ = ["FEW", "Pictures", "read_pictures", "write_list"]

FEW = 4  # pictures of a class; with fewer some part goes without it
_SHARES = {"test": 0.3, "val": 0.2}  # of a class, where there is no such part


class Pictures(NamedTuple):
    """All pictures with their parts, and what their owner should know of them."""

    root: Path
    rows: list[Row]  # each with a part
    cut: tuple[str, ...]  # parts that were cut here
    notes: list[str]

    @property
    def classnames(self) -> list[str]:
        """In label order."""
        return sorted({row.label for row in self.rows})

    def count(self, part: str) -> int:
        """Pictures of a part."""
        return sum(row.part == part for row in self.rows)


def read_pictures(source: Path, seed: int) -> Pictures:
    """The pictures of a folder, or of a CSV beside them, read and decoded once.

    Raises:
        FileNotFoundError: there is nothing, or a class has no picture.
        RequestError: a list is wrong, a picture cannot be read, or there is a single class.
    """
    if not source.exists():
        raise FileNotFoundError(f"No folder and no list of pictures at {str(source)!r}")
    root = source if source.is_dir() else source.parent
    rows = read_folders(source) if source.is_dir() else read_csv(source, root)
    names = sorted({row.label for row in rows})
    if len(names) < 2:
        raise RequestError(
            f"{str(source)!r} has {len(names)} class; give a folder for each class, two or more"
        )
    if bad := unreadable_files([_datum(row, names) for row in rows]):
        raise RequestError(f"{len(bad)} pictures cannot be used: {bad[0]}")
    rows, cut = cut_missing(rows, seed)
    return Pictures(root, rows, cut, _notes(rows, names))


def cut_missing(rows: Sequence[Row], seed: int) -> tuple[list[Row], tuple[str, ...]]:
    """(the rows, each with a part, sorted by class and path; the parts that were cut here).

    A class keeps one training picture at least; the test part comes before validation.
    """
    missing = tuple(part for part in _SHARES if all(row.part != part for row in rows))
    rng = random.Random(seed)
    found = [row for row in rows if row.part in _SHARES]
    for label in sorted({row.label for row in rows}):
        pool = sorted((r for r in rows if r.label == label and r.part not in _SHARES), key=_path)
        rng.shuffle(pool)
        left = len(pool)
        for part in missing:
            count = min(max(1, round(_SHARES[part] * len(pool))), max(0, left - 1))
            found += [row._replace(part=part) for row in pool[left - count : left]]
            left -= count
        found += [row._replace(part="train") for row in pool[:left]]
    return sorted(found, key=lambda row: (row.label, row.path)), missing


def _path(row: Row) -> str:
    return row.path


def _datum(row: Row, names: list[str]) -> Datum:
    return Datum.unchecked(row.path, names.index(row.label), 0, row.label)


def _notes(rows: list[Row], names: list[str]) -> list[str]:
    """Sentences on small classes, pictures in two parts, and turned ones."""
    counts = Counter(row.label for row in rows)
    few = [f"{name} ({counts[name]})" for name in names if counts[name] < FEW]
    parts = {p: [_datum(row, names) for row in rows if row.part == p] for p in PARTS}
    tested = twins_note(Split(parts["train"] + parts["val"], [], parts["test"]))
    validated = twins_note(Split(parts["train"], [], parts["val"]))
    notes = [
        f"Note: fewer than {FEW} pictures in {', '.join(few)}: some part goes without" * bool(few),
        tested.replace("are training pictures too", "are training or validation pictures too"),
        validated.replace("test pictures", "validation pictures"),
        turned_note(row.path for row in rows),
    ]
    return [note for note in notes if note]


def write_list(pictures: Pictures, path: Path) -> None:
    """Write `path,label,split`, which all methods read; a list that is there must be the same.

    Raises:
        RequestError: the folder has the list of other pictures, or of another seed.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "split"])
    for row in pictures.rows:
        writer.writerow([os.path.relpath(row.path, pictures.root), row.label, row.part])
    if not path.exists():
        write_text(path, text.getvalue())
    elif read_text(path) != text.getvalue():
        raise RequestError(
            f"{path} is of other pictures or another --seed; give another --out, or remove "
            f"{path.parent}"
        )
