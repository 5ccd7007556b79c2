"""A sweep on a terminal: a table of accuracies, drawn anew in its place as runs start and end."""

import contextlib
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence

from sweep.execution import Outcome, State
from sweep.runs import Run

__all__ = ["LiveTable", "table_of"]

_WAITING, _RUNNING, _FINISHED = "-", "...", "done"  # the last: its results have no accuracy
_WIDTH = 9
_REDRAW = "\x1b[{}F\x1b[J"  # to the first line of what was drawn, and clear from there


def table_of(
    runs: Sequence[Run], outcomes: Mapping[Run, Outcome], running: Collection[Run]
) -> list[str]:
    """The heading, then a row for each kind of run; a column for each seed, in percent."""
    rows: dict[str, dict[int, str]] = {}
    for run in runs:
        rows.setdefault(_kind(run), {})[run.seed] = _cell(run, outcomes.get(run), running)
    seeds = sorted({run.seed for run in runs})
    width = max(map(len, rows), default=0)
    heading = " " * width + "".join(f"{f'seed {seed}':>{_WIDTH}}" for seed in seeds)
    return [heading] + [
        f"{kind:{width}}" + "".join(f"{cells.get(seed, ''):>{_WIDTH}}" for seed in seeds)
        for kind, cells in rows.items()
    ]


def _kind(run: Run) -> str:
    return f"{run.trainer} {run.dataset} {run.subsample} {run.shots}-shot"


def _cell(run: Run, outcome: Outcome | None, running: Collection[Run]) -> str:
    if outcome is None:
        return _RUNNING if run in running else _WAITING
    if outcome.state is not State.FINISHED:
        return outcome.state.value
    return _FINISHED if outcome.accuracy is None else f"{outcome.accuracy:.2f}"


def _cropped(rows: list[str], height: int) -> list[str]:
    """At most `height` rows: those without news are left out, from the top and then the bottom."""
    if len(rows) <= height:
        return rows
    active = [number for number, row in enumerate(rows) if _RUNNING in row]
    first = min(active[0] if active else len(rows), len(rows) - height)
    return rows[first : first + height]


class LiveTable:
    """The table on stdout, below whatever else was said."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self._height = 0  # lines that the next drawing replaces

    def show(
        self,
        said: Sequence[str],
        status: str,
        outcomes: Mapping[Run, Outcome],
        running: Collection[Run],
        is_last: bool = False,
    ) -> None:
        """Say lines that stay, and draw the table below them: whole at last, else what fits."""
        screen = shutil.get_terminal_size()
        heading, *rows = table_of(self.runs, outcomes, running)
        if not is_last:
            rows = _cropped(rows, max(1, screen.lines - 4))
        # A line that wraps would be two, and the next drawing would leave half of it.
        drawn = [line[: screen.columns - 1] for line in (heading, *rows, status)]
        erase = _REDRAW.format(self._height) if self._height else ""
        # A terminal that was closed is no reason to lose runs.
        with contextlib.suppress(OSError):
            sys.stdout.write(erase + "".join(f"{line}\n" for line in (*said, *drawn)))
            sys.stdout.flush()
        self._height = len(drawn)
