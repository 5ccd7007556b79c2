"""What an evaluation is asked for: run folders or files, checked before anything is built."""

import os
from collections.abc import Sequence
from typing import Any

from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.errors import RequestError
from trainer.checkpoints.find import find_checkpoint, read_checkpoint
from trainer.checkpoints.identity import Identity
from trainer.checkpoints.resume import is_training_folder
from trainer.checkpoints.sizes import adapt_config
from trainer.config import flatten
from trainer.engine import RepresentationTrainer

__all__ = [
    "adapt_to_checkpoints",
    "check_folders",
    "folders_of",
    "load_for_evaluation",
    "stored_trainer",
]


def folders_of(model_dirs: Sequence[str], output_dir: str) -> list[str]:
    """Where the results of each of several runs go: below `output_dir`, as the runs are named."""
    common = os.path.commonpath([os.path.abspath(path) for path in model_dirs])
    return [os.path.join(output_dir, os.path.relpath(path, common)) for path in model_dirs]


def check_folders(model_dirs: Sequence[str], output_dir: str) -> None:
    """That an evaluation replaces no training's results.

    Raises:
        RequestError: with the folder, and what to do.
    """
    several = folders_of(model_dirs, output_dir) if len(model_dirs) > 1 else []
    for folder in [output_dir, *several]:
        if is_training_folder(folder):
            raise RequestError(
                f"{folder} is the folder of a training, whose results an evaluation would "
                "replace; give another --output-dir"
            )


def stored_trainer(path: str, epoch: int | None) -> str:
    """The trainer that a checkpoint names; empty where it names none.

    Raises:
        FileNotFoundError, RequestError: there is no checkpoint, or it is damaged.
    """
    source = find_checkpoint(path, epoch)
    identity = Identity.read(read_checkpoint(source), str(source))
    return identity.trainer if identity else ""


def adapt_to_checkpoints(
    cfg: CfgNode, origins: dict[str, str], model_dirs: Sequence[str], epoch: int | None
) -> None:
    """Let the checkpoints say what their model is, if the trainer reads this project's.

    Raises:
        RequestError: they are not of this trainer, or several are not of one model.
    """
    name = cfg.TRAINER.NAME
    if name not in TRAINER_REGISTRY.registered_names():
        return  # building it will say so
    if not issubclass(TRAINER_REGISTRY.get(name), RepresentationTrainer):
        return
    first, *others = (find_checkpoint(path, epoch) for path in model_dirs)
    adapt_config(cfg, origins, read_checkpoint(first), str(first))
    values = flatten(cfg)
    for source in others:
        copy = cfg.clone()
        adapt_config(copy, dict(origins), read_checkpoint(source), str(source))
        for key, value in flatten(copy).items():
            # The weight of the regularisation is in the loss alone.
            if value != values[key] and not key.endswith(".REG_WEIGHT"):
                raise RequestError(
                    f"{source} has {key} {value}, {first} has {values[key]}; evaluate them one at "
                    "a time"
                )


def load_for_evaluation(trainer: Any, model_dirs: Sequence[str], epoch: int | None) -> None:
    """Load the one checkpoint that is to be evaluated; several are loaded one by one later.

    Raises:
        RequestError: there is none, and the trainer is one that learns; or it does not fit.
    """
    learns = any(optim is not None for optim in trainer._optims.values())
    if learns and not model_dirs:
        raise RequestError(
            f"--eval-only evaluates what {trainer.cfg.TRAINER.NAME} has learned; say where it is: "
            "--model-dir RUN"
        )
    if len(model_dirs) < 2:
        trainer.load_model("".join(model_dirs), epoch=epoch)
