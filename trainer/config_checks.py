"""Which values a config may hold: key, value -> nothing, or one sentence that says what it takes.

Types are checked where values are read (`trainer.config`); here are ranges, choices, and the keys
of Dassl that this project's own trainers cannot follow.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from dassl.errors import RequestError
from trainer.published_values import check_template

__all__ = ["PRECISIONS", "TASKS", "check_values"]

TASKS = ("B2N", "FS", "CD")
PRECISIONS = ("fp16", "fp32", "amp", "bf16")


class Rule(NamedTuple):
    """What a key takes."""

    holds: Callable[[Any], bool]
    must_be: str  # completes "KEY must be ..."


def _choice(*known: str) -> Rule:
    shown = ", ".join(name or "nothing" for name in known)
    return Rule(lambda value: value in known, f"one of {shown}")


def _at_least(least: int) -> Rule:
    return Rule(lambda value: value >= least, f"{least} or more")


def _between(low: float, high: float) -> Rule:
    return Rule(lambda value: low <= value <= high, f"a number from {low:g} to {high:g}")


def _rate() -> Rule:
    return Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")


def _three(holds: Callable[[float], bool], words: str) -> Rule:
    return Rule(
        lambda values: len(values) == 3 and all(_is_number(v) and holds(v) for v in values), words
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _are_whole(values: Iterable[Any]) -> bool:
    return all(type(value) is int for value in values)


_POSITIVE = Rule(lambda value: value > 0, "a number above 0")
_NOT_NEGATIVE = Rule(lambda value: value >= 0, "0 or more")
_RULES = {
    "TASK": _choice(*TASKS),
    "SEED": Rule(lambda n: -1 <= n < 2**32, "-1 (unseeded) or a whole number from 0 to 4294967295"),
    "INPUT.SIZE": Rule(
        lambda size: len(size) == 2 and _are_whole(size) and min(size) >= 1,
        'two whole numbers from 1, such as "(224,224)"',
    ),
    "INPUT.PIXEL_MEAN": _three(lambda v: True, "three numbers, of red, green and blue"),
    "INPUT.PIXEL_STD": _three(lambda v: v > 0, "three numbers above 0, of red, green and blue"),
    "INPUT.RRCROP_SCALE": Rule(
        lambda pair: len(pair) == 2 and all(map(_is_number, pair)) and 0 < pair[0] <= pair[1] <= 1,
        "two shares of the area, the smaller first, above 0 and up to 1",
    ),
    "INPUT.CROP_PADDING": _NOT_NEGATIVE,
    "INPUT.CUTOUT_N": _at_least(1),
    "INPUT.CUTOUT_LEN": _at_least(1),
    "INPUT.GN_STD": _NOT_NEGATIVE,
    "INPUT.RANDAUGMENT_N": _at_least(1),
    "INPUT.RANDAUGMENT_M": _between(0, 30),
    "INPUT.COLORJITTER_B": _NOT_NEGATIVE,
    "INPUT.COLORJITTER_C": _NOT_NEGATIVE,
    "INPUT.COLORJITTER_S": _NOT_NEGATIVE,
    "INPUT.COLORJITTER_H": _between(0, 0.5),
    "INPUT.RGS_P": _between(0, 1),
    "INPUT.GB_P": _between(0, 1),
    "INPUT.GB_K": Rule(lambda size: size > 0 and size % 2 == 1, "an odd whole number above 0"),
    "DATASET.SUBSAMPLE_CLASSES": _choice("all", "base", "new"),
    "DATASET.NUM_SHOTS": Rule(lambda n: n == -1 or n >= 1, "-1 (all pictures), or 1 or more"),
    "DATASET.VAL_PERCENT": _rate(),
    "DATALOADER.NUM_WORKERS": _NOT_NEGATIVE,
    "DATALOADER.CACHE_MB": _NOT_NEGATIVE,
    "DATALOADER.K_TRANSFORMS": _at_least(1),
    "DATALOADER.TRAIN_X.BATCH_SIZE": _at_least(1),
    "DATALOADER.TRAIN_X.N_DOMAIN": _NOT_NEGATIVE,
    "DATALOADER.TRAIN_X.N_INS": _at_least(1),
    "DATALOADER.TRAIN_U.BATCH_SIZE": _at_least(1),
    "DATALOADER.TRAIN_U.N_DOMAIN": _NOT_NEGATIVE,
    "DATALOADER.TRAIN_U.N_INS": _at_least(1),
    "DATALOADER.TEST.BATCH_SIZE": _at_least(1),
    "MODEL.BACKBONE.ACTIVATION": _choice("auto", "quick_gelu"),
    "OPTIM.LR": _POSITIVE,
    "OPTIM.WEIGHT_DECAY": _NOT_NEGATIVE,
    "OPTIM.MOMENTUM": _rate(),
    "OPTIM.SGD_DAMPNING": _NOT_NEGATIVE,
    "OPTIM.RMSPROP_ALPHA": _rate(),
    "OPTIM.ADAM_BETA1": _rate(),
    "OPTIM.ADAM_BETA2": _rate(),
    "OPTIM.LR_SCHEDULER": _choice("single_step", "multi_step", "cosine"),
    "OPTIM.STEPSIZE": Rule(lambda steps: bool(steps) and _are_whole(steps), "whole numbers"),
    "OPTIM.GAMMA": _POSITIVE,
    "OPTIM.MAX_EPOCH": _at_least(1),
    "OPTIM.WARMUP_EPOCH": _at_least(-1),
    "OPTIM.WARMUP_TYPE": _choice("constant", "linear"),
    "OPTIM.WARMUP_CONS_LR": _NOT_NEGATIVE,
    "OPTIM.WARMUP_MIN_LR": _NOT_NEGATIVE,
    "TRAIN.CHECKPOINT_FREQ": _NOT_NEGATIVE,
    "TRAIN.GRAPH": _choice("auto", "True", "False"),
    "TRAIN.PRINT_FREQ": _at_least(1),
    "TRAIN.COUNT_ITER": _choice("train_x", "train_u", "smaller_one"),
    "TEST.PREC": _choice("", "fp32", "amp", "bf16"),
    "TEST.FINAL_MODEL": _choice("last_step", "best_val"),
    "TEST.SPLIT": _choice("test", "val"),
    "TRAINER.CLASS_CHUNK": _NOT_NEGATIVE,
}
# In the node TRAINER.<name> of every method that has the key.
_RULES_OF_METHODS = {
    "PREC": _choice(*PRECISIONS),
    "ALPHA": _between(0, 1),
    "BETA": _between(0, 1),
    "REG_WEIGHT": _NOT_NEGATIVE,
    "N_REP_TOKENS": _at_least(1),
    "REP_DIM": _at_least(1),
    "REP_LAYERS": Rule(_are_whole, "whole numbers such as [6, 7, 8]"),
    "PROJ_LORA_DIM": _at_least(1),
    "RES_LORA_DIM": _at_least(1),
}
# Dassl's keys for other trainers: (the one value that ours work with, why).
_UNUSED = {
    "DATALOADER.K_TRANSFORMS": (1, "they train on one view of a picture"),
    "INPUT.NO_TRANSFORM": (False, "CLIP takes tensors of one size"),
    "OPTIM.STAGED_LR": (False, "all that they learn has one learning rate"),
}


def check_values(values: Mapping[str, Any], methods: Iterable[str], is_ours: bool) -> None:
    """Check every value of a flat config (`OPTIM.LR` -> 0.002, ...).

    `methods` have a node TRAINER.<name>; `is_ours`: the trainer is one of this project.

    Raises:
        RequestError: names the key, what it takes and what was found.
    """
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise RequestError(f"{key} must be a finite number; got {value}")
    of_methods = {
        f"TRAINER.{name}.{leaf}": rule
        for name in methods
        for leaf, rule in _RULES_OF_METHODS.items()
    }
    for key, rule in (_RULES | of_methods).items():
        if key in values and not rule.holds(values[key]):
            raise RequestError(f"{key} must be {rule.must_be}; got {values[key]!r}")
    _check_together(values)
    if is_ours:
        for key, (wanted, reason) in _UNUSED.items():
            if values[key] != wanted:
                raise RequestError(f"MMRL's trainers need {key} {wanted}: {reason}")


def _check_together(values: Mapping[str, Any]) -> None:
    warmup, epochs = values["OPTIM.WARMUP_EPOCH"], values["OPTIM.MAX_EPOCH"]
    if warmup > epochs:
        raise RequestError(f"OPTIM.WARMUP_EPOCH {warmup} is more than OPTIM.MAX_EPOCH {epochs}")
    if values["DATASET.TEMPLATE"]:
        check_template(values["DATASET.TEMPLATE"])
