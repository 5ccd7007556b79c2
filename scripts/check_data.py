"""Check data sets before you train on them: a line for each, and how to repair what is wrong.

    python scripts/check_data.py --root DATA
    python scripts/check_data.py --root DATA eurosat dtd --deep

The exit code is 1 if a data set that was asked for cannot be used.
"""

import argparse
from pathlib import Path

from interpreter import require_torch

if __name__ == "__main__":
    require_torch()

from dassl.errors import in_one_sentence
from datasets.catalog import CATALOG, find
from datasets.check import check_dataset, expected_tree


def build_parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets (default: all fifteen)")
    parser.add_argument("--root", required=True, type=Path, help="folder that holds their folders")
    parser.add_argument("--deep", action="store_true", help="decode every picture, on all cores")
    parser.add_argument(
        "--official", action="store_true", help="accept official lists if a split file is absent"
    )
    return parser


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Check the data sets and print what was found; the exit code."""
    args = build_parser().parse_args(argv)
    entries = [find(name) for name in args.names] or list(CATALOG)
    bad = 0
    for entry in entries:
        report = check_dataset(args.root, entry.name, args.deep, args.official)
        print(f"{entry.config:<16} {report.status}")
        for sentence in report.sentences:
            print(f"    {sentence}")
        if not report.is_usable:
            print(expected_tree(entry, args.root))
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
