"""Dassl's names for RAdam and AdamW, made of torch's; weight decay is decoupled in all of them."""

from collections.abc import Iterable

import torch

__all__ = ["AdamW", "PlainRAdam", "RAdam"]


class RAdam(torch.optim.RAdam):
    """Its first steps, whose variance cannot be rectified, are plain momentum steps.

    Raises:
        ValueError: `degenerated_to_sgd` is False: torch's RAdam does not leave those steps out.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        degenerated_to_sgd: bool = True,
    ) -> None:
        if not degenerated_to_sgd:
            raise ValueError("degenerated_to_sgd must be True: the first steps are always made")
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)


class PlainRAdam(RAdam):
    """The same numbers; upstream's two differed in what they kept in memory."""


class AdamW(torch.optim.AdamW):
    """torch's, without weight decay unless it is asked for.

    Raises:
        ValueError: `warmup` is not 0; schedules warm up by OPTIM.WARMUP_EPOCH.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        warmup: int = 0,
    ) -> None:
        if warmup:
            raise ValueError(f"warmup must be 0, got {warmup}; use OPTIM.WARMUP_EPOCH instead")
        super().__init__(params, lr, betas, eps, weight_decay)
