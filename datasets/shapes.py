"""Shapes: the generated pictures of the demo, laid out as EuroSAT is."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset


@DATASET_REGISTRY.register()
class Shapes(SplitFileDataset):
    """`shapes/images/<class>/*.png` with `shapes/split_shapes.json`; `make demo` draws them."""

    dataset_dir = "shapes"
    image_dir = "images"
    split_file = "split_shapes.json"
