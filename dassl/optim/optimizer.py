"""`cfg.OPTIM` and a module -> a torch optimizer."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dassl.errors import RequestError
from dassl.optim.radam import RAdam
from dassl.utils.tools import tolist_if_not

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(
    model: nn.Module | Iterable, optim_cfg: Any, param_groups: list | None = None
) -> torch.optim.Optimizer:
    """The optimizer `optim_cfg.NAME` over `param_groups`, or all of `model`, or its staged groups.

    Raises:
        RequestError: the name is not in AVAI_OPTIMS.
        TypeError: STAGED_LR is set and `model` is not a module.
    """
    name = optim_cfg.NAME
    if name not in AVAI_OPTIMS:
        raise RequestError(f"OPTIM.NAME must be one of {AVAI_OPTIMS}, got {name!r}")
    if param_groups is not None and optim_cfg.STAGED_LR:
        warnings.warn("OPTIM.STAGED_LR is ignored: param_groups are given", stacklevel=2)
    groups = _groups(model, optim_cfg) if param_groups is None else param_groups
    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    if name == "adam":
        return torch.optim.Adam(groups, betas=betas, **common)
    if name == "amsgrad":
        return torch.optim.Adam(groups, betas=betas, amsgrad=True, **common)
    if name == "adamw":
        return torch.optim.AdamW(groups, betas=betas, **common)
    if name == "radam":
        return RAdam(groups, betas=betas, **common)
    common["momentum"] = optim_cfg.MOMENTUM
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, alpha=optim_cfg.RMSPROP_ALPHA, **common)
    return torch.optim.SGD(
        groups,
        dampening=optim_cfg.SGD_DAMPNING,
        nesterov=optim_cfg.SGD_NESTEROV,
        **common,
    )


def _groups(model: nn.Module | Iterable, optim_cfg: Any) -> Iterable:
    if optim_cfg.STAGED_LR:
        return _staged_groups(model, optim_cfg)
    return model.parameters() if isinstance(model, nn.Module) else model


def _staged_groups(model: nn.Module | Iterable, optim_cfg: Any) -> list[dict]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"OPTIM.STAGED_LR needs a torch module, got {type(model).__name__}")
    new_layers = optim_cfg.NEW_LAYERS
    new_layers = list(new_layers) if isinstance(new_layers, tuple) else tolist_if_not(new_layers)
    if not new_layers:
        warnings.warn("OPTIM.NEW_LAYERS is empty: STAGED_LR scales the lr of all", stacklevel=4)
    model = model.module if isinstance(model, nn.DataParallel) else model
    base: list[nn.Parameter] = []
    new: list[nn.Parameter] = []
    for name, module in model.named_children():
        (new if name in new_layers else base).extend(module.parameters())
    return [
        {"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT},
        {"params": new},
    ]
