"""Measure the input pipeline: images per second with and without kept workers and decoded pictures.

    python -m benchmarks.pipeline

A few-shot set of JPEG files of 500 x 375 pixels, the published training transforms at 224 pixels,
batches of 4 and of 32. The plain form decodes every picture in every epoch and starts new workers
for each. Writes benchmarks/results/pipeline.csv.
"""

import contextlib
import csv
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from dassl.data.data_manager import DatasetWrapper, build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.errors import in_one_sentence
from dassl.utils.tools import num_cores
from trainer.config import build_config

RESULTS = Path(__file__).with_name("results") / "pipeline.csv"
CONFIG = Path(__file__).resolve().parents[1] / "configs/trainers/MMRL/vit_b16.yaml"


def write_pictures(folder: Path, count: int = 160) -> list[Datum]:
    """Write pictures of smooth noise, which compress about as well as photographs."""
    rng = np.random.default_rng(0)
    items = []
    for number in range(count):
        pixels = rng.integers(0, 255, (375, 500, 3), dtype=np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2)).save(path, quality=90)
        items.append(Datum(str(path), number % 10, 0, f"class {number % 10}"))
    return items


def loaders(items: list[Datum], batch: int, workers: int) -> dict[str, DataLoader]:
    """The plain loader, ours without and with the cache."""
    uncached, cached = (_config(cache_mb, workers) for cache_mb in (0, 512))
    with contextlib.redirect_stdout(io.StringIO()):
        tfm = build_transform(uncached)
    plain = DatasetWrapper(uncached, items, tfm, is_train=True)
    return {
        "plain": DataLoader(plain, batch, shuffle=True, drop_last=True, num_workers=workers),
        "uncached": build_data_loader(uncached, "RandomSampler", items, batch, tfm=tfm),
        "cached": build_data_loader(cached, "RandomSampler", items, batch, tfm=tfm),
    }


def _config(cache_mb: int, workers: int) -> CfgNode:
    options = ["DATALOADER.CACHE_MB", str(cache_mb), "DATALOADER.NUM_WORKERS", str(workers)]
    return build_config("MMRL", "", str(CONFIG), opts=options)[0]


def images_per_second(kinds: dict[str, DataLoader], epochs: int = 4) -> dict[str, float]:
    """Median over epochs taken in turns, after one to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for epoch in range(epochs + 1):
        for name, loader in kinds.items():
            start = time.perf_counter()
            count = sum(len(batch["label"]) for batch in loader)
            if epoch:
                rates[name].append(count / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


@in_one_sentence
def main() -> int:
    """Measure the loaders and write the table."""
    cores = num_cores()
    columns = ["batch", "workers", "plain", "uncached", "cached", "uncached_ratio", "cached_ratio"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        items = write_pictures(Path(folder))
        for batch in (4, 32):
            rate = images_per_second(loaders(items, batch, cores))
            per_core = {name: round(value / cores, 1) for name, value in rate.items()}
            ratios = [round(rate[name] / rate["plain"], 2) for name in ("uncached", "cached")]
            rows.append([batch, cores, *per_core.values(), *ratios])
            print(dict(zip(columns, rows[-1], strict=True)), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
