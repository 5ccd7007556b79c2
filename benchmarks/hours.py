"""Hours of the 552 runs of the three protocols on a machine, from its rates and the data's sizes.

    python -m benchmarks.hours
    python -m benchmarks.hours --card H100 --cores 16 --no-share

Machines that were measured (benchmarks/results/) come first; the cards of benchmarks/roofline.py
follow as a model, which nobody has measured. Pictures are decoded beside the device's work, so the
slower of the two counts.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.rates import Rates, loading_rate, measured_rates
from benchmarks.roofline import CARDS, EFFICIENCY, modelled_rates
from dassl.errors import RequestError
from datasets.catalog import find
from sweep.runs import PROTOCOLS, Run, list_runs
from trainer.config import build_config

__all__ = ["Hours", "Machine", "Work", "hours_of", "work_of"]

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_LAYERS = 5 / 12  # of the image tower's work: layers 1 .. J-1 know nothing of the run


class Work(NamedTuple):
    """What one run has to do."""

    steps: int
    classes: int
    batch: int
    tested: int  # pictures


class Machine(NamedTuple):
    """The rates, the loader, and what every command takes before its first batch."""

    rates: Rates
    loaded_per_second: float
    start_seconds: float


class Hours(NamedTuple):
    """Of one protocol."""

    runs: int
    training: float
    testing: float
    starting: float

    @property
    def total(self) -> float:
        """All three."""
        return self.training + self.testing + self.starting


def work_of(run: Run) -> Work:
    """Steps and test pictures of a run; test pictures are shared out by classes."""
    entry = find(run.dataset)
    base = math.ceil(entry.classes / 2)
    classes = {"all": entry.classes, "base": base, "new": entry.classes - base}[run.subsample]
    tested = round(entry.test * classes / entry.classes)
    if run.model:
        return Work(0, classes, 0, tested)
    epochs, batch = _schedule(run.config_file)
    pictures = min(run.shots * classes, entry.train * classes // entry.classes)
    # a last batch that is not full is left out, unless it is the only one
    return Work(epochs * max(1, pictures // batch), classes, batch, tested)


@cache
def _schedule(config_file: str) -> tuple[int, int]:
    """(epochs, batch size) of a trainer's yaml."""
    cfg, _ = build_config(config_file=str(REPOSITORY / config_file))
    return cfg.OPTIM.MAX_EPOCH, cfg.DATALOADER.TRAIN_X.BATCH_SIZE


def hours_of(runs: Iterable[Run], machine: Machine, share: bool) -> Hours:
    """The hours of runs one after the other; `share`: evaluations of the same pictures together.

    Trainings test alone; separate evaluations of one data set and class list, of all seeds and
    methods, decode its pictures and run the layers below J once.
    """
    count, training, testing, starting = 0, 0.0, 0.0, 0.0
    passes: dict[tuple, list[Run]] = {}
    for run in runs:
        count += 1
        together = share and run.model
        key = (run.protocol, run.dataset, run.subsample, run.shots) if together else (run.output,)
        passes.setdefault(key, []).append(run)
    for group in passes.values():
        work = work_of(group[0])
        training += _training_seconds(work, machine)
        testing += _testing_seconds(work, len(group), machine)
        starting += machine.start_seconds
    return Hours(count, training / 3600, testing / 3600, starting / 3600)


def _training_seconds(work: Work, machine: Machine) -> float:
    if not work.steps:
        return 0.0
    loading = work.batch / machine.loaded_per_second
    return work.steps * max(loading, machine.rates.step_seconds(work.classes, work.batch))


def _testing_seconds(work: Work, together: int, machine: Machine) -> float:
    loading = work.tested / machine.loaded_per_second
    lone = work.tested / machine.rates.evaluated_per_second
    return max(loading, lone * (SHARED_LAYERS + together * (1 - SHARED_LAYERS)))


def choose_rates(card: str) -> list[Rates]:
    """Of the machines whose name has `card` in it, measured ones first; empty: all.

    A card that was measured is not modelled.

    Raises:
        RequestError: there is none; the known ones are listed.
    """
    measured = measured_rates()
    names = [*measured, *(name for name in CARDS if not any(name in m for m in measured))]
    chosen = [name for name in names if card.lower() in name.lower()]
    if not chosen:
        raise RequestError(f"No card is called {card!r}; choose from {', '.join(names)}")
    return [measured[name] if name in measured else modelled_rates(name) for name in chosen]


def table(machine: Machine, share: bool) -> str:
    """A Markdown table with a line per protocol."""
    lines = [
        "| | runs | training, h | testing, h | starting, h | all, h |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    found = {name: hours_of(list_runs(name), machine, share) for name in PROTOCOLS}
    found["all"] = Hours(*map(sum, zip(*found.values(), strict=True)))
    for name, hours in found.items():
        figures = (hours.training, hours.testing, hours.starting, hours.total)
        cells = [name.replace("_", " "), str(hours.runs), *(f"{x:.1f}" for x in figures)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def heading(rates: Rates) -> str:
    """Whose hours these are, and whether anybody has measured them."""
    if rates.kind == "measured":
        return f"{rates.machine}: from measured steps and evaluations"
    return (
        f"{rates.machine}: MODEL, NOT MEASURED. {EFFICIENCY:.0%} of the documented peaks, steps "
        "captured in a graph"
    )


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--card", default="", help="part of a name (default: all)")
    parser.add_argument("--no-share", action="store_true", help="each evaluation on its own")
    parser.add_argument(
        "--cores", type=float, default=8, help="that decode pictures (default: 8, NUM_WORKERS)"
    )
    parser.add_argument(
        "--pictures-per-second", type=float, metavar="N",
        help="decoded by a core (default: as benchmarks.pipeline measured)",
    )  # fmt: skip
    parser.add_argument(
        "--start-seconds", type=float, default=15, metavar="S",
        help="of a command before its first batch, an assumption (default: 15)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table per machine; the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    per_core = args.pictures_per_second or loading_rate()
    if min(args.cores, per_core) <= 0 or args.start_seconds < 0:
        parser.error("--cores and --pictures-per-second are above 0, --start-seconds is not below")
    try:
        chosen = choose_rates(args.card)
    except RequestError as error:
        parser.error(str(error))
    sharing = "each on its own" if args.no_share else "those of the same pictures in one pass"
    print(
        f"One run after the other. {args.cores:g} cores decode {per_core:g} pictures per second "
        f"each; a command starts in {args.start_seconds:g} s; evaluations: {sharing}."
    )
    for rates in chosen:
        machine = Machine(rates, per_core * args.cores, args.start_seconds)
        print(f"\n{heading(rates)}\n\n{table(machine, not args.no_share)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
