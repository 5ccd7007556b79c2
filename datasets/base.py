"""What all readers share: lists of items -> few-shot draw -> base or new classes -> checks.

The order matters. The draw runs over all classes with a generator of its own, seeded by SEED: train
first, then validation with at most 4 shots. Base and new classes are cut from that same draw.
"""

import hashlib
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dassl.data.datasets import DatasetBase, Datum
from dassl.errors import RequestError
from datasets.catalog import find
from datasets.draw_cache import cache_file, consult_cache
from datasets.draws import compare_with_published, path_below

__all__ = ["Reader", "Split", "draw_shots", "draw_split", "subsample_classes"]

MAX_VAL_SHOTS = 4


class Split(NamedTuple):
    """The three parts of a data set."""

    train: list[Datum]
    val: list[Datum]
    test: list[Datum]


def draw_shots(items: list[Datum], num_shots: int, rng: random.Random) -> list[Datum]:
    """`num_shots` items of each class, classes in order of first appearance.

    A class with exactly that many items is permuted by the same call; a class with fewer gives all
    its items in order, and draws nothing.
    """
    print(f"Creating a {num_shots}-shot dataset")
    groups: dict[int, list[Datum]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    drawn = []
    for group in groups.values():
        drawn.extend(rng.sample(group, num_shots) if len(group) >= num_shots else group)
    return drawn


def draw_split(split: Split, num_shots: int, seed: int, draws_val: bool = True) -> Split:
    """The few-shot draw over all classes: train, then val; test stays. `seed` < 0: unseeded."""
    rng = random.Random(seed if seed >= 0 else None)
    train = draw_shots(split.train, num_shots, rng)
    val = split.val
    if draws_val:
        val = draw_shots(val, min(num_shots, MAX_VAL_SHOTS), rng)
    return Split(train, val, split.test)


def subsample_classes(split: Split, which: str) -> Split:
    """Keep the first half of the labels of `train` (base), the others (new), or all; renumbered."""
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
        RequestError: names the labels.
    """
    labels = {item.label for item in split.train}
    if gaps := [label for label in range(len(labels)) if label not in labels]:
        raise RequestError(
            f"{source}: no training image has label {_some(gaps)}; labels must be 0..n-1. "
            "Get the split file, or the missing class folder, again."
        )
    for part in ("val", "test"):
        if unknown := sorted({item.label for item in getattr(split, part)} - labels):
            raise RequestError(
                f"{source}: label {_some(unknown)} occurs in {part} but not in train. "
                "Is the split file complete?"
            )


def check_files(items: Sequence[Datum], source: str) -> None:
    """Refuse a data set with missing pictures.

    Raises:
        FileNotFoundError: with their number and the first.
    """
    missing = [item.impath for item in items if not os.path.isfile(item.impath)]
    if not missing:
        return
    remedy = "Unpack the archive again, or correct --root."
    if len(missing) == len(items):
        remedy = "Does the split file belong to another data set, or is --root the wrong folder?"
    raise FileNotFoundError(
        f"{source}: {len(missing):,} of {len(items):,} images are missing, the first is "
        f"{missing[0]!r}. {remedy}"
    )


def shared_names(items: Sequence[Datum]) -> dict[str, list[int]]:
    """The class names that several labels share, with these labels."""
    labels: dict[str, set[int]] = {}
    for item in items:
        labels.setdefault(item.classname, set()).add(item.label)
    return {name: sorted(found) for name, found in labels.items() if len(found) > 1}


def _some(labels: list[int]) -> str:
    return ", ".join(map(str, labels[:5])) + (", ..." if len(labels) > 5 else "")


class Reader(DatasetBase):
    """A data set of the catalog; subclasses say how its lists are read.

    Attributes:
        draw_hash: sha256 of the training items (relative path, label, class name), in order.
        draw_note: how the draw compares with the published one; empty if none was published.
    """

    draws_val = True  # ImageNet's validation list is its test list, and stays whole
    draw_note = ""

    def __init__(self, cfg: Any) -> None:
        c = cfg.DATASET
        self.name = type(self).__name__
        root = Path(c.ROOT).expanduser().absolute()
        self.folder = folder = self.locate(root)
        self.uses_cache = c.FEWSHOT_CACHE
        split = self.read(folder, allow_official=c.OFFICIAL_LISTS)
        check_labels(split, self.name)  # before halves are cut, which renumber and hide a gap
        split = self.select(split, c.NUM_SHOTS, cfg.SEED, c.SUBSAMPLE_CLASSES)
        self.check_files(split)
        for name, labels in shared_names(split.train).items():
            print(f"Labels {_some(labels)} share the class name {name!r}; they stay apart")
        self.draw_hash = hash_items(split.train, folder)
        super().__init__(train_x=split.train, val=split.val or None, test=split.test)

    def locate(self, root: Path) -> Path:
        """The data set's folder below `root`.

        Raises:
            FileNotFoundError: it is not there; the message says whether `root` is a level too low.
        """
        folder = root / find(self.name).folder
        if folder.is_dir():
            return folder
        if root.name == folder.name:
            raise FileNotFoundError(
                f"{self.name}: there is no {folder}; --root must be the folder above, {root.parent}"
            )
        raise FileNotFoundError(
            f"{self.name}: there is no {folder}. --root is the folder that holds {folder.name}/; "
            "scripts/check_data.py says what belongs there and where it comes from."
        )

    def read(self, folder: Path, allow_official: bool) -> Split:
        """All items of the data set in `folder`."""
        raise NotImplementedError

    def select(self, split: Split, num_shots: int, seed: int, which: str) -> Split:
        """The few-shot draw, then base or new classes."""
        if num_shots >= 1:
            split = self.draw(split, num_shots, seed)
        return subsample_classes(split, which)

    def draw(self, split: Split, num_shots: int, seed: int) -> Split:
        """The published draw, or with DATASET.FEWSHOT_CACHE the one in the data set's folder."""
        drawn = draw_split(split, num_shots, seed, self.draws_val)
        cache = cache_file(self.folder, num_shots, seed)
        if self.uses_cache or (seed >= 0 and cache.is_file()):
            names = ("train", "val") if self.draws_val else ("train",)
            lists = {name: getattr(split, name) for name in names}
            ours = {name: getattr(drawn, name) for name in names}
            used = consult_cache(cache, self.folder, lists, ours, is_used=self.uses_cache)
            drawn = drawn._replace(**used)
        self.draw_note = compare_with_published(
            self.name, num_shots, seed, drawn._asdict(), self.folder
        )
        if self.draw_note:
            print(self.draw_note)
        return drawn

    def check_files(self, split: Split) -> None:
        """Refuse missing pictures; only those in use are looked up, once."""
        check_files([*split.train, *split.val, *split.test], self.name)


def hash_items(items: Sequence[Datum], folder: Path) -> str:
    """sha256 over path below `folder`, label and class name of the items, in order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{path_below(item, folder)}\t{item.label}\t{item.classname}\n".encode())
    return digest.hexdigest()
