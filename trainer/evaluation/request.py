"""What an evaluation is asked for: run folders or files, checked before anything is built."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.engine.base import TrainerBase
from dassl.errors import RequestError
from run_files import RESULTS_FILE
from trainer.checkpoints.find import find_checkpoint, read_checkpoint
from trainer.checkpoints.hub import PREFIX
from trainer.checkpoints.identity import Identity, check_trainer, fingerprint_of_learned
from trainer.checkpoints.keys import is_learned
from trainer.checkpoints.pictures import pictures_of
from trainer.checkpoints.resume import finished, is_training_folder
from trainer.checkpoints.settings import OF_TRAINING
from trainer.checkpoints.sizes import adapt_config
from trainer.config import flatten
from trainer.evaluation.evidence import missing_evidence
from trainer.folder_trainer import FolderTrainer

__all__ = [
    "adapt_to_checkpoints",
    "already_evaluated",
    "check_folders",
    "folders_of",
    "identify",
    "load_for_evaluation",
    "stored_trainer",
]


def folders_of(model_dirs: Sequence[str], output_dir: str) -> list[str]:
    """Where the results of each of several runs go: below `output_dir`, as the runs are named."""
    places = [os.path.abspath(path.removeprefix(PREFIX)) for path in model_dirs]
    common = os.path.commonpath(places)
    return [os.path.join(output_dir, os.path.relpath(place, common)) for place in places]


def check_folders(model_dirs: Sequence[str], output_dir: str) -> bool:
    """That an evaluation replaces no training's results; whether there are results already.

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
    return all(os.path.isfile(os.path.join(f, RESULTS_FILE)) for f in several or [output_dir])


def stored_trainer(path: str, epoch: int | None) -> str:
    """The trainer that a checkpoint names; empty where it names none.

    Raises:
        FileNotFoundError, RequestError: there is no checkpoint, it is damaged, or its trainer is
            not registered.
    """
    source = find_checkpoint(path, epoch)
    identity = Identity.read(read_checkpoint(source), str(source))
    if identity is None:
        return ""
    check_trainer(identity.trainer, str(source), identity.own_modules)
    return identity.trainer


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
    if not issubclass(TRAINER_REGISTRY.get(name), FolderTrainer):
        return
    first, *others = (find_checkpoint(path, epoch) for path in model_dirs)
    checkpoint = read_checkpoint(first)
    adapt_config(cfg, origins, checkpoint, str(first))
    values = flatten(cfg)
    if not others:
        _check_training(values, checkpoint, str(first))
    for source in others:
        copy = cfg.clone()
        adapt_config(copy, dict(origins), read_checkpoint(source), str(source))
        for key, value in flatten(copy).items():
            # The weight of the regularisation is in the loss alone; each run has its own seed.
            is_free = key.endswith(".REG_WEIGHT") or key in OF_TRAINING
            if value != values[key] and not is_free:
                raise RequestError(
                    f"{source} has {key} {value}, {first} has {values[key]}; evaluate them one at "
                    "a time"
                )


def _check_training(values: Mapping[str, Any], checkpoint: Mapping[str, Any], source: str) -> None:
    """That the figures will not be filed under the seed or the shots of another training."""
    stored = Identity.read(checkpoint, source)
    for key in OF_TRAINING:
        if stored and key in stored.settings and stored.settings[key] != values[key]:
            raise RequestError(
                f"{source} was made with {key} {stored.settings[key]}, but {key} is now "
                f"{values[key]}. Leave it out, or give the --model-dir of that run."
            )


def identify(trainer: Any, path: str, epoch: int | None) -> None:
    """Let `trainer.identity` be that of the evaluation of what is stored at `path`.

    Seed, shots, draw and class names are those of the training, as far as the file says; other
    people's trainers have no identity.
    """
    if not hasattr(trainer, "identity"):
        return
    wanted, pictures = trainer.identity, pictures_of(trainer.cfg, trainer.dm.dataset, False)
    wanted = wanted._replace(pictures=pictures)
    if path:
        source = find_checkpoint(path, epoch)
        checkpoint = read_checkpoint(source)
        state, stored = checkpoint["state_dict"], Identity.read(checkpoint, str(source))
        trained = {k: v for k, v in (stored.settings if stored else {}).items() if k in OF_TRAINING}
        learned = state if stored else {key: state[key] for key in filter(is_learned, state)}
        wanted = wanted._replace(
            settings=wanted.settings | trained,
            classnames=stored.classnames if stored else [],
            draw_sha256=stored.draw_sha256 if stored else "",
            model_sha256=fingerprint_of_learned(learned),
        )
    trainer.identity = wanted


def already_evaluated(trainer: Any, folder: str) -> str | None:
    """What the folder already says of this evaluation; None: it is to be done.

    Raises:
        RequestError: the folder holds the results of another one.
    """
    if not hasattr(trainer, "identity"):
        return None
    results = finished(folder, trainer.identity)
    if results is None or missing_evidence(trainer.cfg, folder):
        return None
    if results.read_out is None and hasattr(trainer, "read_out") and trainer.read_out().is_mixed:
        return None  # of an earlier version, which read new classes as if they had been trained
    return f"already finished: accuracy {results.need('accuracy'):.2f}%, see {results.path}"


def load_for_evaluation(trainer: Any, model_dirs: Sequence[str], epoch: int | None) -> None:
    """Load the one checkpoint that is to be evaluated; several are loaded one by one later.

    Raises:
        RequestError: there is none, and the trainer is one that learns; or it does not fit.
    """
    steps = any(optim is not None for optim in trainer._optims.values())
    learns = steps or isinstance(trainer, FolderTrainer)
    if learns and not model_dirs:
        raise RequestError(
            f"--eval-only evaluates what {trainer.cfg.TRAINER.NAME} has learned; say where it is: "
            "--model-dir RUN"
        )
    if model_dirs and not trainer._models and type(trainer).load_model is TrainerBase.load_model:
        raise RequestError(
            f"{trainer.cfg.TRAINER.NAME} learns nothing that could be loaded; leave --model-dir out"
        )
    if len(model_dirs) > 1 and not hasattr(trainer, "test_many"):
        raise RequestError(f"{trainer.cfg.TRAINER.NAME} evaluates one --model-dir at a time")
    if len(model_dirs) < 2:
        trainer.load_model("".join(model_dirs), epoch=epoch)
