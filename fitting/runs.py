"""Runs the methods of a plan, one after the other, with a line of progress instead of their log."""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from dassl.errors import RequestError
from dassl.utils.logger import Logger
from fitting.plan import Plan, title

__all__ = ["Runner", "run_method"]

Runner = Callable[[list[str]], int]  # arguments of train.py -> its exit code
_EPOCH = re.compile(r"epoch \[(\d+)/(\d+)\].* eta (\S+)")


class Progress(io.TextIOBase):
    """Takes what a run prints, and shows where it is on a terminal; a file gets nothing."""

    def __init__(self, name: str, console: TextIO) -> None:
        self.name, self.console = name, console

    def write(self, text: str) -> int:
        """Take in a piece of the log."""
        if (found := _EPOCH.search(text)) and self.console.isatty():
            epoch, epochs, left = found.groups()
            self.console.write(f"\r{self.name}: epoch {epoch} of {epochs}, {left} left  ")
            self.console.flush()
        return len(text)

    def end(self) -> None:
        """Clear the line."""
        if self.console.isatty():
            self.console.write("\r\033[K")


def run_method(plan: Plan, method: str, run: Runner) -> None:
    """Train, test and validate a method; what is finished already is left as it is.

    Raises:
        RequestError: it failed; with its last error.
    """
    splits = ["test", "val"] if plan.pictures.count("val") else ["test"]
    for split in splits:
        with _quiet(title(method)) as errors:
            code = run(plan.words(method, split))
        if code:
            lines = [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]
            reason = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
            raise RequestError(f"{title(method)} failed: {reason}")


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[io.StringIO]:
    """Keep a run's output from the terminal; its log.txt has it all."""
    progress, errors = Progress(name, sys.stdout), io.StringIO()
    with contextlib.redirect_stdout(progress), contextlib.redirect_stderr(errors):
        try:
            yield errors
        finally:
            if isinstance(sys.stdout, Logger):
                sys.stdout.close()
            progress.end()
