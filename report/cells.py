"""What a report consists of: tables of one protocol and method, their rows, columns and cells."""

import enum
from collections.abc import Sequence
from statistics import mean, pstdev
from typing import NamedTuple

from report.text import listed
from trainer.published_values import METHOD_NAMES

__all__ = [
    "UNTRAINED",
    "Cell",
    "Column",
    "Protocol",
    "Row",
    "RowKind",
    "Table",
    "harmonic_cell",
    "harmonic_mean",
    "shots_text",
]

UNTRAINED = "ZeroshotCLIP"  # the trainer whose figures do not depend on shots
NEAR_POINTS = 2.0


class Protocol(enum.Enum):
    """What a table is of, in the order of a report; the values are paper_numbers.csv's names."""

    BASE_TO_NOVEL = "base_to_novel"
    CROSS_DATASETS = "cross_datasets"
    DOMAINS = "domain_generalization"
    FEW_SHOT = "few_shot"


TITLES = {
    Protocol.BASE_TO_NOVEL: "Base to novel",
    Protocol.CROSS_DATASETS: "Across data sets",
    Protocol.DOMAINS: "Domain generalisation",
    Protocol.FEW_SHOT: "Few shots",
}


class RowKind(enum.Enum):
    """What a row is of, whatever its name."""

    DATASET = "data set"
    SOURCE = "source"  # the data set that was trained on; averages leave it out
    AVERAGE = "average"


class Column(NamedTuple):
    """One figure of every row."""

    title: str
    metric: str  # in paper_numbers.csv
    shots: int = 0  # a class, where columns differ in it
    is_derived: bool = False  # from other columns, whose seeds it shares


class Cell(NamedTuple):
    """One figure over seeds, in percent, beside what was published."""

    values: tuple[float, ...]
    missing: tuple[int, ...] = ()  # seeds
    published: float | None = None
    rerun: float | None = None  # by third parties
    computed: float | None = None  # instead of the mean of the values

    @property
    def mean(self) -> float | None:
        """The figure to show; None where nothing was run."""
        if self.computed is not None:
            return self.computed
        return mean(self.values) if self.values else None

    @property
    def spread(self) -> float:
        """Population standard deviation over seeds."""
        return pstdev(self.values) if self.values else 0.0

    @property
    def difference(self) -> float | None:
        """Mean less published."""
        if self.mean is None or self.published is None:
            return None
        return self.mean - self.published

    @property
    def verdict(self) -> str:
        """Whether the published number lies within the seeds' own range, near, or outside."""
        if self.difference is None or self.published is None or not self.values:
            return ""
        if min(self.values) <= self.published <= max(self.values):
            return "inside"
        near = abs(self.difference) <= NEAR_POINTS
        return f"inside {NEAR_POINTS:.0f} points" if near else "outside"


def harmonic_mean(base: float, novel: float) -> float:
    """H of two accuracies: 2 / (1/base + 1/novel)."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def harmonic_cell(base: Sequence[float], novel: Sequence[float]) -> Cell:
    """H over seeds, as in the papers: of the mean accuracies, not the mean of the seeds' H.

    The values, and so the spread, are the seeds' H.
    """
    values = tuple(map(harmonic_mean, base, novel))
    return Cell(values, computed=harmonic_mean(mean(base), mean(novel)) if values else None)


class Row(NamedTuple):
    """Cells by column; a column that does not apply has none."""

    name: str
    kind: RowKind
    cells: dict[Column, Cell]


class Table(NamedTuple):
    """All that a report says of one method under one protocol."""

    protocol: Protocol
    trainer: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    shots: int = 0  # a class, of all rows; 0: columns have them
    backbone: str = ""  # empty: not recorded
    is_published: bool = True  # of the papers' data sets
    is_validation: bool = False  # figures of the validation pictures
    is_comparable: bool = False  # the papers' numbers are of such runs
    notes: tuple[str, ...] = ()  # sentences that a reader of the table needs

    @property
    def title(self) -> str:
        """The protocol, as people call it, and whose data sets the rows are."""
        return TITLES[self.protocol] + ("" if self.is_published else ", other data sets")

    @property
    def method(self) -> str:
        """The method's name for people; a trainer of somebody else's has its own."""
        return METHOD_NAMES.get(self.trainer, self.trainer)

    @property
    def setting(self) -> tuple[str, ...]:
        """What all rows and columns have in common, as people call it."""
        shots = shots_text(self.shots) if self.shots else ""
        validation = "validation pictures" if self.is_validation else ""
        return tuple(part for part in (shots, self.backbone, validation) if part)

    @property
    def caption(self) -> str:
        """Title, method, shots, and the rest of the setting."""
        shots = [] if self.shots else [shots_text(*(column.shots for column in self.columns))]
        return ", ".join((self.title, self.method, *shots, *self.setting))

    @property
    def missing(self) -> list[str]:
        """A sentence for every cell that lacks seeds."""
        return [
            f"{self.title}, {row.name}, {column.title}: {seeds_text(cell.missing)} missing"
            for row in self.rows
            for column, cell in row.cells.items()
            if cell.missing and not column.is_derived
        ]


def shots_text(*shots: int) -> str:
    """`1 shot`, `4, 8 and 16 shots`; -1 stands for all pictures."""
    counts = [str(count) for count in shots if count > 0]
    words = ["all training pictures"] if min(shots) < 0 else []
    if counts:
        joined = " and ".join(part for part in (listed(counts[:-1]), counts[-1]) if part)
        words.insert(0, f"{joined} shot{'' if counts == ['1'] else 's'}")
    return " and ".join(words)


def seeds_text(seeds: Sequence[int]) -> str:
    """`seed 2 is`, `seeds 1, 2 are`."""
    many = len(seeds) > 1
    return f"seed{'s' if many else ''} {listed(seeds)} {'are' if many else 'is'}"
