"""Read what a run recorded: a log, ours or Dassl's, or a run's folder -> losses, counts, settings.

Of a folder, all logs are read (a resumed run has one per start), and results.json.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dassl.errors import RequestError
from run_files import RESULTS_FILE, RunResults

__all__ = ["RunLog", "Step", "read_run"]

_PLACE = re.compile(r"epoch \[(\d+)/(\d+)\]\s*(?:batch )?\[(\d+)/(\d+)\]")
_LOSS = re.compile(r"\bloss\w* (\S+) \((\S+)\)")
_LR = re.compile(r"\blr (\S+)")
_SPLIT = re.compile(r"Evaluate on the \*(\w+)\* set")
_COUNT = re.compile(r"\* (total|correct): ([\d,]+)$")
_SETTING = re.compile(r"( *)([\w/]+):(?: (.*))?$")
_FRESH = "No checkpoint found, train from scratch"


class Step(NamedTuple):
    """One printed line; losses in nats, rounded to `unit`."""

    loss: float
    mean_loss: float  # over the epoch up to here
    lr: float
    unit: float  # of the last digit printed


@dataclass
class RunLog:
    """What is recorded of a run; fields without a record stay empty."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)  # by full key
    steps: dict[tuple[int, int], Step] = field(default_factory=dict)  # by epoch, batch, from 1
    num_epochs: int = 0
    num_batches: int = 0  # in an epoch
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)  # split -> correct, total
    draw: str = ""  # hash of the training pictures
    is_fresh: bool = False  # its training began at the first epoch

    @property
    def trainer(self) -> str:
        """Name of the method, empty if the config is not in the log."""
        return self.settings.get("TRAINER.NAME", "")

    @property
    def precision(self) -> str:
        """PREC of the method's own node, empty if it has none."""
        wanted = f"TRAINER.{self.trainer}.PREC".upper()
        return next((v for k, v in self.settings.items() if k.upper() == wanted), "")


def read_run(path: Path) -> RunLog:
    """The run of a log file, or of a folder.

    Raises:
        FileNotFoundError: nothing is there, or the folder has neither log nor results.
        RequestError: the file is not a log, or results.json cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"No log or run folder at {str(path)!r}")
    if path.is_file():
        run = _read_log(path)
        if not run.steps and not run.counts:
            raise RequestError(
                f"{str(path)!r} has no training step and no result: it is not the log of a run"
            )
        return run
    # The first log has no date in its name; the others sort by theirs.
    logs = [*path.glob("log.txt"), *sorted(path.glob("log.txt-*"))]
    has_results = (path / RESULTS_FILE).is_file()
    if not logs and not has_results:
        raise FileNotFoundError(f"{str(path)!r} holds neither log.txt nor results.json")
    run = RunLog(str(path))
    for log in logs:
        _go_on(run, _read_log(log))
    if has_results:
        _add_results(run, RunResults.read(path))
    return run


def _go_on(run: RunLog, later: RunLog) -> None:
    """Take in the log of the next start in the same folder; what it did anew replaces the old."""
    if later.is_fresh:
        run.steps, run.counts, run.settings = {}, {}, {}
    run.settings = run.settings or later.settings
    run.steps |= later.steps
    run.counts |= later.counts
    run.num_epochs = later.num_epochs or run.num_epochs
    run.num_batches = later.num_batches or run.num_batches


def _add_results(run: RunLog, results: RunResults) -> None:
    run.counts[results.need("split")] = results.need("correct"), results.need("total")
    run.draw = results.draw_sha256 or ""


def _read_log(path: Path) -> RunLog:
    run = RunLog(str(path))
    text = path.read_text(encoding="utf-8", errors="replace")
    # A run that was killed may have left half a line, whose last number is not to be trusted.
    lines = text[: text.rfind("\n") + 1].splitlines()
    run.settings = _settings(lines)
    split = "test"
    found: dict[str, int] = {}
    for line in lines:
        if line == _FRESH:  # a log may hold several runs, one behind the other: the last counts
            run.steps, run.counts, run.is_fresh = {}, {}, True
        elif place := _PLACE.search(line):
            _add_step(run, place, line)
        elif match := _SPLIT.search(line):
            split, found = match[1], {}
        elif match := _COUNT.match(line.strip()):
            found[match[1]] = int(match[2].replace(",", ""))
            if len(found) == 2:
                run.counts[split] = found["correct"], found["total"]
    return run


def _add_step(run: RunLog, place: re.Match[str], line: str) -> None:
    loss, lr = _LOSS.search(line), _LR.search(line)
    if loss is None or lr is None:
        return
    epoch, run.num_epochs, batch, run.num_batches = map(int, place.groups())
    try:
        value, mean, rate = float(loss[1]), float(loss[2]), float(lr[1])
    except ValueError:
        return
    unit = 10.0 ** -len(loss[1].partition(".")[2]) if math.isfinite(value) else 0.0
    run.steps[epoch, batch] = Step(value, mean, rate, unit)


def _settings(lines: list[str]) -> dict[str, str]:
    """The last block that starts with `** Config **`, by full key; yacs nests by two blanks."""
    starts = [number for number, line in enumerate(lines) if line == "** Config **"]
    if not starts:
        return {}
    settings: dict[str, str] = {}
    path: list[str] = []
    for line in lines[starts[-1] + 2 :]:
        match = _SETTING.match(line)
        if match is None or line.startswith("Collecting env info"):
            break
        path = [*path[: len(match[1]) // 2], match[2]]
        if match[3] is not None:
            settings[".".join(path)] = match[3]
    return settings
