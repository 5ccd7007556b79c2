"""Mean and spread of the runs of one experiment, over its seed folders.

    python scripts/parse_test_res.py output/base2new/test_new/eurosat/shots_16/MMRL/vit_b16
    python scripts/parse_test_res.py output/few_shot/eurosat --multi-exp

A seed folder's figure comes from its results.json, or else from the last result in its log.txt.
"""

import argparse
import re
import sys
from collections import OrderedDict
from pathlib import Path
from statistics import mean, pstdev

import interpreter  # noqa: F401  its stand-in finds the repository
from dassl.errors import in_one_sentence
from run_files import RESULTS_FILE, RunResults

KEYS = {"accuracy": "accuracy", "error": "error_rate", "macro_f1": "macro_f1"}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="experiment: holds the seed folders")
    parser.add_argument("--ci95", action="store_true", help="95%% interval instead of the spread")
    parser.add_argument("--test-log", action="store_true", help="the logs are of evaluations")
    parser.add_argument("--multi-exp", action="store_true", help="directory holds experiments")
    parser.add_argument("--keyword", choices=KEYS, default="accuracy", help="which figure")
    parser.add_argument("--seeds", default="1,2,3", help="expected seeds (default: 1,2,3)")
    return parser


def read_run(folder: Path, keyword: str) -> float | None:
    """The figure in percent; None if the run was not finished.

    Raises:
        RequestError: results.json is damaged.
    """
    if (folder / RESULTS_FILE).is_file():
        return getattr(RunResults.read(folder), KEYS[keyword])
    log = folder / "log.txt"
    if not log.is_file():
        return None
    text = log.read_text(errors="replace").partition("=> result")[2]
    found = re.findall(rf"\* {re.escape(keyword)}: ([\d.e+-]+)%", text)
    return float(found[-1]) if found else None


def parse_experiment(folder: Path, args: argparse.Namespace) -> float | None:
    """Print every run, mean and spread, and the missing seeds; return the mean."""
    print(f"Parsing files in {folder}")
    values: OrderedDict[str, float] = OrderedDict()
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        value = read_run(run, args.keyword)
        if value is None:
            print(f"file: {run}. nothing found: the run is not finished")
            continue
        values[run.name] = value
        print(f"file: {run}. {args.keyword}: {value:.2f}%.")
    wanted = [f"seed{seed}" for seed in args.seeds.split(",")]
    if missing := [name for name in wanted if name not in values]:
        print(f"MISSING: {', '.join(missing)}; the mean below leaves them out")
    if not values:
        return None
    figures = list(values.values())
    spread = pstdev(figures)
    spread = 1.96 * spread / len(figures) ** 0.5 if args.ci95 else spread
    print(f"===\nSummary of directory: {folder}")
    print(f"* {args.keyword}: {mean(figures):.2f}% +- {spread:.2f}%\n===")
    return mean(figures)


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Parse one experiment, or all in a folder; the exit code."""
    args = build_parser().parse_args(argv)
    if not args.directory.is_dir():
        print(f"error: no folder {args.directory}", file=sys.stderr)
        return 2
    folders = [args.directory]
    if args.multi_exp:
        folders = sorted(path for path in args.directory.iterdir() if path.is_dir())
    means = [parse_experiment(folder, args) for folder in folders]
    found = [value for value in means if value is not None]
    if args.multi_exp and found:
        print(f"Average performance\n* {args.keyword}: {mean(found):.2f}%")
    return 0 if found else 1


if __name__ == "__main__":
    raise SystemExit(main())
