"""Classification: scores (B, C) and labels (B,), batch by batch -> accuracy, error, macro F1."""

import os
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dassl.errors import RequestError
from dassl.evaluation.build import EVALUATOR_REGISTRY
from dassl.whole_files import write_whole


class EvaluatorBase:
    """`reset()`, `process(mo, gt)` for every batch, `evaluate()` at the end."""

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Take in a batch's model output and ground truth."""
        raise NotImplementedError

    def evaluate(self) -> OrderedDict:
        """Print the figures and return them by name, in percent."""
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error rate, macro F1; by choice per class and as a confusion matrix."""

    def __init__(self, cfg: Any, lab2cname: dict[int, str] | None = None, **kwargs: Any) -> None:
        super().__init__(cfg)
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise RequestError("TEST.PER_CLASS_RESULT needs the class names (lab2cname)")
        self._lab2cname = lab2cname or {}
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._pred: list[Tensor] = []
        self._true: list[Tensor] = []

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Keep the argmax of the scores `mo` (B, C) beside the labels `gt` (B,)."""
        self._pred.append(mo.argmax(1))
        self._true.append(gt)

    def evaluate(self) -> OrderedDict:
        """The figures in percent, not rounded: `accuracy` first, `error_rate`, `macro_f1`.

        Raises:
            RequestError: no batch was processed.
        """
        if not self._true:
            raise RequestError("Nothing to evaluate: the test loader gave no batch")
        pred = torch.cat(self._pred).cpu().numpy()
        true = torch.cat(self._true).cpu().numpy()
        total, correct = len(true), int((pred == true).sum())
        accuracy = 100.0 * correct / total
        results = OrderedDict(
            accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=100.0 * _macro_f1(true, pred)
        )
        self.total, self.correct = total, correct
        print(
            f"=> result\n* total: {total:,}\n* correct: {correct:,}\n* accuracy: {accuracy:.1f}%\n"
            f"* error: {results['error_rate']:.1f}%\n* macro_f1: {results['macro_f1']:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._per_class(true, pred)
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix(true, pred)
        return results

    def confusion(self, num_classes: int) -> Tensor:
        """Counts (C, C) of what was processed: rows are the truth, columns the prediction."""
        flat = torch.cat(self._true).cpu() * num_classes + torch.cat(self._pred).cpu()
        return torch.bincount(flat, minlength=num_classes**2).view(num_classes, num_classes)

    def _per_class(self, true: np.ndarray, pred: np.ndarray) -> float:
        print("=> per-class result")
        accuracies = []
        for label in np.unique(true).tolist():
            of_class = true == label
            total, correct = int(of_class.sum()), int((pred[of_class] == label).sum())
            accuracies.append(100.0 * correct / total)
            print(
                f"* class: {label} ({self._lab2cname[label]})\ttotal: {total:,}\t"
                f"correct: {correct:,}\tacc: {accuracies[-1]:.1f}%"
            )
        mean = float(np.mean(accuracies))
        print(f"* average: {mean:.1f}%")
        return mean

    def _save_confusion_matrix(self, true: np.ndarray, pred: np.ndarray) -> None:
        labels = np.union1d(true, pred)
        matrix = self.confusion(int(labels.max()) + 1).numpy()[np.ix_(labels, labels)] + 0.0
        rows = matrix.sum(1, keepdims=True)
        matrix = np.divide(matrix, rows, out=np.zeros_like(matrix), where=rows > 0)
        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        write_whole(path, lambda file: torch.save(matrix, file))
        print(f"Confusion matrix is saved to {path}")


def _macro_f1(true: np.ndarray, pred: np.ndarray) -> float:
    """Mean over the classes in `true` of 2 TP / (2 TP + FP + FN)."""
    scores = []
    for label in np.unique(true):
        hits = np.sum((true == label) & (pred == label))
        scores.append(2 * hits / (np.sum(true == label) + np.sum(pred == label)))
    return float(np.mean(scores))
