"""Results -> tables: mean and spread over seeds, beside the papers' numbers."""

from collections.abc import Iterable, Sequence

from report.cells import (
    Cell,
    Column,
    Protocol,
    Row,
    RowKind,
    Table,
    harmonic_cell,
    harmonic_mean,
    shots_text,
)
from report.paper import Paper
from report.results import Result
from report.runs import SOURCE, Runs, grouped
from trainer.methods import takes_new_classes

__all__ = ["build_tables"]

BASE, NOVEL = Column("base", "base"), Column("novel", "novel")
H = Column("H", "hm", is_derived=True)
ACCURACY = Column("accuracy", "accuracy")


def build_tables(results: Iterable[Result], seeds: Sequence[int], partial: bool) -> list[Table]:
    """All tables that the results of these seeds allow: by protocol, the papers' data sets first.

    Averages are of rows with all seeds only; with `partial`, of what is there.
    """
    groups, paper = grouped([r for r in results if r.seed in seeds]), Paper()
    tables = (
        _BUILDERS[group.protocol](Runs(group, groups[group], paper, seeds, partial))
        for group in groups
    )
    return [table for table in tables if table.rows]


def _base_to_novel(runs: Runs) -> Table:
    if runs.is_base_only:
        return _base_alone(runs)
    rows = [_pair_row(runs, dataset) for dataset in runs.datasets]
    if runs.may_average(rows):
        rows += _pair_averages(runs, rows)
    return runs.table((BASE, NOVEL, H), rows)


def _base_alone(runs: Runs) -> Table:
    """Of a method that cannot tell classes apart that it has not been trained on."""
    rows = []
    for dataset in runs.datasets:
        cell = runs.cell(dataset, BASE, runs.by_seed(dataset=dataset, subsample="base"))
        rows.append(Row(dataset, RowKind.DATASET, {BASE: cell}))
    if runs.may_average(rows):
        rows.append(runs.average("average", (BASE,), rows))
    return runs.table((BASE,), rows)


def _pair_row(runs: Runs, dataset: str) -> Row:
    base = runs.by_seed(dataset=dataset, subsample="base")
    novel = runs.by_seed(dataset=dataset, subsample="new")
    both = {seed: (base[seed], novel[seed]) for seed in base if seed in novel}
    h = harmonic_cell([b for b, _ in both.values()], [n for _, n in both.values()])
    published, rerun = runs.published(dataset, H)
    lacking, of_novel = runs.lacking(both), runs.cell(dataset, NOVEL, novel)
    if not takes_new_classes(runs.group.trainer):
        lacking, of_novel = (), of_novel._replace(missing=())
    cells = {
        BASE: runs.cell(dataset, BASE, base),
        NOVEL: of_novel,
        H: h._replace(missing=lacking, published=published, rerun=rerun),
    }
    return Row(dataset, RowKind.DATASET, cells)


def _pair_averages(runs: Runs, rows: Sequence[Row]) -> list[Row]:
    """The papers' average, whose H is of the average accuracies; and the mean of the rows' H."""
    average = runs.average("average (H of the averages)", (BASE, NOVEL, H), rows)
    h = _h_of_averages(average, rows)
    average.cells[H] = average.cells[H]._replace(values=() if h is None else (h,))
    mean_of_h = {H: runs.average_cell(H, rows)._replace(published=None, rerun=None)}
    return [average, Row("mean of H", RowKind.AVERAGE, mean_of_h)]


def _h_of_averages(average: Row, rows: Sequence[Row]) -> float | None:
    """None unless both averages are over the same data sets and seeds."""
    base, novel = average.cells[BASE].mean, average.cells[NOVEL].mean
    is_uneven = any(row.cells[BASE].missing != row.cells[NOVEL].missing for row in rows)
    return None if is_uneven or base is None or novel is None else harmonic_mean(base, novel)


def _from_source(runs: Runs) -> Table:
    if runs.group.protocol is Protocol.DOMAINS and runs.datasets == [SOURCE]:
        return runs.table((ACCURACY,), ())  # it is in the table across data sets already
    rows = []
    for dataset in runs.datasets:
        is_source = runs.group.is_published and dataset == SOURCE
        kind = RowKind.SOURCE if is_source else RowKind.DATASET
        cell = runs.cell(dataset, ACCURACY, runs.by_seed(dataset=dataset))
        rows.append(Row(dataset, kind, {ACCURACY: cell}))
    targets = [row for row in rows if row.kind is RowKind.DATASET]
    if runs.may_average(targets):
        name = f"average without {SOURCE}" if runs.group.is_published else "average"
        rows.append(runs.average(name, (ACCURACY,), targets))
    return runs.table((ACCURACY,), rows)


def _few_shot(runs: Runs) -> Table:
    counts = sorted({r.shots for r in runs.results})
    columns = [Column(_heading(n), f"accuracy_{n}shot", n) for n in counts]
    rows = [
        Row(dataset, RowKind.DATASET, _shot_cells(runs, dataset, columns))
        for dataset in runs.datasets
    ]
    if runs.may_average(rows):
        rows.append(runs.average("average", columns, rows))
    return runs.table(columns, rows)


def _heading(shots: int) -> str:
    return "all pictures" if shots < 0 else shots_text(shots)


def _shot_cells(runs: Runs, dataset: str, columns: Sequence[Column]) -> dict[Column, Cell]:
    return {
        column: runs.cell(dataset, column, runs.by_seed(dataset=dataset, shots=column.shots))
        for column in columns
    }


_BUILDERS = {
    Protocol.BASE_TO_NOVEL: _base_to_novel,
    Protocol.CROSS_DATASETS: _from_source,
    Protocol.DOMAINS: _from_source,
    Protocol.FEW_SHOT: _few_shot,
}
