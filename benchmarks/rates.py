"""How fast a machine steps and evaluates: timed or modelled rows -> seconds of any setting."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dassl.errors import RequestError

__all__ = ["Rates", "Row", "loading_rate", "measured_rates", "rates_from"]

RESULTS = Path(__file__).with_name("results")


class Row(NamedTuple):
    """One setting, timed or modelled."""

    mode: str  # train or eval
    classes: int
    batch: int
    seconds: float  # of a step, or of a batch


class Rates(NamedTuple):
    """Seconds of a step are `start + per_class C + per_picture B`, at least `least`."""

    machine: str
    kind: str  # measured or model; the two are never mixed
    start: float
    per_class: float
    per_picture: float
    least: float
    evaluated_per_second: float  # test pictures

    def step_seconds(self, classes: int, batch: int) -> float:
        """Of a training step, both methods alike."""
        fitted = self.start + self.per_class * classes + self.per_picture * batch
        return max(self.least, fitted)


def rates_from(machine: str, kind: str, rows: Sequence[Row]) -> Rates:
    """Fit the training rows, each to the same relative error; take evaluation's fastest row.

    Raises:
        RequestError: there is no row of training, or none of evaluation.
    """
    train = [row for row in rows if row.mode == "train"]
    rate = max((row.batch / row.seconds for row in rows if row.mode == "eval"), default=0.0)
    if not train or not rate:
        raise RequestError(f"The rows of {machine} lack training or evaluation; measure both")
    seconds = np.array([row.seconds for row in train])
    settings = np.array([[1.0, row.classes, row.batch] for row in train])
    fit, *_ = np.linalg.lstsq(settings / seconds[:, None], np.ones(len(train)), rcond=None)
    start, per_class, per_picture = map(float, fit)
    return Rates(machine, kind, start, per_class, per_picture, float(seconds.min()), rate)


def measured_rates(results: Path = RESULTS) -> dict[str, Rates]:
    """The rates of every machine that has a file there, by the machine's name.

    Of a GPU's file the fastest form in PREC amp counts, since that is what a run takes.
    """
    found = {}
    for path in sorted(results.glob("*.csv")):
        with open(path, newline="") as file:
            table = list(csv.DictReader(file))
        rows = [row for line in table if (row := _row_of(line))]
        if rows:
            name = table[0]["device"]
            found[name] = rates_from(name, "measured", rows)
    return found


def _row_of(line: dict[str, str]) -> Row | None:
    if "form" in line:  # of make gpu-check
        is_run_s = line["form"] == "graph" and line["prec"] == "amp"
        seconds = line["seconds"] if is_run_s or line["mode"] == "eval" else ""
    else:
        seconds = line.get("fast_seconds", "")
    if not seconds:
        return None
    return Row(line["mode"], int(line["classes"]), int(line["batch"]), float(seconds))


def loading_rate(results: Path = RESULTS) -> float:
    """Pictures per second and core, decoded and transformed, as `benchmarks.pipeline` measured."""
    with open(results / "pipeline.csv", newline="") as file:
        return min(float(line["uncached"]) for line in csv.DictReader(file))
