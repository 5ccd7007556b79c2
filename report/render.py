"""Tables -> Markdown, CSV, LaTeX and one self-contained HTML page."""

import csv
import html
import io
from collections.abc import Iterable, Sequence

from report.cells import Cell, Column, Table
from trainer.published_values import METHOD_NAMES

__all__ = ["method_of", "to_csv", "to_html", "to_latex", "to_markdown"]

CSV_COLUMNS = (
    "table method row column mean spread seeds missing_seeds published difference verdict "
    "third_party_rerun kind"
).split()


def method_of(table: Table) -> str:
    """The method's name for people; a trainer of somebody else's has its own."""
    return METHOD_NAMES.get(table.trainer, table.trainer)


def name_of(table: Table) -> str:
    """Title with the method."""
    return f"{table.title}, {method_of(table)}"


def show(cell: Cell | None) -> str:
    """`96.5 ± 0.6 (95.6, +0.9, inside 2 points; re-run 96.1)`; a dash for nothing."""
    if cell is None or cell.mean is None:
        return "-"
    text = f"{cell.mean:.2f}"
    text += f" ± {cell.spread:.2f}" if len(cell.values) > 1 else ""
    notes = []
    if cell.published is not None:
        notes.append(f"{cell.published:.2f}, {cell.difference:+.2f}, {cell.verdict}")
    if cell.rerun is not None:
        notes.append(f"re-run {cell.rerun:.2f}")
    if cell.missing:
        notes.append(f"seeds {', '.join(map(str, cell.missing))} missing")
    return f"{text} ({'; '.join(notes)})" if notes else text


def _titles(table: Table) -> list[str]:
    return [column.title for column in table.columns]


LEGEND = (
    "Mean and spread over seeds in percent; in brackets the published number, the difference, and "
    "whether it lies inside the range of the seeds, inside 2 points, or outside. re-run: by third "
    "parties, not by the authors."
)


def to_markdown(tables: Sequence[Table]) -> str:
    """All tables, and what is missing."""
    parts = [LEGEND]
    for table in tables:
        parts.append(f"## {name_of(table)}\n")
        parts.append(f"| | {' | '.join(_titles(table))} |")
        parts.append(f"| --- |{' --- |' * len(table.columns)}")
        for row in table.rows:
            shown = (show(row.cells.get(column)) for column in table.columns)
            parts.append(f"| {row.name} | {' | '.join(shown)} |")
        parts.extend(f"\n- {sentence}" for sentence in table.missing)
        parts.append("")
    return "\n".join(parts) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """One line a cell, not rounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        for row in table.rows:
            for column, cell in row.cells.items():
                writer.writerow(
                    [
                        table.title,
                        table.trainer,
                        row.name,
                        column.title,
                        cell.mean,
                        cell.spread,
                        len(cell.values),
                        " ".join(map(str, cell.missing)),
                        cell.published,
                        cell.difference,
                        cell.verdict,
                        cell.rerun,
                        row.kind.value,
                    ]
                )
    return text.getvalue()


def to_latex(tables: Sequence[Table]) -> str:
    """A tabular environment each: mean and spread, the published number in brackets."""
    parts = []
    for table in tables:
        parts.append(f"% {name_of(table)}")
        parts.append(f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}\n\\hline")
        parts.append(f" & {' & '.join(_titles(table))} \\\\\n\\hline")
        for row in table.rows:
            shown = (_latex(row.cells.get(column)) for column in table.columns)
            parts.append(f"{row.name.replace('_', chr(92) + '_')} & {' & '.join(shown)} \\\\")
        parts.append("\\hline\n\\end{tabular}\n")
    return "\n".join(parts)


def _latex(cell: Cell | None) -> str:
    if cell is None or cell.mean is None:
        return "--"
    spread = f" $\\pm$ {cell.spread:.2f}" if len(cell.values) > 1 else ""
    published = f" ({cell.published:.2f})" if cell.published is not None else ""
    return f"{cell.mean:.2f}{spread}{published}"


STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #2d6a4f; --near: #9a6700; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --good: #74c69d; --near: #e3b341; --bad: #ff8a80 } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: right;
  vertical-align: top; white-space: nowrap }
th:first-child, td:first-child { text-align: left } small { display: block; opacity: .85 }
.inside { color: var(--good) } .near { color: var(--near) } .outside { color: var(--bad) }
figure { margin: 1rem 0 } svg { max-width: 100%; height: auto; background: #fff }
@media print { body { max-width: none; font-size: 11px } h2 { break-after: avoid }
  figure, tr { break-inside: avoid } .scroll { overflow: visible } }
@media screen and (max-width: 40rem) { thead { display: none } tr, tr > * { display: block }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0 }
  th, td { border: 0; padding: .15rem 0; white-space: normal }
  td { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .75rem }
  td::before { content: attr(data-label); opacity: .7 } small { flex-basis: 100% } }
"""


def to_html(tables: Sequence[Table], figures: Iterable[tuple[str, str]]) -> str:
    """One page with everything in it; `figures` are (caption, svg)."""
    parts = [f"<p>{html.escape(LEGEND)}</p>"]
    for table in tables:
        parts.append(f"<h2>{html.escape(name_of(table))}</h2>")
        parts.extend(f"<p class=outside>{html.escape(s)}</p>" for s in table.missing)
        head = "".join(f"<th scope=col>{html.escape(title)}</th>" for title in _titles(table))
        rows = []
        for row in table.rows:
            shown = "".join(_html_cell(column, row.cells.get(column)) for column in table.columns)
            rows.append(f"<tr><th scope=row>{html.escape(row.name)}</th>{shown}</tr>")
        body = f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        parts.append(f"<div class=scroll><table>{body}</table></div>")
    for caption, svg in figures:
        parts.append(f"<figure><figcaption>{html.escape(caption)}</figcaption>{svg}</figure>")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>MMRL results</title><style>{STYLE}</style>"
        f"<body><h1>Results beside the papers'</h1>{''.join(parts)}</body></html>\n"
    )


def _html_cell(column: Column, cell: Cell | None) -> str:
    head = f"<td data-label='{html.escape(column.title)}'>"
    if cell is None or cell.mean is None:
        return f"{head}-</td>"
    text = f"{cell.mean:.2f}" + (f" ± {cell.spread:.2f}" if len(cell.values) > 1 else "")
    if cell.published is not None:
        kind = {"inside": "inside", "outside": "outside"}.get(cell.verdict, "near")
        note = f"paper {cell.published:.2f}, {cell.difference:+.2f}: {cell.verdict}"
        text += f"<small class={kind}>{html.escape(note)}</small>"
    if cell.rerun is not None:
        text += f"<small>third parties' re-run {cell.rerun:.2f}</small>"
    return f"{head}{text}</td>"
