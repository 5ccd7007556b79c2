"""The fifteen data sets in one table: their three spellings, places, sizes and sources.

Sizes are the published ones; split files and class names are on Google Drive under these ids.
"""

from typing import NamedTuple

from dassl.errors import RequestError

__all__ = ["CATALOG", "ELEVEN", "VARIANTS", "Entry", "find"]


class Entry(NamedTuple):
    """What is known of one data set."""

    config: str  # stem of configs/datasets/*.yaml
    name: str  # registered, DATASET.NAME
    folder: str  # below DATASET.ROOT
    images: str  # below `folder`: what the split file's paths are relative to
    split_file: str  # in `folder`; empty: none exists
    drive_id: str  # of the split file, or of classnames.txt
    classes: int
    train: int
    val: int
    test: int
    sources: tuple[str, ...]  # what to fetch, and what to unpack where

    @property
    def list_file(self) -> str:
        """The file in `folder` that names the items, or the classes."""
        return self.split_file or "classnames.txt"


_ZHOU = "split_zhou_{}.json"
_CLASSNAMES = "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"

CATALOG = (
    Entry(
        "imagenet", "ImageNet", "imagenet", "images", "", _CLASSNAMES, 1000, 1281167, 50000, 50000,
        (
            "https://image-net.org/index.php (account needed): ILSVRC 2012, unpacked to "
            "images/train/<wnid>/ and images/val/<wnid>/; the val archive is flat and has to be "
            "sorted into class folders",
        ),
    ),
    Entry(
        "caltech101", "Caltech101", "caltech-101", "101_ObjectCategories",
        _ZHOU.format("Caltech101"), "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", 100, 4128, 1649, 2465,
        (
            "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip, which holds "
            "101_ObjectCategories.tar.gz",
        ),
    ),
    Entry(
        "oxford_pets", "OxfordPets", "oxford_pets", "images",
        _ZHOU.format("OxfordPets"), "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs", 37, 2944, 736, 3669,
        ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",),
    ),
    Entry(
        "stanford_cars", "StanfordCars", "stanford_cars", "",
        _ZHOU.format("StanfordCars"), "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT", 196, 6509, 1635, 8041,
        (
            "the official archives are gone since 2023; pytorch/vision issue 7545 lists "
            "substitutes for cars_train.tgz and cars_test.tgz",
        ),
    ),
    Entry(
        "oxford_flowers", "OxfordFlowers", "oxford_flowers", "jpg",
        _ZHOU.format("OxfordFlowers"), "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT", 102, 4093, 1633, 2463,
        ("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",),
    ),
    Entry(
        "food101", "Food101", "food-101", "images",
        _ZHOU.format("Food101"), "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl", 101, 50500, 20200, 30300,
        ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
    ),
    Entry(
        "fgvc_aircraft", "FGVCAircraft", "fgvc_aircraft", "images", "", "",
        100, 3334, 3333, 3333,
        (
            "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/"
            "fgvc-aircraft-2013b.tar.gz: its data/ becomes fgvc_aircraft/",
        ),
    ),
    Entry(
        "sun397", "SUN397", "sun397", "SUN397",
        _ZHOU.format("SUN397"), "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq", 397, 15880, 3970, 19850,
        (
            "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz (often gone; "
            "pytorch/vision issue 9348 follows what replaces it)",
        ),
    ),
    Entry(
        "dtd", "DescribableTextures", "dtd", "images",
        _ZHOU.format("DescribableTextures"), "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x",
        47, 2820, 1128, 1692,
        ("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",),
    ),
    Entry(
        "eurosat", "EuroSAT", "eurosat", "2750",
        _ZHOU.format("EuroSAT"), "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o", 10, 13500, 5400, 8100,
        ("EuroSAT.zip (RGB) of Zenodo record 7711810, or madm.dfki.de/files/sentinel/EuroSAT.zip",),
    ),
    Entry(
        "ucf101", "UCF101", "ucf101", "UCF-101-midframes",
        _ZHOU.format("UCF101"), "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y", 101, 7639, 1898, 3783,
        ("UCF-101-midframes.zip: gdown 10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O",),
    ),
    Entry(
        "imagenetv2", "ImageNetV2", "imagenetv2", "imagenetv2-matched-frequency-format-val",
        "", _CLASSNAMES, 1000, 10000, 0, 10000,
        ("imagenetv2-matched-frequency.tar.gz of https://github.com/modestyachts/ImageNetV2",),
    ),
    Entry(
        "imagenet_sketch", "ImageNetSketch", "imagenet-sketch", "images", "", _CLASSNAMES,
        1000, 50889, 0, 50889,
        ("https://github.com/HaohanWang/ImageNet-Sketch: its class folders go to images/",),
    ),
    Entry(
        "imagenet_a", "ImageNetA", "imagenet-adversarial", "imagenet-a", "", _CLASSNAMES,
        200, 7500, 0, 7500,
        ("https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",),
    ),
    Entry(
        "imagenet_r", "ImageNetR", "imagenet-rendition", "imagenet-r", "", _CLASSNAMES,
        200, 30000, 0, 30000,
        ("https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",),
    ),
)  # fmt: skip
# Of ImageNet, evaluated alone.
VARIANTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
ELEVEN = tuple(entry.config for entry in CATALOG if entry.config not in VARIANTS)


def find(name: str) -> Entry:
    """The entry of that name, in any of its three spellings.

    Raises:
        RequestError: there is none; the known ones are listed.
    """
    for entry in CATALOG:
        if name in (entry.config, entry.name, entry.folder):
            return entry
    known = ", ".join(entry.config for entry in CATALOG)
    raise RequestError(f"Unknown data set {name!r}; choose from {known}")
