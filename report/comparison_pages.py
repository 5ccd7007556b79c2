"""Comparisons -> Markdown, CSV, LaTeX (booktabs) and a section of the HTML page."""

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import chain

from report.cells import Column, RowKind
from report.comparison import Block, Comparison, Head, Line, Part
from report.text import in_csv, in_html, in_latex, in_markdown

__all__ = ["ABBREVIATIONS", "comparison_csv", "comparison_html", "comparison_latex",
           "comparison_markdown"]  # fmt: skip

# A column each in a table that is as wide as a page.
ABBREVIATIONS = {
    "imagenet": "ImageNet",
    "caltech101": "Caltech",
    "oxford_pets": "Pets",
    "stanford_cars": "Cars",
    "oxford_flowers": "Flowers",
    "food101": "Food",
    "fgvc_aircraft": "Aircraft",
    "sun397": "SUN",
    "dtd": "DTD",
    "eurosat": "EuroSAT",
    "ucf101": "UCF",
    "imagenetv2": "-V2",
    "imagenet_sketch": "-Sketch",
    "imagenet_a": "-A",
    "imagenet_r": "-R",
}
_LATEX_HEAD = """\
% In the preamble: \\usepackage{booktabs,graphicx}
% A table that is wider than the text is scaled down to its width.
"""


def _legend(comparison: Comparison) -> str:
    many = "s" if comparison.seeds != 1 else ""
    text = f"Accuracy in percent, mean over {comparison.seeds} seed{many}"
    if any(comparison.seeds_note(*cell) for cell in _cells(comparison)):
        text += "; n: over so many seeds"
    if any(part.source.name != "HERE" for block in comparison.blocks for part in block.parts):
        text += "; published: the authors' own numbers; re-run: third parties' numbers"
    return f"{text}. Bold: the best of its column among rows of one kind."


def _cells(comparison: Comparison) -> Iterable[tuple[Line, Head]]:
    parts = chain.from_iterable(block.parts for block in comparison.blocks)
    return ((line, head) for part in parts for line in part.lines for head in comparison.heads)


def _title(column: Column) -> str:
    """`base`, `novel`, `H (harmonic mean ...)`, `16 shots`."""
    if column.is_derived:
        return f"{column.title} (harmonic mean of the mean accuracies)"
    return column.title


def _figures(
    comparison: Comparison, part: Part, line: Line, bold: str = "{}", note: str = " ({})"
) -> list[str]:
    """A line's figures as shown; empty where there is none. The best and notes have a format."""
    shown = []
    for head in comparison.heads:
        text = line.shown(head)
        if text and part.is_best(line, head):
            text = bold.format(text)
        seeds = comparison.seeds_note(line, head)
        shown.append(text + (note.format(seeds) if seeds else ""))
    return shown


def _heading(comparison: Comparison, head: Head) -> str:
    is_own = not comparison.is_published or head.kind is RowKind.AVERAGE
    return head.name if is_own else ABBREVIATIONS[head.name]


def comparison_markdown(comparisons: Sequence[Comparison], remarks: Sequence[str] = ()) -> str:
    """A table for each figure, and what is not in them."""
    parts = []
    for comparison in comparisons:
        parts += [f"## {in_markdown(comparison.caption)}\n", f"{_legend(comparison)}\n"]
        for block in comparison.blocks:
            parts += [f"### {_title(block.column)}\n", *_markdown_table(comparison, block), ""]
        parts += [f"- {in_markdown(note)}" for note in comparison.notes]
        parts += [""] * bool(comparison.notes)
    if remarks:
        parts += ["## Not in the tables\n", *(f"- {in_markdown(remark)}" for remark in remarks)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _markdown_table(comparison: Comparison, block: Block) -> Iterable[str]:
    names = [in_markdown(_heading(comparison, head)) for head in comparison.heads]
    yield f"| | {' | '.join(names)} |"
    yield f"| --- |{' ---: |' * len(names)}"
    for part in block.parts:
        if len(block.parts) > 1:
            yield f"| *{part.title}* |{' |' * len(names)}"
        for line in part.lines:
            figures = _figures(comparison, part, line, "**{}**")
            shown = " | ".join(figure or "-" for figure in figures)
            yield f"| {in_markdown(line.name)} | {shown} |"


def comparison_csv(comparisons: Sequence[Comparison]) -> str:
    """A row a method and figure, not rounded; a column for each data set of any comparison."""
    own = list(dict.fromkeys(_csv_head(c, head) for c in comparisons for head in c.heads))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "figure", "rows", "method", "seeds", *map(in_csv, own)])
    for comparison in comparisons:
        for block, part in ((block, part) for block in comparison.blocks for part in block.parts):
            kind = in_csv(comparison.caption), block.column.title, part.title
            for line in part.lines:
                found = {_csv_head(comparison, head): c.mean for head, c in line.cells.items()}
                figures = (found.get(name) for name in own)
                writer.writerow([*kind, in_csv(line.name), _seeds(line), *figures])
    return text.getvalue()


