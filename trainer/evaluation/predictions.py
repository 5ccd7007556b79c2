"""predictions.csv: scores (B, C) of an evaluation -> a row per image with its five best classes."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from trainer.evaluation.files import write_atomically

__all__ = ["PREDICTIONS_FILE", "Predictions"]

PREDICTIONS_FILE = "predictions.csv"
TOP = 5


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
        """Write the file, whole."""
        top = min(TOP, len(self.classnames))
        header = ["path", "label", "predicted"]
        for rank in range(1, top + 1):
            header += [f"class_{rank}", f"probability_{rank}"]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *self.rows])
        path = Path(directory or ".", PREDICTIONS_FILE)
        write_atomically(text.getvalue(), path)
        return path
