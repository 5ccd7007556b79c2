"""Fetch data sets into CoOp's layout, as far as they can be fetched.

    python scripts/download_data.py --root DATA eurosat dtd
    python scripts/download_data.py --root DATA food101 --mirror https://mirror.example/clip-data

A download that was stopped goes on where it was. What needs an account or is gone (ImageNet, Cars,
SUN397) is said, with the steps. Exit code 1 if a download failed.
"""

import argparse
import sys
from pathlib import Path

from interpreter import require_torch

if __name__ == "__main__":
    require_torch()

from datasets.catalog import find
from datasets.download import download_dataset


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="data sets, e.g. eurosat dtd")
    parser.add_argument("--root", required=True, type=Path, help="folder to put their folders in")
    parser.add_argument("--mirror", default="", metavar="URL", help="take all files from there")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Fetch, and say what is left to do."""
    args = build_parser().parse_args(argv)
    failed = 0
    for name in args.names:
        try:
            by_hand = download_dataset(args.root, find(name).name, args.mirror)
        except (ConnectionError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        for step in by_hand:
            print(step)
    if not failed:
        print(f"Now: python scripts/check_data.py --root {args.root} {' '.join(args.names)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
