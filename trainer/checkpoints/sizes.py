"""What the tensors of a checkpoint say about their model: state dict -> method and sizes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor
from yacs.config import CfgNode

from dassl.errors import RequestError
from trainer.checkpoints.identity import Identity
from trainer.checkpoints.keys import is_learned, stack_layers
from trainer.checkpoints.settings import ACTIVATION, OF_TRAINING
from trainer.config import flatten, keys_of_paper, parent_node
from trainer.published_values import prompts

__all__ = ["PUBLISHED_METHODS", "LearnedSizes", "adapt_config", "sizes_of"]

# Sizes are read from their files; of other methods, files without an identity say nothing.
PUBLISHED_METHODS = ("MMRL", "MMRLpp")


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


def sizes_of(state: Mapping[str, Tensor]) -> LearnedSizes:
    """The sizes of a published, or own, checkpoint's `state_dict`.

    Raises:
        RequestError: it holds no representation learner; names the missing or misshapen key.
    """
    own = stack_layers(state)
    if "learner.space" not in own:
        raise RequestError(
            "This is not a checkpoint of MMRL or MMRL++: it lacks "
            "representation_learner.compound_rep_tokens"
        )
    is_shared = "learner.to_image.shared" in own
    maps = ("shared", "residuals.A") if is_shared else ("weight", "weight")
    wanted = [f"learner.{tower}.{name}" for tower in ("to_image", "to_text") for name in maps]
    wanted += ["learner.projection.A"] if is_shared else ["learner.projection.weight"]
    if missing := [name for name in wanted if name not in own]:
        raise RequestError(f"The checkpoint lacks the tensors of {missing[0]}")
    num_tokens, rep_dim = _shape(own, "learner.space", 2)
    num_layers, vision_width, last = _shape(own, f"learner.to_image.{maps[1]}", 3)
    return LearnedSizes(
        trainer="MMRLpp" if is_shared else "MMRL",
        num_tokens=num_tokens,
        rep_dim=rep_dim,
        num_layers=num_layers,
        vision_width=vision_width,
        text_width=_shape(own, f"learner.to_text.{maps[1]}", 3)[1],
        layer_rank=last if is_shared else None,
        projection_rank=_shape(own, "learner.projection.A", 2)[1] if is_shared else None,
        num_learned=sum(tensor.numel() for tensor in own.values()),
        num_tensors=sum(map(is_learned, state)),
    )


def _shape(own: Mapping[str, Tensor], name: str, num_dims: int) -> tuple[int, ...]:
    """The shape of a matrix, or of a stack of matrices, a layer each."""
    if own[name].dim() != num_dims:
        raise RequestError(
            f"The checkpoint's {name} has the unexpected shape {tuple(own[name].shape)}"
        )
    return tuple(own[name].shape)


def adapt_config(
    cfg: CfgNode, origins: dict[str, str], checkpoint: Mapping[str, Any], source: str
) -> None:
    """Let the file's values win over the config's, in place, and say so for each that differs.

    A published file says its sizes alone. What the command line set stays, and is refused later if
    it does not fit; and so do the papers' values for another data set than the file's.

    Raises:
        RequestError: the checkpoint is another method's, or damaged.
    """
    identity, name = Identity.read(checkpoint, source), cfg.TRAINER.NAME
    if identity is None and name not in PUBLISHED_METHODS:
        return  # nothing in the file tells one's own method from the published one
    trainer = identity.trainer if identity else sizes_of(checkpoint["state_dict"]).trainer
    if trainer != name:
        raise RequestError(f"{source} is a checkpoint of {trainer}; give --trainer {trainer}")
    if identity:
        wanted = _stored_values(identity, cfg)
    else:
        wanted = _sizes_by_key(sizes_of(checkpoint["state_dict"]), cfg)
        text = prompts(["{}"], cfg.DATASET.NAME, cfg.DATASET.TEMPLATE)[0]
        print(f"{source} does not record its prompt, which is taken to be {text!r}")
    known = flatten(cfg)
    changed = {key: value for key, value in wanted.items() if key in known}
    cfg.defrost()
    for key, value in changed.items():
        value = type(known[key])(value) if isinstance(value, list) else value
        if known[key] != value and origins.get(key) != "the command line":
            if known[key] != "auto":
                print(f"{key} is {value}, as in {source}; the config has {known[key]}")
            node, leaf = parent_node(cfg, key)
            node[leaf], origins[key] = value, "the checkpoint"
    cfg.freeze()


def _stored_values(identity: Identity, cfg: CfgNode) -> dict[str, Any]:
    """What the run's own settings say of its model and of the pictures that it takes."""
    found = {k: v for k, v in identity.settings.items() if k.startswith(("TRAINER.", "INPUT."))}
    found |= {key: identity.settings[key] for key in OF_TRAINING if key in identity.settings}
    if (activation := identity.settings.get(ACTIVATION, "auto")) != "auto":
        found[ACTIVATION] = activation  # which the weights file may leave unsaid
    dataset = cfg.DATASET.NAME
    if identity.settings.get("DATASET.NAME") == dataset:  # prompts belong to a data set
        return found | {"DATASET.TEMPLATE": identity.settings.get("DATASET.TEMPLATE", "")}
    # MMRL++ evaluates across data sets with each one's own BETA, as published.
    paper = keys_of_paper(identity.trainer, dataset, cfg.TASK)
    return {k: v for k, v in found.items() if k not in paper or k.endswith(".REP_DIM")}


def _sizes_by_key(sizes: LearnedSizes, cfg: CfgNode) -> dict[str, Any]:
    wanted: dict[str, Any] = {"N_REP_TOKENS": sizes.num_tokens, "REP_DIM": sizes.rep_dim}
    if sizes.trainer == "MMRLpp":
        wanted |= {"RES_LORA_DIM": sizes.layer_rank, "PROJ_LORA_DIM": sizes.projection_rank}
    if len(cfg.TRAINER[sizes.trainer].REP_LAYERS) != sizes.num_layers:
        wanted["REP_LAYERS"] = list(range(-sizes.num_layers, 0))
    return {f"TRAINER.{sizes.trainer}.{key}": value for key, value in wanted.items()}
