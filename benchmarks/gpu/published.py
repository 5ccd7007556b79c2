"""The published program's numbers on a device: the tests' own comparisons, told to use it."""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.gpu.report import Report

__all__ = ["check_published"]

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = ("tests/test_golden.py", "published_one")
SEEDED = ("tests/test_seeded_runs.py", "run_with_the_seed or amp_losses")


def check_published(report: Report, device: str, quick: bool) -> None:
    """Golden cases and, unless `quick`, whole seeded runs: a judgement per test."""
    for path, chosen in [GOLDEN] if quick else [GOLDEN, SEEDED]:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder, "result.xml")
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", path, "-k", chosen, "--device", device),
                    *(f"--junitxml={result}", "-p", "no:cacheprovider", "-W", "ignore"),
                ],
                cwd=REPOSITORY, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if not result.is_file():
                tail = " | ".join((done.stdout + done.stderr).splitlines()[-3:])
                report.check(path, False, f"pytest ended with {done.returncode}: {tail}", "it runs")
                continue
            judge(report, result)


def judge(report: Report, result: Path) -> None:
    """A judgement per test of pytest's XML file; the figure is its largest relative difference."""
    cases = list(ElementTree.parse(result).iter("testcase"))
    for case in cases:
        name = case.get("name", "").removeprefix("test_").replace("_", " ")
        problem = next(
            (x for x in (case.find("failure"), case.find("error")) if x is not None), None
        )
        if problem is not None:
            figure = (problem.get("message") or "no message").splitlines()[0][:150]
        else:
            gaps = [p.get("value") for p in case.iter("property") if p.get("name") == "gap"]
            figure = f"largest relative difference {float(gaps[0] or 0):.2g}" if gaps else "equal"
        report.check(name, problem is None, figure, "the test's")
    if not cases:
        report.check("published numbers", False, "no test was found", "at least one")
