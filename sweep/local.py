"""Execute runs on this machine: a queue, and slots, each a GPU or a share of the cores."""

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from sweep.execution import Outcome, State, execute, failure
from sweep.runs import Run
from sweep.settings import Settings, console_of
from sweep.sharing import execute_together, next_job
from sweep.table import LiveTable

__all__ = ["Sweep", "slot_environments"]

BUSY_S = 1.0
WATCH_S = 10.0
REDRAW_S = 1.0  # of the table on a terminal


def slot_environments(gpus: str, per_gpu: int) -> list[dict[str, str]]:
    """Each slot's environment: one GPU, or a share of the cores unless OMP_NUM_THREADS is set."""
    names = [name for name in gpus.split(",") if name] or _all_gpus()
    if names:
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names for _ in range(per_gpu)]
    if "OMP_NUM_THREADS" in os.environ:
        return [{} for _ in range(per_gpu)]
    threads = max(1, _num_cores() // per_gpu)
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(per_gpu)]


def _all_gpus() -> list[str]:
    # The driver's list, since asking torch would take seconds and memory on every GPU.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def _num_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS and Windows have none
        return os.cpu_count() or 1


class Sweep:
    """A queue of runs, slots that work on it, and what became of each.

    A run that prints nothing for `stalled_minutes` is named in the status lines. Evaluations of
    one data set are done in one pass over its pictures if `shares`.
    """

    def __init__(
        self,
        runs: list[Run],
        settings: Settings,
        stalled_minutes: float = 30,
        shares: bool = False,
    ) -> None:
        self.runs, self.settings, self.shares = runs, settings, shares
        self.outcomes: dict[Run, Outcome] = {}
        self._waiting: list[Run] = list(runs)
        self._running: set[Run] = set()
        self._retry_at: dict[Run, float] = {}
        self._by_output = {run.output: run for run in runs}
        # One condition guards all of the above and wakes slots and reporter when it changes.
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._table: LiveTable | None = None
        self._started = time.monotonic()
        self._watch = ConsoleWatch(settings, 60 * stalled_minutes)
        self._silent: dict[Run, float] = {}

    def work(self, environments: list[dict[str, str]]) -> None:
        """Work until nothing is left, a thread per slot; show each run that ends.

        A terminal has a table with their accuracies, a pipe a line for each.
        """
        self._table = LiveTable(self.runs) if sys.stdout.isatty() else None
        threads = [
            threading.Thread(target=self._slot, args=(environment,), daemon=True)
            for environment in environments
        ]
        for thread in threads:
            thread.start()
        # Threads are asked, not the queue: should one break, the sweep still ends.
        while any(thread.is_alive() for thread in threads):
            self._show(self._next_lines())
        self._show(self._lines, is_last=True)

    def _show(self, lines: list[str], is_last: bool = False) -> None:
        if self._table is None:
            for line in lines:
                _say(line)
            return
        with self._changed:
            status, outcomes, running = self._status(), dict(self.outcomes), set(self._running)
        self._table.show(lines, status, outcomes, running, is_last)

    def _next_lines(self) -> list[str]:
        """What happened since the last call, after a while at most."""
        with self._changed:
            often = WATCH_S if self._table is None else REDRAW_S
            self._changed.wait_for(self._has_news, timeout=min(often, self._watch.limit_s / 2))
            running = set(self._running)
        silent = self._watch.silent_runs(running)  # not under the lock: a mount may hang
        with self._changed:
            lines, self._lines = self._lines, []
            has_new = not silent.keys() <= self._silent.keys()
            self._silent = silent
            # A table has the status anyway.
            return [*lines, self._status()] if has_new and self._table is None else lines

    def _has_news(self) -> bool:
        return bool(self._lines) or not (self._waiting or self._running)

    def _slot(self, environment: dict[str, str]) -> None:
        while job := self._take():
            try:
                outcomes = self._execute(job, environment)
            except BaseException as error:  # SystemExit too: it would end the thread, not the sweep
                outcomes = dict.fromkeys(job, failure(error))
            for run, outcome in outcomes.items():
                self._put_down(run, outcome)

    def _execute(self, job: list[Run], environment: dict[str, str]) -> dict[Run, Outcome]:
        trainings = {run: self._training_of(run) for run in job}
        if len(job) == 1:
            return {run: execute(run, self.settings, environment, trainings[run]) for run in job}
        return execute_together(job, self.settings, environment, trainings, self._announce)

    def _take(self) -> list[Run]:
        """The next runs that one slot does, as soon as there are some; empty: nothing is left."""
        with self._changed:
            while self._waiting or self._running:
                if job := self._next_job():
                    self._waiting = [run for run in self._waiting if run not in job]
                    self._running.update(job)
                    return job
                # Woken by whatever ends here; for what another sweep has, by the clock.
                self._changed.wait(self._next_retry_s())
        return []

    def _next_job(self) -> list[Run]:
        ready = [run for run in self._waiting if self._is_ready(run)]
        if not self.shares:
            return ready[:1]
        return next_job(ready, [run for run in self._waiting if not self._has_model(run)])

    def _announce(self, runs: Collection[Run]) -> None:
        with self._changed:
            names = "; ".join(run.name for run in runs)
            self._lines.append(f"{self._status()} in one pass over the pictures: {names}")
            self._changed.notify_all()

    def _put_down(self, run: Run, outcome: Outcome) -> None:
        with self._changed:
            self._running.remove(run)
            self._changed.notify_all()
            if outcome.state is State.BUSY:
                self._waiting.append(run)
                self._retry_at[run] = time.monotonic() + BUSY_S
                return
            self.outcomes[run] = outcome
            if self._table is None or outcome.state is not State.FINISHED:
                words = f"{outcome.state.value}: {run.name}{outcome.about}"
                self._lines.append(f"{self._status()} {words}")

    def _training_of(self, run: Run) -> Outcome | None:
        trained = self._by_output.get(run.model)
        return self.outcomes[trained] if trained else None

    def _is_ready(self, run: Run) -> bool:
        return self._has_model(run) and time.monotonic() >= self._retry_at.get(run, 0)

    def _has_model(self, run: Run) -> bool:
        """An evaluation waits for its training, if that is among the runs."""
        trained = self._by_output.get(run.model)
        return trained is None or trained in self.outcomes

    def _next_retry_s(self) -> float | None:
        times = [self._retry_at[run] for run in self._waiting if run in self._retry_at]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _status(self) -> str:
        counts = Counter(outcome.state for outcome in self.outcomes.values())
        left = len(self.runs) - len(self.outcomes)
        pace = (time.monotonic() - self._started) / max(1, len(self.outcomes))
        silent = [
            f"; silent for {seconds / 60:.0f} min: {run.name}"
            for run, seconds in self._silent.items()
            if run in self._running
        ]
        return (
            f"[{counts[State.FINISHED]} done, {len(self._running)} running, "
            f"{counts[State.FAILED] + counts[State.CONFLICT]} failed, {left} left, "
            f"{pace * left / 60:.0f} min to go{''.join(silent)}]"
        )


class ConsoleWatch:
    """Which running runs have not added to their console.txt for `limit_s` seconds."""

    def __init__(self, settings: Settings, limit_s: float) -> None:
        self.settings, self.limit_s = settings, limit_s
        self._seen: dict[Run, tuple[int, float]] = {}  # size of the console, and since when

    def silent_runs(self, running: set[Run]) -> dict[Run, float]:
        """The silent ones, with the seconds since they were first seen so."""
        now = time.monotonic()
        # Sizes, not times of files: the folder's clock may be another machine's.
        self._seen = {run: self._look(run, now) for run in running}
        silent = {run: now - since for run, (_, since) in self._seen.items()}
        return {run: seconds for run, seconds in silent.items() if seconds >= self.limit_s}

    def _look(self, run: Run, now: float) -> tuple[int, float]:
        try:
            size = console_of(run, self.settings).stat().st_size
        except OSError:
            size = 0
        last = self._seen.get(run, (-1, now))
        return last if last[0] == size else (size, now)


def _say(line: str) -> None:
    # A pipe that was closed, or a full disk below the log, is no reason to lose runs.
    with contextlib.suppress(OSError):
        print(line, flush=True)
