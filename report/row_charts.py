"""Pictures with a row for each data set: difference to the paper, base and novel accuracy.

Names stand beside their rows and each method has a place of its own in a row, so that nothing
overlaps, however many data sets and methods there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from report.canvas import add_legend, figure_of, label_of, short, svg_of
from report.cells import Cell, Column, Row, RowKind, Table
from report.tables import BASE, NOVEL

__all__ = ["base_and_novel", "differences", "has_differences", "has_pairs"]

_LEAST_BAR, _ROW_GAP = 0.11, 0.12  # inches
_ERROR = {"elinewidth": 0.9, "capsize": 1.5}


def has_differences(table: Table) -> bool:
    """Whether a cell has a number of the method's authors beside it."""
    return any(cell.difference is not None for row in table.rows for cell in row.cells.values())


def has_pairs(table: Table) -> bool:
    """Whether a data set has base and novel accuracy."""
    return any(_is_pair(row) for row in table.rows)


def differences(tables: Sequence[Table], colours: Mapping[str, str]) -> str:
    """Mean less the authors' number: a row a data set, a bar a method, a panel a figure."""
    rows = [row for table in tables for row in table.rows]
    columns = [c for c in tables[0].columns if any(_difference(row, c) for row in rows)]
    names = _names([row for row in rows if any(_difference(row, c) for c in columns)])
    figure, panels = _panels(names, len(tables), len(columns))
    for axes, column in zip(panels, columns, strict=True):
        axes.axvline(0, color="#555", lw=0.8)
        for place, table in enumerate(tables):
            cells = {_key(row): cell for row in table.rows if (cell := _difference(row, column))}
            heights = [_height(names.index(key), place, len(tables)) for key in cells]
            axes.barh(
                heights, [cell.difference for cell in cells.values()], 0.8 / len(tables),
                xerr=[cell.spread for cell in cells.values()], error_kw=_ERROR | {"ecolor": "#555"},
                color=colours[table.trainer], label=label_of(table, tables),
            )  # fmt: skip
        axes.set_title(column.title, fontsize=10)
        axes.locator_params(axis="x", nbins=3)
    figure.supxlabel("points above or below the paper", fontsize=10)
    add_legend(figure, panels)
    return svg_of(figure)


def base_and_novel(tables: Sequence[Table], colours: Mapping[str, str]) -> str:
    """Both accuracies: a row a data set, and in it a line a method."""
    names = _names([row for table in tables for row in table.rows if _is_pair(row)])
    figure, (axes,) = _panels(names, len(tables), 1)
    for place, table in enumerate(tables):
        rows = [row for row in table.rows if _is_pair(row)]
        heights = [_height(names.index(_key(row)), place, len(tables)) for row in rows]
        label = label_of(table, tables)
        for column, fill in ((BASE, colours[table.trainer]), (NOVEL, "white")):
            axes.errorbar(
                [row.cells[column].mean for row in rows], heights,
                xerr=[row.cells[column].spread for row in rows], fmt="o", ms=4.5, mfc=fill,
                color=colours[table.trainer], label=label if column is BASE else None,
                **_ERROR,
            )  # fmt: skip
    axes.grid(axis="x", lw=0.4)
    figure.supxlabel("accuracy, %; filled: base, open: novel", fontsize=10)
    add_legend(figure, [axes])
    return svg_of(figure)


def _is_pair(row: Row) -> bool:
    means = [row.cells[column].mean for column in (BASE, NOVEL) if column in row.cells]
    return row.kind is RowKind.DATASET and len(means) == 2 and None not in means


def _difference(row: Row, column: Column) -> Cell | None:
    """The cell, if it has a difference to show."""
    cell = row.cells.get(column)
    return cell if cell is not None and cell.difference is not None else None


def _key(row: Row) -> tuple[RowKind, str]:
    # An own data set may be called average, too.
    return row.kind, "average" if row.kind is RowKind.AVERAGE else row.name


def _names(rows: Sequence[Row]) -> list[tuple[RowKind, str]]:
    """Each once, averages last."""
    found = dict.fromkeys(map(_key, rows))
    return sorted(found, key=lambda key: key[0] is RowKind.AVERAGE)


def _panels(
    names: Sequence[tuple[RowKind, str]], methods: int, columns: int
) -> tuple[Any, list[Any]]:
    """Axes side by side over one list of names, the first at the top."""
    row = _LEAST_BAR * methods + _ROW_GAP
    height = 0.9 + 0.1 * methods + max(row, 0.22) * len(names)
    figure, axes = figure_of(1, columns, height, sharey=True)
    axes[0].set_yticks(range(len(names)), [short(name) for _, name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return figure, axes


def _height(row: int, place: int, methods: int) -> float:
    """Where in its row a method is drawn: the rows are 1 apart, the methods share 0.8 of it."""
    return row + (place - (methods - 1) / 2) * 0.8 / methods
