"""Folder: pictures of your own, without writing Python: class folders or a CSV -> a split.

`--root DIR` holds one of
    train/CLASS/*, test/CLASS/* and perhaps val/CLASS/*
    CLASS/*, split 50/20/30 by a fixed seed
or DATASET.CSV names a file of `path,label[,split]`, paths relative to `--root`, with a header.
"""

import csv
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.base import Reader, Split
from datasets.split_file import (
    SPLIT_SEED,
    cut_in_three,
    list_classes,
    list_images,
    read_lines,
)

PARTS = Split._fields  # train, val, test


@DATASET_REGISTRY.register()
class Folder(Reader):
    """Pictures of your own; `is_own` makes trainers show what they were given before training."""

    is_own = True

    def __init__(self, cfg: Any) -> None:
        self.csv = cfg.DATASET.CSV
        self.names_file = cfg.DATASET.CLASSNAMES
        super().__init__(cfg)

    def locate(self, root: Path) -> Path:
        """`root` itself.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        if not root.is_dir():
            raise FileNotFoundError(
                f"No folder {str(root)!r}: --root must be the folder of your pictures"
            )
        return root

    def read(self, folder: Path, allow_official: bool) -> Split:
        """All pictures of the folder, or all that the CSV lists."""
        if self.csv:
            rows = list(read_csv(Path(self.csv).expanduser(), folder))
        else:
            rows = list(read_folders(folder))
        names = sorted({name for _, name, _ in rows})
        label_of = {name: label for label, name in enumerate(names)}
        shown = self._shown_names(names)
        parts: dict[str, list[Datum]] = {part: [] for part in (*PARTS, "")}
        for path, name, part in rows:
            item = Datum.unchecked(path, label_of[name], 0, shown[label_of[name]])
            parts[part].append(item)
        whole = parts.pop("")
        split = _cut(whole) if whole else Split(*parts.values())
        if not split.train or not split.test:
            raise ValueError(
                f"{str(folder)!r} holds {len(split.train)} training and {len(split.test)} test "
                "pictures; both are needed"
            )
        return split

    def _shown_names(self, names: list[str]) -> list[str]:
        """The class names for the prompts: the folders' or labels', or a file's lines."""
        if not self.names_file:
            return names
        shown = read_lines(Path(self.names_file).expanduser())
        if len(shown) != len(names):
            raise ValueError(
                f"{self.names_file!r} has {len(shown)} names for {len(names)} classes "
                f"({', '.join(names[:5])}, ...); write one name per line, in this order"
            )
        return shown


def read_folders(folder: Path) -> Iterable[tuple[str, str, str]]:
    """(path, class, part) of every picture; the part is empty if there are no part folders."""
    present = [part for part in PARTS if (folder / part).is_dir()]
    if present and "train" not in present:
        raise FileNotFoundError(f"{str(folder)!r} has {present} but no train/")
    for part in present or [""]:
        for name in list_classes(folder / part):
            for image in list_images(folder / part / name):
                yield str(folder / part / name / image), name, part


def read_csv(path: Path, folder: Path) -> Iterable[tuple[str, str, str]]:
    """(path, label, part) of every row.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a split is none of train, val, test.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No file {str(path)!r} (DATASET.CSV)")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := {"path", "label"} - set(reader.fieldnames or ()):
            raise ValueError(
                f"{str(path)!r} lacks the column {sorted(missing)}; its first line must be "
                "path,label or path,label,split"
            )
        for number, row in enumerate(reader, start=2):
            part = row.get("split") or ""
            if part and part not in PARTS:
                raise ValueError(f"{str(path)!r}, line {number}: split {part!r} is not in {PARTS}")
            yield str(folder / row["path"]), row["label"], part


def _cut(items: list[Datum]) -> Split:
    groups: dict[int, list[Datum]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    rng, parts = random.Random(SPLIT_SEED), Split([], [], [])
    for group in groups.values():
        cut = cut_in_three(group, rng, f"class {group[0].classname!r}")
        for part, chosen in zip(parts, cut, strict=True):
            part.extend(chosen)
    return parts
