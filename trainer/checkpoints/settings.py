"""Which config keys change a run's numbers: flat config -> the settings that runs are compared by.

Every key of the defaults stands in one of the two classes below; a key that other programs have
added counts as one that changes numbers.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from clip import is_name

__all__ = [
    "ACTIVATION",
    "BACKBONE",
    "OF_TRAINING",
    "changes_numbers",
    "is_circumstance",
    "plain_settings",
    "recorded",
    "unread_nodes",
]

BACKBONE = "MODEL.BACKBONE.NAME"
ACTIVATION = "MODEL.BACKBONE.ACTIVATION"
# They say which training a model came from; an evaluation takes them from its file.
OF_TRAINING = ("SEED", "DATASET.NUM_SHOTS")
# Where, how fast and how visibly a run is done.
_CIRCUMSTANCES = {
    *("DATASET.ROOT", "OUTPUT_DIR", "RESUME"),
    # hashes of pictures, labels and class names stand for the files that list them
    *("DATASET.CSV", "DATASET.CLASSNAMES"),
    *("DATASET.LABEL", "USE_CUDA", "VERBOSE", "DATALOADER.CACHE_MB"),
    *("TRAIN.PRINT_FREQ", "TRAIN.CHECKPOINT_FREQ", "TRAIN.COMPILE", "TRAIN.GRAPH"),
    "TRAINER.CLASS_CHUNK",  # the remedy for a GPU that is too small; its gradients are equal
    *("TEST.PREDICTIONS", "TEST.PER_CLASS_RESULT", "TEST.COMPUTE_CMAT"),
}
# Nodes all of whose other keys change numbers, and single keys.
_NUMBERS = re.compile(r"(INPUT|MODEL|OPTIM|TRAINER|DATALOADER\.(TRAIN_X|TRAIN_U|TEST))\.")
_NUMBER_KEYS = {
    *("VERSION", "SEED", "TASK", "DETERMINISTIC"),
    *("DATASET.NAME", "DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES", "DATASET.TEMPLATE"),
    *("DATASET.SOURCE_DOMAINS", "DATASET.TARGET_DOMAINS", "DATASET.NUM_LABELED"),
    *("DATASET.VAL_PERCENT", "DATASET.STL10_FOLD", "DATASET.ALL_AS_UNLABELED"),
    *("DATASET.CIFAR_C_TYPE", "DATASET.CIFAR_C_LEVEL"),
    *("DATASET.OFFICIAL_LISTS", "DATASET.FEWSHOT_CACHE"),
    # each worker draws from a random stream of its own
    *("DATALOADER.NUM_WORKERS", "DATALOADER.K_TRANSFORMS", "DATALOADER.RETURN_IMG0"),
    "TRAIN.COUNT_ITER",
    *("TEST.EVALUATOR", "TEST.NO_TEST", "TEST.SPLIT", "TEST.FINAL_MODEL", "TEST.PREC"),
}
# Files by their path, of which the folder is a circumstance.
_PATHS = {BACKBONE, "MODEL.INIT_WEIGHTS"}
# They read no other trainer's node; a trainer derived from them may.
_READ_THEIR_OWN = (
    *("MMRL", "MMRLpp", "ZeroshotCLIP"),
    *("LinearProbe", "TipAdapter", "TipAdapterF"),
)


def is_circumstance(key: str) -> bool:
    """Whether two runs that differ in this key alone are one run."""
    return key in _CIRCUMSTANCES


def changes_numbers(key: str) -> bool:
    """Whether this key is known to be compared."""
    return not is_circumstance(key) and bool(_NUMBERS.match(key) or key in _NUMBER_KEYS)


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Config values by full key as JSON has them, without circumstances and folders of files."""
    found = {}
    for key in sorted(filter(lambda key: not is_circumstance(key), settings)):
        value = settings[key]
        if key in _PATHS and isinstance(value, str) and not is_name(value):
            # A name such as ViT-B/16 is no path.
            value = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
        found[key] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a file recorded; "auto", of versions that had one activation alone, is QuickGELU."""
    is_older = settings.get(ACTIVATION, "auto") == "auto"
    return dict(settings) | ({ACTIVATION: "quick_gelu"} if is_older else {})


def unread_nodes(keys: Iterable[str], trainer: str) -> set[str]:
    """The keys of other trainers' nodes, TRAINER.<other>.*, where `trainer` does not read them."""
    others = {key for key in keys if re.match(r"TRAINER\.\w+\.", key)}
    own = {key for key in others if key.startswith(f"TRAINER.{trainer}.")}
    return others - own if trainer in _READ_THEIR_OWN else set()
