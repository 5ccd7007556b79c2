"""Folders of finished runs -> their results, as far as tables need them, and what is not one."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dassl.errors import RequestError
from datasets.catalog import CATALOG
from report.text import plain
from run_files import RESULTS_FILE, RunResults
from trainer.checkpoints.identity import Identity, plain_settings

__all__ = ["Found", "Result", "read_results"]

# By both names, since programs of other people write the one or the other.
_STEMS = {name.lower(): entry.config for entry in CATALOG for name in (entry.name, entry.config)}
_MOST_SHOTS = 10**9
_OWN_PICTURES = "Folder"  # the reader of every own set, whose name therefore says nothing


class Result(NamedTuple):
    """One evaluated run."""

    trainer: str
    dataset: str  # stem of the config; of others the label, or the root folder's name
    is_published: bool  # the data set is one of the papers'
    task: str
    subsample: str
    shots: int
    seed: int
    accuracy: float  # percent
    folder: Path
    split: str | None = None  # that was evaluated
    total: int | None = None  # pictures that were evaluated
    classnames: Sequence[str] | None = None  # that were told apart
    settings: Mapping[str, Any] = {}  # that change numbers, by full key; empty if not recorded
    backbone_sha256: str = ""  # of the frozen CLIP; empty if not recorded


class Found(NamedTuple):
    """What is below a folder."""

    results: list[Result]  # by path
    damaged: list[str]  # a sentence for each file
    untested: list[Path]  # folders of runs without an accuracy


def read_results(folder: Path) -> Found:
    """Every evaluated run below `folder`."""
    found = Found([], [], [])
    # A link and what it points to are one run.
    for path in {path.resolve(): path for path in sorted(folder.rglob(RESULTS_FILE))}.values():
        try:
            results = RunResults.read(path.parent)
            if results.accuracy is None:
                found.untested.append(path.parent)
            else:
                found.results.append(_result_of(results))
        except FileNotFoundError:
            continue  # removed since it was listed
        except (RequestError, RecursionError) as error:
            deep = f"{path} does not hold a run's results: it is nested too deep; remove it"
            found.damaged.append(plain(str(error) if isinstance(error, RequestError) else deep))
    return found


def _result_of(results: RunResults) -> Result:
    """The result of a run's file.

    Raises:
        RequestError: the file lacks what a table needs, or is not what was written.
    """
    identity = Identity.read(results.values, str(results.path))
    config = results.config or {}
    dataset, is_published = _name_of(results, config)
    shots = results.need("num_shots")
    if shots == 0 or not -1 <= shots < _MOST_SHOTS:
        raise RequestError(
            f"{results.path} does not hold a run's results: num_shots is {shots}; remove it"
        )
    return Result(
        trainer=plain(results.need("trainer")),
        dataset=dataset,
        is_published=is_published,
        task=results.need("task"),
        subsample=results.need("subsample_classes"),
        shots=shots,
        seed=results.need("seed"),
        accuracy=results.need("accuracy"),
        folder=results.path.parent,
        split=results.split,
        total=results.total,
        classnames=results.classnames,
        settings=identity.settings if identity else plain_settings(config),
        backbone_sha256=identity.backbone_sha256 if identity else "",
    )


def _name_of(results: RunResults, config: Mapping[str, Any]) -> tuple[str, bool]:
    """What people call the data set, and whether it is one of the papers'."""
    name = results.need("dataset")
    label = results.dataset_label or str(config.get("DATASET.LABEL", ""))
    if not label and name.lower() in _STEMS:
        return _STEMS[name.lower()], True
    if not label and name == _OWN_PICTURES:  # of a version that recorded the root alone
        label = re.split(r"[/\\]", str(config.get("DATASET.ROOT", "")).rstrip("/\\"))[-1]
    return plain(label or name.lower()), False
