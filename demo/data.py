"""Draw the demo's data set: a seed -> `shapes/images/<class>/*.png` and a split file."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from dassl.whole_files import write_text
from demo.world import FIELD, render

__all__ = ["CLASSES", "write_data"]

# (texture, colour, shape); the first half are the base classes, the second half the new ones.
CLASSES = (
    ("striped", "red", "circle"),
    ("dotted", "red", "circle"),
    ("striped", "orange", "circle"),
    ("checkered", "blue", "square"),
    ("dotted", "blue", "square"),
    ("checkered", "purple", "square"),
    ("plain", "green", "star"),
    ("plain", "yellow", "star"),
    ("striped", "red", "ring"),
    ("dotted", "orange", "ring"),
    ("striped", "orange", "ring"),
    ("checkered", "blue", "cross"),
    ("dotted", "purple", "cross"),
    ("checkered", "purple", "cross"),
    ("plain", "green", "triangle"),
    ("plain", "yellow", "triangle"),
)
COUNTS = {"train": 20, "val": 4, "test": 40}  # pictures per class


def write_data(root: Path, seed: int = 0) -> None:
    """Draw every picture afresh from `seed` into `root`/shapes."""
    rng = np.random.default_rng(seed)
    split: dict[str, list] = {part: [] for part in COUNTS}
    for label, thing in enumerate(CLASSES):
        name = " ".join(thing)
        folder = root / "shapes" / "images" / name.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        for part, count in COUNTS.items():
            for number in range(count):
                path = folder / f"{part}_{number:02d}.png"
                Image.fromarray(render(rng, *thing, FIELD)).save(path)
                split[part].append([f"{folder.name}/{path.name}", label, name])
    write_text(root / "shapes" / "split_shapes.json", json.dumps(split, indent=4))
