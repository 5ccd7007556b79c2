"""From option values to one resolved config, with the origin of each value that is not a default.

Order, later wins: defaults, the data set's own, data set yaml, trainer yaml, the papers' value for
the data set, command line. The papers' values come after the yaml files because the published
program has them there; what the command line says is what the user wants. What a trainer derived
from another neither declares nor is given, it has from its parent.
"""

import ast
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import RequestError, is_text, quote
from dassl.utils.tools import get_most_similar_str_to_a_from_b
from trainer.config_checks import check_values
from trainer.config_file import read_yaml
from trainer.methods import parents_of
from trainer.published_values import paper_values

__all__ = [
    "add_method",
    "build_config",
    "differences",
    "extend_cfg",
    "flatten",
    "keys_of_paper",
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
# Of baselines, which have no other keys.
_BASELINES: dict[str, dict[str, Any]] = {
    "LinearProbe": {
        "C": 0.0,  # inverse strength of the L2 penalty; 0: chosen on validation
    },
    **{
        name: {
            "ALPHA": 1.0,  # weight of the cache; without validation, and in training
            "BETA": 5.5,  # sharpness of the affinity; likewise
            "SEARCH": True,  # choose both on validation
            "SEARCH_SCALE": (7.0, 3.0),  # up to which BETA, ALPHA; from 0.1
            "SEARCH_STEPS": (200, 20),  # values of BETA, ALPHA
            "VIEWS": 10,  # augmented views of a picture, averaged in the cache; 0: as evaluated
        }
        for name in ("TipAdapter", "TipAdapterF")
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

    for name in _methods():
        node = cfg.TRAINER[name] = _common_node()
        for ancestor in reversed([name, *parents_of(name)]):
            for key, value in _METHODS.get(ancestor, {}).items():
                node[key] = value
    for name, values in _BASELINES.items():
        cfg.TRAINER[name] = CfgNode(values)


def _methods() -> list[str]:
    """The trainers that have a node TRAINER.<name>, whether they declare it or not."""
    registered = TRAINER_REGISTRY.registered_names()
    derived = [name for name in registered if any(p in _METHODS for p in parents_of(name))]
    derived += [n for n in registered if getattr(TRAINER_REGISTRY.get(n), "has_node", False)]
    return list(dict.fromkeys([*_METHODS, *derived]))


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
    """Declare what the node TRAINER.<name> has of its own: keys, and defaults of common keys.

    All other keys are the common ones, or those of the registered trainer that `name` derives from,
    with its values. Call it where the trainer is registered, before a config is built.

    Raises:
        RequestError: the name is taken.
    """
    if name in _METHODS or name in _BASELINES:
        where = name in TRAINER_REGISTRY.registered_names() and TRAINER_REGISTRY.source(name)
        raise RequestError(
            f"TRAINER.{name} already exists{f' in {where}' if where else ''}; choose another name "
            "for the method"
        )
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
    files = {path: read_yaml(path) for path in (dataset_config_file, config_file) if path}
    named_trainer = {"TRAINER.NAME": trainer} if trainer else {}
    command_line = named_trainer | dict(flags or {}) | _pairs(opts)
    given: dict[str, Any] = {}
    for values in (*files.values(), command_line):
        given |= values
    named = flatten(cfg) | given
    dataset = named["DATASET.NAME"]
    _apply(cfg, origins, _defaults_of(dataset), f"the data set {dataset}")
    for path, values in files.items():
        _apply(cfg, origins, values, path)
    paper = _of_paper(named["TRAINER.NAME"], dataset, named["TASK"])
    _apply(cfg, origins, paper, f"the paper's value for {dataset}")
    _apply(cfg, origins, command_line, "the command line")
    _inherit(cfg, origins, given)
    methods = _methods()
    ours = {*methods, *_BASELINES, *_PLAIN_TRAINERS}
    check_values(flatten(cfg), methods, cfg.TRAINER.NAME in ours)
    cfg.freeze()
    return cfg, origins


def keys_of_paper(trainer: str, dataset: str, task: str) -> set[str]:
    """The keys that have the papers' values in a run, a parent's handed down among them."""
    found = set(_of_paper(trainer, dataset, task))
    leaves = {key.rpartition(".")[2] for key in found}
    return found | {f"TRAINER.{trainer}.{leaf}" for leaf in leaves if _inherits(trainer, leaf)}


def _of_paper(trainer: str, dataset: str, task: str) -> dict[str, Any]:
    """The papers' values for a trainer, or for the one that it derives from, by full key."""
    found: dict[str, Any] = {}
    for name in (trainer, *parents_of(trainer)):
        found |= paper_values(name, dataset, task)
    return found


def _inherits(trainer: str, leaf: str) -> bool:
    """Whether the trainer has its parent's value of a key of its node, unless it is given one."""
    return bool(parents_of(trainer)) and leaf not in _METHODS.get(trainer, {})


def _defaults_of(dataset: Any) -> dict[str, Any]:
    """What the reader of a data set declares in `defaults`, by full key."""
    is_known = dataset in DATASET_REGISTRY.registered_names()
    return getattr(DATASET_REGISTRY.get(dataset), "defaults", {}) if is_known else {}


def _inherit(cfg: CfgNode, origins: dict[str, str], given: Collection[str]) -> None:
    """Hand the values of a parent's node down to the trainer's own, in place."""
    methods = _methods()
    line = [name for name in (cfg.TRAINER.NAME, *parents_of(cfg.TRAINER.NAME)) if name in methods]
    for parent, child in reversed(list(zip(line[1:], line, strict=False))):
        for key, value in cfg.TRAINER[parent].items():
            own, theirs = f"TRAINER.{child}.{key}", f"TRAINER.{parent}.{key}"
            if own in given or not _inherits(child, key):
                continue
            cfg.TRAINER[child][key] = value
            if theirs in origins:
                origins[own] = origins[theirs]


def flatten(cfg: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf under its full key, such as `OPTIM.LR`."""
    leaves: dict[str, Any] = {}
    for key, value in cfg.items():
        name = f"{prefix}{key}"
        leaves |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return leaves


def differences(cfg: Mapping[Any, Any], origins: Mapping[str, str]) -> str:
    """The values that are not the defaults, a line each, below the line of their origin."""
    values = flatten(cfg)
    of_origin: dict[str, list[str]] = {}
    for key, origin in origins.items():
        of_origin.setdefault(origin, []).append(f"    {key} {values[key]}")
    return "\n".join(f"  {origin}\n" + "\n".join(keys) for origin, keys in of_origin.items())


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
