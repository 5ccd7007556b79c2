"""SUN397: scenes of three hundred and ninety-seven kinds."""

import random
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.base import Split
from datasets.split_file import SplitFileReader, hold_out, read_lines


@DATASET_REGISTRY.register()
class SUN397(SplitFileReader):
    """`sun397/SUN397/<letter>/<scene>/*.jpg`, `ClassName.txt`, `{Training,Testing}_01.txt`."""

    def read_official(self, folder: Path, rng: random.Random) -> Split:
        """Official partition 01; validation is held out of its training list."""
        scenes = [line[1:] for line in read_lines(folder / "ClassName.txt")]
        label_of = {scene: label for label, scene in enumerate(scenes)}
        train, val = hold_out(_read_list(folder, "Training_01.txt", label_of), rng)
        return Split(train, val, _read_list(folder, "Testing_01.txt", label_of))


def _read_list(folder: Path, name: str, label_of: dict[str, int]) -> list[Datum]:
    items = []
    for line in read_lines(folder / name):
        image = line[1:]  # lines begin with a slash
        scene = image.rsplit("/", 1)[0]
        classname = " ".join(reversed(scene.split("/")[1:]))
        items.append(Datum.unchecked(str(folder / "SUN397" / image), label_of[scene], 0, classname))
    return items
