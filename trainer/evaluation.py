"""One evaluation's running totals: scores (B, C), labels (B,) batch by batch -> results."""

import time
from typing import Any

import torch
from torch import Tensor

from trainer.predictions import Predictions

__all__ = ["Tally"]


class Tally:
    """Feeds Dassl's evaluator, and keeps counts, time and, by choice, a row per image."""

    def __init__(self, evaluator: Any, classnames: list[str], keep_predictions: bool) -> None:
        self.evaluator = evaluator
        self.evaluator.reset()
        self.predictions = Predictions(classnames) if keep_predictions else None
        self.total = 0
        self.correct = torch.zeros((), dtype=torch.long)
        self.start = time.perf_counter()

    def add(self, batch: dict[str, Any], scores: Tensor, labels: Tensor) -> None:
        """Take in a batch: its items, scores (B, C), labels (B,)."""
        self.evaluator.process(scores, labels)
        self.total += len(labels)
        self.correct = self.correct.to(labels.device) + (scores.argmax(1) == labels).sum()
        if self.predictions is not None:
            self.predictions.add(batch["impath"], labels, scores)

    def finish(self, split: str) -> dict[str, Any]:
        """Print the figures; accuracy, error and macro F1 in percent, counts, seconds, speed."""
        figures = self.evaluator.evaluate()
        seconds = time.perf_counter() - self.start
        return {
            "split": split,
            **{name: float(value) for name, value in figures.items()},
            "total": self.total,
            "correct": int(self.correct),
            "seconds": seconds,
            "images_per_second": self.total / seconds,
        }
