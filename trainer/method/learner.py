"""Representation learners: space tokens R (K, d_r) -> tokens of all listed layers, (layers, K, D).

MMRL projects R by one linear map per layer and modality (arXiv 2503.08497). MMRL++'s SRRA shares
one weight per modality and adds a low-rank residual per layer (arXiv 2505.10088). The maps of all
listed layers are one tensor, so that one batched product makes all tokens.

Parameters are made empty: `start_values.draw_start_values` fills them, or a checkpoint does.
Nothing here draws a random number, so the generator's order is that of the start values alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "FullProjection",
    "IndependentProjections",
    "RepresentationLearner",
    "ResidualProjection",
    "SharedResidualProjection",
    "Tokens",
]


class Tokens(NamedTuple):
    """What the learner gives both encoders."""

    image: Tensor  # (layers, K, D) of the image tower, lowest listed layer first
    text: Tensor  # (layers, K, D) of the text tower
    rep_proj: Tensor  # (D, E) projection of the representation feature


def project_each(space: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map per layer: (K, d_r), (layers, D, d_r), (layers, D) -> (layers, K, D).

    A batched product, unlike a plain one, rounds the same on any number of threads.
    """
    # one product for all layers is one launch instead of one a layer
    repeated = space.expand(len(weight), -1, -1)  # (layers, K, d_r), a view
    return torch.baddbmm(bias[:, None], repeated, weight.transpose(1, 2))


class IndependentProjections(nn.Module):
    """MMRL: weight (layers, D, d_r) and bias (layers, D)."""

    def __init__(self, rep_dim: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_layers, width, rep_dim))
        self.bias = nn.Parameter(torch.empty(num_layers, width))

    def forward(self, space: Tensor) -> Tensor:
        """Tokens of every listed layer: (K, d_r) -> (layers, K, D)."""
        return project_each(space, self.weight, self.bias)


class LowRankResiduals(nn.Module):
    """Each layer's own part in SRRA: A (layers, D, r), B (layers, r, d_r), bias (layers, D)."""

    def __init__(self, rep_dim: int, width: int, num_layers: int, rank: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(num_layers, width, rank))
        self.B = nn.Parameter(torch.empty(num_layers, rank, rep_dim))
        self.bias = nn.Parameter(torch.empty(num_layers, width))


class SharedResidualProjection(nn.Module):
    """SRRA: layer l projects by W + A_l B_l, with a bias of its own; `shared` is W (D, d_r)."""

    def __init__(self, rep_dim: int, width: int, num_layers: int, rank: int) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.empty(width, rep_dim))
        self.residuals = LowRankResiduals(rep_dim, width, num_layers, rank)

    def forward(self, space: Tensor) -> Tensor:
        """Tokens of every listed layer: (K, d_r) -> (layers, K, D)."""
        r = self.residuals
        # W + A_l B_l is formed first: K rows are fewer than d_r, but one product is one launch
        repeated = self.shared.expand(len(r.A), -1, -1)
        return project_each(space, torch.baddbmm(repeated, r.A, r.B), r.bias)


class FullProjection(nn.Module):
    """MMRL's free `proj_rep` of the representation feature, (D, E)."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, embed_dim))

    def forward(self, frozen: Tensor) -> Tensor:
        """The projection (D, E); CLIP's own, `frozen`, plays no part."""
        return self.weight


class ResidualProjection(nn.Module):
    """MMRL++: CLIP's frozen projection plus A (D, r) B (r, E)."""

    def __init__(self, width: int, embed_dim: int, rank: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(width, rank))
        self.B = nn.Parameter(torch.empty(rank, embed_dim))

    def forward(self, frozen: Tensor) -> Tensor:
        """The projection (D, E)."""
        # what trains stays in float32, whatever type CLIP's own projection has
        return torch.addmm(frozen.to(self.A.dtype), self.A, self.B)


class RepresentationLearner(nn.Module):
    """All that trains: space tokens R (K, d_r), the maps into both towers, and `proj_rep`."""

    def __init__(
        self,
        num_tokens: int,
        rep_dim: int,
        to_image: nn.Module,
        to_text: nn.Module,
        projection: nn.Module,
    ) -> None:
        super().__init__()
        self.space = nn.Parameter(torch.empty(num_tokens, rep_dim))
        self.to_image = to_image
        self.to_text = to_text
        self.projection = projection

    def forward(self, frozen_proj: Tensor) -> Tokens:
        """Tokens and projection; `frozen_proj` is CLIP's image projection (D, E)."""
        return Tokens(
            self.to_image(self.space), self.to_text(self.space), self.projection(frozen_proj)
        )
