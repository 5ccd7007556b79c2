"""predict.py's summary: how many pictures of each class, how many right, which to look at."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

__all__ = ["least_sure", "summary"]


def summary(rows: Sequence[Any]) -> str:
    """Pictures per predicted class, most first; beside them the truth, where folders give it.

    The last line has the accuracy over the pictures whose class is known.
    """
    predicted = Counter(row.names[0] for row in rows)
    truths = Counter(row.truth for row in rows if row.truth)
    right = Counter(row.truth for row in rows if row.truth == row.names[0])
    names = sorted({*predicted, *truths}, key=lambda name: (-predicted[name], name))
    if not truths:
        return tabulate(
            [(name, predicted[name]) for name in names], headers=["class", "pictures"],
            disable_numparse=[0],
        )  # fmt: skip
    table = tabulate(
        [(name, predicted[name], truths[name], right[name]) for name in names],
        headers=["class", "pictures", "in its folder", "of these right"],
        disable_numparse=[0],
    )
    known, hits = truths.total(), right.total()
    share = f"{hits} of {known} pictures in folders named after a class"
    return f"{table}\naccuracy {100 * hits / known:.1f}%: {share}"


def least_sure(rows: Sequence[Any], count: int = 5) -> list[Any]:
    """The pictures whose best class has the lowest probability, the lowest first."""
    return sorted(rows, key=lambda row: row.probabilities[0])[:count]
