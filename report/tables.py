"""results.json files -> tables: mean and spread over seeds, beside the papers' numbers."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, pstdev
from typing import NamedTuple

from datasets.catalog import CATALOG

__all__ = ["Cell", "Result", "Table", "build_tables", "read_results"]

NUMBERS = Path(__file__).with_name("paper_numbers.csv")
VARIANTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
ELEVEN = {entry.config for entry in CATALOG} - set(VARIANTS)
AVERAGED = {
    "base_to_novel": ELEVEN,
    "cross_datasets": ELEVEN - {"imagenet"},
    "domain_generalization": set(VARIANTS),
    "few_shot": ELEVEN,
}
NEAR_POINTS = 2.0
AVERAGE = "average"


class Result(NamedTuple):
    """One evaluated run."""

    trainer: str
    dataset: str  # stem of the config
    task: str
    subsample: str
    shots: int
    seed: int
    accuracy: float  # percent
    folder: Path


class Cell(NamedTuple):
    """One figure over seeds, in percent, beside what was published."""

    values: tuple[float, ...]
    missing: tuple[int, ...] = ()  # seeds
    published: float | None = None
    rerun: float | None = None  # by third parties
    computed: float | None = None  # instead of the mean of the values

    @property
    def mean(self) -> float | None:
        """None where nothing was run."""
        if self.computed is not None:
            return self.computed
        return mean(self.values) if self.values else None

    @property
    def spread(self) -> float:
        """Population standard deviation over seeds."""
        return pstdev(self.values) if self.values else 0.0

    @property
    def difference(self) -> float | None:
        """Mean less published."""
        if self.mean is None or self.published is None:
            return None
        return self.mean - self.published

    @property
    def verdict(self) -> str:
        """Whether the published number lies within the seeds' own range, near, or outside."""
        if self.difference is None or self.published is None or not self.values:
            return ""
        if min(self.values) <= self.published <= max(self.values):
            return "inside"
        near = abs(self.difference) <= NEAR_POINTS
        return f"inside {NEAR_POINTS:.0f} points" if near else "outside"


class Table(NamedTuple):
    """Cells by row and column."""

    title: str
    trainer: str
    columns: tuple[str, ...]
    rows: dict[str, dict[str, Cell]]

    @property
    def missing(self) -> list[str]:
        """A sentence for every cell that lacks seeds."""
        return [
            f"{self.title}, {row}, {column}: seeds {', '.join(map(str, cell.missing))} missing"
            for row, cells in self.rows.items()
            for column, cell in cells.items()
            if cell.missing
        ]


def read_results(folder: Path) -> list[Result]:
    """Every finished run below `folder`."""
    stems = {entry.name: entry.config for entry in CATALOG}
    found = []
    for path in sorted(folder.rglob("results.json")):
        r = json.loads(path.read_text())
        if "accuracy" not in r:
            continue
        dataset = stems.get(r["dataset"], r["dataset"].lower())
        found.append(
            Result(
                r["trainer"],
                dataset,
                r["task"],
                r["subsample_classes"],
                r["num_shots"],
                r["seed"],
                r["accuracy"],
                path.parent,
            )
        )
    return found


