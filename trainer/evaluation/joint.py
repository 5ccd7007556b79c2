"""Base and new pictures among all classes: scores (B, C), labels (B,) -> figures of both together.

The published protocol classifies base pictures among base classes, and new ones among new classes,
as if it were known which a picture is. These figures say how well a model does without that.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.method.readout import ReadOut

__all__ = ["Joint", "auroc_percent", "openworld_auc_percent"]


class _Part(NamedTuple):
    """Pictures of base classes, or of new ones."""

    right: np.ndarray  # (n,) bool, among all classes
    right_among_own: np.ndarray  # (n,) bool, among the classes of its kind
    margin: np.ndarray  # (n,) log-odds of "is base"


class Joint:
    """Takes in batches of mixed scores; base classes are those that were trained.

    How much a picture looks like base is the joint softmax's mass on base classes. Its log-odds are
    kept instead, in float64: the order is the same, and they do not round to 1 where it does.
    """

    def __init__(self, read_out: ReadOut) -> None:
        self.read_out = read_out
        self._batches: list[Tensor] = []  # (B, 4) each: is base, both kinds of right, margin

    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Take in scores (B, C) and labels (B,)."""
        trained, new = self.read_out
        scores = scores.double()
        of_base, of_new = scores[:, trained], scores[:, new]
        is_base = torch.isin(labels, trained)
        among_base, among_new = trained[of_base.argmax(1)], new[of_new.argmax(1)]
        among_own = torch.where(is_base, among_base, among_new)
        margin = of_base.logsumexp(1) - of_new.logsumexp(1)
        columns = (is_base, scores.argmax(1) == labels, among_own == labels, margin)
        self._batches.append(torch.stack([column.double() for column in columns], dim=1))

    def figures(self) -> dict[str, Any]:
        """Print and return the figures in percent, with the pictures of each kind and the rule.

        If all pictures are of one kind, there are none but these last.
        """
        is_base, right, among_own, margin = torch.cat(self._batches).cpu().numpy().T
        base, new = (
            _Part(right[kind] > 0, among_own[kind] > 0, margin[kind])
            for kind in (is_base > 0, is_base == 0)
        )
        counts = {"base_total": len(base.margin), "new_total": len(new.margin)}
        found = {"read_out": self.read_out.rule, **counts}
        print(f"=> base and new together, read from the {self.read_out.rule}")
        if not all(counts.values()):
            print("* nothing to compare: all pictures are of one kind")
            return found
        percent = _percentages(base, new)
        print("\n".join(f"* {key}: {value:.1f}%" for key, value in percent.items()))
        return found | percent


def _percentages(base: _Part, new: _Part) -> dict[str, float]:
    base_accuracy, new_accuracy = (100 * float(part.right.mean()) for part in (base, new))
    both = base_accuracy + new_accuracy
    return {
        "base_accuracy": base_accuracy,
        "new_accuracy": new_accuracy,
        "harmonic_mean": 2 * base_accuracy * new_accuracy / both if both else 0.0,
        "base_accuracy_among_base": 100 * float(base.right_among_own.mean()),
        "new_accuracy_among_new": 100 * float(new.right_among_own.mean()),
        "openworld_auc": openworld_auc_percent(
            base.margin, base.right_among_own, new.margin, new.right_among_own
        ),
        "auroc": auroc_percent(base.margin, new.margin),
    }


def openworld_auc_percent(
    base: np.ndarray, base_right: np.ndarray, new: np.ndarray, new_right: np.ndarray
) -> float:
    """OpenworldAUC (Hua et al., ICML 2025, arXiv 2505.05180) of scores (n,), (m,) of "is base".

    The percentage of the n m pairs in which the base picture is right among base classes, the new
    one is right among new classes, and the base picture has the higher score; ties do not count.
    """
    below, _ = _ranks(base[base_right], new[new_right])
    return 100 * int(below.sum()) / (len(base) * len(new))


def auroc_percent(base: np.ndarray, new: np.ndarray) -> float:
    """The percentage of pairs of scores (n,), (m,) in which base is higher; ties count half."""
    below, up_to = _ranks(base, new)
    return 100 * int(below.sum() + up_to.sum()) / (2 * len(base) * len(new))


def _ranks(values: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of `others` are below each of `values`, and how many are not above it."""
    # sorted once, looked up in log time: the pairs of 50,000 pictures would take gigabytes
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, values, side=s) for s in ("left", "right"))
    return below, up_to
