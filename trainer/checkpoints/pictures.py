"""What a run's pictures are, wherever they lie: items -> sha256 of paths, labels and content."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

__all__ = ["hash_pictures", "pictures_of"]

_MOST = 2048  # pictures of a part whose content is read; of more, as many evenly spaced ones
_HEAD = 2**16  # bytes; what follows in a compressed picture depends on them, or the size does


def hash_pictures(items: Sequence[Any]) -> str:
    """sha256 over path, label, class name and size of every item, and the content of most.

    Paths count from the folder that all have in common, so that data may be moved.

    Raises:
        OSError: a picture cannot be read.
    """
    paths = [os.path.abspath(item.impath) for item in items]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    step = -(-len(items) // _MOST)
    digest = hashlib.sha256()
    for index, (item, path) in enumerate(zip(items, paths, strict=True)):
        name = path[len(folder) :].replace(os.sep, "/").lstrip("/")
        line = f"{name}\t{item.label}\t{item.classname}\t{os.path.getsize(path)}\n"
        digest.update(line.encode(errors="surrogateescape"))
        if index % step == 0:
            with open(path, "rb") as file:
                digest.update(hashlib.sha256(file.read(_HEAD)).digest())
    return digest.hexdigest()


def pictures_of(cfg: Any, dataset: Any, is_trained: bool) -> dict[str, str]:
    """Part -> hash, of the parts that a run's numbers depend on.

    "train" and, where it chooses the best model, "val" are of the training; "tested" is what the
    figures are of.
    """
    val, test = dataset.val or dataset.test, dataset.test  # as the trainer chooses them
    parts = {"tested": val if cfg.TEST.SPLIT == "val" else test}
    if is_trained:
        parts["train"] = dataset.train_x
    if is_trained and cfg.TEST.FINAL_MODEL == "best_val":
        parts["val"] = val
    known: dict[int, str] = {}  # a list that is two parts is read once
    for items in parts.values():
        if items and id(items) not in known:
            known[id(items)] = hash_pictures(items)
    return {part: known[id(items)] for part, items in parts.items() if items}
