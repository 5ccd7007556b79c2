"""Tables -> Markdown, CSV, LaTeX and one self-contained HTML page."""

import csv
import io
from collections.abc import Iterable, Sequence

from report.cells import Cell, Column, Table, seeds_text
from report.palette import PAGE_COLOURS
from report.text import in_csv, in_html, in_latex, in_markdown

__all__ = ["to_csv", "to_html", "to_latex", "to_markdown"]

CSV_COLUMNS = (
    "table method row column mean spread seeds missing_seeds published difference verdict "
    "third_party_rerun kind shots backbone"
).split()
LEGEND = (
    "Mean and spread over seeds in percent; in brackets the published number, the difference, and "
    "whether it lies inside the range of the seeds, inside 2 points, or outside. re-run: by third "
    "parties, not by the authors."
)
H_LEGEND = (
    "H is the harmonic mean of the mean accuracies, as in the papers; its spread is that of the "
    "seeds' own H. The row \"mean of H\" is the mean of the data sets' H instead."
)


def show(cell: Cell | None) -> str:
    """`96.5 ± 0.6 (95.6, +0.9, inside 2 points; re-run 96.1)`; a dash for nothing."""
    if cell is None or cell.mean is None:
        return "-"
    notes = []
    if cell.published is not None:
        notes.append(f"{cell.published:.2f}, {cell.difference:+.2f}, {cell.verdict}")
    if cell.rerun is not None:
        notes.append(f"re-run {cell.rerun:.2f}")
    if cell.missing:
        notes.append(f"{seeds_text(cell.missing)} missing")
    return f"{_figure(cell)} ({'; '.join(notes)})" if notes else _figure(cell)


def _figure(cell: Cell) -> str:
    return f"{cell.mean:.2f}" + (f" ± {cell.spread:.2f}" if len(cell.values) > 1 else "")


def _titles(table: Table) -> list[str]:
    return [column.title for column in table.columns]


def _legends(tables: Iterable[Table]) -> list[str]:
    has_h = any(column.is_derived for table in tables for column in table.columns)
    return [LEGEND, H_LEGEND] if has_h else [LEGEND]


def to_markdown(tables: Sequence[Table], remarks: Sequence[str] = ()) -> str:
    """All tables, what is missing, and the remarks on what is not in them."""
    parts = [f"{legend}\n" for legend in _legends(tables)]
    for table in tables:
        parts.append(f"## {in_markdown(table.caption)}\n")
        parts.append(f"| | {' | '.join(_titles(table))} |")
        parts.append(f"| --- |{' --- |' * len(table.columns)}")
        for row in table.rows:
            shown = (show(row.cells.get(column)) for column in table.columns)
            parts.append(f"| {in_markdown(row.name)} | {' | '.join(shown)} |")
        parts.append("")
        if sentences := [*table.notes, *table.missing]:
            parts.extend(f"- {in_markdown(sentence)}" for sentence in sentences)
            parts.append("")
    if remarks:
        parts.append("## Not in the tables\n")
        parts.extend(f"- {in_markdown(remark)}" for remark in remarks)
    return "\n".join(parts).rstrip("\n") + "\n"


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
                        in_csv(table.trainer),
                        in_csv(row.name),
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
                        column.shots or table.shots,
                        in_csv(table.backbone),
                    ]
                )
    return text.getvalue()


def to_latex(tables: Sequence[Table]) -> str:
    """A table environment each: mean and spread, the published number in brackets."""
    return "\n".join(map(_latex_table, tables))


def _latex_table(table: Table) -> str:
    caption = f"{table.caption}. {_latex_legend(table)}"
    parts = ["\\begin{table}\n\\centering", f"\\caption{{{in_latex(caption)}}}"]
    parts.append(f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}\n\\hline")
    parts.append(f" & {' & '.join(_titles(table))} \\\\\n\\hline")
    for row in table.rows:
        shown = (_latex(row.cells.get(column)) for column in table.columns)
        parts.append(f"{in_latex(row.name)} & {' & '.join(shown)} \\\\")
    parts.append("\\hline\n\\end{tabular}")
    parts.extend(f"\\par\\footnotesize {in_latex(s)}" for s in (*table.notes, *table.missing))
    parts.append("\\end{table}\n")
    return "\n".join(parts)


def _latex_legend(table: Table) -> str:
    cells = [cell for row in table.rows for cell in row.cells.values()]
    text = "Mean and spread over seeds in percent"
    if any(cell.published is not None for cell in cells):
        text += "; in brackets the published number"
    if any(column.is_derived for column in table.columns):
        text += "; H is the harmonic mean of the mean accuracies"
    return f"{text}."


