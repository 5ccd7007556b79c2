"""Labels, batches, ramps and averaged models: what semi-supervised trainers share."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "create_onehot",
    "ema_model_update",
    "linear_rampup",
    "reverse_index",
    "sharpen_prob",
    "shuffle_index",
    "sigmoid_rampup",
]


def sharpen_prob(p: Tensor, temperature: float = 2) -> Tensor:
    """Probabilities (N, C) to the power of `temperature`, every row summing to 1 again."""
    powers = p.pow(temperature)
    return powers / powers.sum(1, keepdim=True)


def reverse_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Both with their first dimension reversed."""
    return data.flip(0), label.flip(0)


def shuffle_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the same random order, drawn from torch's generator."""
    order = torch.randperm(len(data))
    return data[order], label[order]


def create_onehot(label: Tensor, num_classes: int) -> Tensor:
    """Labels (N,) -> float32 (N, C), on the labels' device."""
    return F.one_hot(label.long(), num_classes).float()


def sigmoid_rampup(current: float, rampup_length: float) -> float:
    """exp(-5 (1 - t)^2) with t = current / rampup_length, held within 0 and 1."""
    if rampup_length == 0:
        return 1.0
    left = 1 - min(max(current / rampup_length, 0.0), 1.0)
    return math.exp(-5 * left * left)


def linear_rampup(current: float, rampup_length: float) -> float:
    """current / rampup_length, at most 1.

    Raises:
        ValueError: one of them is negative.
    """
    if current < 0 or rampup_length < 0:
        raise ValueError(f"A ramp goes from 0 up, got {current} of {rampup_length}")
    return 1.0 if rampup_length == 0 else min(current / rampup_length, 1.0)


@torch.no_grad()
def ema_model_update(model: nn.Module, ema_model: nn.Module, alpha: float) -> None:
    """Parameters of `ema_model` become alpha times themselves plus (1 - alpha) of `model`'s."""
    for average, new in zip(ema_model.parameters(), model.parameters(), strict=True):
        average.mul_(alpha).add_(new, alpha=1 - alpha)
