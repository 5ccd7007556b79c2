"""Made-up trees of finished runs for the report, and what its CSV says of them."""

import csv
import io

from datasets.catalog import CATALOG
from run_files import RESULTS_FILE, RunResults
from scripts import report

# Names of users' own choice.
NASTY = [
    "a|b", "50%_off & more", "#1 {x}", "C:\\pics\\new", "<script>alert('1')</script>",
    "two\nlines", "Vögel 鳥", "\x1b[31mred\x1b[0m", "=1+2", "+1", "-1", "@SUM(A1)", "$\\no{$",
    "a$b", "_x_", "[b] *", "\ud800", "\u202eright to left", "~", '" onmouseover="x', "`ls`", "-->",
]  # fmt: skip
NAMES = {entry.config: entry.name for entry in CATALOG}


def write(root, trainer, dataset, task, subsample, shots, seed, accuracy, place="", **fields):
    """One run's folder below root/place, whose results.json has these `fields` too."""
    folder = root / place / f"{task}-{subsample}-{shots}" / dataset / trainer / f"seed{seed}"
    results = {
        "trainer": trainer, "dataset": NAMES.get(dataset, dataset), "task": task, "seed": seed,
        "subsample_classes": subsample, "num_shots": shots, "accuracy": accuracy,
        "error_rate": 100 - accuracy, "macro_f1": accuracy,
    }  # fmt: skip
    RunResults.of(results | fields, folder / RESULTS_FILE).write()
    return folder


def write_pairs(root, dataset, seeds=(1, 2, 3), trainer="MMRL", shots=16, **fields):
    """Base and new of every seed; the folder of the last."""
    for seed in seeds:
        write(root, trainer, dataset, "B2N", "base", shots, seed, 90.0 + seed, **fields)
        folder = write(root, trainer, dataset, "B2N", "new", shots, seed, 70.0 - seed, **fields)
    return folder


def cells(root, *args):
    """The exit code, and the rows of report.csv by table, row and column."""
    code = report.main([str(root), *args])
    text = (root / "report" / "report.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(io.StringIO(text))
    return code, {(r["table"], r["row"], r["column"]): r for r in rows}
