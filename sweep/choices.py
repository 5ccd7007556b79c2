"""What --methods and --datasets name: words -> trainers, data sets, and the yaml files of both.

The published ones are found without PyTorch; other trainers are asked of their registry.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dassl.errors import RequestError
from interpreter import REPOSITORY, complaint

__all__ = [
    "METHODS",
    "DataSet",
    "config_file",
    "find_dataset",
    "find_method",
    "has_training",
    "load_own",
    "takes_new_classes",
]

CONFIGS = Path("configs/datasets")
METHODS = {"mmrlpp": "MMRLpp", "mmrl": "MMRL"}  # of the published sweeps


def load_own(trainer_modules: Sequence[str], dataset_modules: Sequence[str]) -> None:
    """Load the files of one's own, whose trainers and data sets may be named from then on.

    Raises:
        RequestError, FileNotFoundError: one of them is wrong, or this Python cannot execute it.
    """
    if not trainer_modules and not dataset_modules:
        return
    _need_torch()
    import datasets  # noqa: F401  registers the readers, whose names are taken
    from trainer.own_modules import load_modules

    load_modules(trainer_modules, dataset_modules)


class DataSet(NamedTuple):
    """A data set of a run."""

    stem: str  # what folders and status lines call it
    file: str  # its yaml, below the repository or absolute; empty: it has none
    name: str = ""  # registered; empty: the yaml says it


def find_method(word: str) -> str:
    """The trainer that a word of --methods names.

    Raises:
        RequestError: there is none; or this Python cannot ask.
    """
    if word in METHODS:
        return METHODS[word]
    _need_torch()
    from trainer.methods import find_trainer

    return find_trainer(word)


def has_training(trainer: str) -> bool:
    """Whether a trainer learns something before it is evaluated."""
    if trainer in METHODS.values():
        return True
    from trainer.methods import learns

    return learns(trainer)


def takes_new_classes(trainer: str) -> bool:
    """Whether a trainer can be evaluated on classes that it has not seen."""
    if trainer in METHODS.values():
        return True
    from trainer import methods

    return methods.takes_new_classes(trainer)


def config_file(trainer: str, stem: str) -> str:
    """The yaml file of a trainer, below the repository; a method of one's own has its parent's.

    Raises:
        RequestError: neither has one.
    """
    path = f"configs/trainers/{trainer}/{stem}.yaml"
    if (REPOSITORY / path).is_file():
        return path
    from trainer.methods import config_file_of

    return str(config_file_of(trainer, stem).relative_to(REPOSITORY))


def find_dataset(word: str) -> DataSet:
    """The data set that a word of --datasets names: a yaml file's stem, or a name of one's own.

    Raises:
        RequestError: there is none.
    """
    stems = {path.stem for path in (REPOSITORY / CONFIGS).glob("*.yaml")}
    if word in stems:
        return DataSet(word, str(CONFIGS / f"{word}.yaml"))
    own = _own_datasets()
    for name, module_file in own.items():
        if word.lower() == name.lower():
            beside = Path(module_file).with_suffix(".yaml")
            return DataSet(name.lower(), str(beside) if beside.is_file() else "", name)
    raise RequestError(
        f"Unknown data set {word!r}; choose from {', '.join(sorted({*stems, *own}))}, or give the "
        "file of your own as --dataset-module FILE.py"
    )


def _own_datasets() -> dict[str, str]:
    # Without `load_own` there are none, and PyTorch is not imported to find that out.
    own_modules = sys.modules.get("trainer.own_modules")
    return own_modules.own_datasets() if own_modules else {}


def _need_torch() -> None:
    if complaint():
        raise RequestError(f"Only what is published is known to this Python: {complaint()}")
