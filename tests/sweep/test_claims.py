"""Who holds a run, on one machine, in two containers, behind hidepid, over a skewed clock."""

import json
import os
import subprocess
import sys
import time

import pytest

from conftest import REPOSITORY
from recording import WATCHDOG_S, wait_until
from sweep import claims
from sweep.claims import Claim

HOUR_S = 3600


@pytest.fixture(autouse=True)
def an_hour_is_stale(monkeypatch):
    """A minute is too short for tests on a loaded machine."""
    monkeypatch.setattr(claims, "STALE_S", HOUR_S)


@pytest.fixture
def sleeper():
    """A process that lives."""
    process = subprocess.Popen(["sleep", "9999"])
    yield process
    process.kill()
    process.wait()


def start_time_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]


def write_claim(folder, machine, pids, age_s=0.0):
    path = folder / ".claim"
    path.write_text(json.dumps({"token": "theirs", "machine": machine, "pids": pids}))
    stamp = time.time() - age_s
    os.utime(path, (stamp, stamp))
    return path


def is_taken_over(folder):
    with Claim(folder) as claim:
        taken = claim.is_mine
    left = sorted(path.name for path in folder.iterdir())
    assert left == ([] if taken else [".claim"])
    return taken


def test_a_claim_is_exclusive_and_a_dead_one_is_taken_over(tmp_path):
    with Claim(tmp_path) as first:
        assert first.is_mine
        with Claim(tmp_path) as second:
            assert not second.is_mine
    with Claim(tmp_path) as third:
        assert third.is_mine
    code = (
        "import os, pathlib; from sweep.claims import Claim;"
        f"Claim(pathlib.Path({str(tmp_path)!r})).__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False)
    assert (tmp_path / ".claim").exists()
    assert is_taken_over(tmp_path)


@pytest.mark.parametrize("age_s", [0, 2 * HOUR_S, -2 * HOUR_S])
def test_on_one_machine_the_processes_decide(age_s, tmp_path, sleeper):
    pid, start = str(sleeper.pid), start_time_of(sleeper.pid)
    write_claim(tmp_path, claims._machine(), {pid: start}, age_s)
    assert not is_taken_over(tmp_path)
    write_claim(tmp_path, claims._machine(), {pid: "1"}, age_s)  # the pid was given again
    assert is_taken_over(tmp_path)
    write_claim(tmp_path, claims._machine(), {"1": "0", pid: start}, age_s)  # the run outlived it
    assert not is_taken_over(tmp_path)
    sleeper.kill()
    wait_until(lambda: claims._start_time(sleeper.pid) == "")  # dead, and not yet buried
    assert is_taken_over(tmp_path)


@pytest.mark.parametrize("machine", ["", "another boot pid:[1]", "this boot"])
@pytest.mark.parametrize(
    ("age_s", "is_stale"), [(0, False), (2 * HOUR_S, True), (-2 * HOUR_S, True)]
)
def test_elsewhere_the_heartbeat_decides(machine, age_s, is_stale, tmp_path, sleeper):
    """Another pid namespace of this boot is elsewhere too; a clock an hour ahead blocks nobody."""
    if machine == "this boot":
        machine = f"{claims._machine().split()[0]} pid:[1]"
    dead, alive = {"4194304": "1"}, {str(sleeper.pid): start_time_of(sleeper.pid)}
    for pids in (dead, alive):
        write_claim(tmp_path, machine, pids, age_s)
        assert is_taken_over(tmp_path) == is_stale


def test_a_claim_of_an_older_version_goes_by_its_heartbeat(tmp_path):
    path = tmp_path / ".claim"
    path.write_text(json.dumps({"host": "here", "token": "theirs", "pids": {"4194304": "1"}}))
    assert not is_taken_over(tmp_path)
    os.utime(path, (0, 0))
    assert is_taken_over(tmp_path)


@pytest.fixture
def hidepid(tmp_path, monkeypatch):
    """A /proc that shows no processes, as hidepid does with those of other users."""
    proc = tmp_path / "proc"
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "sys/kernel/random/boot_id").write_text("boot\n")
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").symlink_to("pid:[1]")
    monkeypatch.setattr(claims, "PROC", proc)


