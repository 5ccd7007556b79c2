"""What a command line asks of train.py, checked against the folders and files that it names.

An evaluation reads from a checkpoint which trainer, sizes and values its model has; neither an
evaluation nor a training may write over what is another's.
"""

import argparse
import os
from typing import Any

import torch

from dassl.engine import TRAINER_REGISTRY
from trainer.checkpoints.find import find_checkpoint, read_checkpoint
from trainer.checkpoints.identity import Identity
from trainer.checkpoints.resume import is_training_folder
from trainer.checkpoints.sizes import adapt_config
from trainer.config import flatten
from trainer.engine import RepresentationTrainer

__all__ = [
    "adapt_to_checkpoint",
    "check_request",
    "evaluation_folders",
    "load_for_evaluation",
    "stored_trainer",
    "use_deterministic_operations",
]


def stored_trainer(args: argparse.Namespace) -> str | None:
    """The trainer that the first checkpoint names, if it is one of this project's."""

    source = find_checkpoint(args.model_dir[0], args.load_epoch)
    identity = Identity.read(read_checkpoint(source), str(source))
    return identity.trainer if identity else None


def check_request(args: argparse.Namespace, cfg: Any) -> None:
    """Refuse what would give figures of nothing, or write into a folder of something else.

    Raises:
        ValueError: with the option or key, and what to do.
    """

    if not args.eval_only:
        if cfg.OPTIM.MAX_EPOCH < 1:
            raise ValueError(
                f"OPTIM.MAX_EPOCH is {cfg.OPTIM.MAX_EPOCH}; a training has 1 epoch or more. To "
                "evaluate a run, give --eval-only --model-dir RUN"
            )
        return
    for folder in [cfg.OUTPUT_DIR, *evaluation_folders(args, cfg)]:
        if is_training_folder(folder):
            raise ValueError(
                f"{folder} is the folder of a training, whose results an evaluation would "
                "replace; give another --output-dir"
            )


def evaluation_folders(args: argparse.Namespace, cfg: Any) -> list[str]:
    """Where the results of each --model-dir go, if there are several."""
    if len(args.model_dir) < 2:
        return []
    common = os.path.commonpath([os.path.abspath(path) for path in args.model_dir])
    return [os.path.join(cfg.OUTPUT_DIR, os.path.relpath(p, common)) for p in args.model_dir]


def adapt_to_checkpoint(args: argparse.Namespace, cfg: Any, origins: dict[str, str]) -> None:
    """Let the checkpoints say what their model is, if the trainer reads this project's.

    Raises:
        ValueError: several are not of one model.
    """

    name = cfg.TRAINER.NAME
    if name not in TRAINER_REGISTRY.registered_names():
        return  # building it will say so
    if not issubclass(TRAINER_REGISTRY.get(name), RepresentationTrainer):
        return
    first, *others = (find_checkpoint(path, args.load_epoch) for path in args.model_dir)
    adapt_config(cfg, origins, read_checkpoint(first), str(first))
    for source in others:
        copy = cfg.clone()
        adapt_config(copy, dict(origins), read_checkpoint(source), str(source))
        for key, value in flatten(copy).items():
            if value != flatten(cfg)[key] and not key.endswith(".REG_WEIGHT"):
                raise ValueError(
                    f"{source} has {key} {value}, {first} has {flatten(cfg)[key]}; evaluate them "
                    "one at a time"
                )


def load_for_evaluation(built: Any, args: argparse.Namespace) -> None:
    """Load the checkpoint that is to be evaluated; several are loaded one after the other later.

    Raises:
        ValueError: there is none, and the trainer is one that learns.
    """
    learns = any(optim is not None for optim in built._optims.values())
    if learns and not args.model_dir:
        raise ValueError(
            f"--eval-only evaluates what {built.cfg.TRAINER.NAME} has learned; say where it is: "
            "--model-dir RUN"
        )
    if len(args.model_dir) < 2:
        built.load_model("".join(args.model_dir), epoch=args.load_epoch)


def use_deterministic_operations() -> None:
    """Let torch choose operations that round the same in every run, or fail by name."""
    # cuBLAS reads it when the first product runs; torch asks for this value
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
