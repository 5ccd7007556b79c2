"""Checks with their figures and bounds: one PASS or FAIL line each, on the screen and in a log."""

import time
from pathlib import Path

__all__ = ["Report"]


class Report:
    """Prints lines, keeps them in the file `path`, and counts what failed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "w", buffering=1)  # whole lines, should the machine stop
        self.start = time.perf_counter()
        self.passed = self.failed = 0

    @property
    def seconds(self) -> float:
        """Since the report was opened."""
        return time.perf_counter() - self.start

    def note(self, text: str) -> None:
        """A line that judges nothing."""
        print(text, flush=True)
        self.file.write(text + "\n")

    def check(self, name: str, passed: bool, figure: str, bound: str) -> None:
        """One judgement, with what was found and what was asked for."""
        self.passed, self.failed = self.passed + passed, self.failed + (not passed)
        self.note(f"{'PASS' if passed else 'FAIL'}  {name}: {figure} (bound: {bound})")

    def below(self, name: str, value: float, bound: float) -> None:
        """Judge that `value` is at most `bound`; what is not a number is not."""
        self.check(name, value <= bound, f"{value:.3g}", f"at most {bound:g}")

    def above(self, name: str, value: float, bound: float) -> None:
        """Judge that `value` is at least `bound`."""
        self.check(name, value >= bound, f"{value:.3g}", f"at least {bound:g}")

    def close(self) -> int:
        """Print the sum; the exit code, 1 if anything failed."""
        verdict = f"{self.passed} checks passed, {self.failed} failed"
        self.note(f"{verdict}, in {self.seconds / 60:.1f} minutes")
        self.file.close()
        return 1 if self.failed else 0
