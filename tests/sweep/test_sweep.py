"""The published commands, and a scheduler that loses and repeats nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import GOLDEN, REPOSITORY
from scripts import sweep
from sweep.claims import Claim
from sweep.runs import PROTOCOLS, list_runs, units


@pytest.fixture
def recorder(tmp_path):
    """A `python` that only records."""
    path = tmp_path / "bin" / "python"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent}/recorder.py "$@"\n')
    path.chmod(0o755)
    return {"PYTHON": str(path), "RECORD": str(tmp_path / "record"), "DATA": "/data"}


def recorded(environment):
    path = Path(environment["RECORD"])
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def bash(script, *args, env, check=True):
    environment = {k: v for k, v in os.environ.items() if k not in ("DATA", "PYTHON")} | env
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(
        ["bash", script, *args], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
        check=check,
    )  # fmt: skip


def expected(protocol):
    with open(GOLDEN / "experiments.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] == protocol]
    for row in rows:
        for seed in "123":
            output, model = (row[k].format(seed=seed) for k in ("output_dir", "model_dir"))
            yield [
                *("--root", "/data", "--seed", seed, "--trainer", row["trainer"]),
                *("--dataset-config-file", f"configs/datasets/{row['dataset']}.yaml"),
                "--config-file", f"configs/trainers/{row['trainer']}/{row['config']}.yaml",
                *("--output-dir", output),
                *(["--model-dir", model, "--eval-only"] if model else []),
                *("DATASET.NUM_SHOTS", row["num_shots"]),
                *("DATASET.SUBSAMPLE_CLASSES", row["subsample_classes"], "TASK", row["task"]),
            ]  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sweeps_give_exactly_the_published_commands(protocol, recorder, tmp_path):
    out = tmp_path / "out"
    done = bash(f"{protocol}.sh", "--output", str(out), "--per-gpu", "2", env=recorder)
    assert " 0 left" in done.stdout
    got = [[a.removeprefix(f"{out}/") for a in line] for line in recorded(recorder)]
    assert sorted(got) == sorted(expected(protocol))
    place = {tuple(line): position for position, line in enumerate(got)}
    for line in got:  # no evaluation before its training
        if "--model-dir" in line:
            model = line[line.index("--model-dir") + 1]
            trained = next(
                other for other in got if other[other.index("--output-dir") + 1] == model
            )
            assert place[tuple(trained)] < place[tuple(line)]
    bash(f"{protocol}.sh", "--output", str(out), env=recorder)
    assert len(recorded(recorder)) == len(got)  # nothing is done twice


def test_all_552():
    assert sum(len(list_runs(protocol)) for protocol in PROTOCOLS) == 552


def test_scripts_of_a_method_give_one_published_command(recorder):
    for method in ("mmrl", "mmrlpp"):
        folder = f"scripts/{method}"
        environment = recorder | {"NO_RESULTS": "1"}
        bash(f"{folder}/base_to_novel_train.sh", "imagenet", "2", env=environment)
        bash(f"{folder}/base_to_novel_test.sh", "dtd", "1", env=environment)
        bash(f"{folder}/cross_datasets_train.sh", "imagenet", "3", env=environment)
        bash(f"{folder}/cross_datasets_test.sh", "imagenet_a", "3", env=environment)
        bash(f"{folder}/few_shot.sh", "eurosat", "1", "8", env=environment)
    published = [line for protocol in PROTOCOLS for line in expected(protocol)]
    assert len(recorded(recorder)) == 10
    assert [line for line in recorded(recorder) if line not in published] == []


def test_a_missing_data_folder_is_one_sentence():
    done = bash("few_shot.sh", env={}, check=False)
    assert done.returncode != 0
    assert "set DATA to the folder of the data sets" in done.stderr


def run(*args, env, check=True):
    command = [sys.executable, "scripts/sweep.py", *args]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | env, capture_output=True, text=True, check=check
    )


SMALL = ("base_to_novel", "--datasets", "eurosat", "--methods", "mmrl", "--seeds", "1,2")


def test_a_failed_run_does_not_stop_the_others(recorder, tmp_path):
    env = recorder | {"FAIL": "train_base/eurosat/shots_16/MMRL/vit_b16/seed1"}
    done = run(*SMALL, "--output", str(tmp_path / "out"), env=env, check=False)
    assert done.returncode == 1
    assert "MMRL eurosat base 16-shot seed 1" in done.stdout
    assert "failed: the reason" in done.stdout
    assert "failed: its training failed" in done.stdout
    assert "2 of 4 runs did not finish" in done.stdout
    tries = [line for line in recorded(env) if "seed1" in " ".join(line)]
    assert len(tries) == 2  # one retry, and no evaluation


def test_dry_run_prints_commands_with_their_hyper_parameters(recorder):
    done = run(*SMALL, "--dry-run", env=recorder)
    assert "REG_WEIGHT 0.01, REP_DIM 2048, PREC amp" in done.stdout
    assert "# 4 runs" in done.stdout
    assert recorded(recorder) == []


def test_a_changed_config_is_a_named_conflict(recorder, tmp_path):
    from train import parse, resolve
    from trainer.config import flatten

    out = tmp_path / "out"
    for one in list_runs("base_to_novel", ["mmrl"], ["eurosat"], [1, 2]):
        arguments = one.arguments("/data", str(out), "", [])
        path = out / one.output / "results.json"
        path.parent.mkdir(parents=True)
        os.chdir(REPOSITORY)
        path.write_text(json.dumps({"config": flatten(resolve(parse(arguments))[0])}))
    assert run(*SMALL, "--output", str(out), env=recorder).returncode == 0
    done = run(*SMALL, "--output", str(out), "--", "OPTIM.LR", "0.5", env=recorder, check=False)
    assert done.returncode == 1
    assert "was made with OPTIM.LR 0.001, now it is 0.5" in done.stdout
    assert recorded(recorder) == []


def test_shards_hold_a_training_with_its_evaluations():
    for protocol in PROTOCOLS:
        runs = list_runs(protocol)
        for count in (1, 3, 8):
            parts = [units(runs)[index::count] for index in range(count)]
            flat = [run for part in parts for unit in part for run in unit]
            assert sorted(flat) == sorted(runs)
        for unit in units(runs):
            assert all(run.model in ("", unit[0].output) for run in unit)


def test_a_claim_is_exclusive_and_a_dead_one_is_taken_over(tmp_path):
    with Claim(str(tmp_path)) as first:
        assert first.is_mine
        with Claim(str(tmp_path)) as second:
            assert not second.is_mine
    with Claim(str(tmp_path)) as third:
        assert third.is_mine
    code = f"from sweep.claims import Claim; import os; Claim({str(tmp_path)!r}).__enter__(); os.kill(os.getpid(), 9)"  # noqa: E501
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False)
    assert (tmp_path / ".claim").exists()
    with Claim(str(tmp_path)) as fourth:
        assert fourth.is_mine
    assert list(tmp_path.iterdir()) == []


def test_two_schedulers_share_the_work(recorder, tmp_path):
    command = [sys.executable, "scripts/sweep.py", "few_shot", "--output", str(tmp_path / "out")]
    command += ["--datasets", "eurosat", "--per-gpu", "2"]
    both = [subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | recorder) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    got = [tuple(line) for line in recorded(recorder)]
    assert len(got) == len(set(got)) == 30


def test_stopping_ends_the_children(tmp_path):
    sleeper = tmp_path / "python"
    sleeper.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec sleep 60\n")
    sleeper.chmod(0o755)
    command = [sys.executable, "scripts/sweep.py", *SMALL, "--output", str(tmp_path / "out")]
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        (tmp_path / "pids").unlink(missing_ok=True)
        environment = os.environ | {"PYTHON": str(sleeper), "DATA": "/data"}
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment)
        while not (tmp_path / "pids").exists():
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(stop)
        process.wait(timeout=10)
        time.sleep(0.3)
        for pid in (tmp_path / "pids").read_text().split():
            stat = Path(f"/proc/{pid}/stat")
            assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_scheduling_costs_little(tmp_path):
    """200 runs of /bin/true: what is measured is the scheduler alone."""
    command = [sys.executable, "scripts/sweep.py", "few_shot", "--output", str(tmp_path)]
    environment = os.environ | {"PYTHON": "/bin/true", "DATA": "/data"}
    done = subprocess.run(
        [*command, "--seeds", "1,2"], cwd=REPOSITORY, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stdout.count("left no results.json") == 220


def test_slots_divide_gpus_or_cores(monkeypatch):
    assert sweep.slot_environments("0,1", 2) == [
        {"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("0", "0", "1", "1")
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert sweep.slot_environments("", 2) == [{"OMP_NUM_THREADS": "4"}] * 2
