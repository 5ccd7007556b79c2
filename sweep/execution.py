"""Execute one run of a sweep: read its earlier outcome, or call train.py if it has none.

Whatever goes wrong here becomes that run's outcome, in one sentence: nothing is raised.
"""

import ctypes
import enum
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from dassl.errors import RequestError
from interpreter import REPOSITORY, python_for_runs
from run_files import RESULTS_FILE, RunResults
from sweep.claims import Claim, UnreadableClaim
from sweep.runs import Run, below

__all__ = [
    "CONSOLE",
    "REPOSITORY",
    "Outcome",
    "Settings",
    "State",
    "command",
    "console_of",
    "execute",
    "failure",
    "resolved_config",
    "stored_outcome",
]

CONSOLE = "console.txt"
WRONG_REQUEST = 2  # train.py's exit code for it
LAST_BYTES = 65_536  # of a console, to find its last line in
PR_SET_PDEATHSIG = 1
# Loaded here, since a child between fork and exec must not wait for the loader's lock.
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Settings(NamedTuple):
    """What all runs of a sweep have in common."""

    root: str
    folder: str = ""
    backbone: str = ""
    opts: tuple[str, ...] = ()
    retries: int = 1
    timeout_minutes: float | None = None  # of one call of train.py


class State(enum.Enum):
    """How a run ended, or why it was not started."""

    FINISHED = "finished"
    FAILED = "failed"
    CONFLICT = "conflict"  # its folder holds something that is not this run's
    BUSY = "busy"  # another sweep has it


class Outcome(NamedTuple):
    """A run's state, and one sentence that says why it is not finished."""

    state: State
    detail: str = ""
    exit_code: int | None = None  # of train.py, where it was called

    @property
    def may_have_model(self) -> bool:
        """Whether its evaluation is worth trying: everything but the results may exist."""
        return self.state is State.FINISHED or self.exit_code == 0

    @property
    def is_worth_a_retry(self) -> bool:
        """Whether another call may end differently: a wrong request stays wrong."""
        return self.state is State.FAILED and self.exit_code not in (None, 0, WRONG_REQUEST)


def folder_of(run: Run, settings: Settings) -> Path:
    """Where the run's results go; relative folders are below the repository."""
    return REPOSITORY / settings.folder / run.output


def console_of(run: Run, settings: Settings) -> Path:
    """The file that holds what the run printed."""
    return folder_of(run, settings) / CONSOLE


def command(run: Run, settings: Settings) -> list[str]:
    """The command line that calls train.py."""
    arguments = run.arguments(settings.root, settings.folder, settings.backbone, settings.opts)
    return [python_for_runs(), "train.py", *arguments]


def stored_outcome(run: Run, settings: Settings) -> Outcome | None:
    """The outcome that the run's folder records, finished or a conflict; None if there is none.

    Raises:
        RequestError: the run's settings are wrong.
    """
    folder = folder_of(run, settings)
    if not (folder / RESULTS_FILE).is_file():
        return None
    try:
        results = RunResults.read(folder)
    except FileNotFoundError:  # removed since
        return None
    except RequestError as error:
        return Outcome(State.CONFLICT, str(error))
    return _compare(results, run, settings)


def _compare(results: RunResults, run: Run, settings: Settings) -> Outcome:
    """Finished if results.json was made with the settings of the run.

    Results of earlier versions have a config alone; keys that it lacks are no matter.
    """
    if not (results.identity or results.config):
        return Outcome(State.FINISHED)
    from trainer.checkpoints.identity import Identity, first_difference, plain_settings

    wanted = Identity(run.trainer, plain_settings(resolved_config(run, settings)))
    try:
        stored = Identity.read(results.values, str(results.path))
    except RequestError as error:
        return Outcome(State.CONFLICT, str(error))
    have = plain_settings(results.config or {})
    stored = stored or Identity(run.trainer, wanted.settings | have)
    if difference := first_difference(stored, wanted):
        return Outcome(
            State.CONFLICT,
            f"{results.path} {difference}; remove the folder, or use another --output",
        )
    return Outcome(State.FINISHED)


def resolved_config(run: Run, settings: Settings) -> dict[str, Any]:
    """Every config value of the run by full key, as train.py resolves its command.

    Raises:
        RequestError: a key or value after `--` is wrong.
    """
    from trainer.config import build_config, flatten

    named = {"MODEL.BACKBONE.NAME": settings.backbone} if settings.backbone else {}
    cfg, _ = build_config(
        trainer=run.trainer,
        dataset_config_file=str(REPOSITORY / run.dataset_file),
        config_file=str(REPOSITORY / run.config_file),
        flags=named
        | {
            "DATASET.ROOT": settings.root,
            "SEED": run.seed,
            "OUTPUT_DIR": below(settings.folder, run.output),
        },
        opts=[*run.options, *settings.opts],
    )
    return flatten(cfg)


