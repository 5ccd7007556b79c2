"""Download data sets into CoOp's layout, as far as they are still offered.

    python scripts/download_data.py --root DATA eurosat dtd
    python scripts/download_data.py --root DATA food101 --mirror https://mirror.example/clip-data

An interrupted download resumes. For data sets that need an account or are no longer offered
(ImageNet, Cars, SUN397) the steps to take by hand are printed. The exit code is 1 if a download
failed.
"""

import argparse
import sys
from pathlib import Path

from interpreter import require_torch

if __name__ == "__main__":
    require_torch()

from dassl.errors import RequestError, in_one_sentence
from datasets.catalog import find
from datasets.download import download_dataset


def build_parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="data sets, e.g. eurosat dtd")
    parser.add_argument(
        "--root", required=True, type=Path, help="folder for the data sets' folders"
    )
    parser.add_argument("--mirror", default="", metavar="URL", help="download all files from there")
    return parser


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Download, and print what is left to do by hand; the exit code."""
    args = build_parser().parse_args(argv)
    failed = 0
    for name in args.names:
        try:
            by_hand = download_dataset(args.root, find(name).name, args.mirror)
        except (ConnectionError, RequestError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        for step in by_hand:
            print(step)
    if not failed:
        print(f"Next: python scripts/check_data.py --root {args.root} {' '.join(args.names)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
