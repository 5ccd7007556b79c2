"""What was reproduced: results beside the papers', as Markdown, CSV, LaTeX and an HTML page.

    python scripts/report.py output
    python scripts/report.py output --partial --out report

A missing seed is listed, and averages are withheld unless --partial is given. Exit code 1 if a
seed is missing.
"""

import argparse
import sys
from pathlib import Path

from dassl.errors import in_one_sentence
from interpreter import require_torch

if __name__ == "__main__":
    require_torch()

from dassl.whole_files import write_text
from report.plots import draw_all
from report.render import to_csv, to_html, to_latex, to_markdown
from report.results import read_results
from report.tables import build_tables


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the runs' results.json are, at any depth")
    parser.add_argument("--seeds", type=_seeds, default=[1, 2, 3], metavar="N,M",
                        help="that belong to a cell (default: 1,2,3)")  # fmt: skip
    parser.add_argument("--partial", action="store_true", help="average what is there")
    parser.add_argument("--out", type=Path, help="folder to write (default: FOLDER/report)")
    return parser


def _seeds(text: str) -> list[int]:
    names = text.split(",")
    if not all(name.strip().isdecimal() for name in names):
        raise argparse.ArgumentTypeError(f"whole numbers with commas are needed, got {text!r}")
    return [int(name) for name in names]


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Read, print, write."""
    args = build_parser().parse_args(argv)
    results = read_results(args.folder)
    if not results:
        print(f"error: no results.json below {args.folder}", file=sys.stderr)
        return 2
    tables = build_tables(results, args.seeds, args.partial)
    markdown = to_markdown(tables)
    print(markdown)
    out = args.out or args.folder / "report"
    pages = {
        "report.md": markdown,
        "report.csv": to_csv(tables),
        "report.tex": to_latex(tables),
        "report.html": to_html(tables, draw_all(tables, results)),
    }
    for name, text in pages.items():
        write_text(out / name, text)
    print(f"Written to {out}: {', '.join(pages)}")
    return 1 if any(table.missing for table in tables) else 0


if __name__ == "__main__":
    raise SystemExit(main())
