"""Evaluations of one data set together: which runs, and one process that decodes pictures once.

Whatever such a process leaves undone is executed run by run, so nothing depends on it.
"""

import contextlib
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence

from dassl.errors import RequestError
from interpreter import python_for_runs
from sweep.claims import Claim
from sweep.execution import Outcome, execute, start, stored_outcome, wait_for
from sweep.runs import Run
from sweep.settings import Settings, command, console_of, folder_of

__all__ = ["AND", "execute_together", "next_job"]

AND = "--and"  # between the arguments of runs that are evaluated together


def next_job(ready: Sequence[Run], untrained: Collection[Run]) -> list[Run]:
    """What a slot does next: a training, or the ready evaluations of one data set; empty: nothing.

    Evaluations wait for the `untrained` ones of their data set while there is something else to do.
    A slot that had to idle takes those that are ready: the others may wait for another machine.
    """
    awaited = {_pictures(run) for run in untrained}
    free = [run for run in ready if not run.model or _pictures(run) not in awaited]
    first = next(iter(free or ready), None)
    if first is None or not first.model:
        return [first] if first else []
    return [run for run in ready if run.model and _pictures(run) == _pictures(first)]


def _pictures(run: Run) -> tuple[str, str]:
    """What the test pictures depend on; whether all else agrees, the process sees for itself."""
    return run.dataset, run.subsample


def execute_together(
    runs: Sequence[Run],
    settings: Settings,
    environment: dict[str, str],
    trainings: Mapping[Run, Outcome | None],
    announce: Callable[[Collection[Run]], None],
) -> dict[Run, Outcome]:
    """As `execute` for several evaluations, in one pass over the pictures where there are two.

    Each run is then executed by itself: a finished one is only read, and one that failed says why.
    `announce` is told of the runs that share the pass.
    """
    with contextlib.ExitStack() as stack:
        claims = {}
        for run in runs:
            if claim := _claim_undone(run, settings, trainings.get(run), stack):
                claims[run] = claim
        if len(claims) > 1:
            announce(claims)
            _call(claims, settings, environment)
    return {run: execute(run, settings, environment, trainings.get(run)) for run in runs}


def _claim_undone(
    run: Run, settings: Settings, training: Outcome | None, stack: contextlib.ExitStack
) -> Claim | None:
    """A claim on a run that can be evaluated, held until the stack ends; None: it is not for us."""
    if training is not None and not training.may_have_model:
        return None
    try:
        if stored_outcome(run, settings):
            return None
        claim = stack.enter_context(Claim(folder_of(run, settings)))
        # Another sweep may have finished it between the look and the claim.
        return claim if claim.is_mine and not stored_outcome(run, settings) else None
    except (OSError, RequestError):
        return None  # `execute` meets it again, and makes it the run's outcome


def _call(claims: Mapping[Run, Claim], settings: Settings, environment: dict[str, str]) -> None:
    """Call scripts/evaluate_together.py once, and wait until it ends in whatever way."""
    words = [python_for_runs(), "-m", "scripts.evaluate_together"]
    for number, run in enumerate(claims):
        words += [*([AND] if number else []), *command(run, settings)[2:]]
    minutes = settings.timeout_minutes
    limit = None if minutes is None else minutes * len(claims)
    # A pass that cannot start, or takes too long, has merely left its runs undone.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        # Each run prints to its own console; what ends them all is said in the first one's.
        with open(console_of(next(iter(claims)), settings), "ab") as file:
            process = start(words, environment, file)
        wait_for(process, claims.values(), limit)
