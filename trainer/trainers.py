"""The registered trainers MMRL (arXiv 2503.08497) and MMRLpp (MMRL++, arXiv 2505.10088)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainer.engine import RepresentationTrainer
from trainer.method.learner import (
    FullProjection,
    IndependentProjections,
    RepresentationLearner,
    ResidualProjection,
    SharedResidualProjection,
)
from trainer.method.model import MMRLModel, TowerEntries
from trainer.method.text_encoder import entry_rules, resolve_layers

__all__ = ["MMRL", "MMRLpp", "build_from_config", "build_mmrl", "build_mmrlpp"]


def build_mmrl(
    frozen: CLIP,
    prompts: Tensor,
    *,
    num_tokens: int,
    rep_dim: int,
    rep_layers: Sequence[int],
    alpha: float,
    class_chunk: int = 0,
) -> MMRLModel:
    """MMRL: a linear map per layer and modality, a free `proj_rep`, tokens replaced.

    Raises:
        ValueError: `rep_layers` has a layer that a tower lacks.
    """
    sizes, count = frozen.sizes, len(rep_layers)
    learner = RepresentationLearner(
        num_tokens,
        rep_dim,
        IndependentProjections(rep_dim, sizes.vision_width, count),
        IndependentProjections(rep_dim, sizes.text_width, count),
    )
    projection = FullProjection(sizes.vision_width, sizes.embed_dim)
    entry = _entries(frozen, rep_layers, beta=None)
    return MMRLModel(frozen, learner, projection, entry, prompts, alpha, class_chunk)


def build_mmrlpp(
    frozen: CLIP,
    prompts: Tensor,
    *,
    num_tokens: int,
    rep_dim: int,
    rep_layers: Sequence[int],
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
    sizes, count = frozen.sizes, len(rep_layers)
    learner = RepresentationLearner(
        num_tokens,
        rep_dim,
        SharedResidualProjection(rep_dim, sizes.vision_width, count, layer_rank),
        SharedResidualProjection(rep_dim, sizes.text_width, count, layer_rank),
    )
    projection = ResidualProjection(sizes.vision_width, sizes.embed_dim, projection_rank)
    entry = _entries(frozen, rep_layers, beta)
    return MMRLModel(frozen, learner, projection, entry, prompts, alpha, class_chunk)


def _entries(frozen: CLIP, rep_layers: Sequence[int], beta: float | None) -> TowerEntries:
    """Each tower resolves the list for its own depth."""
    depths = (frozen.sizes.vision_layers, frozen.sizes.text_layers)
    return TowerEntries(*(entry_rules(resolve_layers(rep_layers, d), beta) for d in depths))


def build_from_config(cfg: Any, frozen: CLIP, prompts: Tensor) -> MMRLModel:
    """The model of `cfg.TRAINER.NAME`; below this function nothing knows of yacs.

    Raises:
        ValueError: the trainer has no such model.
    """
    c = cfg.TRAINER[cfg.TRAINER.NAME] if cfg.TRAINER.NAME in ("MMRL", "MMRLpp") else None
    if c is None:
        raise ValueError(f"TRAINER.NAME must be MMRL or MMRLpp, got {cfg.TRAINER.NAME!r}")
    common = {
        "num_tokens": c.N_REP_TOKENS,
        "rep_dim": c.REP_DIM,
        "rep_layers": c.REP_LAYERS,
        "alpha": c.ALPHA,
        "class_chunk": cfg.TRAINER.CLASS_CHUNK,
    }
    if cfg.TRAINER.NAME == "MMRL":
        return build_mmrl(frozen, prompts, **common)
    ranks = {"layer_rank": c.RES_LORA_DIM, "projection_rank": c.PROJ_LORA_DIM}
    return build_mmrlpp(frozen, prompts, beta=c.BETA, **ranks, **common)


class _Configured(RepresentationTrainer):
    """A method whose settings are `cfg.TRAINER.<its name>`."""

    def settings(self) -> Any:
        """The method's own node."""
        return self.cfg.TRAINER[self.cfg.TRAINER.NAME]

    def assemble(self, frozen: CLIP, prompts: Tensor) -> MMRLModel:
        """The model of this config."""
        return build_from_config(self.cfg, frozen, prompts)


@TRAINER_REGISTRY.register()
class MMRL(_Configured):
    """MMRL from `TRAINER.MMRL`."""


@TRAINER_REGISTRY.register()
class MMRLpp(_Configured):
    """MMRL++ from `TRAINER.MMRLpp`."""
