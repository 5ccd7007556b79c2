"""Check data sets before you train on them: a line for each, and how to repair what is wrong.

    python scripts/check_data.py --root DATA
    python scripts/check_data.py --root DATA eurosat dtd --deep
    python scripts/check_data.py --root PICTURES folder --csv list.csv

The name "folder" is for pictures of your own, read from --root as training reads them: it says
which files and subfolders are ignored, and which pictures are twins or have an EXIF rotation.

The exit code is 1 if a data set that was asked for cannot be used.
"""

from pathlib import Path

from interpreter import require_torch

if __name__ == "__main__":
    require_torch()

from dassl.errors import in_one_sentence
from datasets.catalog import CATALOG, Entry, find
from datasets.check import OWN, check_dataset, check_own, expected_tree
from options import Parser


def build_parser() -> Parser:
    """The parser of all options."""
    parser = Parser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets (default: all fifteen)")
    parser.add_argument("--root", required=True, type=Path, help="folder that holds their folders")
    parser.add_argument("--deep", action="store_true", help="decode every picture, on all cores")
    parser.add_argument(
        "--official", action="store_true", help="accept official lists if a split file is absent"
    )
    own = parser.add_argument_group("your own pictures (folder)")
    own.add_argument("--csv", default="", metavar="FILE", help="list instead of class folders")
    own.add_argument("--classnames", default="", metavar="FILE", help="names, in label order")
    return parser


def _entry(name: str) -> Entry:
    return OWN if name.lower() == OWN.config else find(name)


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Check the data sets and print what was found; the exit code."""
    args = build_parser().parse_args(argv)
    entries = [_entry(name) for name in args.names] or list(CATALOG)
    bad = 0
    for entry in entries:
        if entry is OWN:
            report = check_own(args.root, args.csv, args.classnames, args.deep)
        else:
            report = check_dataset(args.root, entry.name, args.deep, args.official)
        print(f"{entry.config:<16} {report.status}")
        for sentence in report.sentences:
            print(f"    {sentence}")
        if not report.is_usable:
            bad += 1
            if entry is not OWN:
                print(expected_tree(entry, args.root))
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
