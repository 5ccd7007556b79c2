"""Folders of finished runs -> their results, as far as tables need them."""

from pathlib import Path
from typing import NamedTuple

from datasets.catalog import CATALOG
from run_files import RESULTS_FILE, RunResults

__all__ = ["Result", "read_results"]


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


def read_results(folder: Path) -> list[Result]:
    """Every evaluated run below `folder`, by path.

    Raises:
        RequestError: a results.json is damaged, or lacks what train.py writes.
    """
    found = (RunResults.read(path.parent) for path in sorted(folder.rglob(RESULTS_FILE)))
    return [_result_of(results) for results in found if results.accuracy is not None]


def _result_of(results: RunResults) -> Result:
    stems = {entry.name: entry.config for entry in CATALOG}
    name = results.need("dataset")
    return Result(
        trainer=results.need("trainer"),
        dataset=stems.get(name, name.lower()),
        task=results.need("task"),
        subsample=results.need("subsample_classes"),
        shots=results.need("num_shots"),
        seed=results.need("seed"),
        accuracy=results.need("accuracy"),
        folder=results.path.parent,
    )
