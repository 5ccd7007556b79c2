"""What all readers share: split file -> lists of items -> few-shot draw -> base or new classes.

The order matters. The draw runs over all classes with a generator of its own, seeded by SEED: train
first, then validation with at most 4 shots. Base and new classes are cut from that same draw.
"""

import hashlib
import os
import random
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import read_json

__all__ = ["Split", "SplitFileDataset", "draw_shots", "read_split", "subsample_classes"]

MAX_VAL_SHOTS = 4


class Split(NamedTuple):
    """The three parts of a data set."""

    train: list[Datum]
    val: list[Datum]
    test: list[Datum]


def read_split(path: Path, image_dir: Path) -> Split:
    """The items of a split file in its order: `[path, label, class name]` under train, val, test.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key is missing, or a path leaves `image_dir`.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"No split file at {str(path)!r}. Is --root the folder that holds {path.parent.name}/? "
            "The README's section on data says where the file comes from."
        )
    print(f"Reading split from {path}")
    split = read_json(str(path))
    if missing := [part for part in Split._fields if part not in split]:
        raise ValueError(f"{str(path)!r} has no {missing}: it is not a split file")
    return Split(*(_items(split[part], image_dir, path) for part in Split._fields))


def _items(rows: Sequence[Sequence], image_dir: Path, source: Path) -> list[Datum]:
    prefix = f"{image_dir}{os.sep}"
    items = []
    for name, label, classname in rows:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ValueError(
                f"{str(source)!r} lists {name!r}, which lies outside {str(image_dir)!r}"
            )
        items.append(Datum.unchecked(prefix + name, int(label), 0, classname))
    return items


def draw_shots(items: list[Datum], num_shots: int, rng: random.Random) -> list[Datum]:
    """`num_shots` items of each class, classes in order of first appearance.

    A class of exactly that many is permuted by the same call; one of fewer gives all it has, in
    order, without a call.
    """
    print(f"Creating a {num_shots}-shot dataset")
    groups: dict[int, list[Datum]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    drawn = []
    for group in groups.values():
        drawn.extend(rng.sample(group, num_shots) if len(group) >= num_shots else group)
    return drawn


def subsample_classes(split: Split, which: str) -> Split:
    """The first half of the labels of `train` (base), the others (new), or all; from 0 again."""
    if which == "all":
        return split
    labels = sorted({item.label for item in split.train})
    half = -(-len(labels) // 2)
    print(f"SUBSAMPLE {which.upper()} CLASSES!")
    chosen = labels[:half] if which == "base" else labels[half:]
    new_label = {label: number for number, label in enumerate(chosen)}
    return Split(*(_relabel(part, new_label) for part in split))


def _relabel(items: list[Datum], new_label: dict[int, int]) -> list[Datum]:
    return [
        Datum.unchecked(item.impath, new_label[item.label], item.domain, item.classname)
        for item in items
        if item.label in new_label
    ]


def check_labels(split: Split, source: str) -> None:
    """Refuse gaps in the training labels, and test or validation labels that training lacks.

    Raises:
        ValueError: names the labels.
    """
    labels = {item.label for item in split.train}
    if gaps := sorted(set(range(max(labels, default=-1) + 1)) - labels):
        raise ValueError(
            f"{source}: no training image has label {_some(gaps)}; labels must be 0..n-1"
        )
    for part in ("val", "test"):
        if unknown := sorted({item.label for item in getattr(split, part)} - labels):
            raise ValueError(f"{source}: {part} has label {_some(unknown)}, which train has not")


def check_files(items: Sequence[Datum], source: str) -> None:
    """Refuse a data set with missing pictures.

    Raises:
        FileNotFoundError: with their number and the first.
    """
    missing = [item.impath for item in items if not os.path.isfile(item.impath)]
    if missing:
        raise FileNotFoundError(
            f"{source}: {len(missing):,} of {len(items):,} images are missing, the first is "
            f"{missing[0]!r}. Unpack the archive again, or correct --root."
        )


def _some(labels: list[int]) -> str:
    return ", ".join(map(str, labels[:5])) + (", ..." if len(labels) > 5 else "")


class SplitFileDataset(DatasetBase):
    """A data set with a split file; subclasses name folders and file.

    Attributes:
        draw_hash: sha256 of the training items (relative path, label, class name), in order.
    """

    dataset_dir: str
    image_dir: str
    split_file: str

    def __init__(self, cfg: Any) -> None:
        root = Path(cfg.DATASET.ROOT).expanduser().absolute()
        folder = root / self.dataset_dir
        image_dir = folder / self.image_dir
        split = read_split(folder / self.split_file, image_dir)
        num_shots = cfg.DATASET.NUM_SHOTS
        if num_shots >= 1:
            rng = random.Random(cfg.SEED if cfg.SEED >= 0 else None)
            train = draw_shots(split.train, num_shots, rng)
            split = Split(
                train, draw_shots(split.val, min(num_shots, MAX_VAL_SHOTS), rng), split.test
            )
        split = subsample_classes(split, cfg.DATASET.SUBSAMPLE_CLASSES)
        name = type(self).__name__
        check_labels(split, name)
        check_files([*split.train, *split.val, *split.test], name)
        self.draw_hash = hash_items(split.train, image_dir)
        super().__init__(train_x=split.train, val=split.val, test=split.test)


def hash_items(items: Sequence[Datum], image_dir: Path) -> str:
    """sha256 over relative path, label and class name of the items, in order."""
    digest = hashlib.sha256()
    for item in items:
        path = PurePosixPath(os.path.relpath(item.impath, image_dir).replace(os.sep, "/"))
        digest.update(f"{path}\t{item.label}\t{item.classname}\n".encode())
    return digest.hexdigest()
