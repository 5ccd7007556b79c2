"""Run a whole protocol: base_to_novel, cross_datasets or few_shot.

    DATA=/data bash base_to_novel.sh
    DATA=/data bash base_to_novel.sh --datasets eurosat,dtd --methods mmrl --gpus 0,1
    DATA=/data bash few_shot.sh --dry-run

A run is finished if its results.json is there with the same config. Whatever was stopped goes on
when the same command is given again; two sweeps on one folder share the work. A failed run does not
stop the others. Config keys for every run follow `--`: ... -- TRAIN.PRINT_FREQ 50.
"""

import argparse
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sweep.execution import (
    REPOSITORY,
    Outcome,
    Settings,
    command,
    execute,
    is_finished,
    resolved_config,
)
from sweep.runs import METHODS, PROTOCOLS, SEEDS, SHOTS, Run, list_runs, units

POLL_S = 0.05
BUSY_S = 1.0
SHOWN = ("OPTIM.LR", "OPTIM.MAX_EPOCH", "DATALOADER.TRAIN_X.BATCH_SIZE")
SHOWN_OF_METHOD = ("REG_WEIGHT", "BETA", "REP_DIM", "PREC")


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", choices=PROTOCOLS)
    what = parser.add_argument_group("which runs")
    what.add_argument("--datasets", default="", metavar="A,B", help="default: the protocol's")
    what.add_argument("--methods", default=",".join(METHODS), metavar="A,B", help="mmrl, mmrlpp")
    what.add_argument("--seeds", default="1,2,3", metavar="N,M", help="default: 1,2,3")
    what.add_argument("--shots", default="1,2,4,8,16", metavar="N,M", help="few_shot's shots")
    what.add_argument("--shard", metavar="I/N", help="the I-th of N parts, from 0, for a cluster")
    where = parser.add_argument_group("where")
    where.add_argument("--root", default=os.environ.get("DATA", ""), help="data (default: $DATA)")
    where.add_argument("--output", default="", metavar="DIR", help="put output/ below this folder")
    where.add_argument("--backbone", default="", metavar="NAME|FILE", help="CLIP for all runs")
    how = parser.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="print commands and hyper-parameters")
    how.add_argument("--gpus", default="", metavar="0,1", help="one run on each (default: all)")
    how.add_argument("--per-gpu", type=int, default=1, metavar="N", help="runs on each GPU, or CPU")
    how.add_argument("--retries", type=int, default=1, metavar="N", help="of a failed run")
    how.add_argument("--engine", choices=("local", "ray"), default="local")
    how.add_argument("--address", default=None, metavar="HOST:PORT", help="of a Ray cluster")
    return parser


def chosen_runs(args: argparse.Namespace) -> list[Run]:
    """The runs that the options name."""
    datasets = [name for name in args.datasets.split(",") if name]
    seeds, shots = _numbers(args.seeds, SEEDS), _numbers(args.shots, SHOTS)
    runs = list_runs(args.protocol, args.methods.split(","), datasets, seeds, shots)
    if args.shard:
        index, count = map(int, args.shard.split("/"))
        runs = [run for unit in units(runs)[index::count] for run in unit]
    return runs


def _numbers(text: str, default: Sequence[int]) -> list[int]:
    return [int(part) for part in text.split(",") if part] or list(default)


def slot_environments(gpus: str, per_gpu: int) -> list[dict[str, str]]:
    """What each slot sees: one GPU, or a share of the cores."""
    names = [name for name in gpus.split(",") if name] or _all_gpus()
    if names:
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names for _ in range(per_gpu)]
    threads = max(1, len(os.sched_getaffinity(0)) // per_gpu)
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(per_gpu)]


def _all_gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


