"""Train and evaluate zero-shot CLIP, MMRL and MMRL++ on a small generated world.

    make demo
    python -m demo.run --seeds 1 --output output/demo

Draws the pictures, then calls train.py with the real configs and a tiny CLIP, base classes first,
then new ones, and prints base, new and their harmonic mean H. Results, logs and a picture are left
in the output folder. Interrupted? Run it again; it resumes.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, pstdev

from tqdm import tqdm

from dassl.errors import in_one_sentence
from dassl.utils.tools import num_cores
from demo.data import write_data
from demo.pretrain import WEIGHTS, expand
from report.tables import harmonic_mean
from run_files import RESULTS_FILE, RunResults

REPOSITORY = Path(__file__).resolve().parents[1]
METHODS = ("ZeroshotCLIP", "MMRL", "MMRLpp")
HALVES = ("base", "new")
OPTIONS = [
    *("INPUT.SIZE", "(48,48)", "DATALOADER.NUM_WORKERS", "0", "TASK", "B2N"),
    *("DATASET.NUM_SHOTS", "16", "TEST.PREDICTIONS", "True"),
]
METHOD_OPTIONS = {"PREC": "fp32", "REP_DIM": "64", "REG_WEIGHT": "0.5"}


def run_folder(output: Path, method: str, half: str, seed: int) -> Path:
    """Where one run's results are."""
    return output / "runs" / method / half / f"seed{seed}"


def command(output: Path, method: str, half: str, seed: int) -> list[str]:
    """The train.py command of one run; new classes evaluate what base classes trained."""
    options = list(OPTIONS)
    if method != "ZeroshotCLIP":
        for key, value in METHOD_OPTIONS.items():
            options += [f"TRAINER.{method}.{key}", value]
    evaluate = []
    if method == "ZeroshotCLIP":
        evaluate = ["--eval-only"]
    elif half == "new":
        trained = run_folder(output, method, "base", seed)
        evaluate = ["--eval-only", "--model-dir", str(trained)]
    return [
        *(sys.executable, "train.py", *evaluate, "--trainer", method, "--seed", str(seed)),
        *("--root", str(output / "data"), "--backbone", str(output / "tiny_clip.safetensors")),
        *("--output-dir", str(run_folder(output, method, half, seed))),
        *("--dataset-config-file", "configs/datasets/shapes.yaml"),
        *("--config-file", f"configs/trainers/{method}/vit_b16.yaml"),
        *("DATASET.SUBSAMPLE_CLASSES", half, *options),
    ]


def run_pair(output: Path, method: str, seed: int, bar: tqdm) -> None:
    """Base, then new; a finished run is not repeated.

    Raises:
        RuntimeError: a run failed; its last lines are in the message.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for half in HALVES:
        if not (run_folder(output, method, half, seed) / RESULTS_FILE).is_file():
            done = subprocess.run(
                command(output, method, half, seed),
                cwd=REPOSITORY,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                tail = "\n".join(done.stderr.splitlines()[-5:])
                raise RuntimeError(f"{method}, {half}, seed {seed} failed:\n{tail}")
        bar.update()


def read_results(output: Path, method: str, half: str, seeds: Iterable[int]) -> list[float]:
    """The accuracy in percent of every seed."""
    folders = [run_folder(output, method, half, seed) for seed in seeds]
    return [RunResults.read(folder).need("accuracy") for folder in folders]


def summarise(output: Path, seeds: list[int]) -> dict[str, dict[str, list[float]]]:
    """Method -> base, new, H -> one figure in percent per seed."""
    table = {}
    for method in METHODS:
        base, new = (read_results(output, method, half, seeds) for half in HALVES)
        table[method] = {"base": base, "new": new, "H": list(map(harmonic_mean, base, new))}
    return table


def print_table(table: dict[str, dict[str, list[float]]]) -> None:
    """Mean and spread over seeds, in percent."""
    from tabulate import tabulate

    rows = [
        [method, *(f"{mean(values):.1f} ± {pstdev(values):.1f}" for values in row.values())]
        for method, row in table.items()
    ]
    print(tabulate(rows, headers=["", "base", "new", "H"]))


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Draw the pictures, run all methods, and print the table; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder to write")
    parser.add_argument("--seeds", default="1,2,3", help="comma-separated (default: 1,2,3)")
    args = parser.parse_args(argv)
    output, seeds = args.output.absolute(), [int(seed) for seed in args.seeds.split(",")]
    if not (output / "data" / "shapes" / "split_shapes.json").is_file():
        write_data(output / "data")
    expand(WEIGHTS, output / "tiny_clip.safetensors")
    jobs = [(method, seed) for method in METHODS for seed in seeds]
    slots = num_cores()
    with tqdm(total=2 * len(jobs), desc="runs") as bar, ThreadPoolExecutor(slots) as pool:
        list(pool.map(lambda job: run_pair(output, job[0], job[1], bar), reversed(jobs)))
    table = summarise(output, seeds)
    print_table(table)
    from demo.picture import draw

    shown = {
        half: run_folder(output, "MMRL", half, seeds[0]) / "predictions.csv" for half in HALVES
    }
    print(f"Picture: {draw(output, table, shown)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
