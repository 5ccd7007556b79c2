"""The registered trainers MMRL (arXiv 2503.08497) and MMRLpp (MMRL++, arXiv 2505.10088)."""

from typing import Any

from torch import Tensor, nn

from clip.model import CLIP, Sizes
from dassl.engine import TRAINER_REGISTRY
from trainer.encoders import check_layers, entry_rules
from trainer.engine import RepresentationTrainer
from trainer.model import MMRLModel
from trainer.representation import (
    FullProjection,
    IndependentProjections,
    RepresentationLearner,
    ResidualProjection,
    SharedResidualProjection,
)

__all__ = ["MMRL", "MMRLpp", "build_mmrl", "build_mmrlpp"]


def build_mmrl(
    frozen: CLIP,
    prompts: Tensor,
    *,
    num_tokens: int,
    rep_dim: int,
    rep_layers: list[int],
    alpha: float,
    class_chunk: int = 0,
) -> MMRLModel:
    """MMRL: a linear map per layer and modality, a free `proj_rep`, tokens replaced.

    Raises:
        ValueError: `rep_layers` has a layer that a tower lacks.
    """
    sizes = _checked(frozen, rep_layers)

    def projections(width: int) -> nn.Module:
        return IndependentProjections(rep_dim, width, len(rep_layers))

    learner = RepresentationLearner(
        num_tokens, rep_dim, projections(sizes.vision_width), projections(sizes.text_width)
    )
    projection = FullProjection(sizes.vision_width, sizes.embed_dim)
    entry = entry_rules(rep_layers)
    return MMRLModel(frozen, learner, projection, entry, prompts, alpha, class_chunk)


def build_mmrlpp(
    frozen: CLIP,
    prompts: Tensor,
    *,
    num_tokens: int,
    rep_dim: int,
    rep_layers: list[int],
    alpha: float,
    beta: float,
    layer_rank: int,
    projection_rank: int,
    class_chunk: int = 0,
) -> MMRLModel:
    """MMRL++: SRRA's shared maps with low-rank residuals, PRC's blended tokens.

    Raises:
        ValueError: `rep_layers` has a layer that a tower lacks.
    """
    sizes = _checked(frozen, rep_layers)

    def projections(width: int) -> nn.Module:
        return SharedResidualProjection(rep_dim, width, len(rep_layers), layer_rank)

    learner = RepresentationLearner(
        num_tokens, rep_dim, projections(sizes.vision_width), projections(sizes.text_width)
    )
    projection = ResidualProjection(sizes.vision_width, sizes.embed_dim, projection_rank)
    entry = entry_rules(rep_layers, beta)
    return MMRLModel(frozen, learner, projection, entry, prompts, alpha, class_chunk)


def _checked(frozen: CLIP, rep_layers: list[int]) -> Sizes:
    check_layers(rep_layers, min(frozen.sizes.vision_layers, frozen.sizes.text_layers))
    return frozen.sizes


@TRAINER_REGISTRY.register()
class MMRL(RepresentationTrainer):
    """MMRL from `TRAINER.MMRL`."""

    def settings(self) -> Any:
        """`cfg.TRAINER.MMRL`."""
        return self.cfg.TRAINER.MMRL

    def assemble(self, frozen: CLIP, prompts: Tensor) -> MMRLModel:
        """The model of this config."""
        c = self.cfg.TRAINER.MMRL  # below this line nothing knows of yacs
        return build_mmrl(
            frozen,
            prompts,
            num_tokens=c.N_REP_TOKENS,
            rep_dim=c.REP_DIM,
            rep_layers=c.REP_LAYERS,
            alpha=c.ALPHA,
            class_chunk=self.cfg.TRAINER.CLASS_CHUNK,
        )


@TRAINER_REGISTRY.register()
class MMRLpp(RepresentationTrainer):
    """MMRL++ from `TRAINER.MMRLpp`."""

    def settings(self) -> Any:
        """`cfg.TRAINER.MMRLpp`."""
        return self.cfg.TRAINER.MMRLpp

    def assemble(self, frozen: CLIP, prompts: Tensor) -> MMRLModel:
        """The model of this config."""
        c = self.cfg.TRAINER.MMRLpp
        return build_mmrlpp(
            frozen,
            prompts,
            num_tokens=c.N_REP_TOKENS,
            rep_dim=c.REP_DIM,
            rep_layers=c.REP_LAYERS,
            alpha=c.ALPHA,
            class_chunk=self.cfg.TRAINER.CLASS_CHUNK,
            beta=c.BETA,
            layer_rank=c.RES_LORA_DIM,
            projection_rank=c.PROJ_LORA_DIM,
        )
