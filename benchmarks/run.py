"""Time the fast form against the plain one, interleaved in one process.

    make bench
    python -m benchmarks.run --rows 5x4,100x4 --methods MMRL --modes train

Memory is measured in a process of its own per row and form. Each row is written to
benchmarks/results/<device>.csv as soon as it is done; `python -m benchmarks.table` makes the
README's table from it.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.measure import (
    build_step,
    count_gflop,
    count_kernels,
    pick_device,
    product_rate,
    step_memory,
    time_interleaved,
)
from dassl.errors import in_one_sentence
from trainer.evaluation.results import device_name

RESULTS = Path(__file__).with_name("results")
ROWS = "5x4,50x4,100x4,500x8,500x32,1000x32"
PLAIN_GIB_PER_CLASS = 0.024  # of a training step, measured; decides what fits
COLUMNS = (
    "device torch method mode classes batch plain_seconds fast_seconds ratio plain_gib fast_gib "
    "plain_gflop fast_gflop fast_share_of_product_rate images_per_second kernels"
).split()


def measure_row(method: str, mode: str, classes: int, batch: int, repeat: int) -> dict:
    """Measure both forms of one row; the plain one is left out if it would not fit in memory."""
    device = pick_device()
    forms = ["fast"]
    if mode == "eval" or classes * PLAIN_GIB_PER_CLASS < available_gib(device):
        forms.append("plain")
    steps = {f: build_step(method, classes, batch, mode, f, device) for f in forms}
    seconds = time_interleaved(steps, repeat, device)
    gflop = {form: count_gflop(step) for form, step in steps.items()}
    kernels = count_kernels(steps["fast"], device)
    del steps
    memory = {f: memory_in_child(method, mode, classes, batch, f) for f in forms}
    rate = gflop["fast"] / seconds["fast"] / product_rate(device)
    plain = seconds.get("plain")
    values = (
        *(device_name(device), torch.__version__, method, mode, classes, batch),
        *(rounded(plain), rounded(seconds["fast"])),
        rounded(plain and plain / seconds["fast"]),
        *(rounded(memory.get("plain")), rounded(memory["fast"])),
        *(rounded(gflop.get("plain")), rounded(gflop["fast"])),
        *(rounded(rate), rounded(batch / seconds["fast"]), "" if kernels is None else kernels),
    )
    return dict(zip(COLUMNS, values, strict=True))


def available_gib(device: torch.device) -> float:
    """The memory that a step may take, in GiB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**30
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) / 2**20


def rounded(value: float | None) -> float | str:
    """A figure with four digits; empty if it was not measured."""
    return float(f"{value:.4g}") if value else ""


def memory_in_child(method: str, mode: str, classes: int, batch: int, form: str) -> float:
    """The memory of a step in GiB, measured in a process of its own."""
    row = json.dumps([method, mode, classes, batch, form])
    command = [sys.executable, "-m", "benchmarks.run", "--memory-of", row]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def memory_of(row: str) -> float:
    """The memory in GiB that `memory_in_child` asks its child for."""
    method, mode, classes, batch, form = json.loads(row)
    device = pick_device()
    return step_memory(build_step(method, classes, batch, mode, form, device), device)


def write_row(row: dict, path: Path) -> None:
    """Write a row into the file, replacing an older one of the same kind."""
    path.parent.mkdir(exist_ok=True)
    key = ("method", "mode", "classes", "batch")
    rows = []
    if path.is_file():
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    rows = [r for r in rows if any(r[k] != str(row[k]) for k in key)] + [row]
    rows.sort(key=lambda r: (r["mode"] != "train", r["method"], int(r["classes"]), int(r["batch"])))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Measure, print and write every row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=ROWS, help=f"CLASSESxBATCH,... (default: {ROWS})")
    parser.add_argument("--methods", default="MMRL,MMRLpp", help="default: MMRL,MMRLpp")
    parser.add_argument("--modes", default="train,eval", help="default: train,eval")
    parser.add_argument("--repeat", type=int, default=5, help="turns of each form (default: 5)")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.memory_of:
        print(memory_of(args.memory_of))
        return 0
    for mode in args.modes.split(","):
        for method in args.methods.split(","):
            for classes, batch in (map(int, row.split("x")) for row in args.rows.split(",")):
                repeat = min(args.repeat, max(2, 1000 // classes))
                row = measure_row(method, mode, classes, batch, repeat)
                print(json.dumps(row), flush=True)
                name = re.sub(r"\W+", "-", row["device"]).strip("-").lower()
                write_row(row, RESULTS / f"{name}.csv")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
