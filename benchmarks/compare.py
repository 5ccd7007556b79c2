"""Compare two runs step by step, from logs or run folders, ours or published.

    python -m benchmarks.compare published/log.txt output/eurosat/seed1
    python -m benchmarks.compare output/a output/b --tolerance 1e-3

It compares the losses of all steps that both print, the running means (which include the steps in
between), the learning rates, the counts of correct test pictures and, if both recorded it, the hash
of the few-shot draw. Losses are compared to the four digits of a log.

Exit code 0: equal within the tolerance; 1: different; 2: nothing to compare.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.logs import RunLog, Step, read_run
from dassl.errors import RequestError, in_one_sentence

__all__ = ["compare", "main"]

TOLERANCE = 1e-5  # relative; float32 in another order of summation stays below it
# Relative; half precision rounds each product to 5e-4. Estimated: not measured on a card.
HALF_TOLERANCE = 2e-3
HALF = ("amp", "fp16", "bf16")
LR_TOLERANCE = 1.5e-4  # relative; five digits are printed
# Where a run lies and how often it prints says nothing of what it computes.
FREE = {"OUTPUT_DIR", "RESUME", "DATASET.ROOT", "TRAIN.PRINT_FREQ", "TRAIN.CHECKPOINT_FREQ"}
MAX_SHOWN = 6


class Row(NamedTuple):
    """One line of the answer."""

    title: str
    text: str
    is_different: bool = False


def build_parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", type=Path, metavar="A", help="log.txt or the folder of a run")
    parser.add_argument("b", type=Path, metavar="B", help="log.txt or the folder of another run")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="relative difference of losses that counts as equal (default: "
        f"{TOLERANCE:g}, and {HALF_TOLERANCE:g} if a run has PREC {', '.join(HALF)})",
    )
    return parser


def compare(a: RunLog, b: RunLog, tolerance: float) -> list[Row]:
    """Compare two runs; returns all rows of the answer.

    Raises:
        RequestError: the runs have nothing in common that could be compared, or the tolerance is
            below 0.
    """
    if not tolerance >= 0:
        raise RequestError(f"--tolerance must be 0 or more, got {tolerance}")
    shared = sorted(a.steps.keys() & b.steps.keys())
    splits = sorted(a.counts.keys() & b.counts.keys())
    if not shared and not splits:
        raise RequestError(
            f"{a.name!r} and {b.name!r} have nothing in common: no step and no test result that "
            "both print"
        )
    rows = [*_length(a, b), _settings(a, b)]
    if shared:
        rows += [
            _losses("loss", a, b, shared, tolerance, lambda step: step.loss),
            _losses("mean loss", a, b, shared, tolerance, lambda step: step.mean_loss),
            _rates(a, b, shared),
        ]
    else:
        rows.append(Row("loss", _absent(a, b, lambda run: bool(run.steps))))
    rows += [_count(split, a.counts[split], b.counts[split]) for split in splits]
    if not splits:
        rows.append(Row("correct", _absent(a, b, lambda run: bool(run.counts))))
    return [*rows, _draws(a, b)]


def _absent(a: RunLog, b: RunLog, has: Callable[[RunLog], bool]) -> str:
    lacking = [letter for letter, run in (("A", a), ("B", b)) if not has(run)]
    return f"not in this log ({' and '.join(lacking)})" if lacking else "none that both print"


def _length(a: RunLog, b: RunLog) -> list[Row]:
    if not a.steps or not b.steps:
        return []
    rows = []
    if (a.num_epochs, a.num_batches) != (b.num_epochs, b.num_batches):
        sizes = (f"{run.num_epochs} epochs of {run.num_batches} batches" for run in (a, b))
        rows.append(Row("length", " / ".join(sizes), is_different=True))
    ends = [_place(max(run.steps)) for run in (a, b)]
    if ends[0] != ends[1]:
        text = f"the last step printed is {' / '.join(ends)}; what one lacks is not compared"
        rows.append(Row("length", text))
    return rows


def _settings(a: RunLog, b: RunLog) -> Row:
    if not a.settings or not b.settings:
        return Row("settings", _absent(a, b, lambda run: bool(run.settings)))
    keys = [key for key in a.settings if key in b.settings and _bears_on(key, a.trainer)]
    changed = [key for key in keys if a.settings[key] != b.settings[key]]
    if not changed:
        return Row("settings", "equal, as far as both logs have them")
    shown = [f"{key} {a.settings[key]} / {b.settings[key]}" for key in changed[:MAX_SHOWN]]
    more = f"; and {len(changed) - MAX_SHOWN} more" if len(changed) > MAX_SHOWN else ""
    return Row("settings", f"{len(changed)} differ: {'; '.join(shown)}{more}")


def _bears_on(key: str, trainer: str) -> bool:
    """Whether a setting bears on a run of `trainer`; other trainers' nodes do not."""
    parts = key.split(".")
    is_others = parts[0] == "TRAINER" and len(parts) == 3 and parts[1].upper() != trainer.upper()
    return key not in FREE and not is_others


