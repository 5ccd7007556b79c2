"""Whatever goes wrong, a sweep ends, says why in one sentence a run, and never exits with 0."""

import os
import shlex
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from recording import SMALL, WATCHDOG_S, bash, clean_environment, recorded, sweep
from sweep.execution import Outcome, State, execute, stored_outcome
from sweep.runs import list_runs
from sweep.settings import Settings

RUNS = list_runs("base_to_novel", ["mmrl"], ["eurosat"], [1, 2])
OPTIONS = SMALL[1:]
NO_JSON_OBJECTS = {
    "torn": '{"accuracy": 9',
    "empty": "",
    "list": "[]",
    "object": "{}",
    "number": "3",
    "deep": "[" * 100_000,
    "bytes": "\udcff\udcfe",
}
slots = pytest.mark.parametrize("slots", ["1", "2"])


def assert_each_run_has_its_sentence(done, sentence, runs=RUNS):
    """Exit code 1; a line for each run as it ends, and one in the summary; nothing else."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(runs) + 1
    assert lines[len(runs)] == f"{len(runs)} of {len(runs)} runs did not finish:"
    for run in runs:
        found = [line for line in lines if run.name in line]
        assert len(found) == 2
        expected = ("its training ",) if run.model else ()
        assert all(any(text in line for text in (sentence, *expected)) for line in found)
    assert any(sentence in line for line in lines)


def base_to_novel(out, slots, env):
    options = [*OPTIONS, "--output", str(out), "--per-gpu", slots]
    return bash("base_to_novel.sh", *options, env=env, check=False)


@slots
def test_output_is_a_file(slots, recorder, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = base_to_novel(tmp_path / "file", slots, recorder)
    assert_each_run_has_its_sentence(done, "Not a directory; make room there, or choose another")
    assert (tmp_path / "file").read_text() == "mine"
    assert recorded(recorder) == []


@slots
def test_output_is_where_nothing_can_be_made(slots, recorder):
    done = base_to_novel("/proc/x", slots, recorder)
    assert_each_run_has_its_sentence(done, "cannot use /proc/x: No such file or directory")
    assert recorded(recorder) == []


MOUNTS = {
    "read-only": ("mount -t tmpfs -o ro none {out}", "Read-only file system"),
    "full": (
        "mount -t tmpfs -o size=64k none {out}; head -c 99999 /dev/zero > {out}/fill 2>&-",
        "No space left on device",
    ),
}


def in_a_mount_namespace(words):
    return [*("unshare", "--mount"), *(() if os.geteuid() == 0 else ("--map-root-user",)), *words]


@slots
@pytest.mark.parametrize("kind", MOUNTS)
def test_output_is_on_a_mount_that_takes_nothing(kind, slots, recorder, tmp_path):
    probe = in_a_mount_namespace(["mount", "-t", "tmpfs", "none", str(tmp_path)])
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount here")
    mount, sentence = MOUNTS[kind]
    out = tmp_path / "out"
    out.mkdir()
    words = ["base_to_novel.sh", *OPTIONS, "--output", str(out), "--per-gpu", slots]
    script = f"{mount.format(out=out)}; exec bash {shlex.join(words)}"
    done = subprocess.run(
        in_a_mount_namespace(["sh", "-c", script]), cwd=REPOSITORY, text=True, check=False,
        env=clean_environment(**recorder), capture_output=True, timeout=WATCHDOG_S,
    )  # fmt: skip
    assert_each_run_has_its_sentence(done, sentence)
    assert recorded(recorder) == []


@slots
def test_no_interpreter(slots, recorder, tmp_path):
    done = base_to_novel(tmp_path, slots, recorder | {"PYTHON": "/no/such"})
    assert_each_run_has_its_sentence(done, "cannot start /no/such: No such file or directory")


@slots
@pytest.mark.parametrize("content", NO_JSON_OBJECTS)
@pytest.mark.parametrize("name", ["results.json", ".claim"])
def test_a_file_that_is_none_is_a_named_conflict(name, content, slots, recorder, tmp_path):
    for run in RUNS:
        (tmp_path / run.output).mkdir(parents=True)
        path = tmp_path / run.output / name
        path.write_text(NO_JSON_OBJECTS[content], errors="surrogateescape")
    done = base_to_novel(tmp_path, slots, recorder)
    assert_each_run_has_its_sentence(done, f"/{name}")
    for run in RUNS:
        if not run.model:
            assert f"conflict: {tmp_path / run.output / name}" in done.stdout
    assert recorded(recorder) == []
    assert all((tmp_path / run.output / name).exists() for run in RUNS)


ODD_CLAIMS = [
    '{"pids": {"1": "2"}}', '{"token": "x", "pids": []}', '{"token": "x", "pids": {"-1": ""}}',
]  # fmt: skip


@pytest.mark.parametrize("content", ODD_CLAIMS)
def test_a_claim_with_odd_fields_is_a_named_conflict(content, tmp_path):
    folder = tmp_path / RUNS[0].output
    folder.mkdir(parents=True)
    (folder / ".claim").write_text(content)
    outcome = execute(RUNS[0], Settings("/data", str(tmp_path)), {})
    assert outcome.state is State.CONFLICT
    assert f"{folder / '.claim'} is not a sweep's claim; remove it" in outcome.detail


@pytest.mark.parametrize("content", ['{"config": []}', '{"accuracy": "high"}', '{"seed": 1}'])
def test_results_with_odd_fields_are_a_named_conflict(content, tmp_path):
    folder = tmp_path / RUNS[0].output
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(content)
    outcome = stored_outcome(RUNS[0], Settings("/data", str(tmp_path)))
    assert outcome.state is State.CONFLICT
    assert f"{folder / 'results.json'} does not hold a run's results" in outcome.detail


@slots
def test_exit_code_0_without_results_is_a_failure(slots, recorder, tmp_path):
    done = base_to_novel(tmp_path, slots, recorder | {"RESULTS": ""})
    assert_each_run_has_its_sentence(done, "ended with exit code 0, but left no results.json")
    assert len(recorded(recorder)) == len(RUNS)  # it would end so again


@slots
def test_exit_code_0_with_results_that_are_none_is_a_conflict(slots, recorder, tmp_path):
    done = base_to_novel(tmp_path, slots, recorder | {"RESULTS": "{}"})
    assert_each_run_has_its_sentence(done, "results.json does not hold a run's results; remove it")


def test_options_that_cannot_be_compared_are_a_failure(tmp_path):
    folder = tmp_path / RUNS[0].output
    folder.mkdir(parents=True)
    (folder / "results.json").write_text('{"config": {"SEED": 1}}')
    outcome = execute(RUNS[0], Settings("/data", str(tmp_path), opts=("OPTIM.LRR", "1")), {})
    assert outcome.state is State.FAILED
    assert outcome.detail.startswith("Unknown config key 'OPTIM.LRR'")


def test_a_finished_run_is_finished_in_a_folder_that_takes_nothing(recorder, tmp_path):
    """No claim is made on it: the folder may be an archive."""
    settings = Settings("/data", str(tmp_path))
    (tmp_path / RUNS[0].output).mkdir(parents=True)
    (tmp_path / RUNS[0].output / "results.json").write_text('{"accuracy": 1}')
    (tmp_path / RUNS[0].output / ".claim").mkdir()  # would be in the way
    assert execute(RUNS[0], settings, {}) == Outcome(State.FINISHED, accuracy=1)


def fake_python(tmp_path, text):
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return clean_environment(PYTHON=str(path), DATA="/data")


def test_a_run_over_its_time_is_killed_and_tried_again(tmp_path):
    environment = fake_python(tmp_path, f"echo $$ >> {tmp_path}/pids; exec sleep 9999")
    words = ["few_shot", "--datasets", "dtd", "--methods", "mmrl", "--seeds", "1", "--shots", "1"]
    options = ["--output", str(tmp_path / "out"), "--timeout", "0.01"]
    done = sweep(*words, *options, env=environment, check=False)
    run = list_runs("few_shot", ["mmrl"], ["dtd"], [1], [1])
    assert_each_run_has_its_sentence(done, "stopped after 0.01 minutes by --timeout", run)
    assert len((tmp_path / "pids").read_text().split()) == 2


def test_the_last_line_of_this_call_is_the_reason_not_that_of_an_older_one(recorder, tmp_path):
    folder = tmp_path / RUNS[0].output
    folder.mkdir(parents=True)
    (folder / "console.txt").write_text("a reason of last week\n")
    done = base_to_novel(tmp_path, "1", recorder | {"PYTHON": "/bin/false"})
    assert "last week" not in done.stdout
    assert_each_run_has_its_sentence(done, "ended with exit code 1 and printed nothing")


def test_the_reason_of_train_py_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    env = {"PYTHON": sys.executable, "DATA": str(tmp_path)}
    words = ["few_shot", "--datasets", "eurosat", "--methods", "mmrl", "--seeds", "1", "--shots"]
    done = sweep(*words, "1", "--output", str(tmp_path / "out"), env=env, check=False)
    run = list_runs("few_shot", ["mmrl"], ["eurosat"], [1], [1])
    assert_each_run_has_its_sentence(done, f"error: EuroSAT: there is no {tmp_path}/eurosat", run)


def test_a_run_that_was_killed_says_by_what(tmp_path):
    environment = fake_python(tmp_path, "echo epoch 3; kill -9 $$")
    done = sweep(*SMALL, "--output", str(tmp_path / "out"), env=environment, check=False)
    assert_each_run_has_its_sentence(done, "ended by signal 9 (Killed); see ")


def test_a_closed_pipe_loses_no_run(recorder, tmp_path):
    words = [sys.executable, "scripts/sweep.py", *SMALL, "--output", str(tmp_path / "out")]
    script = f"{shlex.join(words)} | true"
    subprocess.run(["bash", "-c", script], cwd=REPOSITORY, env=clean_environment(**recorder))
    assert len(recorded(recorder)) == len(RUNS)
