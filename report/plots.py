"""Pictures of a report, as SVG text: base against novel, few-shot curves, training curves."""

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from report.cells import Protocol, RowKind, Table
from report.results import Result
from report.tables import BASE, NOVEL
from report.text import in_plot
from trainer.published_values import METHOD_NAMES

__all__ = ["COLOURS", "draw_all"]

# One colour a method, in every picture of the project; other people's methods take the rest.
COLOURS = {"ZeroshotCLIP": "#8d99ae", "MMRL": "#2a6f97", "MMRLpp": "#e07a5f"}
_OTHER_COLOURS = ("#6a994e", "#9d4edd", "#bc6c25", "#d62f8c", "#3d405b")
LINE = re.compile(r"epoch \[(\d+)/\d+\] batch \[(\d+)/(\d+)\].* loss \S+ \(([\d.]+)\)")
_PANELS = 4  # side by side


def draw_all(tables: Sequence[Table], results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    """(caption, svg) of every picture that the results allow."""
    for is_published, suffix in ((True, ""), (False, ", other data sets")):
        own = [table for table in tables if table.is_published is is_published]
        pairs = [table for table in own if table.protocol is Protocol.BASE_TO_NOVEL]
        if any(_points(table) for table in pairs):
            caption = f"Base against novel accuracy, a point a data set{suffix}"
            yield caption, _base_against_novel(pairs)
        curves = [table for table in own if table.protocol is Protocol.FEW_SHOT]
        if any(len(table.columns) > 1 for table in curves):
            yield f"Accuracy over shots{suffix}", _few_shot_curves(curves)
    logs = [(r.trainer, _losses(r.folder / "log.txt")) for r in results]
    if logs := [(trainer, losses) for trainer, losses in logs if losses]:
        yield f"Training loss over epochs, a line for each of {len(logs)} runs", _curves(logs)


def _figure(width: float = 7, height: float = 4.2, panels: int = 1) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "mmrl"  # the same file for the same results
    from matplotlib import pyplot

    columns = min(panels, _PANELS)
    rows = -(-panels // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(width, height * rows), layout="constrained", squeeze=False
    )
    axes = list(grid.ravel())
    for place in axes[panels:]:
        place.remove()
    for place in axes[:panels]:
        place.spines[["top", "right"]].set_visible(False)
    return figure, axes[:panels]


def _svg(figure: Any) -> str:
    from matplotlib import pyplot

    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the font lacks a letter: a box is seen
        figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _colours(trainers: Iterable[str]) -> dict[str, str]:
    others = sorted(set(trainers) - COLOURS.keys())
    return COLOURS | dict(zip(others, cycle(_OTHER_COLOURS), strict=False))


def _points(table: Table) -> dict[str, tuple[float, float]]:
    """Data set -> base and novel accuracy, where both are known."""
    found = {}
    for row in table.rows:
        if row.kind is RowKind.DATASET:
            base, novel = row.cells[BASE].mean, row.cells[NOVEL].mean
            if base is not None and novel is not None:
                found[row.name] = (base, novel)
    return found


def _base_against_novel(tables: Sequence[Table]) -> str:
    figure, (axes,) = _figure()
    colours = _colours(table.trainer for table in tables)
    places: dict[str, list[tuple[float, float]]] = {}
    for table, marker in zip(tables, cycle("osD^v"), strict=False):
        points = _points(table)
        for name, point in points.items():
            places.setdefault(name, []).append(point)
        label = in_plot(table.caption.removeprefix(f"{table.title}, "))
        axes.scatter(
            [base for base, _ in points.values()], [novel for _, novel in points.values()],
            label=label, s=26, marker=marker, color=colours[table.trainer],
        )  # fmt: skip
    for name, ends in places.items():
        # A thin line joins the methods' points of a data set, so that one name does for all.
        axes.plot(*zip(*ends, strict=True), color="#8888", lw=0.8, zorder=0)
        axes.annotate(
            in_plot(name), max(ends), (5, 3), textcoords="offset points", fontsize=7
        )  # fmt: skip
    axes.set(xlabel="base, %", ylabel="novel, %")
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _few_shot_curves(tables: Sequence[Table]) -> str:
    """A panel for each row, a line for each method."""
    names = list(dict.fromkeys((row.kind, row.name) for table in tables for row in table.rows))
    panels = min(len(names), _PANELS)
    figure, places = _figure(2.3 * panels + 1, 2.2, len(names))
    colours = _colours(table.trainer for table in tables)
    for axes, (kind, name) in zip(places, names, strict=True):
        axes.set_title(in_plot(name), fontsize=9)
        for table in tables:
            _draw_curve(axes, table, (kind, name), colours[table.trainer])
        axes.set_xscale("symlog", base=2, linthresh=1)
        ticks = sorted({column.shots for table in tables for column in table.columns})
        axes.set_xticks(ticks, ["all" if n < 0 else str(n) for n in ticks], fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
    figure.supxlabel("shots", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    handles = {line.get_label(): line for axes in places for line in axes.lines}
    figure.legend(handles.values(), handles.keys(), frameon=False, fontsize=8,
                  loc="outside upper right", ncols=2)  # fmt: skip
    return _svg(figure)


def _draw_curve(axes: Any, table: Table, key: tuple[RowKind, str], colour: str) -> None:
    row = next((row for row in table.rows if (row.kind, row.name) == key), None)
    if row is None:
        return
    known = [(column.shots, row.cells[column].mean) for column in table.columns]
    known = [(shots, mean) for shots, mean in known if mean is not None]
    if known:
        label = ", ".join(part for part in (table.method, table.backbone) if part)
        axes.plot(
            *zip(*known, strict=True), marker="o", ms=3, lw=1.2, color=colour, label=in_plot(label)
        )


def _losses(path: Path) -> list[float]:
    """The average loss of every epoch, from its last printed line."""
    if not path.is_file():
        return []
    found: dict[int, float] = {}
    for match in LINE.finditer(path.read_text(errors="replace")):
        found[int(match[1])] = float(match[4])
    return list(found.values())


def _curves(logs: Sequence[tuple[str, list[float]]]) -> str:
    figure, (axes,) = _figure()
    colours = _colours(trainer for trainer, _ in logs)
    for trainer, losses in logs:
        label = in_plot(METHOD_NAMES.get(trainer, trainer))
        epochs = range(1, len(losses) + 1)
        axes.plot(epochs, losses, label=label, lw=0.8, alpha=0.7, color=colours[trainer])
    axes.set(xlabel="epoch", ylabel="loss, nats")
    axes.xaxis.get_major_locator().set_params(integer=True)
    handles = {line.get_label(): line for line in axes.lines}
    axes.legend(handles.values(), handles.keys(), frameon=False, fontsize=8)
    return _svg(figure)
