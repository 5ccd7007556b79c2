"""`cfg.TRAINER.NAME` -> a trainer."""

import warnings
from typing import Any

from dassl.errors import RequestError
from dassl.utils import Registry, check_availability

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: Any) -> Any:
    """The registered trainer of that name, made from `cfg`.

    Raises:
        RequestError: there is no name, or it is not registered.
    """
    if not cfg.TRAINER.NAME:
        known = ", ".join(TRAINER_REGISTRY.registered_names())
        raise RequestError(f"No trainer is named (TRAINER.NAME, or --trainer); choose from {known}")
    check_availability(cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names())
    # Trainers of this family use torch.cuda.amp, which still works and says that it will not.
    warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.", FutureWarning)
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