def execute(
    run: Run,
    settings: Settings,
    environment: dict[str, str],
    training: Outcome | None = None,
) -> Outcome:
    """Execute the run unless it is finished or another sweep has it; its output goes to a file.

    `training` is what became of the run that this one evaluates, if that is known.
    """
    try:
        # What it would evaluate is not there; its own folder may hold results of another model.
        if training is not None and not training.may_have_model:
            failed = training.state is State.FAILED
            return Outcome(State.FAILED, f"its training {'failed' if failed else 'is in conflict'}")
        return stored_outcome(run, settings) or _claim_and_call(run, settings, environment)
    except UnreadableClaim as error:
        return Outcome(State.CONFLICT, str(error))
    except OSError as error:
        where = error.filename or folder_of(run, settings)
        reason = f"cannot use {where}: {error.strerror or error}"
        return Outcome(State.FAILED, f"{reason}; make room there, or choose another --output")
    except Exception as error:  # a bug ends its run alone, and is named in the summary
        return failure(error)


def failure(error: BaseException) -> Outcome:
    """The outcome of a run that an exception ended, whatever it was."""
    return Outcome(State.FAILED, _in_a_line(error))


def _in_a_line(error: BaseException) -> str:
    text = "".join(str(error).strip().splitlines()[-1:])
    # A wrong request explains itself; of a bug the kind says most.
    return text if isinstance(error, RequestError) else f"{type(error).__name__}: {text}"


def _claim_and_call(run: Run, settings: Settings, environment: dict[str, str]) -> Outcome:
    with Claim(folder_of(run, settings)) as claim:
        if not claim.is_mine:
            return Outcome(State.BUSY)
        # Another sweep may have finished it between the look and the claim.
        if stored := stored_outcome(run, settings):
            return stored
        for _ in range(settings.retries + 1):
            outcome = _call(run, settings, environment, claim)
            # The other sweep's outcome counts; this call was stopped for it.
            if claim.is_lost:
                return Outcome(State.BUSY)
            if not outcome.is_worth_a_retry:
                break
    return outcome


def _call(run: Run, settings: Settings, environment: dict[str, str], claim: Claim) -> Outcome:
    """Call train.py once and wait until it ends."""
    words = command(run, settings)
    console = console_of(run, settings)
    limit = settings.timeout_minutes
    with open(console, "ab") as file:
        begin = file.tell()
        try:
            process = _start(words, environment, file)
        except OSError as error:
            reason = error.strerror or error
            return Outcome(
                State.FAILED,
                f"cannot start {words[0]}: {reason}; set PYTHON to another interpreter",
            )
    try:
        claim.add_process(process)
        code = process.wait(timeout=None if limit is None else 60 * limit)
    except subprocess.TimeoutExpired:
        return Outcome(State.FAILED, f"stopped after {limit:g} minutes by --timeout", -9)
    finally:
        process.kill()  # does nothing to one that has ended
        process.wait()
    if code:
        return Outcome(State.FAILED, _reason(code, console, begin), code)
    missing = Outcome(
        State.FAILED, f"ended with exit code 0, but left no results.json; see {console}"
    )
    return (stored_outcome(run, settings) or missing)._replace(exit_code=0)


def _start(words: list[str], environment: dict[str, str], console: Any) -> subprocess.Popen:
    scheduler = os.getpid()
    # Unbuffered: else the last line of a run that fails is not its last, and it seems silent.
    variables = os.environ | {"PYTHONUNBUFFERED": "1"} | environment
    return subprocess.Popen(
        words,
        cwd=REPOSITORY,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=subprocess.STDOUT,
        preexec_fn=None if LIBC is None else functools.partial(_die_with, scheduler, LIBC),
    )


def _die_with(scheduler: int, libc: ctypes.CDLL) -> None:
    """Runs in the child: let it die with its scheduler, so that no run is left behind (Linux)."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have been killed before this was set.
    if os.getppid() != scheduler:
        os._exit(1)


def _reason(code: int, console: Path, begin: int) -> str:
    """Why a call failed: the signal that ended it, or the last line that it printed."""
    if code < 0:
        return f"ended by signal {-code} ({signal.strsignal(-code)}); see {console}"
    with open(console, "rb") as file:
        file.seek(max(begin, console.stat().st_size - LAST_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else f"ended with exit code {code} and printed nothing"
