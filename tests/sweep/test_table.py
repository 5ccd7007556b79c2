"""What a sweep shows as runs end: a table on a terminal, lines in a pipe."""

import re
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from recording import SMALL, WATCHDOG_S, clean_environment, sweep
from sweep import table
from sweep.execution import Outcome, State
from sweep.runs import list_runs
from sweep.table import LiveTable, table_of
from terminal import terminal

RUNS = list_runs("base_to_novel", ["mmrl"], ["eurosat"], [1, 2, 3])
ACCURACY = '{"accuracy": 87.5}'
BASE, NEW = RUNS[::2], RUNS[1::2]
OUTCOMES = {
    BASE[0]: Outcome(State.FINISHED, accuracy=91.256),
    BASE[1]: Outcome(State.FAILED, "the reason"),
    NEW[0]: Outcome(State.FINISHED),
}


def test_a_cell_says_accuracy_or_what_became_of_the_run():
    heading, base, new = table_of(RUNS, OUTCOMES, {BASE[2]})
    assert heading.split() == ["seed", "1", "seed", "2", "seed", "3"]
    assert base.split() == ["MMRL", "eurosat", "base", "16-shot", "91.26", "failed", "..."]
    assert new.split() == ["MMRL", "eurosat", "new", "16-shot", "done", "-", "-"]
    assert len({len(line) for line in (heading, base, new)}) == 1


@pytest.mark.parametrize(("active", "first"), [(0, 0), (20, 20), (43, 34), (None, 34)])
def test_what_fits_begins_at_the_first_run_that_goes_on(active, first):
    rows = [f"row {number} {'...' if number == active else '-'}" for number in range(44)]
    assert table._cropped(rows, 10) == rows[first : first + 10]
    assert table._cropped(rows[:10], 10) == rows[:10]


def test_the_next_drawing_replaces_the_last_and_what_was_said_stays(capsys):
    live = LiveTable(RUNS)
    live.show([], "[0 done]", {}, {BASE[0]})
    live.show(["failed: why"], "[1 done]", OUTCOMES, set(), is_last=True)
    first, second = capsys.readouterr().out.split("\x1b[4F\x1b[J")
    assert first.count("\n") == 4
    assert second.startswith("failed: why\n  ") and second.endswith("\n[1 done]\n")


def test_a_terminal_has_the_table_and_reasons_and_no_line_per_run(recorder, tmp_path):
    words = [*SMALL, "--seeds", "1", "--output", str(tmp_path), "--retries", "0"]
    with terminal(columns=120) as (screen, drawn):
        done = subprocess.run(
            [sys.executable, "scripts/sweep.py", *words], cwd=REPOSITORY, stdout=screen,
            stderr=screen, timeout=WATCHDOG_S, check=False,
            env=clean_environment(**recorder | {"RESULTS": ACCURACY, "FAIL": " new "}),
        )  # fmt: skip
        text = drawn()
    assert done.returncode == 1
    assert "1 failed, 0 left, 0 min to go] failed: MMRL eurosat new 16-shot seed 1: the" in text
    last = re.sub(r"\s+", " ", text.rpartition("\x1b[J")[2])
    assert " seed 1 MMRL eurosat base 16-shot 87.50 MMRL eurosat new 16-shot failed [1 done" in last
    assert "] finished: " not in text


def test_a_pipe_has_a_line_per_run_with_its_accuracy(recorder, tmp_path):
    done = sweep(*SMALL, "--output", str(tmp_path), env=recorder | {"RESULTS": ACCURACY})
    lines = done.stdout.splitlines()
    ends = [line.partition("] finished: ")[2] for line in lines]
    assert sum(end.endswith(" 16-shot seed 1: accuracy 87.50%") for end in ends) == 2
    assert "\x1b" not in done.stdout
