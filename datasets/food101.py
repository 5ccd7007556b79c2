"""Food101: dishes of a hundred and one kinds."""

import random
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Split
from datasets.split_file import SplitFileReader, split_folders


@DATASET_REGISTRY.register()
class Food101(SplitFileReader):
    """`food-101/images/<class>/*.jpg`."""

    def read_official(self, folder: Path, rng: random.Random) -> Split:
        """By class folders; the archive's own lists are not used."""
        return split_folders(folder / "images", rng)