def test_hidden_processes_are_not_taken_for_dead(hidepid, tmp_path, sleeper):
    folder = tmp_path / "run"
    folder.mkdir()
    pids = {str(sleeper.pid): start_time_of(sleeper.pid)}
    write_claim(folder, "boot pid:[1]", pids)
    assert not is_taken_over(folder)
    write_claim(folder, "boot pid:[1]", pids, age_s=2 * HOUR_S)  # another has its pid now
    assert is_taken_over(folder)
    sleeper.kill()
    sleeper.wait()
    write_claim(folder, "boot pid:[1]", pids)
    assert is_taken_over(folder)


def test_another_user_s_process_lives(hidepid, monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert claims._is_running(4242, "1") is None


def test_two_containers_of_one_host_name_do_not_share_a_run(tmp_path):
    container = ["unshare", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() != 0:
        container.insert(1, "--map-root-user")
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a pid namespace here")
    code = (
        "import pathlib; from sweep.claims import Claim;"
        f"Claim(pathlib.Path({str(tmp_path)!r})).__enter__(); input()"
    )
    words = [*container, sys.executable, "-c", code]
    holder = subprocess.Popen(words, cwd=REPOSITORY, stdin=subprocess.PIPE)
    wait_until((tmp_path / ".claim").exists)
    try:
        assert not is_taken_over(tmp_path)
    finally:
        holder.communicate(b"\n", timeout=WATCHDOG_S)


def test_the_heartbeat_outlives_a_failure(tmp_path, monkeypatch):
    touch = os.utime
    failures = iter([OSError("Stale file handle"), OSError("No space left on device")])

    def flaky(path, *args):
        if error := next(failures, None):
            raise error
        touch(path, *args)

    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(os, "utime", flaky)
    with Claim(tmp_path) as claim:
        touch(claim.path, (0, 0))
        wait_until(lambda: claim.path.stat().st_mtime > 0)
        assert next(failures, None) is None
        assert not claim.is_lost


def test_a_loser_leaves_the_winner_s_claim_and_stops_its_run(tmp_path, monkeypatch, sleeper):
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.01)
    with Claim(tmp_path) as claim:
        claim.add_process(sleeper)
        path = write_claim(tmp_path, "", {"1": "0"}, age_s=HOUR_S)
        assert sleeper.wait(timeout=WATCHDOG_S) == -9
        assert claim.is_lost
        stamp = path.stat().st_mtime
        assert time.time() - stamp > HOUR_S / 2  # it was not touched
    assert json.loads(path.read_text())["token"] == "theirs"


def test_a_loser_adds_no_process_to_the_winner_s_claim(tmp_path, sleeper):
    with Claim(tmp_path) as claim:
        path = write_claim(tmp_path, "", {"1": "0"})
        claim.add_process(sleeper)
        assert json.loads(path.read_text())["token"] == "theirs"
    assert json.loads(path.read_text())["token"] == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == [".claim"]


def test_a_run_that_was_lost_while_it_ran_is_busy(recorder, tmp_path, monkeypatch):
    from sweep.execution import Outcome, State, execute
    from sweep.runs import list_runs
    from sweep.settings import Settings

    run = list_runs("few_shot", ["mmrl"], ["dtd"], [1], [1])[0]
    python = tmp_path / "bin" / "python"
    folder = tmp_path / run.output
    claim = {"token": "theirs", "machine": "", "pids": {}}
    python.write_text(
        f"#!/bin/sh\nuntil grep -q $$ {folder}/.claim; do sleep 0.01; done\n"
        f"echo '{json.dumps(claim)}' > {folder}/.claim\nexec sleep 9999\n"
    )
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.01)
    monkeypatch.setenv("PYTHON", str(python))
    assert execute(run, Settings("/data", str(tmp_path)), {}) == Outcome(State.BUSY)
    assert json.loads((folder / ".claim").read_text())["token"] == "theirs"
