"""One evaluation's running totals: scores (B, C), labels (B,) batch by batch -> results."""

import time
from typing import Any

import torch
from torch import Tensor

from trainer.evaluation.evidence import confusion_matrix
from trainer.evaluation.predictions import Predictions

__all__ = ["Tally"]


class Tally:
    """Feeds Dassl's evaluator, and keeps counts, time and, by choice, a row per image."""

    def __init__(self, evaluator: Any, classnames: list[str], keep_predictions: bool) -> None:
        self.evaluator = evaluator
        self.evaluator.reset()
        self.predictions = Predictions(classnames) if keep_predictions else None
        self.classnames = classnames
        self.total = 0
        self.true: list[Tensor] = []
        self.predicted: list[Tensor] = []
        self.start = time.perf_counter()

    def add(self, batch: dict[str, Any], scores: Tensor, labels: Tensor) -> None:
        """Take in a batch: its items, scores (B, C), labels (B,)."""
        self.evaluator.process(scores, labels)
        self.total += len(labels)
        self.true.append(labels)
        self.predicted.append(scores.argmax(1))
        if self.predictions is not None:
            self.predictions.add(batch["impath"], labels, scores)

    def confusion(self) -> Tensor:
        """Counts (C, C): rows are the truth, columns the prediction."""
        true, predicted = torch.cat(self.true).cpu(), torch.cat(self.predicted).cpu()
        return confusion_matrix(true, predicted, len(self.classnames))

    def finish(self, split: str) -> dict[str, Any]:
        """Print the figures; accuracy, error and macro F1 in percent, counts, seconds, speed."""
        figures = self.evaluator.evaluate()
        seconds = time.perf_counter() - self.start
        correct = int(torch.cat(self.true).eq(torch.cat(self.predicted)).sum())
        return {
            "split": split,
            **{name: float(value) for name, value in figures.items()},
            "total": self.total,
            "correct": correct,
            "seconds": seconds,
            "images_per_second": self.total / seconds,
        }
