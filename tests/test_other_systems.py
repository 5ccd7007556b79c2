"""macOS and Windows: a child without what only Linux has; all but kill-safety stays."""

import json
import subprocess
import sys

import pytest

from conftest import REPOSITORY, train_arguments

# Before anything of the project: no calls of Linux or POSIX, no /proc, no C library.
BARE = """
import builtins, os, pathlib, runpy, sys
import torch, torchvision  # which need some of it on Linux
for name in ("sched_getaffinity", "statvfs", "fork", "register_at_fork", "getpgid", "killpg"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
import ctypes
class NoLibrary:
    def __init__(self, *args, **kwargs):
        raise OSError("no such library")
ctypes.CDLL = NoLibrary
def without_proc(read):
    def guarded(path, *args, **kwargs):
        if str(path).startswith(("/proc", "/sys", "/dev/shm")):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return read(path, *args, **kwargs)
    return guarded
builtins.open = without_proc(open)
pathlib.Path.read_text = without_proc(pathlib.Path.read_text)
pathlib.Path.write_text = without_proc(pathlib.Path.write_text)
os.readlink = without_proc(os.readlink)
sys.platform = "darwin"
sys.path.insert(0, os.getcwd())
sys.argv = sys.argv[1:]
"""


def on_another_system(*words, code="runpy.run_path(sys.argv[0], run_name='__main__')"):
    return subprocess.run(
        [sys.executable, "-c", BARE + code, *map(str, words)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_training_evaluation_prediction_and_report(eurosat_root, clip_file, tmp_path):
    run = tmp_path / "run"
    words = [*train_arguments(eurosat_root, run, clip_file), "OPTIM.MAX_EPOCH", "1"]
    done = on_another_system("train.py", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "results.json").read_text())["peak_memory_mib"]["process"] is None
    for line in (
        ("predict.py", run, eurosat_root / "eurosat" / "2750" / "Forest"),
        ("scripts/report.py", tmp_path, "--seeds", "1", "--partial"),
    ):
        done = on_another_system(*line)
        assert done.returncode in (0, 1), done.stderr  # 1: a table lacks cells
        assert "Traceback" not in done.stderr


def test_check_data_and_every_program_start(tmp_path):
    done = on_another_system("scripts/check_data.py", "--root", tmp_path, "dtd")
    assert (done.returncode, done.stdout[:24]) == (1, "dtd              missing"), done.stderr
    code = """
import benchmarks.run, benchmarks.pipeline, benchmarks.compare, demo.run, predict, scripts.report
import sweep.execution, sweep.local, torch
from trainer.evaluation.results import device_name
assert sweep.execution.LIBC is None
assert "goes on if its sweep is killed" in sweep.execution.survival_note()
assert len(sweep.local.slot_environments("", 2)) == 2
assert benchmarks.run.available_gib(torch.device("cpu")) > 1
assert device_name(torch.device("cpu"))
"""
    done = on_another_system(code=code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_sweep_says_what_it_cannot_promise(eurosat_root, clip_file, tmp_path):
    words = ["--root", eurosat_root, "--backbone", clip_file, "--output", tmp_path, "--retries", 0]
    words += [
        "--datasets",
        "eurosat",
        "--methods",
        "mmrl",
        "--seeds",
        1,
        "--shots",
        1,
        "--",
        "OPTIM.LR",
        "x",
    ]
    done = on_another_system("scripts/sweep.py", "few_shot", *words)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("Note: on this system a run goes on if its sweep is killed")
    assert "OPTIM.LR takes a float" in done.stdout + done.stderr
