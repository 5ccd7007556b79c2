"""Run a whole protocol: base_to_novel, cross_datasets or few_shot.

    DATA=/data bash base_to_novel.sh
    DATA=/data bash base_to_novel.sh --datasets eurosat,dtd --methods mmrl --gpus 0,1
    DATA=/data bash few_shot.sh --dry-run

A run is finished if its folder has a results.json made with the same config, CLIP and training
pictures. Interrupted? Run the same command again: every run resumes at its last finished epoch. Two
sweeps on one folder share the work. A failed run does not stop the others. Config keys for every
run follow `--`: ... -- TRAIN.PRINT_FREQ 50. The exit code is 0 if every run is finished, 2 if the
request is wrong.
"""

import argparse
import os
import signal
import sys

from interpreter import REPOSITORY, complaint, hand_over, runs_have_this_python

if __name__ == "__main__":
    # Before the imports below, which an old Python cannot read. Without PyTorch runs are still
    # started, by their own interpreter; only to compare configs it takes one here.
    hand_over()

from dassl.errors import RequestError, in_one_sentence
from options import Parser, minutes, whole_number, whole_numbers
from sweep.execution import Outcome, State, stop_running, stored_outcome, survival_note
from sweep.inputs import inputs_of_finished
from sweep.local import Sweep, slot_environments
from sweep.runs import (
    BOUND_TO_CLASSES,
    METHODS,
    PROTOCOLS,
    PUBLISHED,
    SEEDS,
    Run,
    list_runs,
    units,
)
from sweep.settings import Settings, command, resolved_config

MAX_PER_GPU = 1000
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


def build_parser() -> Parser:
    """The parser of all options."""
    parser = Parser(description=__doc__)
    parser.add_argument("protocol", choices=PROTOCOLS)
    what = parser.add_argument_group("which runs")
    what.add_argument("--datasets", default="", metavar="A,B", help="default: all of the protocol")
    what.add_argument("--methods", default=",".join(PUBLISHED), metavar="A,B", help="of "
                      f"{', '.join(METHODS)} (default: {','.join(PUBLISHED)})")  # fmt: skip
    what.add_argument("--seeds", type=whole_numbers(), default=SEEDS, metavar="N,M",
                      help="default: 1,2,3")  # fmt: skip
    what.add_argument("--shots", type=whole_numbers(1), default=[], metavar="N,M",
                      help="pictures a class (default: 16; "
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
        "--per-gpu",
        type=whole_number(1, MAX_PER_GPU),
        default=1,
        metavar="N",
        help="runs per GPU, or on the CPU",
    )
    how.add_argument(
        "--retries",
        type=whole_number(),
        default=1,
        metavar="N",
        help="for a failed run (default: 1)",
    )
    how.add_argument("--timeout", type=minutes, metavar="MINUTES", help="kill a run that takes "
                     "longer; it counts as failed (default: never)")  # fmt: skip
    how.add_argument("--stalled", type=minutes, default=30, metavar="MINUTES", help="report a run "
                     "that prints nothing for so long (default: 30; not with Ray)")  # fmt: skip
    how.add_argument("--no-share", action="store_true", help="evaluate runs one by one (default: "
                     "those of one data set share a pass over its pictures, if the runs' Python is "
                     "the sweep's; not with Ray)")  # fmt: skip
    how.add_argument("--engine", choices=("local", "ray"), default="local",
                     help="where runs are executed (default: local)")  # fmt: skip
    how.add_argument("--address", default=None, metavar="HOST:PORT", help="the Ray cluster")
    return parser


def chosen_runs(args: argparse.Namespace) -> list[Run]:
    """The runs that the options name.

    Raises:
        RequestError: an option names something unknown.
    """
    methods, datasets = _names(args.methods) or list(PUBLISHED), _names(args.datasets)
    runs = list_runs(args.protocol, methods, datasets, args.seeds or SEEDS, args.shots)
    if args.protocol != "few_shot" and any(run.trainer in BOUND_TO_CLASSES for run in runs):
        print("New classes are not applicable to linear probe and Tip-Adapter: they are trained, "
              "and evaluated on their own classes")  # fmt: skip
    if args.shard:
        index, count = _shard(args.shard)
        runs = [run for unit in units(runs)[index::count] for run in unit]
    return runs


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    try:
        number, total = whole_number()(index), whole_number(1)(count)
    except argparse.ArgumentTypeError:
        number, total = 0, 0
    if number >= total:
        raise RequestError(f"--shard takes I/N with I from 0 to N - 1, got {text!r}")
    return number, total


def settings_of(args: argparse.Namespace, opts: list[str]) -> Settings:
    """The settings that all runs have in common.

    Raises:
        RequestError: no data sets are named, or a key after `--` has an option of its own.
    """
    if not args.root:
        raise RequestError("set DATA to the folder of the data sets, or give --root")
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
    if note := survival_note():
        print(note, flush=True)
    # Another Python, or a wrapper, is to see the published commands and nothing else.
    shares = not args.no_share and runs_have_this_python()
    sweep = Sweep(runs, settings, args.stalled, shares)
    try:
        sweep.work(slot_environments(args.gpus, args.per_gpu))
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to resume.", flush=True)
        stop_running()
        os._exit(130)  # the runs start from their resume files
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
    settings = settings._replace(inputs=inputs_of_finished(runs, settings))
    if args.dry_run:
        print_plan(runs, settings)
        return 0
    if args.engine == "ray":
        from sweep.ray_engine import run_on_ray

        return summarise(runs, run_on_ray(runs, settings, args.address))
    return run_locally(runs, settings, args)


if __name__ == "__main__":
    raise SystemExit(main())
