"""Execute one run of a sweep: read its earlier outcome, or call train.py if it has none.

Whatever goes wrong here becomes that run's outcome, in one sentence: nothing is raised.
"""

import enum
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dassl.errors import RequestError
from interpreter import REPOSITORY
from run_files import RESULTS_FILE, RunResults
from sweep.claims import Claim, UnreadableClaim
from sweep.runs import Run
from sweep.settings import Inputs, Settings, command, console_of, folder_of, resolved_config

__all__ = [
    "Outcome",
    "State",
    "execute",
    "failure",
    "start",
    "stop_running",
    "stored_outcome",
    "survival_note",
    "wait_for",
]

WRONG_REQUEST = 2  # train.py's exit code for it
LAST_BYTES = 65_536  # of a console, to find its last line in
PR_SET_PDEATHSIG = 1


def _kernel_calls() -> Any:
    """The C library if it has Linux's `prctl`; None: a run cannot be told to die with its sweep."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "prctl") else None
    except (ImportError, OSError, TypeError):
        return None


# Loaded here, since a child between fork and exec must not wait for the loader's lock.
LIBC = _kernel_calls()
_running: set[subprocess.Popen] = set()  # calls of train.py, of all threads


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
    accuracy: float | None = None  # percent, of a finished run

    @property
    def about(self) -> str:
        """What a line says behind the run's name: the accuracy, or why it is not finished."""
        known = "" if self.accuracy is None else f": accuracy {self.accuracy:.2f}%"
        return f": {self.detail}" if self.detail else known

    @property
    def may_have_model(self) -> bool:
        """Whether its evaluation is worth trying: everything but the results may exist."""
        return self.state is State.FINISHED or self.exit_code == 0

    @property
    def is_worth_a_retry(self) -> bool:
        """Whether another call may end differently: a wrong request stays wrong."""
        return self.state is State.FAILED and self.exit_code not in (None, 0, WRONG_REQUEST)


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
    finished = Outcome(State.FINISHED, accuracy=results.accuracy)
    if not (results.identity or results.config):
        return finished
    from trainer.checkpoints.identity import Identity, first_difference, plain_settings

    inputs = settings.inputs.get(run.output, Inputs())
    wanted = Identity(
        run.trainer, plain_settings(resolved_config(run, settings)), **inputs._asdict()
    )
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
    return finished


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


def stop_running() -> None:
    """Kill the calls of train.py that are under way, before their scheduler ends."""
    for process in tuple(_running):
        process.kill()


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
            process = start(words, environment, file)
        except OSError as error:
            reason = error.strerror or error
            return Outcome(
                State.FAILED,
                f"cannot start {words[0]}: {reason}; set PYTHON to another interpreter",
            )
    try:
        code = wait_for(process, [claim], limit)
    except subprocess.TimeoutExpired:
        return Outcome(State.FAILED, f"stopped after {limit:g} minutes by --timeout", -9)
    if code:
        return Outcome(State.FAILED, _reason(code, console, begin), code)
    missing = Outcome(
        State.FAILED, f"ended with exit code 0, but left no results.json; see {console}"
    )
    return (stored_outcome(run, settings) or missing)._replace(exit_code=0)


def survival_note() -> str:
    """What a sweep cannot promise on this system; empty on Linux."""
    if LIBC is not None:
        return ""
    return (
        "Note: on this system a run goes on if its sweep is killed (kill -9, or a closed window); "
        "end its train.py before you start the sweep again. Ctrl-C ends both."
    )


def wait_for(process: subprocess.Popen, claims: Iterable[Claim], minutes: float | None) -> int:
    """The exit code of a process that does claimed runs.

    Raises:
        subprocess.TimeoutExpired: it took longer than `minutes`, and was killed.
    """
    try:
        _running.add(process)
        for claim in claims:
            claim.add_process(process)
        return process.wait(timeout=None if minutes is None else 60 * minutes)
    finally:
        process.kill()  # does nothing to one that has ended
        process.wait()
        _running.discard(process)


def start(words: list[str], environment: dict[str, str], console: Any) -> subprocess.Popen:
    """Start a program that prints to a file, and dies with this process (Linux)."""
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


def _die_with(scheduler: int, libc: Any) -> None:
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
