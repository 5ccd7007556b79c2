"""The published numbers: paper_numbers.csv, by method, protocol, data set and metric."""

import csv
from pathlib import Path
from typing import NamedTuple

from datasets.catalog import ELEVEN, VARIANTS
from report.cells import Protocol

__all__ = [
    "AVERAGE",
    "AVERAGED",
    "BACKBONE",
    "NUMBERS",
    "SHOTS",
    "UNLABELLED",
    "Origin",
    "Paper",
    "Published",
]

NUMBERS = Path(__file__).with_name("paper_numbers.csv")
AVERAGE = "average"
BACKBONE = "ViT-B/16"  # of all numbers
SHOTS = 16  # a class, of all numbers but the few-shot ones
# The papers average over these, and over no others.
AVERAGED = {
    Protocol.BASE_TO_NOVEL: set(ELEVEN),
    Protocol.CROSS_DATASETS: set(ELEVEN) - {"imagenet"},
    Protocol.DOMAINS: set(VARIANTS),
    Protocol.FEW_SHOT: set(ELEVEN),
}
_TRAINERS = {"CLIP": "ZeroshotCLIP", "LinearProbeCLIP": "LinearProbe"}  # the papers' names for them
_RERUN = "_rerun"  # in the names of third parties' rows; one has it in its source alone
_RERUN_BY_SOURCE = {"LinearProbeCLIP"}
UNLABELLED = {"PromptKD"}  # learns from the unlabelled pictures of a data set, too


class Published(NamedTuple):
    """What others found for a cell, in percent; None where there is no number."""

    authors: float | None = None
    rerun: float | None = None  # by third parties


class Origin(NamedTuple):
    """Whose figures they are."""

    trainer: str  # or the method's own name, if it is not one of ours
    rerun: str = ""  # by third parties: `re-run`, `re-run, fp32`; empty: the authors'

    @classmethod
    def of(cls, method: str) -> "Origin":
        """What a row's method stands for: `MMRL_rerun_fp32` -> MMRL, `re-run, fp32`."""
        name, mark, variant = method.partition(_RERUN)
        is_rerun = bool(mark) or name in _RERUN_BY_SOURCE
        rerun = ", ".join(("re-run", *filter(None, variant.split("_")))) if is_rerun else ""
        return cls(_TRAINERS.get(name, name), rerun)


class Paper:
    """The published numbers, by origin, protocol, data set and metric."""

    def __init__(self) -> None:
        with open(NUMBERS, newline="", encoding="utf-8") as file:
            self.values = {
                (Origin.of(r["method"]), r["protocol"], r["dataset"], r["metric"]): float(
                    r["value"]
                )
                for r in csv.DictReader(file)
            }

    def origins(self, protocol: Protocol) -> list[Origin]:
        """Whose figures there are, in the file's order."""
        return list(dict.fromkeys(key[0] for key in self.values if key[1] == protocol.value))

    def figure(self, origin: Origin, protocol: Protocol, dataset: str, metric: str) -> float | None:
        """One number in percent; None where there is none."""
        return self.values.get((origin, protocol.value, dataset, metric))

    def look_up(self, trainer: str, protocol: Protocol, dataset: str, metric: str) -> Published:
        """What is known of one data set."""
        where = (protocol, dataset, metric)
        return Published(
            self.figure(Origin(trainer), *where), self.figure(Origin(trainer, "re-run"), *where)
        )

    def of_average(self, trainer: str, protocol: Protocol, metric: str) -> Published:
        """What is known of the average over the data sets in AVERAGED."""
        return self.look_up(trainer, protocol, AVERAGE, metric)