class Paper:
    """The published numbers, by method, protocol, data set and metric."""

    def __init__(self) -> None:
        with open(NUMBERS, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.values = {
            (r["method"], r["protocol"], r["dataset"], r["metric"]): float(r["value"]) for r in rows
        }

    def of_average(self, trainer: str, protocol: str, datasets: Iterable[str], metric: str) -> dict:
        """The same for an average, if it is over the data sets that the papers average over."""
        if set(datasets) != AVERAGED[protocol]:
            return {}
        return self.look_up(trainer, protocol, AVERAGE, metric)

    def look_up(self, trainer: str, protocol: str, dataset: str, metric: str) -> dict:
        """`published` and `rerun` of a cell; None where there is no number."""
        name = {"ZeroshotCLIP": "CLIP", "MMRLpp": "MMRL++"}.get(trainer, trainer)
        key = (protocol, dataset, metric)
        own = self.values.get((name, *key), self.values.get((trainer, *key)))
        return {"published": own, "rerun": self.values.get((f"{trainer}_rerun", *key))}


def build_tables(results: Iterable[Result], seeds: Sequence[int], partial: bool) -> list[Table]:
    """All tables that the results allow, a method each; averages only of complete rows."""
    results, paper = list(results), Paper()
    tables = []
    for trainer in dict.fromkeys(r.trainer for r in results):
        own = [r for r in results if r.trainer == trainer]
        for build in (_base_to_novel, _cross_datasets, _domains, _few_shot):
            table = build(trainer, own, paper, seeds, partial)
            if table is not None:
                tables.append(table)
    return tables


def _by_seed(results: Iterable[Result], **wanted: object) -> dict[int, float]:
    chosen = [r for r in results if all(getattr(r, k) == v for k, v in wanted.items())]
    return {r.seed: r.accuracy for r in sorted(chosen, key=lambda r: r.seed)}


def _cell(by_seed: dict[int, float], seeds: Sequence[int], numbers: dict) -> Cell:
    missing = tuple(seed for seed in seeds if seed not in by_seed)
    return Cell(tuple(by_seed.values()), missing, **numbers)


def harmonic_mean(base: float, novel: float) -> float:
    """2 / (1/base + 1/novel)."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def _base_to_novel(
    trainer: str, results: list[Result], paper: Paper, seeds: Sequence[int], partial: bool
) -> Table | None:
    own = [r for r in results if r.task == "B2N" and r.subsample in ("base", "new")]
    rows: dict[str, dict[str, Cell]] = {}
    for dataset in dict.fromkeys(r.dataset for r in own):
        base = _by_seed(own, dataset=dataset, subsample="base")
        novel = _by_seed(own, dataset=dataset, subsample="new")
        both = {seed: harmonic_mean(base[seed], novel[seed]) for seed in base if seed in novel}
        rows[dataset] = {
            column: _cell(by_seed, seeds, paper.look_up(trainer, "base_to_novel", dataset, metric))
            for column, metric, by_seed in (
                ("base", "base", base),
                ("novel", "novel", novel),
                ("H", "hm", both),
            )
        }
        rows[dataset]["H"] = _h_of_means(rows[dataset])
    if not rows:
        return None
    if partial or not any(cell.missing for row in rows.values() for cell in row.values()):
        base_mean, novel_mean = (_mean_of(rows, column) for column in ("base", "novel"))
        numbers = {
            column: paper.of_average(trainer, "base_to_novel", rows, metric)
            for column, metric in (("base", "base"), ("novel", "novel"), ("H", "hm"))
        }
        rows["average (H of the averages)"] = {
            "base": Cell((base_mean,), (), **numbers["base"]),
            "novel": Cell((novel_mean,), (), **numbers["novel"]),
            "H": Cell((harmonic_mean(base_mean, novel_mean),), (), **numbers["H"]),
        }
        rows["mean of H"] = {"H": Cell((_mean_of(rows, "H", len(rows) - 1),))}
    return Table("Base to novel", trainer, ("base", "novel", "H"), rows)


def _h_of_means(row: dict[str, Cell]) -> Cell:
    """H as the papers give it: of the mean base and the mean novel accuracy."""
    base, novel = row["base"].mean, row["novel"].mean
    if base is None or novel is None:
        return row["H"]
    return row["H"]._replace(computed=harmonic_mean(base, novel))


def _mean_of(rows: dict[str, dict[str, Cell]], column: str, count: int | None = None) -> float:
    cells = [row[column] for row in list(rows.values())[:count] if column in row]
    return mean(cell.mean for cell in cells if cell.mean is not None)


def _one_column(
    title: str,
    protocol: str,
    trainer: str,
    results: list[Result],
    paper: Paper,
    seeds: Sequence[int],
    partial: bool,
) -> Table | None:
    rows = {
        dataset: {
            "accuracy": _cell(
                _by_seed(results, dataset=dataset),
                seeds,
                paper.look_up(trainer, protocol, dataset, "accuracy"),
            )
        }
        for dataset in dict.fromkeys(r.dataset for r in results)
    }
    if not rows:
        return None
    targets = {name: row for name, row in rows.items() if name != "imagenet"}
    if targets and (partial or not any(row["accuracy"].missing for row in targets.values())):
        numbers = paper.of_average(trainer, protocol, targets, "accuracy")
        average = Cell((_mean_of(targets, "accuracy"),), (), **numbers)
        rows["average without imagenet"] = {"accuracy": average}
    return Table(title, trainer, ("accuracy",), rows)


def _cross_datasets(
    trainer: str, results: list[Result], paper: Paper, seeds: Sequence[int], partial: bool
) -> Table | None:
    own = [r for r in results if r.task == "CD" and r.dataset not in VARIANTS]
    common = (trainer, own, paper, seeds, partial)
    return _one_column("Across data sets", "cross_datasets", *common)


def _domains(
    trainer: str, results: list[Result], paper: Paper, seeds: Sequence[int], partial: bool
) -> Table | None:
    own = [r for r in results if r.task == "CD" and r.dataset in (*VARIANTS, "imagenet")]
    if not any(r.dataset in VARIANTS for r in own):
        return None
    common = (trainer, own, paper, seeds, partial)
    return _one_column("Domain generalisation", "domain_generalization", *common)


def _few_shot(
    trainer: str, results: list[Result], paper: Paper, seeds: Sequence[int], partial: bool
) -> Table | None:
    own = [r for r in results if r.task == "FS"]
    shots = sorted({r.shots for r in own})
    rows = {}
    for dataset in dict.fromkeys(r.dataset for r in own):
        rows[dataset] = {
            f"{count} shots": _cell(
                _by_seed(own, dataset=dataset, shots=count),
                seeds,
                paper.look_up(trainer, "few_shot", dataset, f"accuracy_{count}shot"),
            )
            for count in shots
        }
    if not rows:
        return None
    if partial or not any(cell.missing for row in rows.values() for cell in row.values()):
        datasets = tuple(rows)
        rows[AVERAGE] = {
            column: Cell(
                (_mean_of(rows, column),),
                (),
                **paper.of_average(
                    trainer, "few_shot", datasets, f"accuracy_{column.split()[0]}shot"
                ),
            )
            for column in (f"{count} shots" for count in shots)
        }
    return Table("Few shots", trainer, tuple(f"{count} shots" for count in shots), rows)