class Sweep:
    """A queue of runs, slots that work on it, and what became of each."""

    def __init__(self, runs: list[Run], settings: Settings) -> None:
        self.runs, self.settings = runs, settings
        self.outcomes: dict[Run, Outcome] = {}
        self.running: set[Run] = set()
        self.waiting: list[Run] = list(runs)
        self.retry_at: dict[Run, float] = {}
        self.lock = threading.Lock()
        self.events: queue.Queue[str] = queue.Queue()
        self.started = time.time()
        self.by_output = {run.output: run for run in runs}

    def work(self, environments: list[dict[str, str]]) -> None:
        """Until nothing is left, on one thread a slot."""
        threads = [threading.Thread(target=self._slot, args=(e,)) for e in environments]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            try:
                print(self.events.get(timeout=0.2), flush=True)
            except queue.Empty:
                continue
        while not self.events.empty():
            print(self.events.get(), flush=True)

    def _slot(self, environment: dict[str, str]) -> None:
        while True:
            with self.lock:
                if not self.waiting and not self.running:
                    return
                run = next((run for run in self.waiting if self._is_ready(run)), None)
                if run is not None:
                    self.waiting.remove(run)
                    self.running.add(run)
            if run is None:
                time.sleep(POLL_S)
                continue
            outcome = self._try(run, environment)
            with self.lock:
                self.running.remove(run)
                if outcome.state == "busy":
                    self.waiting.append(run)
                    self.retry_at[run] = time.time() + BUSY_S
                else:
                    self.outcomes[run] = outcome
                    self.events.put(self._line(run, outcome))

    def _try(self, run: Run, environment: dict[str, str]) -> Outcome:
        trained = self.by_output.get(run.model)
        if trained is not None and self.outcomes[trained].state != "finished":
            return Outcome("failed", f"its training {self.outcomes[trained].state}")
        return execute(run, self.settings, environment)

    def _is_ready(self, run: Run) -> bool:
        """An evaluation waits for its training, if that is among the runs."""
        trained = self.by_output.get(run.model)
        has_model = trained is None or trained in self.outcomes
        return has_model and time.time() >= self.retry_at.get(run, 0)

    def _line(self, run: Run, outcome: Outcome) -> str:
        counts = Counter(o.state for o in self.outcomes.values())
        left = len(self.runs) - len(self.outcomes)
        pace = (time.time() - self.started) / len(self.outcomes)
        return (
            f"[{counts['finished']} done, {len(self.running)} running, "
            f"{counts['failed'] + counts['conflict']} failed, {left} left, "
            f"{pace * left / 60:.0f} min to go] {outcome.state}: {run.name} {outcome.detail}"
        )


def print_plan(runs: list[Run], settings: Settings) -> None:
    """Every command with its hyper-parameters; what is finished is marked."""
    for run in runs:
        done = is_finished(run, settings)
        config = resolved_config(run, settings)
        keys = [*SHOWN, *(f"TRAINER.{run.trainer}.{key}" for key in SHOWN_OF_METHOD)]
        values = [f"{key.rpartition('.')[2]} {config[key]}" for key in keys if key in config]
        print(f"# {done.state if done else 'to do'}: {', '.join(values)}")
        print(" ".join(command(run, settings)))
    print(f"# {len(runs)} runs")


def summarise(outcomes: dict[Run, Outcome]) -> int:
    """Print what failed and why; the exit code."""
    bad = {run: o for run, o in outcomes.items() if o.state != "finished"}
    if bad:
        print(f"{len(bad)} of {len(outcomes)} runs did not finish:")
        for run, outcome in bad.items():
            print(f"    {run.name} ({run.output}): {outcome.state}: {outcome.detail}")
    return 1 if bad else 0


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    """Plan, run, summarise."""
    words = sys.argv[1:] if argv is None else argv
    end = words.index("--") if "--" in words else len(words)
    args = build_parser().parse_args(words[:end])
    os.chdir(REPOSITORY)  # configs and outputs are named from there
    try:
        runs = chosen_runs(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not args.root:
        print("error: set DATA to the folder of the data sets, or give --root", file=sys.stderr)
        return 2
    settings = Settings(
        root=args.root,
        folder=args.output,
        backbone=args.backbone,
        opts=tuple(words[end + 1 :]),
        retries=args.retries,
    )
    if args.dry_run:
        print_plan(runs, settings)
        return 0
    if args.engine == "ray":
        from sweep.ray_engine import run_on_ray

        return summarise(run_on_ray(runs, settings, args.address))
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a parent had them ignored
        signal.signal(number, _stop)
    sweep = Sweep(runs, settings)
    try:
        sweep.work(slot_environments(args.gpus, args.per_gpu))
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", flush=True)
        os._exit(130)  # the runs die with their scheduler, and start from their resume files
    return summarise(sweep.outcomes)


if __name__ == "__main__":
    raise SystemExit(main())
