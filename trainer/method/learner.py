"""Representation learners: space tokens R (K, d_r) -> tokens per adapted layer, (K, width) each.

MMRL projects R by one linear map per layer and modality (arXiv 2503.08497). MMRL++'s SRRA shares
one weight per modality and adds a low-rank residual per layer (arXiv 2505.10088).

Parameters are made empty: `start_values.draw` fills them, or a checkpoint does. Nothing here draws
a random number, so the generator's order is that of `start_values` alone.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "FullProjection",
    "LayerTokens",
    "RepresentationLearner",
    "ResidualProjection",
    "SharedResidualProjection",
]


class LayerTokens(NamedTuple):
    """Representation tokens of both modalities, one (K, width) per listed layer."""

    image: list[Tensor]
    text: list[Tensor]


class LowRankResidual(nn.Module):
    """One layer's own part in SRRA: A (width, r), B (r, d_r), a bias."""

    def __init__(self, rep_dim: int, width: int, rank: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(width, rank))
        self.B = nn.Parameter(torch.empty(rank, rep_dim))
        self.bias = nn.Parameter(torch.empty(width))


class SharedResidualProjection(nn.Module):
    """SRRA: layer l projects by W + A_l B_l, with a bias of its own; (K, d_r) -> (K, width)."""

    def __init__(self, rep_dim: int, width: int, num_layers: int, rank: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, rep_dim))
        self.residuals = nn.ModuleList(
            LowRankResidual(rep_dim, width, rank) for _ in range(num_layers)
        )

    def forward(self, space: Tensor) -> list[Tensor]:
        """Tokens of every listed layer."""
        return [F.linear(space, self.weight + r.A @ r.B, r.bias) for r in self.residuals]


class IndependentProjections(nn.ModuleList):
    """MMRL: one linear map per listed layer; (K, d_r) -> (K, width) each."""

    def __init__(self, rep_dim: int, width: int, num_layers: int) -> None:
        empty = nn.utils.skip_init  # a layer's own start values would draw random numbers
        super().__init__(empty(nn.Linear, rep_dim, width) for _ in range(num_layers))

    def forward(self, space: Tensor) -> list[Tensor]:
        """Tokens of every listed layer."""
        return [linear(space) for linear in self]


class RepresentationLearner(nn.Module):
    """Space tokens R (K, d_r), and the maps into both towers."""

    def __init__(
        self, num_tokens: int, rep_dim: int, to_image: nn.Module, to_text: nn.Module
    ) -> None:
        super().__init__()
        self.space = nn.Parameter(torch.empty(num_tokens, rep_dim))
        self.to_image = to_image
        self.to_text = to_text

    def forward(self) -> LayerTokens:
        """The tokens that enter each listed layer, lowest layer first."""
        return LayerTokens(self.to_image(self.space), self.to_text(self.space))


class FullProjection(nn.Module):
    """MMRL's free `proj_rep` of the representation feature, (width, E)."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, embed_dim))

    def forward(self, frozen: Tensor) -> Tensor:
        """The projection (width, E); CLIP's own, `frozen`, plays no part."""
        return self.weight


class ResidualProjection(nn.Module):
    """MMRL++: CLIP's frozen projection plus A (width, r) B (r, E)."""

    def __init__(self, width: int, embed_dim: int, rank: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(width, rank))
        self.B = nn.Parameter(torch.empty(rank, embed_dim))

    def forward(self, frozen: Tensor) -> Tensor:
        """The projection (width, E)."""
        return frozen.to(self.A.dtype) + self.A @ self.B
