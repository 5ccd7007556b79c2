"""Which Python runs, seen from the shells that users have: with and without .venv, pyenv, conda."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import interpreter
from conftest import REPOSITORY
from interpreter import python_for_runs
from recording import RECORDER, bash, recorded
from sweep.runs import PROTOCOLS, list_runs


def make_python(path, text="exit 0"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """No $PYTHON, no environment, no python in PATH, no .venv."""
    for name in ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(interpreter, "OWN_PYTHON", tmp_path / ".venv" / "bin" / "python")
    return tmp_path


def test_the_named_one_comes_first(shell, monkeypatch):
    make_python(shell / "bin" / "python")
    make_python(interpreter.OWN_PYTHON)
    monkeypatch.setenv("PYTHON", "python3.12")
    assert python_for_runs() == "python3.12"


@pytest.mark.parametrize("has_own", [False, True])
def test_then_path_s_that_is_no_system_python(has_own, shell):
    found = make_python(shell / "bin" / "python")
    if has_own:
        make_python(interpreter.OWN_PYTHON)
    assert python_for_runs() == found


@pytest.mark.parametrize("folder", ["system", "shims"])
def test_a_system_python_and_a_shim_come_after_the_repository_s_own(folder, shell, monkeypatch):
    monkeypatch.setattr(interpreter, "SYSTEM_FOLDERS", (str(shell / "system"),))
    monkeypatch.setenv("PATH", str(shell / folder))
    found = make_python(shell / folder / "python")
    assert python_for_runs() == sys.executable
    own = make_python(interpreter.OWN_PYTHON)
    assert python_for_runs() == own
    monkeypatch.setenv("CONDA_PREFIX", str(shell))  # an active environment is meant
    assert python_for_runs() == found


def test_without_any_other_the_one_that_runs(shell):
    assert python_for_runs() == sys.executable


@pytest.fixture
def clone(tmp_path):
    """The repository without its .venv; what a sweep starts is there."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("sweep", "scripts", "configs", "dassl"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for path in (*REPOSITORY.glob("*.sh"), *REPOSITORY.glob("*.py")):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize(
    ("replaced", "has_own"), [("PATH", True), ("PATH", False), ("PYTHON", True)]
)
def test_all_552_commands_reach_the_python_that_was_put_there(replaced, has_own, clone, tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    shutil.copy(RECORDER, python)
    if has_own:
        make_python(clone / ".venv" / "bin" / "python", f"echo own >> {tmp_path}/own")
    env = {"RECORD": str(tmp_path / "record"), "RESULTS": '{"accuracy": 1}', "DATA": "/data"}
    if replaced == "PYTHON":
        env["PYTHON"] = str(python)
    else:
        env["PATH"] = f"{python.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    for protocol in PROTOCOLS:
        bash(f"{protocol}.sh", "--per-gpu", "2", env=env, cwd=clone)
    runs = [run for protocol in PROTOCOLS for run in list_runs(protocol)]
    want = [run.arguments("/data", "", "", []) for run in runs]
    assert len(want) == 552
    assert sorted(recorded(env)) == sorted(want)
    assert not (tmp_path / "own").exists()


BARE = [sys._base_executable, "-S"]  # without site-packages, so without PyTorch
SHELL = {"PATH": "/usr/bin:/bin"}
needs_a_venv = pytest.mark.skipif(
    sys.prefix == sys.base_prefix, reason="the Python that runs has PyTorch in its base"
)


def run_bare(*words, cwd, **more):
    return subprocess.run(
        [*BARE, *words], cwd=cwd, env=SHELL | more, capture_output=True, text=True, check=False
    )


@needs_a_venv
def test_a_python_without_torch_hands_over_to_the_repository_s_own(clone):
    (clone / ".venv").symlink_to(sys.prefix)
    own = clone / ".venv" / "bin" / "python"
    done = run_bare("train.py", "--help", cwd=clone)
    assert done.returncode == 0
    assert f"torch is not installed for {sys._base_executable}; going on with {own}" in done.stderr
    assert "--dataset-config-file" in done.stdout


@needs_a_venv
def test_a_python_without_torch_hands_over_to_the_named_one(clone):
    done = run_bare("train.py", "--help", cwd=clone, PYTHON=sys.executable)
    assert done.returncode == 0
    assert f"going on with {os.path.abspath(sys.executable)}" in done.stderr


def commands():
    """Every file that is started by its name."""
    for path in sorted((*REPOSITORY.glob("*.py"), *(REPOSITORY / "scripts").glob("*.py"))):
        if "def main(" in path.read_text():
            yield str(path.relative_to(REPOSITORY))


RUN_WITHOUT_TORCH = {"scripts/sweep.py", "scripts/one_run.py", "scripts/parse_test_res.py"}


@needs_a_venv
@pytest.mark.parametrize("command", sorted({*commands()} - RUN_WITHOUT_TORCH))
def test_a_python_without_torch_says_so_in_a_sentence(command, clone):
    done = run_bare(command, "output", cwd=clone)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"torch is not installed for {sys._base_executable}" in done.stderr
    assert "source .venv/bin/activate" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_a_venv
def test_a_sweep_starts_without_torch_and_says_what_it_cannot_tell(clone):
    assert {*commands()} >= RUN_WITHOUT_TORCH
    done = run_bare("scripts/sweep.py", "--help", cwd=clone)
    assert done.returncode == 0
    done = run_bare("scripts/sweep.py", "few_shot", "--root", "/data", "--dry-run", cwd=clone)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"torch is not installed for {sys._base_executable}: run `source" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_a_venv
def test_an_own_python_without_torch_is_not_handed_over_to(clone):
    make_python(clone / ".venv" / "bin" / "python", "echo wrong")
    done = run_bare("train.py", "--help", cwd=clone)
    assert done.returncode == 2
    assert "wrong" not in done.stdout
