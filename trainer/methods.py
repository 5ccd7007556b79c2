"""Registered trainers by name: what they derive from, their yaml files, what people call them."""

from pathlib import Path

from dassl.engine import TRAINER_REGISTRY
from dassl.errors import RequestError

__all__ = [
    "config_file_of",
    "find_trainer",
    "has_trainer",
    "learns",
    "parents_of",
    "takes_new_classes",
]

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "trainers"
_PLAIN = "vit_b16"  # the yaml file of a trainer that has one for all protocols
_LAST = "MMRL"  # whose yaml files serve every trainer without a registered parent


def has_trainer(name: str) -> bool:
    """Whether a trainer is registered under `name`."""
    return name in TRAINER_REGISTRY.registered_names()


def parents_of(name: str) -> list[str]:
    """The registered trainers that the trainer `name` derives from, nearest first."""
    if not has_trainer(name):
        return []
    bases = TRAINER_REGISTRY.get(name).__mro__[1:]
    return [
        base.__name__
        for base in bases
        if has_trainer(base.__name__) and TRAINER_REGISTRY.get(base.__name__) is base
    ]


def learns(name: str) -> bool:
    """Whether the registered trainer `name` has a training before its evaluations."""
    return getattr(TRAINER_REGISTRY.get(name), "learns", True)


def takes_new_classes(name: str) -> bool:
    """Whether a trainer can be evaluated on classes it has not seen; an unknown one can."""
    return not has_trainer(name) or getattr(TRAINER_REGISTRY.get(name), "takes_new_classes", True)


def config_file_of(trainer: str, stem: str) -> Path:
    """The trainer's yaml file `stem`, or its parent's; a trainer's only one serves all protocols.

    Raises:
        RequestError: none of them has such a file.
    """
    line = [trainer, *parents_of(trainer)]
    candidates = [(name, found) for name in line for found in (stem, _PLAIN)]
    for name, found in [*candidates, (_LAST, stem)]:
        if (path := CONFIGS / name / f"{found}.yaml").is_file():
            return path
    raise RequestError(f"There is no {stem}.yaml in {CONFIGS / _LAST}, nor in {CONFIGS / trainer}")


def find_trainer(word: str) -> str:
    """The registered name that `word` spells, whatever its case and underscores.

    Raises:
        RequestError: there is none; the known ones are listed.
    """
    known = TRAINER_REGISTRY.registered_names()
    if word in known:
        return word
    found = [name for name in known if _spelling(name) == _spelling(word)]
    if len(found) == 1:
        return found[0]
    raise RequestError(
        f"Unknown method {word!r}; choose from {', '.join(sorted(known))}, or give the file of "
        "your own as --trainer-module FILE.py"
    )


def _spelling(name: str) -> str:
    return name.replace("_", "").lower()
