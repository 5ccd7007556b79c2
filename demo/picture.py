"""The demo's picture: bars per method, and test images with their prediction and truth."""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from PIL import Image

from dassl.whole_files import write_whole
from report.cells import Cell
from report.palette import BAD, COLOURS, GOOD
from trainer.published_values import METHOD_NAMES

__all__ = ["draw"]


def draw(output: Path, table: dict[str, dict[str, Cell]], sheet: dict[str, Path]) -> Path:
    """Write `output`/demo.png from a method's figures, and per half a predictions.csv."""
    figure = plt.figure(figsize=(12, 9), layout="constrained")
    (bars,), (images,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(2, 3))
    _draw_bars(bars.subplots(), table)
    _draw_sheet(images, sheet)
    path = output / "demo.png"
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))
    plt.close(figure)
    return path


def _draw_bars(axes: Axes, table: dict[str, dict[str, Cell]]) -> None:
    width = 0.8 / len(table)
    for position, (method, row) in enumerate(table.items()):
        places = [i + (position - (len(table) - 1) / 2) * width for i in range(len(row))]
        heights = [cell.mean or 0.0 for cell in row.values()]
        spreads = [cell.spread for cell in row.values()]
        axes.bar(
            places, heights, width, yerr=spreads, capsize=3,
            color=COLOURS[method], label=METHOD_NAMES[method],
        )  # fmt: skip
        for place, height, spread in zip(places, heights, spreads, strict=True):
            axes.annotate(
                f"{height:.1f}", (place, height + spread), (0, 2), textcoords="offset points",
                ha="center", fontsize=9,
            )  # fmt: skip
    axes.set_xticks(range(3), ["base classes", "new classes", "harmonic mean H"])
    axes.set_ylim(0, 112)
    axes.set_ylabel("accuracy, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=3, loc="upper right")
    seeds = len(next(iter(table.values()))["base"].values)
    axes.set_title(f"The demo's world, 16 pictures per class, mean and spread of {seeds} seeds")


def _draw_sheet(figure: SubFigure, sheet: dict[str, Path], columns: int = 9) -> None:
    grid = figure.subplots(2 * len(sheet), columns)
    for number, (half, path) in enumerate(sheet.items()):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        chosen = rows[:: max(1, len(rows) // (2 * columns))][: 2 * columns]
        cells = grid[2 * number : 2 * number + 2].ravel()
        for cell, row in zip(cells, chosen, strict=True):
            _draw_cell(cell, row)
        cells[0].set_ylabel(half)
    figure.suptitle("MMRL on test images: prediction, and the truth below it where it differs")


def _draw_cell(cell: Axes, row: dict[str, str]) -> None:
    is_right = row["label"] == row["predicted"]
    cell.imshow(Image.open(row["path"]))
    cell.set_xticks([])
    cell.set_yticks([])
    text = row["predicted"] if is_right else f"{row['predicted']}\n({row['label']})"
    cell.set_title(text, fontsize=6.5, color=GOOD if is_right else BAD)
