"""Folder: pictures of your own, without writing Python: class folders or a CSV -> a split.

`--root DIR` holds one of
    train/CLASS/*, test/CLASS/* and perhaps val/CLASS/*
    CLASS/*, split 50/20/30 by a fixed seed
or DATASET.CSV names a file of `path,label[,split]`, paths relative to `--root`, with a header.
"""

import hashlib
import os
import random
from pathlib import Path
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.errors import RequestError
from dassl.utils.pictures import Ignored, own_suffixes, turned_note
from datasets.base import Reader, Split
from datasets.csv_list import PARTS, Row, check_spelling, read_csv
from datasets.split_file import SPLIT_SEED, cut_in_three, list_classes, read_lines

_TWINS_LIMIT = 2**28  # bytes read to find test pictures among the training pictures


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
        listed = Path(self.csv).expanduser()
        rows = read_csv(listed, folder) if self.csv else read_folders(folder)
        names = sorted({row.label for row in rows})
        label_of = {name: label for label, name in enumerate(names)}
        shown = self._shown_names(names)
        parts: dict[str, list[Datum]] = {part: [] for part in (*PARTS, "")}
        for path, name, part, _ in rows:
            item = Datum.unchecked(path, label_of[name], 0, shown[label_of[name]])
            parts[part].append(item)
        whole = parts.pop("")
        split = _cut(whole) if whole else Split(*parts.values())
        if not split.train or not split.test:
            remedy = "; rename val/ to test/, or add test/" if split.val and split.train else ""
            raise RequestError(
                f"{str(folder)!r} holds {len(split.train)} training and {len(split.test)} test "
                f"pictures; both are needed{remedy}"
            )
        return split

    def check_files(self, split: Split) -> None:
        """As every reader does; then say what of the pictures may surprise."""
        super().check_files(split)
        for note in (turned_note(item.impath for item in split.train), twins_note(split)):
            if note:
                print(note)

    def _shown_names(self, names: list[str]) -> list[str]:
        """The class names for the prompts: the folders' or labels', or a file's lines."""
        if not self.names_file:
            return names
        shown = read_lines(Path(self.names_file).expanduser())
        if len(shown) != len(names):
            raise RequestError(
                f"{self.names_file!r} has {len(shown)} names for {len(names)} classes "
                f"({', '.join(names[:5])}, ...); write one name per line, in this order"
            )
        return shown


def read_folders(folder: Path) -> list[Row]:
    """Every picture; the part is empty if there are no part folders. Says what is ignored.

    Raises:
        FileNotFoundError: there is no train/, or a class has no picture.
        RequestError: two folders are one part, or one class, but for capitals.
    """
    rows, ignored = [], Ignored()
    for part, place in _part_folders(folder).items():
        names = list_classes(place)
        check_spelling({name: str(place / name) for name in names})
        for name in names:
            images, others = _own_images(place / name)
            ignored.update(others)
            where = str(place / name)
            rows += [Row(f"{where}{os.sep}{image}", name, part, where) for image in images]
        ignored.add(path.name for path in place.iterdir() if path.is_file())
    if ignored:
        print(ignored)
    return rows


def _part_folders(folder: Path) -> dict[str, Path]:
    """Part -> its folder, however it is capitalised; the whole folder if it has no parts."""
    found: dict[str, Path] = {}
    for name in list_classes(folder):
        part = name.lower()
        if part in PARTS and part in found:
            raise RequestError(f"{str(folder)!r} has {found[part].name}/ and {name}/; keep one")
        if part in PARTS:
            found[part] = folder / name
    if found and "train" not in found:
        present = [path.name for path in found.values()]
        raise FileNotFoundError(f"{str(folder)!r} has {present} but no train/")
    return {part: found[part] for part in PARTS if part in found} or {"": folder}


def _own_images(folder: Path) -> tuple[list[str], Ignored]:
    """The names of the pictures in a class folder, sorted, and what else is there.

    Raises:
        FileNotFoundError: there is no picture; says what is there instead.
    """
    names, ignored = [], Ignored()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                ignored.subfolders += 1
            elif os.path.splitext(entry.name)[1].lower() in own_suffixes():
                names.append(entry.name)
            else:
                ignored.add([entry.name])
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise FileNotFoundError(f"{str(folder)!r} holds no picture{ignored.brackets()}; add some")
    return sorted(names), ignored


def twins_note(split: Split) -> str:
    """A sentence if test pictures are training pictures under other names; empty if none is.

    Only files of equal size are compared, and not more than _TWINS_LIMIT bytes of them.
    """
    sizes: dict[int, list[str]] = {}
    for item in split.train:
        sizes.setdefault(os.path.getsize(item.impath), []).append(item.impath)
    pairs = [(item.impath, os.path.getsize(item.impath)) for item in split.test]
    alike = [(path, size) for path, size in pairs if size in sizes]
    if sum(size * (1 + len(sizes[size])) for _, size in alike) > _TWINS_LIMIT:
        return ""
    digests = {_digest(path): path for size in {s for _, s in alike} for path in sizes[size]}
    twins = [(path, digests[d]) for path, _ in alike if (d := _digest(path)) in digests]
    if not twins:
        return ""
    test, train = twins[0]
    return f"Note: {len(twins)} test pictures are training pictures too, such as {test} ({train})"


def _digest(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


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
