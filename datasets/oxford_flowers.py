"""Oxford Flowers: flowers of a hundred and two kinds."""

import random
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.utils import read_json
from datasets.base import Split
from datasets.split_file import SplitFileReader, cut_in_three


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitFileReader):
    """`oxford_flowers/jpg/image_*.jpg`, `imagelabels.mat`, `cat_to_name.json`."""

    def read_official(self, folder: Path, rng: random.Random) -> Split:
        """By the labels of all pictures, classes in order of first appearance."""
        from scipy.io import loadmat

        for name in ("imagelabels.mat", "cat_to_name.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"No {name} in {str(folder)!r}: it comes with the images")
        names = read_json(str(folder / "cat_to_name.json"))
        groups: dict[int, list[Datum]] = {}
        for number, label in enumerate(loadmat(str(folder / "imagelabels.mat"))["labels"][0], 1):
            path = str(folder / "jpg" / f"image_{number:05d}.jpg")
            item = Datum.unchecked(path, int(label) - 1, 0, names[str(label)])
            groups.setdefault(int(label), []).append(item)
        parts = Split([], [], [])
        for label, group in groups.items():
            cut = cut_in_three(group, rng, f"{folder}, label {label}")
            for part, chosen in zip(parts, cut, strict=True):
                part.extend(chosen)
        return parts
