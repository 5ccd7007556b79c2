"""Pictures of a report, as SVG text; the difference to the paper comes first."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from report.canvas import WIDTH, add_legend, figure_of, label_of, short, svg_of
from report.cells import UNTRAINED, Protocol, RowKind, Table
from report.palette import colours_of
from report.results import Result
from report.row_charts import base_and_novel, differences, has_differences, has_pairs
from report.text import listed
from trainer.published_values import METHOD_NAMES

__all__ = ["draw_all"]

LINE = re.compile(r"epoch \[(\d+)/\d+\] batch \[(\d+)/(\d+)\].* loss \S+ \(([\d.]+)\)")
_PANELS = 2  # side by side


def draw_all(tables: Sequence[Table], results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    """(caption, svg) of every picture that the results allow."""
    colours = colours_of(result.trainer for result in results)  # the same in every picture
    for protocol in Protocol:
        own = [table for table in tables if table.protocol is protocol]
        if compared := [table for table in own if has_differences(table)]:
            yield _difference_caption(own, compared), differences(compared, colours)
    for is_published, suffix in ((True, ""), (False, ", other data sets")):
        own = [table for table in tables if table.is_published is is_published]
        pairs = [t for t in own if t.protocol is Protocol.BASE_TO_NOVEL and has_pairs(t)]
        if pairs:
            caption = f"Base and novel accuracy, mean and spread over seeds{suffix}"
            yield caption, base_and_novel(pairs, colours)
        curves = [table for table in own if table.protocol is Protocol.FEW_SHOT]
        if any(len(table.columns) > 1 for table in curves):
            yield f"Accuracy over shots{suffix}", _few_shot_curves(curves, colours)
    logs = [(r.trainer, _losses(r.folder / "log.txt")) for r in results]
    if logs := [(trainer, losses) for trainer, losses in logs if losses]:
        yield (
            f"Training loss over epochs, a line for each of {len(logs)} runs",
            _curves(logs, colours),
        )


def _difference_caption(tables: Sequence[Table], compared: Sequence[Table]) -> str:
    """What the bars are, and which methods have none."""
    common = [part for part in compared[0].setting if all(part in t.setting for t in compared)]
    caption = (
        f"{', '.join((compared[0].title, *common))}: difference to the number that the method's "
        "authors published, mean and spread over seeds"
    )
    shown = {table.method for table in compared}
    rest = sorted({t.method for t in tables if t.is_published} - shown)
    return f"{caption}. Without such a number: {listed(rest)}" if rest else caption


def _few_shot_curves(tables: Sequence[Table], colours: Mapping[str, str]) -> str:
    """A panel for each row, a line for each method."""
    names = list(dict.fromkeys((row.kind, row.name) for table in tables for row in table.rows))
    columns = min(len(names), _PANELS)
    rows = -(-len(names) // columns)
    figure, places = figure_of(rows, columns, 0.6 + 0.1 * len(tables) + 1.7 * rows)
    for axes in places[len(names) :]:
        axes.remove()
    ticks = sorted({column.shots for table in tables for column in table.columns})
    for axes, (kind, name) in zip(places, names, strict=False):
        axes.set_title(short(name), fontsize=10)
        for table in tables:
            label = label_of(table, tables)
            _draw_curve(
                axes, table, (kind, name), {"color": colours[table.trainer], "label": label}
            )
        axes.set_xscale("symlog", base=2, linthresh=1)
        axes.set_xticks(ticks, ["all" if n < 0 else str(n) for n in ticks])
    figure.supxlabel("shots", fontsize=10)
    figure.supylabel("accuracy, %", fontsize=10)
    add_legend(figure, places[: len(names)])
    return svg_of(figure)


def _draw_curve(axes: Any, table: Table, key: tuple[RowKind, str], style: dict[str, str]) -> None:
    row = next((row for row in table.rows if (row.kind, row.name) == key), None)
    if row is None:
        return
    known = [(column.shots, row.cells[column].mean) for column in table.columns]
    known = [(shots, mean) for shots, mean in known if mean is not None]
    if known and table.trainer == UNTRAINED:
        axes.axhline(known[0][1], ls="--", lw=1.2, **style)
    elif known:
        axes.plot(*zip(*known, strict=True), marker="o", ms=3, lw=1.2, **style)


def _losses(path: Path) -> list[float]:
    """The average loss of every epoch, from its last printed line."""
    if not path.is_file():
        return []
    found: dict[int, float] = {}
    for match in LINE.finditer(path.read_text(errors="replace")):
        found[int(match[1])] = float(match[4])
    return list(found.values())


def _curves(logs: Sequence[tuple[str, list[float]]], colours: Mapping[str, str]) -> str:
    figure, (axes,) = figure_of(1, 1, 0.75 * WIDTH)
    for trainer, losses in logs:
        label = short(METHOD_NAMES.get(trainer, trainer))
        epochs = range(1, len(losses) + 1)
        axes.plot(epochs, losses, label=label, lw=0.8, alpha=0.7, color=colours[trainer])
    axes.set_xlabel("epoch", fontsize=10)
    axes.set_ylabel("loss, nats", fontsize=10)
    axes.xaxis.get_major_locator().set_params(integer=True)
    add_legend(figure, [axes])
    return svg_of(figure)
