"""Tip-Adapter's equations (Zhang et al., ECCV 2022, arXiv 2207.09519): features -> logits.

affinity = exp(-beta (1 - f F'))         f (B, E) of the pictures, F (N, E) of the cached ones
logits   = 100 f W' + alpha affinity L   W (C, E) of the prompts, L (N, C) the cached labels
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.method.model import LOGIT_SCALE

__all__ = ["Weights", "cache_logits", "grid", "one_hot", "search_weights", "tip_logits"]


class Weights(NamedTuple):
    """Tip-Adapter's two numbers."""

    alpha: float | Tensor  # weight of the cache
    beta: float | Tensor  # sharpness of the affinity


def cache_logits(cosines: Tensor, values: Tensor, beta: float | Tensor) -> Tensor:
    """affinity L: cosines (B, N) to the keys, one-hot labels (N, C) -> (B, C)."""
    return torch.exp(-beta * (1 - cosines)) @ values


def tip_logits(image: Tensor, text: Tensor, keys: Tensor, values: Tensor, w: Weights) -> Tensor:
    """(B, E), (C, E), (N, E), (N, C) -> (B, C)."""
    return LOGIT_SCALE * image @ text.t() + w.alpha * cache_logits(image @ keys.t(), values, w.beta)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """(N,) -> L (N, C)."""
    return F.one_hot(labels, num_classes).float()


def grid(largest: float, num_steps: int) -> list[float]:
    """The published values: from 0.1 in `num_steps` equal steps to just below `largest`."""
    return [0.1 + i * (largest - 0.1) / num_steps for i in range(num_steps)]


@torch.no_grad()
def search_weights(
    clip_logits: Tensor,
    cosines: Tensor,
    values: Tensor,
    labels: Tensor,
    largest: Sequence[float],
    num_steps: Sequence[int],
) -> tuple[Weights, float]:
    """(alpha and beta with the most correct of B pictures, their accuracy in percent).

    `largest` and `num_steps` are of beta, then alpha. Of equals the first: the smallest beta, with
    the smallest alpha.
    """
    best, most = Weights(0.0, 0.0), -1
    for beta in grid(largest[0], num_steps[0]):
        of_cache = cache_logits(cosines, values, beta)
        for alpha in grid(largest[1], num_steps[1]):
            correct = int((clip_logits + alpha * of_cache).argmax(1).eq(labels).sum())
            if correct > most:
                best, most = Weights(alpha, beta), correct
    return best, 100 * most / len(labels)