def _latex(cell: Cell | None) -> str:
    if cell is None or cell.mean is None:
        return "--"
    published = f" ({cell.published:.2f})" if cell.published is not None else ""
    return f"{in_latex(_figure(cell))}{published}"


STYLE = (
    PAGE_COLOURS
    + """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: right;
  vertical-align: top; white-space: nowrap }
th:first-child, td:first-child { text-align: left } small { display: block; opacity: .85 }
.inside { color: var(--good) } .near { color: var(--near) } .outside { color: var(--bad) }
figure { margin: 1rem 0; min-width: 0 } svg { width: 100%; height: auto; background: #fff }
.lead { max-width: 36rem } figcaption { margin-bottom: .5rem }
.figures { display: grid; gap: 1rem; margin-top: 2.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)) }
.compare { font-size: .875rem } .compare th { font-weight: 500 }
.compare th, .compare td { padding: .3rem .45rem }
.compare th[scope=col], .compare th[scope=row] { max-width: 14rem; white-space: normal;
  overflow-wrap: break-word }
.compare th:first-child { position: sticky; left: 0; background: Canvas }
.part th { font-style: italic; text-align: left }
@media print { body { max-width: none; font-size: 11px } h2 { break-after: avoid }
  figure, tr { break-inside: avoid } .scroll { overflow: visible } }
@media screen and (max-width: 40rem) { .figures { display: block }
  .cards thead { display: none } .cards tr, .cards tr > * { display: block }
  .cards tr { border-bottom: 1px solid var(--line); padding: .5rem 0 }
  .cards th, .cards td { border: 0; padding: .15rem 0; white-space: normal }
  .cards td { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .75rem }
  .cards td::before { content: attr(data-label); opacity: .7 } small { flex-basis: 100% }
  .compare th[scope=col], .compare th[scope=row] { max-width: 8.5rem } }
"""
)


def to_html(
    tables: Sequence[Table],
    figures: Iterable[tuple[str, str]],
    remarks: Sequence[str] = (),
    comparison: str = "",
) -> str:
    """One page with everything in it: it leads with the first of `figures`, (caption, svg) each.

    `comparison` is a section, as HTML.
    """
    drawn = [_html_figure(caption, svg) for caption, svg in figures]
    parts = [f"<div class=lead>{figure}</div>" for figure in drawn[:1]]
    parts.extend(f"<p class=outside>{in_html(remark)}</p>" for remark in remarks)
    parts.append(comparison)
    parts.extend(f"<p>{in_html(legend)}</p>" for legend in _legends(tables))
    parts.extend(map(_html_table, tables))
    if drawn[1:]:
        parts.append(f"<div class=figures>{''.join(drawn[1:])}</div>")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>MMRL results</title><style>{STYLE}</style>"
        f"<body><h1>Results beside the papers'</h1>{''.join(parts)}</body></html>\n"
    )


def _html_figure(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{in_html(caption)}</figcaption>{svg}</figure>"


def _html_table(table: Table) -> str:
    parts = [f"<h2>{in_html(table.caption)}</h2>"]
    parts.extend(f"<p>{in_html(note)}</p>" for note in table.notes)
    if table.missing:
        lines = "".join(f"<li>{in_html(sentence)}</li>" for sentence in table.missing)
        parts.append(f"<ul class=outside>{lines}</ul>")
    head = "".join(f"<th scope=col>{in_html(title)}</th>" for title in _titles(table))
    rows = []
    for row in table.rows:
        shown = "".join(_html_cell(column, row.cells.get(column)) for column in table.columns)
        rows.append(f"<tr><th scope=row>{in_html(row.name)}</th>{shown}</tr>")
    body = f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    parts.append(f"<div class='scroll cards'><table>{body}</table></div>")
    return "".join(parts)


def _html_cell(column: Column, cell: Cell | None) -> str:
    head = f"<td data-label='{in_html(column.title)}'>"
    if cell is None or cell.mean is None:
        return f"{head}-</td>"
    text = _figure(cell)
    if cell.published is not None:
        kind = {"inside": "inside", "outside": "outside"}.get(cell.verdict, "near")
        note = f"paper {cell.published:.2f}, {cell.difference:+.2f}: {cell.verdict}"
        text += f"<small class={kind}>{in_html(note)}</small>"
    if cell.rerun is not None:
        text += f"<small>third parties' re-run {cell.rerun:.2f}</small>"
    if cell.missing:
        text += f"<small class=outside>{seeds_text(cell.missing)} missing</small>"
    return f"{head}{text}</td>"