def _losses(
    title: str,
    a: RunLog,
    b: RunLog,
    shared: list[tuple[int, int]],
    tolerance: float,
    value: Callable[[Step], float],
) -> Row:
    pairs = {place: (value(a.steps[place]), value(b.steps[place])) for place in shared}
    differences = {place: _difference(*pair) for place, pair in pairs.items()}
    units = {place: max(a.steps[place].unit, b.steps[place].unit) for place in shared}
    beyond = [
        place
        for place, difference in differences.items()
        if difference == math.inf or difference > _limit(*pairs[place], tolerance, units[place])
    ]
    largest = max(shared, key=lambda place: differences[place])
    at_most = f"the largest difference is {differences[largest]:.4g} at {_place(largest)}"
    if beyond:
        first = " / ".join(f"{x:.4f}" for x in pairs[beyond[0]])
        text = (
            f"first differs at {_place(beyond[0])}: {first}; {len(beyond)} of {len(shared)} steps "
            f"differ, {at_most}"
        )
        return Row(title, text, is_different=True)
    unit = max(units.values())
    if differences[largest] == 0:
        return Row(title, f"equal to the digits printed (unit {unit:g}) in {len(shared)} steps")
    text = f"equal within {tolerance:g} relative and the unit {unit:g} printed, {at_most}"
    return Row(title, text)


def _limit(x: float, y: float, tolerance: float, unit: float) -> float:
    # Each of two roundings moves a loss by up to half a unit; a hair more for their own binary.
    return tolerance * max(abs(x), abs(y)) + 1.001 * unit


def _difference(x: float, y: float) -> float:
    if x == y or (math.isnan(x) and math.isnan(y)):
        return 0.0
    return abs(x - y) if math.isfinite(x) and math.isfinite(y) else math.inf


def _place(place: tuple[int, int]) -> str:
    return f"epoch {place[0]}, batch {place[1]}"


def _rates(a: RunLog, b: RunLog, shared: list[tuple[int, int]]) -> Row:
    for place in shared:
        x, y = a.steps[place].lr, b.steps[place].lr
        if not math.isclose(x, y, rel_tol=LR_TOLERANCE):
            text = f"first differs at {_place(place)}: {x:.4e} / {y:.4e}"
            return Row("lr", text, is_different=True)
    return Row("lr", f"equal in {len(shared)} steps")


def _count(split: str, a: tuple[int, int], b: tuple[int, int]) -> Row:
    title = f"correct, {split}"
    if a == b:
        return Row(title, f"{a[0]:,} of {a[1]:,} in both")
    return Row(title, f"{a[0]:,} of {a[1]:,} / {b[0]:,} of {b[1]:,}", is_different=True)


def _draws(a: RunLog, b: RunLog) -> Row:
    if not a.draw or not b.draw:
        return Row("draw", _absent(a, b, lambda run: bool(run.draw)))
    if a.draw == b.draw:
        return Row("draw", "the same pictures in the same order")
    return Row("draw", f"sha256 {a.draw[:12]}... / {b.draw[:12]}...", is_different=True)


def describe(letter: str, run: RunLog) -> str:
    """One line on what is known of a run."""
    known = [run.trainer, run.settings.get("DATASET.NAME", ""), run.precision]
    seed = run.settings.get("SEED", "")
    known.append(f"seed {seed}" if seed else "")
    known.append(f"{len(run.steps)} of {run.num_epochs * run.num_batches} steps printed")
    return f"{letter}  {run.name}: {', '.join(part for part in known if part)}"


def conclusion(rows: list[Row], a: RunLog, b: RunLog) -> str:
    """The sentence that sums up the rows, and claims no more than they show."""
    if any(row.is_different for row in rows):
        return "Different: these are not the same run."
    if not a.steps or not b.steps:
        return "Equal in what both logs hold; no training step is among it."
    total = max(run.num_epochs * run.num_batches for run in (a, b))
    limits = "what lies below the last digit is not in these logs"
    if len(a.steps.keys() & b.steps.keys()) < total:
        limits += ", and steps that one of them does not print show in the means alone"
    return f"Equal within the tolerance, as far as printed: {limits}."


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Compare and print; the exit code: 0 equal, 1 different, 2 nothing to compare."""
    args = build_parser().parse_args(argv)
    a, b = read_run(args.a), read_run(args.b)
    tolerance = args.tolerance
    if tolerance is None:
        is_half = any(run.precision in HALF for run in (a, b))
        tolerance = HALF_TOLERANCE if is_half else TOLERANCE
    rows = compare(a, b, tolerance)
    print(describe("A", a))
    print(describe("B", b))
    width = max(len(row.title) for row in rows) + 2
    for row in rows:
        print(f"{'!' if row.is_different else ' '} {row.title:<{width}}{row.text}")
    print(conclusion(rows, a, b))
    return 1 if any(row.is_different for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
