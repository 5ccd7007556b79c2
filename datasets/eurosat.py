"""EuroSAT: satellite pictures of ten kinds of land use."""

import random
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Split
from datasets.split_file import SplitFileReader, split_folders

_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}


@DATASET_REGISTRY.register()
class EuroSAT(SplitFileReader):
    """`eurosat/2750/<class>/*.jpg`."""

    def read_official(self, folder: Path, rng: random.Random) -> Split:
        """By class folders."""
        return split_folders(folder / "2750", rng, rename=lambda name: _NAMES.get(name, name))
