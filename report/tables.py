"""Results -> tables: mean and spread over seeds, beside the papers' numbers."""

from collections.abc import Callable, Iterable, Sequence
from statistics import mean
from typing import NamedTuple

from datasets.catalog import VARIANTS
from report.cells import Cell, Column, Protocol, Row, RowKind, Table
from report.paper import Paper, Published
from report.results import Result

__all__ = ["build_tables", "harmonic_mean"]

BASE, NOVEL, H = Column("base", "base"), Column("novel", "novel"), Column("H", "hm")
ACCURACY = Column("accuracy", "accuracy")
SOURCE = "imagenet"  # of both protocols that evaluate elsewhere


def build_tables(results: Iterable[Result], seeds: Sequence[int], partial: bool) -> list[Table]:
    """All tables that the results allow, a method each.

    Averages are of rows with all seeds only; with `partial`, of what is there.
    """
    results, paper = list(results), Paper()
    tables = []
    for trainer in dict.fromkeys(r.trainer for r in results):
        own = _Runs(trainer, [r for r in results if r.trainer == trainer], paper, seeds, partial)
        for build in (_base_to_novel, _cross_datasets, _domains, _few_shot):
            table = build(own)
            if table.rows:
                tables.append(table)
    return tables


def harmonic_mean(base: float, novel: float) -> float:
    """2 / (1/base + 1/novel)."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


class _Runs(NamedTuple):
    """One method's runs, and what their tables need beside them."""

    trainer: str
    results: list[Result]
    paper: Paper
    seeds: Sequence[int]
    partial: bool

    def those(self, is_wanted: Callable[[Result], bool]) -> "_Runs":
        """The same of some runs."""
        return self._replace(results=[r for r in self.results if is_wanted(r)])

    @property
    def datasets(self) -> list[str]:
        """Each once, in the order of the runs."""
        return list(dict.fromkeys(r.dataset for r in self.results))

    def by_seed(self, **wanted: object) -> dict[int, float]:
        """Seed -> accuracy of the runs with these fields."""
        chosen = [r for r in self.results if all(getattr(r, k) == v for k, v in wanted.items())]
        return {r.seed: r.accuracy for r in sorted(chosen, key=lambda r: r.seed)}

    def cell(
        self, protocol: Protocol, dataset: str, column: Column, figures: dict[int, float]
    ) -> Cell:
        """The cell of figures by seed."""
        missing = tuple(seed for seed in self.seeds if seed not in figures)
        published = self.paper.look_up(self.trainer, protocol, dataset, column.metric)
        return Cell(tuple(figures.values()), missing, *published)

    def may_average(self, rows: Sequence[Row]) -> bool:
        """Whether an average over the rows is one over the same seeds everywhere."""
        is_whole = not any(cell.missing for row in rows for cell in row.cells.values())
        return bool(rows) and (self.partial or is_whole)

    def average(
        self, name: str, protocol: Protocol, columns: Sequence[Column], rows: Sequence[Row]
    ) -> Row:
        """The row of means over `rows`, beside the papers' averages."""
        datasets = [row.name for row in rows]
        cells = {
            column: _average_cell(
                _mean_of(rows, column),
                self.paper.of_average(self.trainer, protocol, datasets, column.metric),
            )
            for column in columns
        }
        return Row(name, RowKind.AVERAGE, cells)


def _average_cell(value: float | None, published: Published) -> Cell:
    return Cell(() if value is None else (value,), (), *published)


def _mean_of(rows: Sequence[Row], column: Column) -> float | None:
    means = [row.cells[column].mean for row in rows]
    known = [value for value in means if value is not None]
    return mean(known) if known else None


def _base_to_novel(runs: _Runs) -> Table:
    own = runs.those(lambda r: r.task == "B2N" and r.subsample in ("base", "new"))
    rows = [_pair_row(own, dataset) for dataset in own.datasets]
    if own.may_average(rows):
        rows += _pair_averages(own, rows)
    return Table(Protocol.BASE_TO_NOVEL, own.trainer, (BASE, NOVEL, H), tuple(rows))


def _pair_row(own: _Runs, dataset: str) -> Row:
    base = own.by_seed(dataset=dataset, subsample="base")
    novel = own.by_seed(dataset=dataset, subsample="new")
    both = {seed: harmonic_mean(base[seed], novel[seed]) for seed in base if seed in novel}
    cells = {
        column: own.cell(Protocol.BASE_TO_NOVEL, dataset, column, figures)
        for column, figures in ((BASE, base), (NOVEL, novel), (H, both))
    }
    # The papers give H of the mean accuracies, which is not the mean of the seeds' H.
    cells[H] = cells[H]._replace(computed=_h_of(cells))
    return Row(dataset, RowKind.DATASET, cells)


def _pair_averages(own: _Runs, rows: Sequence[Row]) -> list[Row]:
    """The papers' average, whose H is of the average accuracies; and the mean of the rows' H."""
    name = "average (H of the averages)"
    average = own.average(name, Protocol.BASE_TO_NOVEL, (BASE, NOVEL, H), rows)
    h = _h_of(average.cells)
    average.cells[H] = average.cells[H]._replace(values=() if h is None else (h,))
    mean_of_h = {H: _average_cell(_mean_of(rows, H), Published())}
    return [average, Row("mean of H", RowKind.AVERAGE, mean_of_h)]


def _h_of(cells: dict[Column, Cell]) -> float | None:
    base, novel = cells[BASE].mean, cells[NOVEL].mean
    return None if base is None or novel is None else harmonic_mean(base, novel)


def _cross_datasets(runs: _Runs) -> Table:
    own = runs.those(lambda r: r.task == "CD" and r.dataset not in VARIANTS)
    return _from_source(Protocol.CROSS_DATASETS, own)


def _domains(runs: _Runs) -> Table:
    own = runs.those(lambda r: r.task == "CD" and r.dataset in (*VARIANTS, SOURCE))
    if own.datasets == [SOURCE]:  # it is in the table across data sets already
        own = own.those(lambda _: False)
    return _from_source(Protocol.DOMAINS, own)


def _from_source(protocol: Protocol, own: _Runs) -> Table:
    rows = [
        Row(
            dataset,
            RowKind.SOURCE if dataset == SOURCE else RowKind.DATASET,
            {ACCURACY: own.cell(protocol, dataset, ACCURACY, own.by_seed(dataset=dataset))},
        )
        for dataset in own.datasets
    ]
    targets = [row for row in rows if row.kind is RowKind.DATASET]
    if own.may_average(targets):
        rows.append(own.average(f"average without {SOURCE}", protocol, (ACCURACY,), targets))
    return Table(protocol, own.trainer, (ACCURACY,), tuple(rows))


def _few_shot(runs: _Runs) -> Table:
    own = runs.those(lambda r: r.task == "FS")
    counts = sorted({r.shots for r in own.results})
    columns = tuple(Column(f"{n} shots", f"accuracy_{n}shot", n) for n in counts)
    rows = [
        Row(dataset, RowKind.DATASET, _shot_cells(own, dataset, columns))
        for dataset in own.datasets
    ]
    if own.may_average(rows):
        rows.append(own.average("average", Protocol.FEW_SHOT, columns, rows))
    return Table(Protocol.FEW_SHOT, own.trainer, columns, tuple(rows))


def _shot_cells(own: _Runs, dataset: str, columns: Sequence[Column]) -> dict[Column, Cell]:
    return {
        column: own.cell(
            Protocol.FEW_SHOT, dataset, column, own.by_seed(dataset=dataset, shots=column.shots)
        )
        for column in columns
    }
