"""What a report consists of: tables of one protocol and method, their rows, columns and cells."""

import enum
from statistics import mean, pstdev
from typing import NamedTuple

__all__ = ["Cell", "Column", "Protocol", "Row", "RowKind", "Table"]

NEAR_POINTS = 2.0


class Protocol(enum.Enum):
    """What a table is of; the values are paper_numbers.csv's names."""

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

    @property
    def title(self) -> str:
        """The protocol, as people call it."""
        return TITLES[self.protocol]

    @property
    def missing(self) -> list[str]:
        """A sentence for every cell that lacks seeds."""
        return [
            f"{self.title}, {row.name}, {column.title}: "
            f"seeds {', '.join(map(str, cell.missing))} missing"
            for row in self.rows
            for column, cell in row.cells.items()
            if cell.missing
        ]
