"""Run a whole protocol: base_to_novel, cross_datasets or few_shot.

    DATA=/data bash base_to_novel.sh
    DATA=/data bash base_to_novel.sh --datasets eurosat,dtd --methods mmrl --gpus 0,1
    DATA=/data bash few_shot.sh --dry-run

A run is finished if its folder has a results.json made with the same config. Interrupted? Run the
same command again: every run resumes at its last finished epoch. Two sweeps on one folder share the
work. A failed run does not stop the others. Config keys for every run follow `--`:
... -- TRAIN.PRINT_FREQ 50. The exit code is 0 if every run is finished, 2 if the request is wrong.
"""

import argparse
import os
import signal
import sys

from interpreter import complaint, hand_over

if __name__ == "__main__":
    # Before the imports below, which an old Python cannot read. Without PyTorch runs are still
    # started, by their own interpreter; only to compare configs it takes one here.
    hand_over()

from dassl.errors import RequestError, in_one_sentence
from sweep.execution import (
    REPOSITORY,
    Outcome,
    Settings,
    State,
    command,
    resolved_config,
    stored_outcome,
)
from sweep.local import Sweep, slot_environments
from sweep.runs import METHODS, PROTOCOLS, SEEDS, Run, list_runs, units

SHOWN = ("OPTIM.LR", "OPTIM.MAX_EPOCH", "DATALOADER.TRAIN_X.BATCH_SIZE")
SHOWN_OF_METHOD = ("REG_WEIGHT", "BETA", "REP_DIM", "PREC")
# The names of the runs' folders record these values, so they must not change behind their back.
OPTION_OF_KEY = {
    "DATASET.NUM_SHOTS": "--shots",
    "DATASET.NAME": "--datasets",
    "SEED": "--seeds",
    "TRAINER.NAME": "--methods",
    "OUTPUT_DIR": "--output",
    "RESUME": "--output",
    "DATASET.SUBSAMPLE_CLASSES": "another protocol",
    "TASK": "another protocol",
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", choices=PROTOCOLS)
    what = parser.add_argument_group("which runs")
    what.add_argument("--datasets", default="", metavar="A,B", help="default: all of the protocol")
    what.add_argument("--methods", default=",".join(METHODS), metavar="A,B", help="default: both")
    what.add_argument("--seeds", default="1,2,3", metavar="N,M", help="default: 1,2,3")
    what.add_argument("--shots", default="", metavar="N,M", help="pictures a class (default: 16; "
                      "few_shot: 1,2,4,8,16)")  # fmt: skip
    what.add_argument("--shard", metavar="I/N", help="do part I of N, from 0, on a cluster")
    where = parser.add_argument_group("where")
    where.add_argument(
        "--root", default=os.environ.get("DATA", ""), help="data sets (default: $DATA)"
    )
    where.add_argument(
        "--output", default="", metavar="DIR", help="create output/ below this folder"
    )
    where.add_argument("--backbone", default="", metavar="NAME|FILE", help="CLIP for all runs")
    how = parser.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="print commands and hyper-parameters")
    how.add_argument("--gpus", default="", metavar="0,1", help="GPUs to use (default: all)")
    how.add_argument(
        "--per-gpu", type=int, default=1, metavar="N", help="runs per GPU, or on the CPU"
    )
    how.add_argument(
        "--retries", type=int, default=1, metavar="N", help="for a failed run (default: 1)"
    )
    how.add_argument("--timeout", type=float, metavar="MINUTES", help="kill a run that takes "
                     "longer; it counts as failed (default: never)")  # fmt: skip
    how.add_argument("--stalled", type=float, default=30, metavar="MINUTES", help="report a run "
                     "that prints nothing for so long (default: 30; not with Ray)")  # fmt: skip
    how.add_argument("--engine", choices=("local", "ray"), default="local",
                     help="where runs are executed (default: local)")  # fmt: skip
    how.add_argument("--address", default=None, metavar="HOST:PORT", help="the Ray cluster")
    return parser


