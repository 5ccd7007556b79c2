"""Stanford Cars: cars of a hundred and ninety-six makes."""

import random
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.base import Split
from datasets.split_file import SplitFileReader, hold_out


@DATASET_REGISTRY.register()
class StanfordCars(SplitFileReader):
    """`stanford_cars/cars_{train,test}/*.jpg`, annotations as MATLAB files."""

    def read_official(self, folder: Path, rng: random.Random) -> Split:
        """The official test list; validation is held out of the official training list."""
        names = [_year_first(str(name[0])) for name in _load(folder / "devkit/cars_meta.mat")]
        train = _read_list(folder, "cars_train", "devkit/cars_train_annos.mat", names)
        test = _read_list(folder, "cars_test", "cars_test_annos_withlabels.mat", names)
        train, val = hold_out(train, rng)
        return Split(train, val, test)


def _read_list(folder: Path, images: str, annotations: str, names: list[str]) -> list[Datum]:
    items = []
    for row in _load(folder / annotations):
        label = int(row["class"][0, 0]) - 1
        path = str(folder / images / str(row["fname"][0]))
        items.append(Datum.unchecked(path, label, 0, names[label]))
    return items


def _load(path: Path) -> list:
    """The one array of an annotation file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No annotations at {str(path)!r}: they come with car_devkit.tgz")
    from scipy.io import loadmat

    content = loadmat(str(path))
    return content["class_names" if "class_names" in content else "annotations"][0]


def _year_first(name: str) -> str:
    """`AM General Hummer SUV 2000` -> `2000 AM General Hummer SUV`."""
    model, year = name.rsplit(" ", 1)
    return f"{year} {model}"
