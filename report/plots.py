"""Pictures of a report, as SVG text: base against novel, few-shot curves, training curves."""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from report.cells import Protocol, RowKind, Table
from report.results import Result
from report.tables import BASE, NOVEL

__all__ = ["draw_all"]

LINE = re.compile(r"epoch \[(\d+)/\d+\] batch \[(\d+)/(\d+)\].* loss \S+ \(([\d.]+)\)")
MAX_CURVES = 12


def draw_all(tables: Sequence[Table], results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    """(caption, svg) of every picture that the results allow."""
    pairs = [table for table in tables if table.protocol is Protocol.BASE_TO_NOVEL]
    if pairs:
        yield "Base against novel accuracy, a point a data set", _base_against_novel(pairs)
    curves = [table for table in tables if table.protocol is Protocol.FEW_SHOT]
    if curves:
        yield "Accuracy over shots, a line a data set", _few_shot_curves(curves)
    logs = {r.folder: _losses(r.folder / "log.txt") for r in results}
    logs = {folder: losses for folder, losses in logs.items() if losses}
    if logs:
        yield "Training loss over epochs", _training_curves(logs, results)


def _figure(width: float = 7, height: float = 4.2) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "mmrl"  # the same file for the same results
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    from matplotlib import pyplot

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _base_against_novel(tables: Sequence[Table]) -> str:
    figure, axes = _figure()
    for table in tables:
        rows = [row for row in table.rows if row.kind is RowKind.DATASET]
        points = [(row.name, row.cells[BASE].mean, row.cells[NOVEL].mean) for row in rows]
        points = [point for point in points if None not in point]
        label = table.method
        axes.scatter([p[1] for p in points], [p[2] for p in points], label=label, s=28)
        for name, base, novel in points:
            axes.annotate(name, (base, novel), (4, 3), textcoords="offset points", fontsize=7)
    axes.set(xlabel="base, %", ylabel="novel, %")
    axes.legend(frameon=False)
    return _svg(figure)


def _few_shot_curves(tables: Sequence[Table]) -> str:
    figure, axes = _figure()
    for table in tables:
        shots = [column.shots for column in table.columns]
        for row in table.rows:
            means = [row.cells[column].mean for column in table.columns]
            style = {"lw": 2.5} if row.kind is RowKind.AVERAGE else {"lw": 1, "alpha": 0.6}
            label = f"{table.method}, {row.name}"
            axes.plot(shots, means, marker="o", ms=3, label=label, **style)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="shots", ylabel="accuracy, %")
    axes.set_xticks(shots, shots)
    axes.legend(frameon=False, fontsize=7)
    return _svg(figure)


def _losses(path: Path) -> list[float]:
    """The average loss of every epoch, from its last printed line."""
    if not path.is_file():
        return []
    found: dict[int, float] = {}
    for match in LINE.finditer(path.read_text(errors="replace")):
        found[int(match[1])] = float(match[4])
    return list(found.values())


def _training_curves(logs: dict[Path, list[float]], results: Sequence[Result]) -> str:
    figure, axes = _figure()
    named = {r.folder: f"{r.trainer} {r.dataset} seed {r.seed}" for r in results}
    for folder, losses in list(logs.items())[:MAX_CURVES]:
        axes.plot(range(1, len(losses) + 1), losses, label=named[folder], lw=1)
    axes.set(xlabel="epoch", ylabel="loss, nats")
    axes.legend(frameon=False, fontsize=7)
    return _svg(figure)
