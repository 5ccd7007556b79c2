"""Oxford Pets: cats and dogs of thirty-seven breeds."""

import random
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.base import Split
from datasets.split_file import SplitFileReader, hold_out, read_lines


@DATASET_REGISTRY.register()
class OxfordPets(SplitFileReader):
    """`oxford_pets/images/*.jpg`, `oxford_pets/annotations/{trainval,test}.txt`."""

    def read_official(self, folder: Path, rng: random.Random) -> Split:
        """The official test list; validation is held out of the official training list."""
        train, val = hold_out(_read_list(folder, "trainval.txt"), rng)
        return Split(train, val, _read_list(folder, "test.txt"))


def _read_list(folder: Path, name: str) -> list[Datum]:
    """Lines `stem class-id species breed-id`; the name is the stem without its number."""
    items = []
    for line in read_lines(folder / "annotations" / name):
        stem, number = line.split()[:2]
        breed = stem.rsplit("_", 1)[0].lower()
        path = str(folder / "images" / f"{stem}.jpg")
        items.append(Datum.unchecked(path, int(number) - 1, 0, breed))
    return items
