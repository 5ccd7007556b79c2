"""What the tensors of a checkpoint say of their model: state dict -> method and sizes."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor
from yacs.config import CfgNode

__all__ = ["LearnedSizes", "adapt_config", "is_learned", "sizes_of"]

_LEARNER = "representation_learner."
_SPACE = f"{_LEARNER}compound_rep_tokens"
_PROJECTIONS = {"image_encoder.proj_rep", "image_encoder.A", "image_encoder.B"}


class LearnedSizes(NamedTuple):
    """Read from shapes; ranks are None for MMRL."""

    trainer: str  # MMRL or MMRLpp
    num_tokens: int  # K
    rep_dim: int  # d_r
    num_layers: int  # how many layers take tokens
    vision_width: int
    text_width: int
    layer_rank: int | None
    projection_rank: int | None
    num_learned: int  # numbers
    num_tensors: int  # learned


def is_learned(key: str) -> bool:
    """Whether a published key is of a trained tensor, not of CLIP or the class list."""
    return key.startswith(_LEARNER) or key in _PROJECTIONS


def sizes_of(state: Mapping[str, Tensor]) -> LearnedSizes:
    """The sizes of a published, or own, checkpoint's `state_dict`.

    Raises:
        ValueError: it holds no representation learner; names the key that is missing or misshapen.
    """
    if _SPACE not in state:
        raise ValueError(f"This is no checkpoint of MMRL or MMRL++: it lacks {_SPACE}")
    num_tokens, rep_dim = _shape(state, _SPACE)
    learned = [value for key, value in state.items() if is_learned(key)]
    is_shared = f"{_LEARNER}srra_r2vproj.weight" in state
    names = ("srra_r2vproj.", "srra_r2tproj.") if is_shared else (
        "compound_rep_tokens_r2vproj.0.", "compound_rep_tokens_r2tproj.0."
    )  # fmt: skip
    widths = [_shape(state, f"{_LEARNER}{name}weight")[0] for name in names]
    pattern = r"srra_r2vproj\.srra\.(\d+)\.A" if is_shared else r".*_r2vproj\.(\d+)\.weight"
    layers = {m[1] for k in state if (m := re.fullmatch(re.escape(_LEARNER) + pattern, k))}
    return LearnedSizes(
        trainer="MMRLpp" if is_shared else "MMRL",
        num_tokens=num_tokens,
        rep_dim=rep_dim,
        num_layers=len(layers),
        vision_width=widths[0],
        text_width=widths[1],
        layer_rank=_shape(state, f"{_LEARNER}srra_r2vproj.srra.0.A")[1] if is_shared else None,
        projection_rank=_shape(state, "image_encoder.A")[1] if is_shared else None,
        num_learned=sum(value.numel() for value in learned),
        num_tensors=len(learned),
    )


def _shape(state: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    if key not in state:
        raise ValueError(f"The checkpoint lacks {key}")
    if state[key].dim() != 2:
        raise ValueError(f"The checkpoint's {key} is no matrix: {tuple(state[key].shape)}")
    return tuple(state[key].shape)


def adapt_config(
    cfg: CfgNode, origins: dict[str, str], state: Mapping[str, Tensor], source: str
) -> None:
    """Let the file's sizes win over the config's, in place, and say so for each that differs.

    What the command line set stays, and is refused later if it does not fit.

    Raises:
        ValueError: the checkpoint is another method's.
    """
    sizes = sizes_of(state)
    name = cfg.TRAINER.NAME
    if sizes.trainer != name:
        raise ValueError(
            f"{source} is a checkpoint of {sizes.trainer}; give --trainer {sizes.trainer}"
        )
    wanted: dict[str, Any] = {"N_REP_TOKENS": sizes.num_tokens, "REP_DIM": sizes.rep_dim}
    if sizes.trainer == "MMRLpp":
        wanted |= {"RES_LORA_DIM": sizes.layer_rank, "PROJ_LORA_DIM": sizes.projection_rank}
    node = cfg.TRAINER[name]
    if len(node.REP_LAYERS) != sizes.num_layers:
        wanted["REP_LAYERS"] = list(range(-sizes.num_layers, 0))
    cfg.defrost()
    for key, value in wanted.items():
        full = f"TRAINER.{name}.{key}"
        if node[key] != value and origins.get(full) != "the command line":
            print(f"{full} is {value}, as in {source}; the config has {node[key]}")
            node[key], origins[full] = value, "the checkpoint"
    cfg.freeze()
