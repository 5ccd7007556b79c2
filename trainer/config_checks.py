"""Which values a config may hold: key, value -> nothing, or one sentence that says what it takes.

Types are checked where values are read (`trainer.config`); here are ranges, choices, and the keys
of Dassl that this project's own trainers cannot follow.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from dassl.errors import RequestError, quote
from trainer.published_values import check_template

__all__ = ["PRECISIONS", "TASKS", "check_values"]

TASKS = ("B2N", "FS", "CD")
_LARGEST = 2**32 - 1  # of whole numbers
_SIDE = 4096  # pixels; no encoder takes more
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


def _whole(low: int, high: int) -> Rule:
    return Rule(lambda value: low <= value <= high, f"a whole number from {low} to {high}")


def _between(low: float, high: float) -> Rule:
    return Rule(lambda value: low <= value <= high, f"a number from {low:g} to {high:g}")


def _rate() -> Rule:
    return Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")


def _three(holds: Callable[[float], bool], words: str) -> Rule:
    return Rule(
        lambda values: len(values) == 3 and all(_is_number(v) and holds(v) for v in values), words
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST  # false for NaN


def _are_whole(values: Iterable[Any]) -> bool:
    return all(type(value) is int and abs(value) <= _LARGEST for value in values)


_POSITIVE = Rule(lambda value: value > 0, "a number above 0")
_NOT_NEGATIVE = Rule(lambda value: value >= 0, "0 or more")
_RULES = {
    "TASK": _choice(*TASKS),
    "SEED": Rule(lambda n: -1 <= n < 2**32, "-1 (unseeded) or a whole number from 0 to 4294967295"),
    "INPUT.SIZE": Rule(
        lambda size: len(size) == 2 and _are_whole(size) and 1 <= min(size) <= max(size) <= _SIDE,
        f'two whole numbers from 1 to {_SIDE}, such as "(224,224)"',
    ),
    "INPUT.PIXEL_MEAN": _three(lambda v: True, "three numbers, of red, green and blue"),
    "INPUT.PIXEL_STD": _three(lambda v: v > 0, "three numbers above 0, of red, green and blue"),
    "INPUT.RRCROP_SCALE": Rule(
        lambda pair: len(pair) == 2 and all(map(_is_number, pair)) and 0 < pair[0] <= pair[1] <= 1,
        "two shares of the area, the smaller first, above 0 and up to 1",
    ),
    "INPUT.CROP_PADDING": _whole(0, _SIDE),
    "INPUT.CUTOUT_N": _whole(1, 1000),
    "INPUT.CUTOUT_LEN": _whole(1, _SIDE),
    "INPUT.GN_STD": _NOT_NEGATIVE,
    "INPUT.RANDAUGMENT_N": _whole(1, 1000),
    "INPUT.RANDAUGMENT_M": _between(0, 30),
    "INPUT.COLORJITTER_B": _between(0, 100),
    "INPUT.COLORJITTER_C": _between(0, 100),
    "INPUT.COLORJITTER_S": _between(0, 100),
    "INPUT.COLORJITTER_H": _between(0, 0.5),
    "INPUT.RGS_P": _between(0, 1),
    "INPUT.GB_P": _between(0, 1),
    "INPUT.GB_K": Rule(
        lambda size: 0 < size < _SIDE and size % 2 == 1, f"an odd whole number from 1 to {_SIDE}"
    ),
    "DATASET.SUBSAMPLE_CLASSES": _choice("all", "base", "new"),
    "DATASET.NUM_SHOTS": Rule(lambda n: n == -1 or n >= 1, "-1 (all pictures), or 1 or more"),
    "DATASET.VAL_PERCENT": _rate(),
    "DATALOADER.NUM_WORKERS": _whole(0, 1024),
    "DATALOADER.CACHE_MB": _NOT_NEGATIVE,
    "DATALOADER.K_TRANSFORMS": _at_least(1),
    "DATALOADER.TRAIN_X.BATCH_SIZE": _whole(1, 10**6),
    "DATALOADER.TRAIN_X.N_DOMAIN": _NOT_NEGATIVE,
    "DATALOADER.TRAIN_X.N_INS": _at_least(1),
    "DATALOADER.TRAIN_U.BATCH_SIZE": _whole(1, 10**6),
    "DATALOADER.TRAIN_U.N_DOMAIN": _NOT_NEGATIVE,
    "DATALOADER.TRAIN_U.N_INS": _at_least(1),
    "DATALOADER.TEST.BATCH_SIZE": _whole(1, 10**6),
    "MODEL.BACKBONE.ACTIVATION": _choice("auto", "quick_gelu", "gelu"),
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
# In the nodes of baselines.
_RULES |= {"TRAINER.LinearProbe.C": _between(0, 10**9)}
for _name in ("TipAdapter", "TipAdapterF"):
    _RULES |= {
        f"TRAINER.{_name}.ALPHA": _between(0, 1000),
        f"TRAINER.{_name}.BETA": _between(0, 1000),
        f"TRAINER.{_name}.SEARCH_SCALE": Rule(
            lambda pair: len(pair) == 2 and all(_is_number(v) and 0.1 < v <= 1000 for v in pair),
            "two numbers above 0.1, up to 1000: of BETA and of ALPHA",
        ),
        f"TRAINER.{_name}.SEARCH_STEPS": Rule(
            lambda pair: (
                len(pair) == 2 and _are_whole(pair) and 1 <= min(pair) <= max(pair) <= 2000
            ),
            "two whole numbers from 1 to 2000: of BETA and of ALPHA",
        ),
        f"TRAINER.{_name}.VIEWS": _whole(0, 1000),
    }
# In the node TRAINER.<name> of every method that has the key.
_RULES_OF_METHODS = {
    "PREC": _choice(*PRECISIONS),
    "ALPHA": _between(0, 1),
    "BETA": _between(0, 1),
    "REG_WEIGHT": _NOT_NEGATIVE,
    "N_REP_TOKENS": _whole(1, 1024),
    "REP_DIM": _whole(1, 2**16),
    "REP_LAYERS": Rule(_are_whole, "whole numbers such as [6, 7, 8]"),
    "PROJ_LORA_DIM": _whole(1, 2**16),
    "RES_LORA_DIM": _whole(1, 2**16),
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
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise RequestError(f"{key} must be at most {_LARGEST}; got {quote(value)}")
    of_methods = {
        f"TRAINER.{name}.{leaf}": rule
        for name in methods
        for leaf, rule in _RULES_OF_METHODS.items()
    }
    for key, rule in (_RULES | of_methods).items():
        if key in values and not rule.holds(values[key]):
            raise RequestError(f"{key} must be {rule.must_be}; got {quote(values[key])}")
    _check_together(values)
    if is_ours:
        for key, (wanted, reason) in _UNUSED.items():
            if values[key] != wanted:
                raise RequestError(f"MMRL's trainers need {key} {wanted}: {reason}")


def _check_together(values: Mapping[str, Any]) -> None:
    warmup, epochs = values["OPTIM.WARMUP_EPOCH"], values["OPTIM.MAX_EPOCH"]
    if warmup > epochs:
        raise RequestError(f"OPTIM.WARMUP_EPOCH {warmup} is more than OPTIM.MAX_EPOCH {epochs}")
    if values["OPTIM.NAME"] == "sgd" and values["OPTIM.SGD_NESTEROV"]:
        if not values["OPTIM.MOMENTUM"] or values["OPTIM.SGD_DAMPNING"]:
            raise RequestError("OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM above 0 and SGD_DAMPNING 0")
    blur, side = values["INPUT.GB_K"], min(values["INPUT.SIZE"])
    if "gaussian_blur" in values["INPUT.TRANSFORMS"] and blur // 2 >= side:
        raise RequestError(f"INPUT.GB_K {blur} is too large for pictures of {side} pixels")
    if values["DATASET.TEMPLATE"]:
        check_template(values["DATASET.TEMPLATE"])
