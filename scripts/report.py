"""What was reproduced: results beside the papers', as Markdown, CSV, LaTeX and an HTML page.

    python scripts/report.py output
    python scripts/report.py output --compare
    python scripts/report.py output --partial --out report

Without --compare there is a table for each method. With it, the table of a paper is there, too:
methods as rows, data sets as columns, published rows apart, in compare.md, compare.csv and
compare.tex, and on the page.

A missing seed is listed, and averages are withheld unless --partial is given. A damaged file is
named and skipped. Two runs of one cell and seed, or seeds that were made with different settings,
are named and refused. Exit code 0: all is there; 1: a seed is missing, or a file was skipped; 2:
refused, nothing is written.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from interpreter import require_torch

if __name__ == "__main__":
    require_torch()

from dassl.errors import in_one_sentence
from dassl.whole_files import write_text
from options import Parser, whole_numbers
from report.cells import Table
from report.checks import left_out, refusals, usable
from report.comparison import compare
from report.comparison_pages import (
    comparison_csv,
    comparison_html,
    comparison_latex,
    comparison_markdown,
)
from report.plots import draw_all
from report.render import to_csv, to_html, to_latex, to_markdown
from report.results import Result, read_results
from report.tables import build_tables
from report.text import listed, plain, say


def build_parser() -> Parser:
    """All options."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the runs' results.json are, at any depth")
    parser.add_argument("--seeds", type=whole_numbers(), default=[1, 2, 3], metavar="N,M",
                        help="that belong to a cell (default: 1,2,3)")  # fmt: skip
    parser.add_argument("--partial", action="store_true", help="average what is there")
    parser.add_argument("--compare", action="store_true",
                        help="write and print the table of all methods, too")  # fmt: skip
    parser.add_argument("--unlabelled", nargs="+", default=[], metavar="TRAINER",
                        help="with --compare: methods that learn from unlabelled pictures beyond "
                        "the shots, which stand apart")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder to write (default: FOLDER/report)")
    return parser


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Read, print, write."""
    args = build_parser().parse_args(argv)
    if not args.folder.is_dir():
        return _refuse([f"no folder {args.folder}"])
    found = read_results(args.folder)
    if not found.results and not found.damaged and not found.untested:
        return _refuse([f"no results.json below {args.folder}: no run is finished"])
    results = usable(found.results, args.seeds)
    if refused := _unknown(args, results) or refusals(results):
        return _refuse(refused)
    remarks = left_out(found, args.seeds)
    for remark in remarks:
        say(remark, sys.stderr)
    if not results:
        say(f"error: no result below {args.folder} has a place in a table", sys.stderr)
        return 1
    tables = build_tables(results, args.seeds, args.partial)
    pages, printed = _pages(tables, results, remarks, args)
    say(printed)
    out = args.out or args.folder / "report"
    for name, text in pages.items():
        write_text(out / name, text)
    say(f"Written to {plain(str(out))}: {listed(pages)}")
    return 1 if found.damaged or any(table.missing for table in tables) else 0


def _unknown(args: Namespace, results: Sequence[Result]) -> list[str]:
    """A sentence on --unlabelled, if it cannot mean anything."""
    trainers = sorted({result.trainer for result in results})
    if args.unlabelled and not args.compare:
        return ["--unlabelled says which rows of --compare stand apart; add --compare"]
    if unknown := sorted({*args.unlabelled} - {*trainers}):
        return [f"--unlabelled names {listed(unknown)}; the runs' trainers are {listed(trainers)}"]
    return []


def _pages(
    tables: Sequence[Table], results: Sequence[Result], remarks: Sequence[str], args: Namespace
) -> tuple[dict[str, str], str]:
    """The text of every file by name, and what is printed."""
    comparisons = compare(tables, args.unlabelled) if args.compare else []
    section = comparison_html(comparisons)
    pages = {
        "report.md": to_markdown(tables, remarks),
        "report.csv": to_csv(tables),
        "report.tex": to_latex(tables),
        "report.html": to_html(tables, draw_all(tables, results), remarks, section),
    }
    if not args.compare:
        return pages, pages["report.md"]
    compared = comparison_markdown(comparisons, remarks)
    files = {
        "compare.md": compared,
        "compare.csv": comparison_csv(comparisons),
        "compare.tex": comparison_latex(comparisons),
    }
    return pages | files, compared


def _refuse(sentences: list[str]) -> int:
    for sentence in sentences:
        say(f"error: {plain(sentence)}", sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
