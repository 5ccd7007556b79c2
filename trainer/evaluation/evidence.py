"""What an evaluation leaves beside its figures: scores, counts -> tables and a picture.

predictions.csv (TEST.PREDICTIONS), per_class.csv (TEST.PER_CLASS_RESULT), confusion.csv and
confusion.png (TEST.COMPUTE_CMAT).
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dassl.whole_files import write_text, write_whole

__all__ = [
    "PREDICTIONS_FILE",
    "Predictions",
    "missing_evidence",
    "write_confusion",
    "write_per_class",
]

PREDICTIONS_FILE = "predictions.csv"
TOP = 5
MAX_TICKS = 60


def missing_evidence(cfg: Any, directory: str) -> list[str]:
    """The files that the config asks for, and the folder of an evaluation does not have."""
    wanted = {
        PREDICTIONS_FILE: cfg.TEST.PREDICTIONS,
        "per_class.csv": cfg.TEST.PER_CLASS_RESULT,
        "confusion.csv": cfg.TEST.COMPUTE_CMAT,
    }
    folder = Path(directory or ".")
    return [
        name for name, is_wanted in wanted.items() if is_wanted and not (folder / name).exists()
    ]


class Predictions:
    """Rows `path, label, predicted`, then name and probability of the best classes in turn."""

    def __init__(self, classnames: Sequence[str]) -> None:
        self.classnames = classnames
        self.rows: list[list] = []

    def add(self, paths: Sequence[str], labels: Tensor, scores: Tensor) -> None:
        """Take in a batch: B paths, labels (B,), logits (B, C)."""
        top = min(TOP, len(self.classnames))
        best = scores.float().softmax(1).topk(top, dim=1)
        triples = zip(
            paths, labels.tolist(), best.indices.tolist(), best.values.tolist(), strict=True
        )
        for path, label, indices, values in triples:
            row = [path, self.classnames[label], self.classnames[indices[0]]]
            for index, value in zip(indices, values, strict=True):
                row += [self.classnames[index], f"{value:.6f}"]
            self.rows.append(row)

    def write(self, directory: str) -> Path:
        """Write all rows; the file appears only when it is whole."""
        top = min(TOP, len(self.classnames))
        header = ["path", "label", "predicted"]
        for rank in range(1, top + 1):
            header += [f"class_{rank}", f"probability_{rank}"]
        return _write_csv([header, *self.rows], Path(directory or ".", PREDICTIONS_FILE))


def write_per_class(counts: Tensor, classnames: Sequence[str], directory: str) -> Path:
    """Write a row per class: name, total, correct, accuracy in percent, its commonest mistake."""
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
    """Write confusion.csv (counts) and confusion.png (shares of each true class)."""
    folder = Path(directory or ".")
    rows = [["truth \\ prediction", *classnames]]
    rows += [[name, *row.tolist()] for name, row in zip(classnames, counts, strict=True)]
    _write_csv(rows, folder / "confusion.csv")
    _draw(counts, classnames, folder / "confusion.png")
    return folder / "confusion.png"


def _write_csv(rows: list[list], path: Path) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
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
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))
    pyplot.close(figure)
