"""From option values to one resolved config, with the origin of each value that is not a default.

Order, later wins: defaults, data set yaml, trainer yaml, the papers' value for the data set,
command line. The papers' values come after the yaml files because the published program has them
there; what the command line says is what the user wants.
"""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.errors import RequestError, is_text, quote
from dassl.utils.tools import get_most_similar_str_to_a_from_b
from trainer.config_checks import check_values
from trainer.config_file import read_yaml
from trainer.published_values import paper_values

__all__ = [
    "add_method",
    "build_config",
    "extend_cfg",
    "flatten",
    "parent_node",
]

_PLAIN_TRAINERS = ("ZeroshotCLIP",)  # of this project, without a node of their own
_WORDS_OR_BOOLS = {"TRAIN.GRAPH"}  # of which yaml reads True and False as no words
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.\w+)*")

# A method's own keys, and the common ones of which its default is another.
_METHODS: dict[str, dict[str, Any]] = {
    "MMRL": {},
    "MMRLpp": {
        "BETA": 0.9,  # PRC: weight of the new tokens
        "PROJ_LORA_DIM": 64,  # rank of proj_rep's residual
        "RES_LORA_DIM": 4,  # rank of SRRA's residuals
    },
}


def extend_cfg(cfg: CfgNode) -> None:
    """Add this project's keys to Dassl's defaults, in place."""
    cfg.TASK = "B2N"  # base to novel; FS: few-shot; CD: cross-dataset
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # or base, new
    cfg.DATASET.OFFICIAL_LISTS = False  # split a data set whose split file is absent
    cfg.DATASET.FEWSHOT_CACHE = False  # draw what split_fewshot/shot_N-seed_S.pkl holds
    cfg.DATASET.CSV = ""  # Folder: a file of path,label[,split] instead of class folders
    cfg.DATASET.LABEL = ""  # the data set's name in reports; Folder: else the root folder's name
    cfg.DATASET.TEMPLATE = ""  # prompt template instead of the data set's, e.g. "a photo of a {}."
    cfg.DATASET.CLASSNAMES = ""  # Folder: a file of names, one per line, in label order
    cfg.MODEL.BACKBONE.ACTIVATION = "auto"  # quick_gelu, gelu: of a file that says neither
    cfg.DATALOADER.CACHE_MB = 512  # keep decoded training pictures if they fit; 0: never
    cfg.TEST.PREDICTIONS = False  # write predictions.csv, a row per image
    cfg.TEST.PREC = ""  # amp, bf16 or fp32; empty: as published, fp32 where PREC is amp
    cfg.DETERMINISTIC = False  # on a GPU: only operations that round the same in every run
    cfg.TRAIN.COMPILE = False  # torch.compile the step
    cfg.TRAIN.GRAPH = "auto"  # launch the step as one CUDA graph; auto, True: on a GPU; False: not
    cfg.TRAINER.CLASS_CHUNK = 0  # classes at a time in the text encoder's training; 0: all

    for name, values in _METHODS.items():
        node = cfg.TRAINER[name] = _common_node()
        for key, value in values.items():
            node[key] = value


def _common_node() -> CfgNode:
    """The keys that every method has."""
    node = CfgNode()
    node.PREC = "fp16"  # fp16, fp32, amp, bf16
    node.ALPHA = 0.7  # weight of the class feature
    node.REG_WEIGHT = 1.0  # lambda
    node.N_REP_TOKENS = 5  # K
    node.REP_DIM = 512  # d_r
    node.REP_LAYERS = []  # J .. L, counted from 1
    return node


def add_method(name: str, **values: Any) -> None:
    """Give the trainer `name` its node TRAINER.<name>: the common keys, changed and extended.

    Call it where the trainer is registered, before a config is built.

    Raises:
        RequestError: the name is taken.
    """
    if name in _METHODS:
        raise RequestError(f"TRAINER.{name} already exists; choose another name for the method")
    _METHODS[name] = values


