"""UCF101: middle frames of videos of a hundred and one actions."""

import random
import re
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.base import Split
from datasets.split_file import SplitFileReader, hold_out, read_lines


@DATASET_REGISTRY.register()
class UCF101(SplitFileReader):
    """`ucf101/UCF-101-midframes/<Action_Name>/*.jpg`, `ucfTrainTestlist/*.txt`."""

    def read_official(self, folder: Path, rng: random.Random) -> Split:
        """Official split 01; validation is held out of its training list."""
        lists = folder / "ucfTrainTestlist"
        label_of = {}
        for line in read_lines(lists / "classInd.txt"):
            number, action = line.split()
            label_of[action] = int(number) - 1
        train, val = hold_out(_read_list(folder, lists / "trainlist01.txt", label_of), rng)
        return Split(train, val, _read_list(folder, lists / "testlist01.txt", label_of))


def _read_list(folder: Path, path: Path, label_of: dict[str, int]) -> list[Datum]:
    """Lines `<Action>/<video>.avi`, in training followed by a number that is not used."""
    items = []
    for line in read_lines(path):
        action, video = line.split()[0].split("/")
        name = "_".join(re.findall("[A-Z][^A-Z]*", action))
        frame = folder / "UCF-101-midframes" / name / f"{Path(video).stem}.jpg"
        items.append(Datum.unchecked(str(frame), label_of[action], 0, name))
    return items
