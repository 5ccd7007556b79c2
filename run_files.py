"""What a run leaves: results.json as a typed value.

The standard library alone: a sweep reads results with a Python that may have no PyTorch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dassl.errors import RequestError, parse_json, quote, read_text
from dassl.whole_files import write_text

__all__ = ["EVALUATED", "RESULTS_FILE", "RunResults"]

RESULTS_FILE = "results.json"
EVALUATED = "model_dir"  # the key that only evaluations of a checkpoint have
_TEXT, _COUNT, _FIGURE = (str,), (int,), (int, float)
_KINDS: dict[str, tuple[type, ...]] = {
    "trainer": _TEXT,
    "dataset": _TEXT,
    "dataset_label": _TEXT,
    "task": _TEXT,
    "subsample_classes": _TEXT,
    "num_shots": _COUNT,
    "seed": _COUNT,
    "split": _TEXT,
    "total": _COUNT,
    "correct": _COUNT,
    "accuracy": _FIGURE,
    "error_rate": _FIGURE,
    "macro_f1": _FIGURE,
    "read_out": _TEXT,
    "base_total": _COUNT,
    "new_total": _COUNT,
    "base_accuracy": _FIGURE,
    "new_accuracy": _FIGURE,
    "harmonic_mean": _FIGURE,
    "base_accuracy_among_base": _FIGURE,
    "new_accuracy_among_new": _FIGURE,
    "openworld_auc": _FIGURE,
    "auroc": _FIGURE,
    "draw_sha256": (str, type(None)),
    "classnames": (list,),
    "config": (dict,),
    "identity": (dict,),
}
_PERCENT = {key for key, kinds in _KINDS.items() if kinds is _FIGURE}
_LEAST = {"num_shots": -1, "seed": -1, "total": 0, "correct": 0, "base_total": 0, "new_total": 0}
# train.py always writes a config; other programs' results have a figure at least.
_TELLING = ("config", "accuracy", "correct")


@dataclass(frozen=True)
class RunResults:
    """results.json: the keys that some reader needs are fields, None where the file lacks them."""

    values: dict[str, Any]  # all of the file, in its order
    path: Path
    trainer: str | None = None
    dataset: str | None = None  # registered name
    dataset_label: str | None = None  # what people call an own data set
    task: str | None = None
    subsample_classes: str | None = None
    num_shots: int | None = None  # a class
    seed: int | None = None
    split: str | None = None  # that the figures are of
    total: int | None = None  # pictures
    correct: int | None = None  # pictures
    accuracy: float | None = None  # percent
    error_rate: float | None = None  # percent
    macro_f1: float | None = None  # percent
    # These are of trained and new classes in one list alone, see `trainer.evaluation.joint`.
    read_out: str | None = None  # the rule by which either kind is scored
    base_total: int | None = None  # pictures of classes that were trained
    new_total: int | None = None  # pictures of the others
    base_accuracy: float | None = None  # percent, of base pictures among all classes
    new_accuracy: float | None = None  # percent, of new pictures among all classes
    harmonic_mean: float | None = None  # percent, of these two
    base_accuracy_among_base: float | None = None  # percent, as the published protocol has it
    new_accuracy_among_new: float | None = None  # percent, the same
    openworld_auc: float | None = None  # percent of pairs (base picture, new picture)
    auroc: float | None = None  # percent, of the mass on base classes
    draw_sha256: str | None = None  # of the training pictures
    classnames: list[str] | None = None
    config: dict[str, Any] | None = None  # by full key
    identity: dict[str, Any] | None = None  # what `trainer.checkpoints.identity` compares

    @classmethod
    def of(cls, values: Any, path: Path) -> "RunResults":
        """The parsed content of `path`.

        Raises:
            RequestError: it is not what a run leaves, or a field has another type or range.
        """
        if not isinstance(values, dict) or not any(key in values for key in _TELLING):
            raise RequestError(f"{path} does not hold a run's results; remove it")
        fields = {key: values[key] for key in _KINDS if key in values}
        for key, value in fields.items():
            # To Python, True is a whole number.
            is_of_kind = isinstance(value, _KINDS[key]) and not isinstance(value, bool)
            if not is_of_kind or not _is_in_range(key, value):
                raise RequestError(
                    f"{path} does not hold a run's results: {key} is {quote(value)}; remove it"
                )
        results = cls(values, path, **fields)
        if results.total is not None and (results.correct or 0) > results.total:
            raise RequestError(
                f"{path} does not hold a run's results: {results.correct} of {results.total} are "
                "correct; remove it"
            )
        return results

    @classmethod
    def read(cls, folder: Path) -> "RunResults":
        """The results in a run's folder.

        Raises:
            FileNotFoundError: there are none: the run is not finished.
            RequestError: the file cannot be read, is torn, or does not hold a run's results.
        """
        path = folder / RESULTS_FILE
        try:
            values = parse_json(read_text(path))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is not there: the run is not finished") from error
        except (OSError, ValueError, RecursionError) as error:
            # Parsers break on deep nesting too; all of it is the same to a user.
            reason = f"{type(error).__name__}: {error}"
            raise RequestError(f"{path} cannot be read ({reason}); remove it") from error
        return cls.of(values, path)

    def need(self, key: str) -> Any:
        """The field of that name, for a reader that cannot do without.

        Raises:
            RequestError: the file does not have it.
        """
        value = getattr(self, key)
        if value is None:
            raise RequestError(
                f"{self.path} has no {key!r}; remove it, and the run can be done again"
            )
        return value

    def write(self) -> Path:
        """Write the file and return its path; a folder that has it is a finished run."""
        text = json.dumps(self.values, indent=2, ensure_ascii=False) + "\n"
        # Half of a character, as in file names that are not UTF-8, becomes an escape of JSON.
        write_text(self.path, text.encode("utf-8", "backslashreplace").decode())
        return self.path


def _is_in_range(key: str, value: Any) -> bool:
    if key in _PERCENT:
        return 0 <= value <= 100  # false for NaN
    if key in _LEAST:
        return _LEAST[key] <= value
    return key != "classnames" or all(isinstance(name, str) for name in value)
