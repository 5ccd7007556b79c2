"""The published commands, and the command line around them."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import GOLDEN, REPOSITORY
from recording import SMALL, WATCHDOG_S, bash, clean_environment, recorded, sweep, wait_until
from scripts.sweep import build_parser, chosen_runs, settings_of
from sweep.runs import PROTOCOLS, list_runs, units


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


def relative_to(out, lines):
    return [[word.removeprefix(f"{out}/") for word in line] for line in lines]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sweeps_give_exactly_the_published_commands(protocol, recorder, tmp_path):
    out = tmp_path / "out"
    done = bash(f"{protocol}.sh", "--output", str(out), "--per-gpu", "2", env=recorder)
    assert " 0 left" in done.stdout
    got = relative_to(out, recorded(recorder))
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


def test_a_recorder_that_leaves_no_results_sees_every_command_once(recorder, tmp_path):
    environment = recorder | {"RESULTS": ""}
    done = bash("base_to_novel.sh", "--output", str(tmp_path), env=environment, check=False)
    assert done.returncode == 1
    got = relative_to(tmp_path, recorded(recorder))
    assert sorted(got) == sorted(expected("base_to_novel"))


def test_scripts_of_a_method_give_one_published_command(recorder):
    environment = recorder | {"RESULTS": ""}
    for method in ("mmrl", "mmrlpp"):
        folder = f"scripts/{method}"
        bash(f"{folder}/base_to_novel_train.sh", "imagenet", "2", env=environment)
        bash(f"{folder}/base_to_novel_test.sh", "dtd", "1", env=environment)
        bash(f"{folder}/cross_datasets_train.sh", "imagenet", "3", env=environment)
        bash(f"{folder}/cross_datasets_test.sh", "imagenet_a", "3", env=environment)
        bash(f"{folder}/few_shot.sh", "eurosat", "1", "8", env=environment)
    published = [line for protocol in PROTOCOLS for line in expected(protocol)]
    assert len(recorded(recorder)) == 10
    assert [line for line in recorded(recorder) if line not in published] == []


WRONG_RUNS = [
    (["few_shot", "train", "mmrl", "eurosatt", "1", "8"], "Unknown data set 'eurosatt'"),
    (
        ["few_shot", "train", "mmrl", "eurosat", "one", "8"],
        "SEED must be a whole number, got 'one'",
    ),
    (["few_shots", "train", "mmrl", "eurosat", "1"], "Unknown protocol 'few_shots'"),
    (["few_shot", "test", "mmrl", "eurosat", "1", "8"], "few_shot does not test on 'eurosat'"),
    (
        ["few_shot", "tran", "mmrl", "eurosat", "1", "8"],
        "the part must be train or test, got 'tran'",
    ),
    (["few_shot", "train", "mmrl", "eurosat", "1", "8"], "cannot start /no/such"),
]


@pytest.mark.parametrize(("words", "message"), WRONG_RUNS)
def test_one_run_answers_wrong_requests_in_a_sentence(words, message):
    done = subprocess.run(
        [sys.executable, "scripts/one_run.py", *words], cwd=REPOSITORY, capture_output=True,
        text=True, env=clean_environment(DATA="/data", PYTHON="/no/such"), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


WRONG_SWEEPS = [
    (["--datasets", "eurosat,eurosatt"], "Unknown data set 'eurosatt'"),
    (["--methods", "mmrl,cocoop"], "Unknown method 'cocoop'"),
    (["--seeds", "1,x"], "--seeds: takes a whole number from 0 to 4294967295, got 'x'"),
    (["--shots", "0"], "--shots: takes a whole number from 1 to 4294967295, got '0'"),
    (["--shard", "5/4"], "--shard takes I/N with I from 0 to N - 1, got '5/4'"),
    (["--per-gpu", "0"], "--per-gpu: takes a whole number from 1 to 1000, got '0'"),
    (["--retries", "-1"], "--retries: takes a whole number from 0 to 4294967295, got '-1'"),
    (["--timeout", "0"], "--timeout: takes minutes, more than 0 and up to 527040, got '0'"),
    (["--", "DATASET.NUM_SHOTS", "4"], "cannot follow `--`; use --shots"),
    (["--", "OPTIM.LR"], "'OPTIM.LR' has no value"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_SWEEPS)
def test_a_sweep_answers_wrong_requests_in_a_sentence(options, message, recorder):
    done = sweep("few_shot", *options, env=recorder, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert recorded(recorder) == []


def runs_of(*words):
    args = build_parser().parse_args(["base_to_novel", "--root", "/data", *words])
    assert settings_of(args, []).root == "/data"
    return chosen_runs(args)


def test_names_may_have_blanks_and_count_once():
    plain = runs_of("--datasets", "eurosat,dtd", "--methods", "mmrl", "--seeds", "1")
    again = runs_of("--datasets", "eurosat, dtd,dtd", "--methods", "mmrl", "--seeds", "1, 1")
    assert len(plain) == 4
    assert again == plain


def test_the_folder_says_the_shots():
    runs = runs_of("--datasets", "eurosat", "--shots", "4,16")
    assert {run.shots for run in runs} == {4, 16}
    assert all(f"/shots_{run.shots}/" in run.output for run in runs)
    assert len({run.output for run in runs}) == len(runs)


def test_a_missing_data_folder_is_one_sentence():
    done = bash("few_shot.sh", env={}, check=False)
    assert done.returncode != 0
    assert "set DATA to the folder of the data sets" in done.stderr


def test_a_failed_run_does_not_stop_the_others(recorder, tmp_path):
    env = recorder | {"FAIL": "train_base/eurosat/shots_16/MMRL/vit_b16/seed1"}
    done = sweep(*SMALL, "--output", str(tmp_path / "out"), env=env, check=False)
    assert done.returncode == 1
    assert "MMRL eurosat base 16-shot seed 1" in done.stdout
    assert "failed: the reason" in done.stdout
    assert "failed: its training failed" in done.stdout
    assert "2 of 4 runs did not finish" in done.stdout
    tries = [line for line in recorded(env) if "seed1" in " ".join(line)]
    assert len(tries) == 2  # one retry, and no evaluation


def test_dry_run_prints_commands_with_their_hyper_parameters(recorder):
    done = sweep(*SMALL, "--dry-run", env=recorder)
    assert "REG_WEIGHT 0.01, REP_DIM 2048, PREC amp" in done.stdout
    assert "# 4 runs" in done.stdout
    assert recorded(recorder) == []
    wrong = sweep(*SMALL, "--dry-run", "--", "OPTIM.LRR", "1", env=recorder, check=False)
    assert wrong.returncode == 2
    assert "Did you mean 'OPTIM.LR'" in wrong.stderr


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
    assert sweep(*SMALL, "--output", str(out), env=recorder).returncode == 0
    done = sweep(*SMALL, "--output", str(out), "--", "OPTIM.LR", "0.5", env=recorder, check=False)
    assert done.returncode == 1
    assert "was made with OPTIM.LR 0.001, but OPTIM.LR is now 0.5" in done.stdout
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


def test_two_sweeps_share_the_work(recorder, tmp_path):
    command = [sys.executable, "scripts/sweep.py", "few_shot", "--output", str(tmp_path / "out")]
    command += ["--datasets", "eurosat", "--per-gpu", "2"]
    both = [
        subprocess.Popen(command, cwd=REPOSITORY, env=clean_environment(**recorder))
        for _ in range(2)
    ]
    assert [process.wait(timeout=WATCHDOG_S) for process in both] == [0, 0]
    got = [tuple(line) for line in recorded(recorder)]
    assert len(got) == len(set(got)) == 30


def is_running(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopping_ends_the_children(stop, tmp_path):
    sleeper = tmp_path / "python"
    pids = tmp_path / "pids"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {pids}.new; mv {pids}.new {pids}\nexec sleep 9999\n")
    sleeper.chmod(0o755)
    command = [sys.executable, "scripts/sweep.py", *SMALL, "--output", str(tmp_path / "out")]
    environment = clean_environment(PYTHON=str(sleeper), DATA="/data")
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment)
    wait_until(pids.exists)
    process.send_signal(stop)
    process.wait(timeout=WATCHDOG_S)
    wait_until(lambda: not is_running(int(pids.read_text())))
    assert not list((tmp_path / "out").rglob("results.json"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_baselines_are_swept_on_their_own_classes_alone(protocol):
    names = ["linear_probe", "tip_adapter", "tip_adapter_f"]
    runs = list_runs(protocol, names, ["imagenet"], [1], [4])
    assert {run.trainer for run in runs} == {"LinearProbe", "TipAdapter", "TipAdapterF"}
    assert {(run.subsample, run.model) for run in runs} <= {("base", ""), ("all", "")}
    assert [run.config_file for run in runs if not (REPOSITORY / run.config_file).is_file()] == []