def build_config(
    trainer: str = "",
    dataset_config_file: str = "",
    config_file: str = "",
    flags: Mapping[str, Any] | None = None,
    opts: Sequence[str] = (),
) -> tuple[CfgNode, dict[str, str]]:
    """Resolve all sources to (frozen config, origin of every value that is not a default).

    `flags` are full keys with values that command-line options gave; `opts` is the trailing list
    KEY VALUE KEY VALUE ... of the command line.

    Raises:
        RequestError: an unknown key (the nearest is named), a value of the wrong type or range.
        FileNotFoundError: a yaml file is not there.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    origins: dict[str, str] = {}
    for path in (dataset_config_file, config_file):
        if path:
            _apply(cfg, origins, read_yaml(path), path)
    named_trainer = {"TRAINER.NAME": trainer} if trainer else {}
    command_line = named_trainer | dict(flags or {}) | _pairs(opts)
    named = flatten(cfg) | command_line
    paper = paper_values(named["TRAINER.NAME"], named["DATASET.NAME"], named["TASK"])
    _apply(cfg, origins, paper, f"the paper's value for {named['DATASET.NAME']}")
    _apply(cfg, origins, command_line, "the command line")
    check_values(flatten(cfg), _METHODS, cfg.TRAINER.NAME in {*_METHODS, *_PLAIN_TRAINERS})
    cfg.freeze()
    return cfg, origins


def flatten(cfg: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf under its full key, such as `OPTIM.LR`."""
    leaves: dict[str, Any] = {}
    for key, value in cfg.items():
        name = f"{prefix}{key}"
        leaves |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return leaves


def _pairs(opts: Sequence[str]) -> dict[str, Any]:
    for word in opts[::2]:
        # A mistyped option ends argparse's options, and all that follows comes here.
        if word.startswith("-"):
            raise RequestError(
                f"{word!r} is not an option here; options come before KEY VALUE pairs"
            )
    if strange := [word for word in opts[::2] if len(opts) % 2 and not _KEY.fullmatch(word)]:
        raise RequestError(
            f"Expected a config key, got {strange[0]!r}; options are KEY VALUE pairs"
        )
    if len(opts) % 2:
        raise RequestError(f"Options come as KEY VALUE pairs; {opts[-1]!r} has no value")
    return dict(zip(opts[::2], opts[1::2], strict=True))


def _apply(cfg: CfgNode, origins: dict[str, str], values: Mapping[str, Any], origin: str) -> None:
    known = flatten(cfg)
    for key, value in values.items():
        if key not in known:
            nearest = get_most_similar_str_to_a_from_b(key, known)
            raise RequestError(f"Unknown config key {key!r} ({origin}). Did you mean {nearest!r}?")
        value = _typed(key, value, known[key])
        node, leaf = parent_node(cfg, key)
        if value != known[key] or key in origins:
            origins[key] = origin
        node[leaf] = value


def parent_node(cfg: CfgNode, key: str) -> tuple[CfgNode, str]:
    """The node that holds the leaf `key`, and the leaf's own name: OPTIM.LR -> (OPTIM, LR)."""
    *path, leaf = key.split(".")
    for name in path:
        cfg = cfg[name]
    return cfg, leaf


def _typed(key: str, value: Any, default: Any) -> Any:
    if isinstance(value, str) and not isinstance(default, str):
        value = _literal(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value)
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        value = type(default)(value)
    if isinstance(value, bool) and key in _WORDS_OR_BOOLS:
        value = str(value)
    if type(value) is not type(default) or not _are_plain(value):
        raise RequestError(
            f"{key} takes a {type(default).__name__} such as {default!r}, "
            f"got the {type(value).__name__} {quote(value)}"
        )
    return value


def _literal(text: str) -> Any:
    """The Python value that a word stands for, or the word, whose type names the key."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf  # which is refused by its key


def _are_plain(value: Any) -> bool:
    """Whether text can be written, and lists hold numbers and words alone."""
    if isinstance(value, (list, tuple)):
        return all(isinstance(v, (bool, int, float, str)) and _are_plain(v) for v in value)
    return not isinstance(value, str) or (is_text(value) and "\0" not in value)
