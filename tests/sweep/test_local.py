"""Slots: what each sees, and that nothing which happens in one is lost."""

import os
import subprocess
import sys
import threading

import pytest

from conftest import REPOSITORY
from recording import SMALL, WATCHDOG_S, clean_environment
from scripts.sweep import summarise
from sweep import local
from sweep.execution import Outcome, State
from sweep.local import Sweep, slot_environments
from sweep.runs import list_runs
from sweep.settings import Settings

RUNS = list_runs("base_to_novel", ["mmrl"], ["eurosat", "dtd"], [1, 2])


def test_slots_divide_gpus_or_cores(monkeypatch):
    assert slot_environments("0,1", 2) == [
        {"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("0", "0", "1", "1")
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert slot_environments("", 2) == [{"OMP_NUM_THREADS": "4"}] * 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert slot_environments("", 2) == [{"OMP_NUM_THREADS": "3"}] * 2


def test_threads_that_the_user_set_are_kept(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert slot_environments("", 3) == [{}, {}, {}]


def worked(num_slots, execute, monkeypatch):
    monkeypatch.setattr(local, "execute", execute)
    sweep = Sweep(RUNS, Settings("/data"))
    worker = threading.Thread(target=sweep.work, args=([{}] * num_slots,), daemon=True)
    worker.start()
    worker.join(WATCHDOG_S)
    assert not worker.is_alive()
    return sweep.outcomes


@pytest.mark.parametrize("num_slots", [1, 2])
@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3), MemoryError()])
def test_any_exception_in_a_slot_is_that_run_s_failure(num_slots, error, monkeypatch, capsys):
    seen = {}

    def execute(run, settings, environment, training):
        seen[run] = training
        if run == RUNS[0]:
            raise error
        return Outcome(State.FINISHED)

    outcomes = worked(num_slots, execute, monkeypatch)
    assert outcomes.keys() == set(RUNS)
    assert outcomes[RUNS[0]] == Outcome(State.FAILED, f"{type(error).__name__}: {error}")
    assert seen[RUNS[1]] == outcomes[RUNS[0]]  # its evaluation is told
    assert all(outcomes[run].state is State.FINISHED for run in RUNS[1:])
    assert summarise(RUNS, outcomes) == 1
    assert "Traceback" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("num_slots", [1, 3])
def test_what_another_sweep_has_is_asked_for_again(num_slots, monkeypatch):
    asked = []

    def execute(run, settings, environment, training):
        asked.append(run)
        return Outcome(State.BUSY if asked.count(run) < 3 else State.FINISHED)

    monkeypatch.setattr(local, "BUSY_S", 0.01)
    outcomes = worked(num_slots, execute, monkeypatch)
    assert set(outcomes.values()) == {Outcome(State.FINISHED)}
    assert sorted(asked) == sorted(RUNS * 3)


def test_a_run_without_an_outcome_is_a_failure(capsys):
    outcomes = {run: Outcome(State.FINISHED) for run in RUNS}
    assert summarise(RUNS, outcomes) == 0
    del outcomes[RUNS[3]]
    assert summarise(RUNS, outcomes) == 1
    assert f"{RUNS[3].name} ({RUNS[3].output}): failed: nothing is known" in capsys.readouterr().out


def test_a_silent_run_is_named_while_it_runs(tmp_path):
    python, go = tmp_path / "python", tmp_path / "go"
    python.write_text(f"#!/bin/sh\necho started\nwhile [ ! -e {go} ]; do sleep 0.1; done\n")
    python.chmod(0o755)
    words = ["scripts/sweep.py", *SMALL, "--output", str(tmp_path / "out"), "--stalled", "0.002"]
    process = subprocess.Popen(
        [sys.executable, *words], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        env=clean_environment(PYTHON=str(python), DATA="/data"),
    )  # fmt: skip
    watchdog = threading.Timer(WATCHDOG_S, process.kill)
    watchdog.start()
    line = process.stdout.readline()  # nothing has ended: the line is there for the silent run
    go.touch()
    process.communicate()
    watchdog.cancel()
    assert line.startswith("[0 done, 1 running, 0 failed, 4 left")
    assert "silent for 0 min: MMRL eurosat base 16-shot seed 1]" in line


def test_a_console_that_grows_is_not_silent(tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(local.time, "monotonic", lambda: next(clock))
    watch = local.ConsoleWatch(Settings("/data", str(tmp_path)), limit_s=15)
    console = tmp_path / RUNS[0].output / "console.txt"
    running = {RUNS[0]}
    assert watch.silent_runs(running) == {}  # 0 s; there is no file yet
    console.parent.mkdir(parents=True)
    for _ in range(5):
        with open(console, "a") as file:
            file.write("epoch\n")
        assert watch.silent_runs(running) == {}
    assert watch.silent_runs(running) == {}  # for 10 s
    assert watch.silent_runs(running) == {RUNS[0]: 20}
    assert watch.silent_runs(set()) == {}
    assert watch.silent_runs(running) == {}  # started again
