"""Finished runs -> a table that begins with the method's name, and which method to take."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dassl.whole_files import write_text
from fitting.plan import Plan, title
from report.text import in_csv
from run_files import RunResults
from trainer.evaluation.evidence import PREDICTIONS_FILE

__all__ = ["Answer", "Outcome", "calibration_error", "outcome_of", "read_answers", "recommended"]

_NUM_BINS = 15  # of the confidence, as in Guo et al., ICML 2017
_COLUMNS = ("method", "accuracy", "macro F1", "ECE", "seconds", "validation")


class Answer(NamedTuple):
    """What a method said of one picture."""

    path: str
    truth: str
    names: list[str]  # the best classes, best first
    probabilities: list[float]

    @property
    def is_right(self) -> bool:
        """Whether the best class is the true one."""
        return self.names[0] == self.truth


class Outcome(NamedTuple):
    """The figures of one method, in percent but for the seconds."""

    method: str
    accuracy: float
    macro_f1: float
    ece: float  # expected calibration error
    seconds: float
    validation: float | None  # accuracy on validation pictures; None: there are none

    @property
    def cells(self) -> list[str]:
        """As the table shows them."""
        validation = "-" if self.validation is None else f"{self.validation:.1f}"
        figures = [f"{value:.1f}" for value in (self.accuracy, self.macro_f1, self.ece)]
        return [title(self.method), *figures, f"{self.seconds:.0f}", validation]


def read_answers(folder: Path) -> list[Answer]:
    """The rows of a run's predictions.csv."""
    with open(folder / PREDICTIONS_FILE, encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return [Answer(row[0], row[1], row[3::2], [float(p) for p in row[4::2]]) for row in rows]


def calibration_error(answers: Sequence[Answer]) -> float:
    """Expected calibration error in percent: the mean gap of confidence and accuracy over bins.

    Bins of equal width, weighted by their pictures.
    """
    bins: dict[int, list[float]] = {}
    for answer in answers:
        confidence = answer.probabilities[0]
        place = min(int(confidence * _NUM_BINS), _NUM_BINS - 1)
        bins.setdefault(place, []).append(confidence - answer.is_right)
    return 100 * sum(abs(sum(gaps)) for gaps in bins.values()) / len(answers)


def outcome_of(plan: Plan, method: str) -> Outcome:
    """The figures that a finished method has left."""
    folder = plan.folder(method)
    results = RunResults.read(folder)
    validation = None
    if plan.pictures.count("val"):
        validation = RunResults.read(plan.folder(method, "val")).need("accuracy")
    return Outcome(
        method,
        results.need("accuracy"),
        results.need("macro_f1"),
        calibration_error(read_answers(folder)),
        float(results.values.get("run_seconds", 0.0)),
        validation,
    )


def recommended(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The best on validation pictures, of equals the cheapest; None: nothing was validated."""
    known = [outcome for outcome in outcomes if outcome.validation is not None]
    return max(known, key=lambda outcome: outcome.validation or 0.0, default=None)


def to_text(outcomes: Sequence[Outcome]) -> str:
    """The table for a terminal."""
    from tabulate import tabulate

    rows = [outcome.cells for outcome in outcomes]
    aligned = ("left", *("right",) * (len(_COLUMNS) - 1))
    return tabulate(rows, headers=_COLUMNS, colalign=aligned, disable_numparse=True)


def write_csv(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the table, not rounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.lower().replace(" ", "_") for column in _COLUMNS)
    for outcome in outcomes:
        _, *figures = outcome
        cells = ["" if value is None else f"{value:.6g}" for value in figures]
        writer.writerow([in_csv(title(outcome.method)), *cells])
    write_text(path, text.getvalue())
