"""Whole runs on the demo's world through train.py: every precision, and killed and resumed."""

import subprocess
import time
from pathlib import Path

import torch

from benchmarks.gpu.report import Report
from demo.data import write_data
from demo.pretrain import WEIGHTS, expand
from demo.run import command
from run_files import RESULTS_FILE, RunResults
from trainer.checkpoints.find import MODEL_NAME, read_checkpoint

__all__ = ["check_runs"]

REPOSITORY = Path(__file__).resolve().parents[2]
PRECISIONS = ("fp32", "amp", "fp16", "bf16")
LEAST_PERCENT = 60.0  # of base classes; zero-shot CLIP has 69, ten epochs 95
RESUMED_BOUND = 1e-2  # of the parameters' norm; a GPU adds in an order that may differ
EPOCHS = 3


def check_runs(report: Report, folder: Path, device: str, quick: bool) -> None:
    """Train in every PREC; then kill one run, resume it and compare it with the undisturbed one."""
    write_data(folder / "data")
    expand(WEIGHTS, folder / "tiny_clip.safetensors")
    for prec in PRECISIONS[:1] if quick else PRECISIONS:
        check_precision(report, folder / prec, prec, device, quick)
    check_resuming(report, folder / "killed", folder / "fp32", device, quick)


def train_command(output: Path, prec: str, device: str, quick: bool) -> list[str]:
    """The demo's MMRL run on base classes, seed 1, into `output`, shortened."""
    words = command(output.parent, "MMRL", "base", 1)
    words[words.index("--output-dir") + 1] = str(output)
    shots = ["DATASET.NUM_SHOTS", "1"] if quick else []
    return [
        *words, *shots, "OPTIM.MAX_EPOCH", str(EPOCHS), "TRAINER.MMRL.PREC", prec,
        "USE_CUDA", str(device == "cuda"), "TEST.PREDICTIONS", "False",
    ]  # fmt: skip


def check_precision(report: Report, output: Path, prec: str, device: str, quick: bool) -> None:
    """One run has to end, with an accuracy that a run that learns has."""
    words = train_command(output, prec, device, quick)
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode or not (output / RESULTS_FILE).is_file():
        tail = (done.stderr.splitlines() or ["no message"])[-1][:200]
        report.check(f"train.py, PREC {prec}", False, f"exit code {done.returncode}: {tail}", "0")
        return
    results = RunResults.read(output)
    # one picture a class teaches little
    bound = 0.0 if quick else LEAST_PERCENT
    report.above(f"train.py, PREC {prec}, accuracy in percent", results.need("accuracy"), bound)
    off = [line for line in done.stdout.splitlines() if "TRAIN.GRAPH is off" in line]
    if device == "cuda":
        report.check(f"TRAIN.GRAPH, PREC {prec}", not off, off[0] if off else "on", "on")


def check_resuming(
    report: Report, output: Path, undisturbed: Path, device: str, quick: bool
) -> None:
    """Kill a run after its first epoch, start it again, and compare where both ended."""
    words = train_command(output, "fp32", device, quick)
    process = subprocess.Popen(
        words, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # the file appears when the first epoch is done
    while process.poll() is None and not (output / "resume.pt").exists():
        time.sleep(0.02)
    process.kill()
    process.wait()
    was_cut = not (output / RESULTS_FILE).exists()
    report.check("kill", was_cut, "within training" if was_cut else "too late", "within training")
    again = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if again.returncode:
        tail = (again.stderr.splitlines() or ["no message"])[-1][:200]
        report.check("resume", False, f"exit code {again.returncode}: {tail}", "0")
        return
    report.check("resume", "will resume training" in again.stdout, "the run goes on", "it says so")
    gap = parameters_apart(output, undisturbed)
    report.below("killed and resumed, parameters apart, relative", gap, RESUMED_BOUND)


def parameters_apart(one: Path, two: Path) -> float:
    """The largest relative difference of a learned tensor at the end of two runs."""
    states = [_final_state(folder) for folder in (one, two)]
    gaps = [
        float((value - states[1][key]).norm() / states[1][key].norm().clamp(min=1e-12))
        for key, value in states[0].items()
    ]
    return max(gaps)


def _final_state(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / MODEL_NAME / f"model.pth.tar-{EPOCHS}"
    return read_checkpoint(path)["state_dict"]
