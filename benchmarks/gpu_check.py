"""Ask one GPU whether everything holds there: numbers, runs, speed, and the hours that follow.

    make gpu-check
    python -m benchmarks.gpu_check --device cpu --quick

Needs no network and no data. The published numbers are compared on the card, the demo's world is
trained in every precision, a run is killed and resumed, and the forms of a step are timed at
ViT-B/16's sizes with random weights. A PASS or FAIL line says of each check what was found and what
the bound is. Writes CARD.csv and CARD.log to the output folder. Exit code: 0, 1 if anything fails,
2 without a GPU. `--quick` does little of each, on a tiny CLIP, to try the program itself.
"""

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu.published import check_published
from benchmarks.gpu.report import Report
from benchmarks.gpu.runs import check_runs
from benchmarks.gpu.speed import Plan, check_speed, write_rows
from benchmarks.hours import Machine, table
from benchmarks.rates import loading_rate, measured_rates
from dassl.utils.tools import num_cores
from trainer.evaluation.results import device_name

RESULTS = Path(__file__).with_name("results")
START_SECONDS = 15.0  # of a command before its first batch, as benchmarks.hours assumes
MOST_MINUTES = 8.0


def print_hours(report: Report, folder: Path, name: str) -> None:
    """The hours of all runs, from the rows just written and this machine's cores."""
    rates = measured_rates(folder)[name]
    cores = min(num_cores(), 8)
    machine = Machine(rates, loading_rate() * cores, START_SECONDS)
    report.note(f"Hours of all runs on {name}, {cores} cores decoding, evaluations shared:")
    report.note(table(machine, share=True))


def check(device: str, quick: bool, output: Path) -> int:
    """All checks on a device; the exit code."""
    torch.backends.cudnn.allow_tf32 = False  # as a run: float32 is not rounded
    target = torch.device(device)
    name = device_name(target)
    stem = re.sub(r"\W+", "-", name).strip("-").lower() + ("-quick" if quick else "")
    report = Report(output / f"{stem}.log")
    report.note(f"{name}, torch {torch.__version__}{', quick' if quick else ''}")
    check_published(report, device, quick)
    with tempfile.TemporaryDirectory() as folder:
        check_runs(report, Path(folder), device, quick)
    rows = check_speed(report, Plan(target, quick), name)
    write_rows(rows, output / f"{stem}.csv")
    report.note(f"Rows are in {output / f'{stem}.csv'}")
    if device == "cuda":
        print_hours(report, output, name)
        report.below("minutes of this check", report.seconds / 60, MOST_MINUTES)
    return report.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options, look for the card, and check; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    parser.add_argument("--quick", action="store_true", help="little of each, on a tiny CLIP")
    parser.add_argument("--output", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA GPU here; --device cpu --quick tries the program itself.")
        return 2
    if args.device == "cpu" and not args.quick:
        parser.error("--device cpu takes --quick; `make bench` measures a processor")
    output = args.output
    if args.quick and output == RESULTS:  # tries are no results
        output = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    return check(args.device, args.quick, output)


if __name__ == "__main__":
    raise SystemExit(main())
