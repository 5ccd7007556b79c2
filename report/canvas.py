"""What all pictures of a report share: a width that a phone shows unscaled, axes, legend, SVG text.

An SVG point is about a pixel on a phone of 390 pixels, so that letters of 9 points stay readable.
"""

import io
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from report.cells import Table
from report.text import in_plot

__all__ = ["WIDTH", "add_legend", "figure_of", "label_of", "short", "svg_of"]

WIDTH = 4.2  # inches: 302 points
_LABEL = 26  # letters; longer names are cut
_ONE_COLUMN = 18  # letters of a label; with longer ones a legend has one column


def figure_of(rows: int, columns: int, height: float, **options: Any) -> tuple[Any, list[Any]]:
    """A figure of `height` inches and its axes, row by row."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "mmrl"  # the same file for the same results
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        rows, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False, **options
    )
    figure.get_layout_engine().set(w_pad=0.07)  # numbers of neighbours stay apart
    axes = list(grid.ravel())
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(labelsize=9)
    return figure, axes


def short(text: str) -> str:
    """A label, cut where it would take the picture's place."""
    return in_plot(text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…")


def label_of(table: Table, tables: Sequence[Table]) -> str:
    """The method, and of its setting what not all have in common."""
    common = set.intersection(*(set(other.setting) for other in tables))
    return short(", ".join((table.method, *(part for part in table.setting if part not in common))))


def add_legend(figure: Any, axes: Iterable[Any]) -> None:
    """One legend above all axes, with each label once."""
    found: dict[str, Any] = {}
    for place in axes:
        found |= {label: h for h, label in zip(*place.get_legend_handles_labels(), strict=True)}
    columns = 1 if any(len(label) > _ONE_COLUMN for label in found) else 2
    figure.legend(
        found.values(), found.keys(), frameon=False, fontsize=10, ncols=columns,
        loc="outside upper left",
    )  # fmt: skip


def svg_of(figure: Any) -> str:
    """The figure as an element of a page; it is closed."""
    from matplotlib import pyplot

    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the font lacks a letter: a box is seen
        figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