def chosen_runs(args: argparse.Namespace) -> list[Run]:
    """The runs that the options name.

    Raises:
        RequestError: an option names something unknown.
    """
    seeds, shots = _numbers("--seeds", args.seeds), _numbers("--shots", args.shots, least=1)
    methods, datasets = _names(args.methods) or list(METHODS), _names(args.datasets)
    runs = list_runs(args.protocol, methods, datasets, seeds or SEEDS, shots)
    if args.shard:
        index, count = _shard(args.shard)
        runs = [run for unit in units(runs)[index::count] for run in unit]
    return runs


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str, least: int = 0) -> list[int]:
    names = _names(text)
    wrong = [name for name in names if not name.isdecimal() or int(name) < least]
    if wrong:
        raise RequestError(f"{option} takes whole numbers from {least}, got {wrong[0]!r}")
    return [int(name) for name in names]


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not index.isdecimal() or not count.isdecimal() or int(index) >= int(count):
        raise RequestError(f"--shard takes I/N with I from 0 to N - 1, got {text!r}")
    return int(index), int(count)


def settings_of(args: argparse.Namespace, opts: list[str]) -> Settings:
    """The settings that all runs have in common.

    Raises:
        RequestError: an option is out of range, or a key after `--` has an option of its own.
    """
    if not args.root:
        raise RequestError("set DATA to the folder of the data sets, or give --root")
    for option, value, least in (("--per-gpu", args.per_gpu, 1), ("--retries", args.retries, 0)):
        if value < least:
            raise RequestError(f"{option} takes whole numbers from {least}, got {value}")
    for option, minutes in (("--timeout", args.timeout), ("--stalled", args.stalled)):
        if minutes is not None and not minutes > 0:
            raise RequestError(f"{option} takes minutes, more than 0, got {minutes:g}")
    if len(opts) % 2:
        raise RequestError(f"config keys come as KEY VALUE pairs; {opts[-1]!r} has no value")
    taken = [key for key in opts[::2] if key in OPTION_OF_KEY]
    if taken:
        raise RequestError(
            f"{taken[0]} is part of a run's folder and cannot follow `--`; use "
            f"{OPTION_OF_KEY[taken[0]]}, or train.py for a single run"
        )
    return Settings(args.root, args.output, args.backbone, tuple(opts), args.retries, args.timeout)


def print_plan(runs: list[Run], settings: Settings) -> None:
    """Print every command with its hyper-parameters and whether it is finished.

    Raises:
        RequestError: a key or value after `--` is wrong, or this Python cannot resolve configs.
    """
    if complaint():
        raise RequestError(complaint())
    for run in runs:
        stored = stored_outcome(run, settings)
        config = resolved_config(run, settings)
        keys = [*SHOWN, *(f"TRAINER.{run.trainer}.{key}" for key in SHOWN_OF_METHOD)]
        values = [f"{key.rpartition('.')[2]} {config[key]}" for key in keys if key in config]
        print(f"# {stored.state.value if stored else 'to do'}: {', '.join(values)}")
        print(" ".join(command(run, settings)))
    print(f"# {len(runs)} runs")


def summarise(runs: list[Run], outcomes: dict[Run, Outcome]) -> int:
    """Print which runs are not finished, and why; return the exit code."""
    lost = Outcome(State.FAILED, "nothing is known of it")
    ends = {run: outcomes.get(run, lost) for run in runs}
    bad = {run: end for run, end in ends.items() if end.state is not State.FINISHED}
    if bad:
        print(f"{len(bad)} of {len(runs)} runs did not finish:")
        for run, end in bad.items():
            print(f"    {run.name} ({run.output}): {end.state.value}: {end.detail}")
    return 1 if bad else 0


def run_locally(runs: list[Run], settings: Settings, args: argparse.Namespace) -> int:
    """Work through the runs on this machine's slots; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a parent had them ignored
        signal.signal(number, _stop)
    sweep = Sweep(runs, settings, args.stalled)
    try:
        sweep.work(slot_environments(args.gpus, args.per_gpu))
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to resume.", flush=True)
        os._exit(130)  # the runs die with their scheduler, and start from their resume files
    return summarise(runs, sweep.outcomes)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Plan the runs, execute them, and summarise; the exit code."""
    words = sys.argv[1:] if argv is None else argv
    end = words.index("--") if "--" in words else len(words)
    args = build_parser().parse_args(words[:end])
    os.chdir(REPOSITORY)  # configs and outputs are named from there
    runs, settings = chosen_runs(args), settings_of(args, words[end + 1 :])
    if args.dry_run:
        print_plan(runs, settings)
        return 0
    if args.engine == "ray":
        from sweep.ray_engine import run_on_ray

        return summarise(runs, run_on_ray(runs, settings, args.address))
    return run_locally(runs, settings, args)


if __name__ == "__main__":
    raise SystemExit(main())
