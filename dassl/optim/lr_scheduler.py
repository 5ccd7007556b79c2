"""`cfg.OPTIM` and an optimizer -> a scheduler that is stepped once per epoch.

A warm-up of W epochs wraps the real schedule (its *successor*): constant, every group at
WARMUP_CONS_LR; linear, WARMUP_MIN_LR in epoch 0 and base_lr e / W after. In epoch W the successor
stands at its first value, from then on it is stepped once per epoch.
"""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

from dassl.errors import RequestError

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]


class _BaseWarmupScheduler(LRScheduler):
    """Counts the warm-up's epochs, then steps the successor; subclasses give `get_lr`."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The lr of every group in epoch `last_epoch`."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch."""
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, the successor's as a dict."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "successor")}
        state = {k: v for k, v in state.items() if _is_plain(v)}
        successor = self.successor.state_dict()
        return state | {"successor": {k: v for k, v in successor.items() if _is_plain(v)}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both in place; the successor may also be the object that 0.6.3 has there.

        Raises:
            RequestError: the state is of a schedule without warm-up.
        """
        state = dict(state_dict)
        successor = state.pop("successor", None)
        if isinstance(successor, LRScheduler):
            successor = vars(successor)
        if not isinstance(successor, dict):
            raise RequestError(
                "The checkpoint's schedule has no warm-up, this run's has OPTIM.WARMUP_EPOCH "
                f"{self.warmup_epoch}. Set it to -1, or start afresh in another folder."
            )
        own = vars(self.successor)
        wanted = {k: v for k, v in successor.items() if k in own and k != "optimizer"}
        own.update({k: v for k, v in wanted.items() if _is_plain(v)})
        self.__dict__.update({k: v for k, v in state.items() if k != "optimizer" and _is_plain(v)})


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(v) for v in value)
    if isinstance(value, dict):
        return all(_is_plain(v) for v in value.values())
    return value is None or isinstance(value, (bool, int, float, str))


class ConstantWarmupScheduler(_BaseWarmupScheduler):
    """Every group at `cons_lr` for `warmup_epoch` epochs, then the successor."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        cons_lr: float,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The lr of every group in this epoch."""
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.cons_lr for _ in self.base_lrs]


class LinearWarmupScheduler(_BaseWarmupScheduler):
    """From `min_lr` up to the base lr in `warmup_epoch` epochs, then the successor."""

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        min_lr: float,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The lr of every group in this epoch."""
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        if self.last_epoch == 0:
            return [self.min_lr for _ in self.base_lrs]
        return [lr * self.last_epoch / self.warmup_epoch for lr in self.base_lrs]


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: Any) -> LRScheduler:
    """The scheduler `optim_cfg.LR_SCHEDULER`, wrapped in a warm-up if WARMUP_EPOCH > 0.

    Raises:
        RequestError: an unknown LR_SCHEDULER or WARMUP_TYPE.
        TypeError: STEPSIZE is not an int (single_step), or not a sequence (multi_step).
    """
    scheduler = _plain_scheduler(optimizer, optim_cfg)
    warmup = optim_cfg.WARMUP_EPOCH
    if warmup <= 0:
        return scheduler
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = warmup
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(optimizer, scheduler, warmup, optim_cfg.WARMUP_CONS_LR)
    if optim_cfg.WARMUP_TYPE == "linear":
        return LinearWarmupScheduler(optimizer, scheduler, warmup, optim_cfg.WARMUP_MIN_LR)
    raise RequestError(
        f"OPTIM.WARMUP_TYPE must be constant or linear, got {optim_cfg.WARMUP_TYPE!r}"
    )


def _plain_scheduler(optimizer: Optimizer, optim_cfg: Any) -> LRScheduler:
    name, step, max_epoch = optim_cfg.LR_SCHEDULER, optim_cfg.STEPSIZE, optim_cfg.MAX_EPOCH
    if name not in AVAI_SCHEDS:
        raise RequestError(f"OPTIM.LR_SCHEDULER must be one of {AVAI_SCHEDS}, got {name!r}")
    if name == "cosine":
        return CosineAnnealingLR(optimizer, max_epoch)
    if name == "multi_step":
        if not isinstance(step, (list, tuple)):
            raise TypeError(f"multi_step needs OPTIM.STEPSIZE as a list, got {step!r}")
        return MultiStepLR(optimizer, milestones=list(step), gamma=optim_cfg.GAMMA)
    if isinstance(step, (list, tuple)):
        step = step[-1]
    if not isinstance(step, int):
        raise TypeError(f"single_step needs OPTIM.STEPSIZE as an integer, got {step!r}")
    return StepLR(optimizer, step_size=step if step > 0 else max_epoch, gamma=optim_cfg.GAMMA)
