"""EuroSAT: satellite pictures of ten kinds of land use."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import SplitFileDataset


@DATASET_REGISTRY.register()
class EuroSAT(SplitFileDataset):
    """`eurosat/2750/<class>/*.jpg` with `eurosat/split_zhou_EuroSAT.json`."""

    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
