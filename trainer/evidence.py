"""What an evaluation leaves beside its figures: labels, predictions -> tables and a picture.

per_class.csv (TEST.PER_CLASS_RESULT), confusion.csv and confusion.png (TEST.COMPUTE_CMAT).
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.files import write_atomically

__all__ = ["confusion_matrix", "write_confusion", "write_per_class"]

MAX_TICKS = 60


def confusion_matrix(true: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Counts (C, C): rows are the truth, columns the prediction."""
    flat = true * num_classes + predicted
    return torch.bincount(flat, minlength=num_classes**2).view(num_classes, num_classes)


def write_per_class(counts: Tensor, classnames: Sequence[str], directory: str) -> Path:
    """A row a class: name, total, correct, accuracy in percent, what it is taken for most."""
    rows: list[list] = [["class", "total", "correct", "accuracy", "mostly_taken_for"]]
    for label, (name, row) in enumerate(zip(classnames, counts, strict=True)):
        total, correct = int(row.sum()), int(row[label])
        wrong = row.clone()
        wrong[label] = 0
        taken_for = classnames[int(wrong.argmax())] if wrong.any() else ""
        accuracy = f"{100 * correct / total:.2f}" if total else ""
        rows.append([name, total, correct, accuracy, taken_for])
    return _write_csv(rows, Path(directory or ".", "per_class.csv"))


def write_confusion(counts: Tensor, classnames: Sequence[str], directory: str) -> Path:
    """confusion.csv, counts with names, and confusion.png, shares of each true class."""
    folder = Path(directory or ".")
    rows = [["truth \\ prediction", *classnames]]
    rows += [[name, *row.tolist()] for name, row in zip(classnames, counts, strict=True)]
    _write_csv(rows, folder / "confusion.csv")
    _draw(counts, classnames, folder / "confusion.png")
    return folder / "confusion.png"


def _write_csv(rows: list[list], path: Path) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(text.getvalue(), path)
    return path


def _draw(counts: Tensor, classnames: Sequence[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = min(14.0, 3 + 0.22 * len(classnames))
    figure, axes = pyplot.subplots(figsize=(side, side), layout="constrained")
    image = axes.imshow(shares.numpy(), cmap="viridis", vmin=0, vmax=1)
    if len(classnames) <= MAX_TICKS:
        axes.set_xticks(range(len(classnames)), classnames, rotation=90, fontsize=7)
        axes.set_yticks(range(len(classnames)), classnames, fontsize=7)
    axes.set(xlabel="prediction", ylabel="truth")
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
