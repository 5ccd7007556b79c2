"""FGVC Aircraft: aircraft of a hundred variants, by the official lists."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.errors import RequestError
from datasets.base import Reader, Split
from datasets.split_file import read_lines


@DATASET_REGISTRY.register()
class FGVCAircraft(Reader):
    """`fgvc_aircraft/images/*.jpg`, `variants.txt`, `images_variant_{train,val,test}.txt`."""

    def read(self, folder: Path, allow_official: bool) -> Split:
        """The official lists, in their order."""
        variants = read_lines(folder / "variants.txt")
        label_of = {variant: label for label, variant in enumerate(variants)}
        return Split(*(_read_list(folder, part, label_of) for part in Split._fields))


def _read_list(folder: Path, part: str, label_of: dict[str, int]) -> list[Datum]:
    items = []
    path = folder / f"images_variant_{part}.txt"
    for line in read_lines(path):
        image, variant = line.split(maxsplit=1)
        if variant not in label_of:
            raise RequestError(f"{str(path)!r} names {variant!r}, which variants.txt does not list")
        picture = str(folder / "images" / f"{image}.jpg")
        items.append(Datum.unchecked(picture, label_of[variant], 0, variant))
    return items
