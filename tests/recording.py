"""The sweeps' commands as users type them, and what a recorder in place of python noted."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conftest import REPOSITORY

RECORDER = Path(__file__).with_name("recorder.sh")
WATCHDOG_S = 3600  # ends a test that hangs; no claim on speed
SMALL = ("base_to_novel", "--datasets", "eurosat", "--methods", "mmrl", "--seeds", "1,2")


def recorded(environment: dict[str, str]) -> list[list[str]]:
    """The arguments of every call, in order."""
    path = Path(environment["RECORD"])
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split("\037")[:-1] for line in lines]


def clean_environment(**more: str) -> dict[str, str]:
    """This process's, without what would choose another interpreter or other data."""
    dropped = ("DATA", "PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | more


def bash(
    script: str, *args: str, env: dict[str, str], check: bool = True, cwd: Path = REPOSITORY
) -> subprocess.CompletedProcess[str]:
    """One of the shell scripts."""
    return subprocess.run(
        ["bash", script, *args], cwd=cwd, env=clean_environment(**env), capture_output=True,
        text=True, check=check, timeout=WATCHDOG_S,
    )  # fmt: skip


def sweep(*args: str, env: dict[str, str], check: bool = True) -> subprocess.CompletedProcess[str]:
    """scripts/sweep.py."""
    return subprocess.run(
        [sys.executable, "scripts/sweep.py", *args], cwd=REPOSITORY, env=clean_environment(**env),
        capture_output=True, text=True, check=check, timeout=WATCHDOG_S,
    )  # fmt: skip


def wait_until(holds: Callable[[], object], every_s: float = 0.02) -> None:
    """Until something holds, however slow the machine is."""
    deadline = time.monotonic() + WATCHDOG_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(every_s)
