"""The published numbers: paper_numbers.csv, by method, protocol, data set and metric."""

import csv
from pathlib import Path
from typing import NamedTuple

from datasets.catalog import ELEVEN, VARIANTS
from report.cells import Protocol

__all__ = ["AVERAGED", "BACKBONE", "NUMBERS", "SHOTS", "Paper", "Published"]

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
_METHODS = {"ZeroshotCLIP": "CLIP"}  # where the papers' name is not the trainer's


class Published(NamedTuple):
    """What others found for a cell, in percent; None where there is no number."""

    authors: float | None = None
    rerun: float | None = None  # by third parties


class Paper:
    """The published numbers, by method, protocol, data set and metric."""

    def __init__(self) -> None:
        with open(NUMBERS, newline="", encoding="utf-8") as file:
            self.values = {
                (row["method"], row["protocol"], row["dataset"], row["metric"]): float(row["value"])
                for row in csv.DictReader(file)
            }

    def look_up(self, trainer: str, protocol: Protocol, dataset: str, metric: str) -> Published:
        """What is known of one data set."""
        key = (protocol.value, dataset, metric)
        name = _METHODS.get(trainer, trainer)
        return Published(self.values.get((name, *key)), self.values.get((f"{name}_rerun", *key)))

    def of_average(self, trainer: str, protocol: Protocol, metric: str) -> Published:
        """What is known of the average over the data sets in AVERAGED."""
        return self.look_up(trainer, protocol, AVERAGE, metric)
