"""RAdam as Dassl had it: torch's, with decoupled weight decay."""

from collections.abc import Iterable

import torch


class RAdam(torch.optim.RAdam):
    """`torch.optim.RAdam` with `decoupled_weight_decay=True`."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)
