"""Caltech101: objects of a hundred kinds."""

import random
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Split
from datasets.split_file import SplitFileReader, split_folders

_IGNORED = ("BACKGROUND_Google", "Faces_easy")
_NAMES = {
    "airplanes": "airplane",
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
}


@DATASET_REGISTRY.register()
class Caltech101(SplitFileReader):
    """`caltech-101/101_ObjectCategories/<class>/*.jpg`."""

    def read_official(self, folder: Path, rng: random.Random) -> Split:
        """By class folders."""
        images = folder / "101_ObjectCategories"
        return split_folders(images, rng, _IGNORED, lambda name: _NAMES.get(name, name))