def _csv_head(comparison: Comparison, head: Head) -> str:
    """An own data set may have the name of a published one, or be called average."""
    is_own = head.kind is not RowKind.AVERAGE and not comparison.is_published
    return f"{head.name} (own)" if is_own else head.name


def _seeds(line: Line) -> str:
    """`3`, or `2-3` where the data sets differ; empty for published rows."""
    own = (cell for head, cell in line.cells.items() if head.kind is not RowKind.AVERAGE)
    counts = sorted({len(cell.values) for cell in own})
    is_known = counts and not line.mark
    return "-".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if is_known else ""


def comparison_latex(comparisons: Sequence[Comparison]) -> str:
    """A table environment for each figure."""
    tables = (_latex_table(c, block) for c in comparisons for block in c.blocks)
    return "\n".join((_LATEX_HEAD, *tables))


def _latex_table(comparison: Comparison, block: Block) -> str:
    caption = f"{comparison.caption}: {_title(block.column)}. {_legend(comparison)}"
    columns = len(comparison.heads)
    names = " & ".join(in_latex(_heading(comparison, head)) for head in comparison.heads)
    lines = [
        "\\begin{table*}\n\\centering",
        f"\\caption{{{in_latex(caption)}}}",
        "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{l*{{{columns}}}{{r}}}}\n\\toprule",
        f"Method & {names} \\\\",
    ]
    for part in block.parts:
        lines.append("\\midrule")
        if len(block.parts) > 1:
            lines.append(f"\\multicolumn{{{columns + 1}}}{{l}}{{\\emph{{{part.title}}}}} \\\\")
        lines.extend(_latex_line(comparison, part, line) for line in part.lines)
    lines.append("\\bottomrule\n\\end{tabular}}")
    lines.extend(f"\\par\\footnotesize {in_latex(note)}" for note in comparison.notes)
    return "\n".join((*lines, "\\end{table*}\n"))


def _latex_line(comparison: Comparison, part: Part, line: Line) -> str:
    figures = _figures(comparison, part, line, "\\textbf{{{}}}", "\\textsuperscript{{{}}}")
    return f"{in_latex(line.name)} & {' & '.join(figure or '--' for figure in figures)} \\\\"


def comparison_html(comparisons: Sequence[Comparison]) -> str:
    """A section for each comparison."""
    parts = []
    for comparison in comparisons:
        parts.append(f"<h2>{in_html(comparison.caption)}: all methods</h2>")
        parts.append(f"<p>{in_html(_legend(comparison))}</p>")
        parts.extend(f"<p>{in_html(note)}</p>" for note in comparison.notes)
        parts.extend(_html_table(comparison, block) for block in comparison.blocks)
    return "".join(parts)


def _html_table(comparison: Comparison, block: Block) -> str:
    names = (_heading(comparison, head) for head in comparison.heads)
    head = "".join(f"<th scope=col>{in_html(name)}</th>" for name in names)
    rows = []
    for part in block.parts:
        if len(block.parts) > 1:
            span = f"colspan={len(comparison.heads) + 1}"
            rows.append(f"<tr class=part><th scope=rowgroup {span}>{part.title}</th></tr>")
        for line in part.lines:
            figures = _figures(comparison, part, line, "<b>{}</b>", "<small>{}</small>")
            shown = "".join(f"<td>{figure or '-'}</td>" for figure in figures)
            rows.append(f"<tr><th scope=row>{in_html(line.name)}</th>{shown}</tr>")
    body = f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return (
        f"<h3>{in_html(_title(block.column))}</h3>"
        f"<div class='scroll compare' tabindex=0><table>{body}</table></div>"
    )
