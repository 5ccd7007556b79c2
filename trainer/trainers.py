"""The registered trainers MMRL (arXiv 2503.08497) and MMRLpp (MMRL++, arXiv 2505.10088)."""

from typing import Any

from torch import Tensor

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainer.engine import RepresentationTrainer
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.model import MMRLModel

__all__ = ["MMRL", "MMRLpp"]


def _node(cfg: Any) -> Any:
    """The trainer's node; a trainer that derives from one of these has a node of its own."""
    return cfg.TRAINER[cfg.TRAINER.NAME]


def _common(cfg: Any) -> dict[str, Any]:
    """What both methods are built from; below this function nothing knows of yacs."""
    node = _node(cfg)
    return {
        "num_tokens": node.N_REP_TOKENS,
        "rep_dim": node.REP_DIM,
        "rep_layers": node.REP_LAYERS,
        "alpha": node.ALPHA,
        "class_chunk": cfg.TRAINER.CLASS_CHUNK,
    }


@TRAINER_REGISTRY.register()
class MMRL(RepresentationTrainer):
    """MMRL from `TRAINER.MMRL`."""

    @classmethod
    def build(cls, cfg: Any, frozen: CLIP, prompts: Tensor) -> MMRLModel:
        """The model of a config, its learned tensors empty."""
        return build_mmrl(frozen, prompts, **_common(cfg))


@TRAINER_REGISTRY.register()
class MMRLpp(RepresentationTrainer):
    """MMRL++ from `TRAINER.MMRLpp`."""

    @classmethod
    def build(cls, cfg: Any, frozen: CLIP, prompts: Tensor) -> MMRLModel:
        """The model of a config, its learned tensors empty."""
        c = _node(cfg)
        return build_mmrlpp(
            frozen,
            prompts,
            beta=c.BETA,
            layer_rank=c.RES_LORA_DIM,
            projection_rank=c.PROJ_LORA_DIM,
            **_common(cfg),
        )
