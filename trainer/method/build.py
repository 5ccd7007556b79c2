"""The two methods, assembled: a frozen CLIP, prompts (C, T), sizes -> the model.

Learned tensors are empty until `draw_start_values` or a checkpoint fills them.
"""

from collections.abc import Sequence

from torch import Tensor

from clip.model import CLIP
from trainer.method.injection import Injection, resolve_layers
from trainer.method.learner import (
    FullProjection,
    IndependentProjections,
    RepresentationLearner,
    ResidualProjection,
    SharedResidualProjection,
)
from trainer.method.model import MMRLModel

__all__ = ["build_mmrl", "build_mmrlpp"]


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
        RequestError: `rep_layers` has a layer that a tower lacks.
    """
    sizes, count = frozen.sizes, len(rep_layers)
    learner = RepresentationLearner(
        num_tokens,
        rep_dim,
        IndependentProjections(rep_dim, sizes.vision_width, count),
        IndependentProjections(rep_dim, sizes.text_width, count),
        FullProjection(sizes.vision_width, sizes.embed_dim),
    )
    towers = _injections(frozen, rep_layers, beta=None)
    return MMRLModel(frozen, learner, *towers, prompts, alpha, class_chunk)


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
        RequestError: `rep_layers` has a layer that a tower lacks.
    """
    sizes, count = frozen.sizes, len(rep_layers)
    learner = RepresentationLearner(
        num_tokens,
        rep_dim,
        SharedResidualProjection(rep_dim, sizes.vision_width, count, layer_rank),
        SharedResidualProjection(rep_dim, sizes.text_width, count, layer_rank),
        ResidualProjection(sizes.vision_width, sizes.embed_dim, projection_rank),
    )
    towers = _injections(frozen, rep_layers, beta)
    return MMRLModel(frozen, learner, *towers, prompts, alpha, class_chunk)


def _injections(
    frozen: CLIP, rep_layers: Sequence[int], beta: float | None
) -> tuple[Injection, Injection]:
    """Image and text tower; each resolves the list for its own depth."""
    # negative layers count from the top, which is another layer in each tower
    depths = (frozen.sizes.vision_layers, frozen.sizes.text_layers)
    image, text = (Injection(resolve_layers(rep_layers, depth), beta) for depth in depths)
    return image, text
