"""Distances between two batches of vectors: (M, D), (N, D) -> (M, N)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def euclidean_squared_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """Squared Euclidean distance, |a|^2 + |b|^2 - 2 ab', (M, N)."""
    squares = input1.square().sum(1, keepdim=True) + input2.square().sum(1)
    return torch.addmm(squares, input1, input2.t(), alpha=-2)


def cosine_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """1 - cosine similarity, (M, N)."""
    return 1 - F.normalize(input1, dim=1) @ F.normalize(input2, dim=1).t()


def compute_distance_matrix(input1: Tensor, input2: Tensor, metric: str = "euclidean") -> Tensor:
    """The distance matrix (M, N); `metric` is euclidean (squared) or cosine.

    Raises:
        ValueError: unknown metric, or inputs that are not (M, D) and (N, D).
    """
    metrics = {"euclidean": euclidean_squared_distance, "cosine": cosine_distance}
    if metric not in metrics:
        raise ValueError(f"metric must be one of {sorted(metrics)}, got {metric!r}")
    if input1.dim() != 2 or input2.dim() != 2 or input1.shape[1] != input2.shape[1]:
        raise ValueError(f"Expected (M, D) and (N, D), got {input1.shape} and {input2.shape}")
    return metrics[metric](input1, input2)
