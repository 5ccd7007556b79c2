"""Console output that is also kept in a file."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from dassl.errors import naming

__all__ = ["Logger", "log_only", "setup_logger"]


class Logger:
    """Writes to the present stdout and to a file, line by line.

    A killed process leaves all finished lines in the file. The console is never closed, and what
    it can do besides writing (`isatty`, `encoding`, `fileno`) it still can.
    """

    def __init__(self, fpath: str | None = None) -> None:
        self.console = sys.stdout
        self.file = None
        if fpath is not None:
            Path(fpath).parent.mkdir(parents=True, exist_ok=True)
            self.file = open(fpath, "w", buffering=1, encoding="utf-8")

    def write(self, msg: str) -> int:
        """Write `msg` to both; returns its length.

        Raises:
            OSError: the disk refuses; names the file, which is not written from here on.
        """
        self.keep(msg)
        return self.console.write(msg)

    def keep(self, msg: str) -> None:
        """Write `msg` to the file alone.

        Raises:
            OSError: as in `write`.
        """
        if self.file is not None and not self.file.closed:
            self._to_file(self.file, msg)

    def _to_file(self, file: TextIO, msg: str) -> None:
        try:
            with naming(file.name):
                file.write(msg)
        except OSError:
            # Else the rest that it keeps is tried again at the program's end, and fails again.
            with contextlib.suppress(OSError):
                file.close()
            raise

    def flush(self) -> None:
        """Flush both."""
        self.console.flush()
        if self.file is not None and not self.file.closed:
            self.file.flush()

    def close(self) -> None:
        """Close the file; the console stays open."""
        if self.file is not None:
            self.file.close()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name == "console":  # not yet set: the constructor failed early
            raise AttributeError(name)
        return getattr(self.console, name)


def setup_logger(output: str | None = None) -> None:
    """Send everything printed from here on to `<output>/log.txt` too; None: do nothing.

    `output` may also be the file itself (`.txt`, `.log`). A file that exists is left alone: the
    date and time are appended to the new one's name.
    """
    if output is None:
        return
    path = output if output.endswith((".txt", ".log")) else str(Path(output) / "log.txt")
    if Path(path).exists():
        path += time.strftime("-%Y-%m-%d-%H-%M-%S")
        print(f"A log exists already; this run is written to {path}")
    sys.stdout = Logger(path)


def log_only(text: str) -> None:
    """Add lines to the log, if there is one, that the console need not have."""
    if isinstance(sys.stdout, Logger):
        sys.stdout.keep(f"{text}\n")
