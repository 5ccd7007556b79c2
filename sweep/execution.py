"""One run of a sweep: is it finished, and if not, call train.py for it."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from sweep.claims import Claim
from sweep.runs import Run

__all__ = ["Outcome", "Settings", "execute", "is_finished"]

REPOSITORY = Path(__file__).resolve().parents[1]
CONSOLE = "console.txt"
# Beside what a stopped run may change, a finished one may have been fed and printed otherwise.
ALSO_FREE_KEYS = {
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.CACHE_MB",
    "VERBOSE",
    "TEST.PREDICTIONS",
}


class Settings(NamedTuple):
    """What all runs of a sweep have in common."""

    root: str
    folder: str = ""
    backbone: str = ""
    opts: tuple[str, ...] = ()
    retries: int = 1


class Outcome(NamedTuple):
    """How a run ended: finished, failed, conflict, or busy (another scheduler has it)."""

    state: str
    detail: str = ""


def folder_of(run: Run, settings: Settings) -> Path:
    """Where the run's results go; relative folders are below the repository."""
    return REPOSITORY / settings.folder / run.output


def command(run: Run, settings: Settings) -> list[str]:
    """`$PYTHON train.py ...`; PYTHON defaults to the python of the path."""
    python = os.environ.get("PYTHON") or shutil.which("python") or sys.executable
    arguments = run.arguments(settings.root, settings.folder, settings.backbone, settings.opts)
    return [python, "train.py", *arguments]


def is_finished(run: Run, settings: Settings) -> Outcome | None:
    """Finished if results.json is there with this config; None: not yet."""
    path = folder_of(run, settings) / "results.json"
    if not path.is_file():
        return None
    results = json.loads(path.read_text())
    if "config" not in results:
        return Outcome("finished")
    from trainer.resume import FREE_KEYS

    wanted = json.loads(json.dumps(resolved_config(run, settings)))  # tuples as JSON has them
    for key in sorted(wanted.keys() - FREE_KEYS - ALSO_FREE_KEYS):
        want, have = wanted[key], results["config"].get(key, wanted[key])
        if want != have:
            return Outcome(
                "conflict",
                f"{path} was made with {key} {have}, now it is {want}; remove the folder, or use "
                "another --output",
            )
    return Outcome("finished")


def resolved_config(run: Run, settings: Settings) -> dict:
    """Every config value of the run, by full key."""
    import train
    from trainer.config import flatten

    arguments = run.arguments(settings.root, settings.folder, settings.backbone, settings.opts)
    return flatten(train.resolve(train.parse(arguments))[0])


def execute(run: Run, settings: Settings, environment: dict[str, str]) -> Outcome:
    """Do the run unless it is finished or somebody else is at it; the console goes to a file."""
    folder = folder_of(run, settings)
    for _ in range(settings.retries + 1):
        with Claim(str(folder)) as claim:
            if not claim.is_mine:
                return Outcome("busy")
            if done := is_finished(run, settings):
                return done
            code = _call(run, settings, environment, claim, folder / CONSOLE)
        if code == 0:
            return is_finished(run, settings) or Outcome("finished", "left no results.json")
        if code == 2:  # a wrong request stays wrong
            break
    return Outcome("failed", last_line(folder / CONSOLE) or f"exit code {code}")


def _call(
    run: Run, settings: Settings, environment: dict[str, str], claim: Claim, console: Path
) -> int:
    with open(console, "ab") as file:
        process = subprocess.Popen(
            command(run, settings),
            cwd=REPOSITORY,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
    claim.add_process(process.pid)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.kill()


def _die_with_parent() -> None:
    """A scheduler that is killed leaves no run behind (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def last_line(path: Path) -> str:
    """Of a log; empty if there is none."""
    if not path.is_file():
        return ""
    lines = path.read_text(errors="replace").replace("\r", "\n").strip().splitlines()
    return lines[-1] if lines else ""
