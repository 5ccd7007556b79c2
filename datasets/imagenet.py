"""ImageNet and its four variants: class folders, named by `classnames.txt`.

Labels come from the list of classes, never from what is on the disk: a folder that is missing is
an error, not a shift.
"""

import os
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.errors import RequestError
from datasets.base import Reader, Split
from datasets.catalog import find
from datasets.split_file import list_classes, list_images, read_lines

__all__ = ["ImageNet", "ImageNetA", "ImageNetR", "ImageNetSketch", "ImageNetV2"]


def read_classnames(folder: Path) -> dict[str, str]:
    """wnid -> class name, in the file's order, from `folder` or from imagenet/ beside it.

    Raises:
        FileNotFoundError: neither has the file.
        RequestError: a line has no name.
    """
    candidates = [folder / "classnames.txt", folder.parent / "imagenet" / "classnames.txt"]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"No class names at {str(candidates[0])!r}; fetch classnames.txt with 'gdown "
            f"{find('ImageNet').drive_id}'"
        )
    names = {}
    for number, line in enumerate(read_lines(path), start=1):
        wnid, _, name = line.partition(" ")
        if not name.strip():
            raise RequestError(f"{str(path)!r}, entry {number}: {line!r} has no class name")
        names[wnid] = name.strip()
    return names


def read_class_folders(
    folder: Path, label_of: dict[str, int], names: dict[str, str]
) -> list[Datum]:
    """The pictures of every class, label by label, files sorted.

    Raises:
        FileNotFoundError: a class has no folder, or an empty one; the first is named.
        RequestError: a folder is not a class of the list.
    """
    found = set(_class_folders(folder))
    if missing := [wnid for wnid in label_of if wnid not in found]:
        raise FileNotFoundError(
            f"{str(folder)!r} lacks {len(missing)} of {len(label_of)} class folders, the first is "
            f"{missing[0]} ({names[missing[0]]}); unpack that class again"
        )
    if surplus := sorted(found - set(label_of)):
        raise RequestError(
            f"{str(folder)!r} has the folder {surplus[0]!r}, which classnames.txt does not list; "
            "move it elsewhere"
        )
    items: list[Datum] = []
    for wnid, label in label_of.items():
        prefix = f"{folder / wnid}{os.sep}"
        images = list_images(folder / wnid)
        items.extend(Datum.unchecked(prefix + image, label, 0, names[wnid]) for image in images)
    return items


def _class_folders(folder: Path) -> list[str]:
    try:
        return list_classes(folder)
    except FileNotFoundError as error:
        if folder.is_dir() and next(folder.glob("*.JPEG"), None) is not None:
            raise FileNotFoundError(
                f"{str(folder)!r} is flat: its pictures must be in class folders <wnid>/. Sort "
                "them with valprep.sh, or by the validation labels of the development kit."
            ) from error
        raise


@DATASET_REGISTRY.register()
class ImageNet(Reader):
    """`imagenet/images/{train,val}/<wnid>/*.JPEG`; the validation pictures are the test list."""

    draws_val = False

    def read(self, folder: Path, allow_official: bool) -> Split:
        """Both folders against the same list of classes."""
        names = read_classnames(folder)
        label_of = {wnid: label for label, wnid in enumerate(sorted(names))}
        train = read_class_folders(folder / "images" / "train", label_of, names)
        test = read_class_folders(folder / "images" / "val", label_of, names)
        return Split(train, test, test)

    def check_files(self, split: Split) -> None:
        """Do nothing: the lists were made from the files themselves."""


class _Variant(Reader):
    """A test set over ImageNet's classes: no shots, no halves, the same list as training list."""

    def select(self, split: Split, num_shots: int, seed: int, which: str) -> Split:
        """Select everything.

        Raises:
            RequestError: base or new classes are asked for.
        """
        if which != "all":
            raise RequestError(
                f"{self.name} is evaluated over all of its classes; "
                f"leave DATASET.SUBSAMPLE_CLASSES at all, not {which!r}"
            )
        return split

    def check_files(self, split: Split) -> None:
        """Do nothing: the lists were made from the files themselves."""

    def read(self, folder: Path, allow_official: bool) -> Split:
        """The pictures of every class, as test and as training list."""
        names = read_classnames(folder)
        images = folder / find(self.name).images
        items = read_class_folders(images, self.labels(images, names), names)
        return Split(items, [], items)

    def labels(self, images: Path, names: dict[str, str]) -> dict[str, int]:
        """Class folder -> label, by ascending label."""
        return {wnid: label for label, wnid in enumerate(sorted(names))}


@DATASET_REGISTRY.register()
class ImageNetSketch(_Variant):
    """`imagenet-sketch/images/<wnid>/*`, all thousand classes."""


class _Subset(_Variant):
    """Two hundred of the classes; predictions are made among these alone."""

    def labels(self, images: Path, names: dict[str, str]) -> dict[str, int]:
        """Numbered over the classes that are there."""
        present = [name for name in list_classes(images) if name in names]
        return {wnid: label for label, wnid in enumerate(present)}


@DATASET_REGISTRY.register()
class ImageNetA(_Subset):
    """`imagenet-adversarial/imagenet-a/<wnid>/*`."""


@DATASET_REGISTRY.register()
class ImageNetR(_Subset):
    """`imagenet-rendition/imagenet-r/<wnid>/*`."""


@DATASET_REGISTRY.register()
class ImageNetV2(_Variant):
    """`imagenetv2/imagenetv2-matched-frequency-format-val/<label>/*`, folders 0 to 999."""

    def read(self, folder: Path, allow_official: bool) -> Split:
        """Folder n is the n-th line of `classnames.txt`."""
        lines = list(read_classnames(folder).values())
        names = {str(label): name for label, name in enumerate(lines)}
        label_of = {str(label): label for label in range(len(lines))}
        items = read_class_folders(folder / find(self.name).images, label_of, names)
        return Split(items, [], items)
