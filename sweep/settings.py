"""What all runs of a sweep have in common, and what it makes of a run: folder, command, config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from interpreter import REPOSITORY, python_for_runs
from options import module_words
from sweep.runs import Run, below

__all__ = [
    "CONSOLE",
    "Inputs",
    "Settings",
    "command",
    "config_of",
    "console_of",
    "folder_of",
    "resolved_config",
]

CONSOLE = "console.txt"


class Inputs(NamedTuple):
    """What a run would read now; empty: not known, and compared with nothing."""

    draw_sha256: str = ""  # of the training pictures
    backbone_sha256: str = ""  # the CLIP's fingerprint


class Settings(NamedTuple):
    """What all runs of a sweep have in common."""

    root: str
    folder: str = ""
    backbone: str = ""
    opts: tuple[str, ...] = ()
    retries: int = 1
    timeout_minutes: float | None = None  # of one call of train.py
    inputs: Mapping[str, Inputs] = {}  # of finished runs, by output
    trainer_modules: tuple[str, ...] = ()  # absolute paths
    dataset_modules: tuple[str, ...] = ()


def folder_of(run: Run, settings: Settings) -> Path:
    """Where the run's results go; relative folders are below the repository."""
    return REPOSITORY / settings.folder / run.output


def console_of(run: Run, settings: Settings) -> Path:
    """The file that holds what the run printed."""
    return folder_of(run, settings) / CONSOLE


def command(run: Run, settings: Settings) -> list[str]:
    """The command line that calls train.py."""
    arguments = run.arguments(settings.root, settings.folder, settings.backbone, settings.opts)
    modules = module_words(settings.trainer_modules, settings.dataset_modules)
    return [python_for_runs(), "train.py", *modules, *arguments]


def resolved_config(run: Run, settings: Settings) -> dict[str, Any]:
    """Every config value of the run by full key, as train.py resolves its command.

    Raises:
        RequestError: a key or value after `--` is wrong.
    """
    from trainer.config import flatten

    return flatten(config_of(run, settings))


def config_of(run: Run, settings: Settings) -> Any:
    """The config of the run, as train.py resolves its command.

    Raises:
        RequestError: a key or value after `--` is wrong.
    """
    from trainer.config import build_config
    from trainer.own_modules import load_modules

    # Another machine's process may ask, which has loaded nothing yet.
    load_modules(settings.trainer_modules, settings.dataset_modules)
    named = {"MODEL.BACKBONE.NAME": settings.backbone} if settings.backbone else {}
    cfg, _ = build_config(
        trainer=run.trainer,
        dataset_config_file=str(REPOSITORY / run.dataset_file) if run.dataset_file else "",
        config_file=str(REPOSITORY / run.config_file),
        flags=named
        | {
            "DATASET.ROOT": settings.root,
            "SEED": run.seed,
            "OUTPUT_DIR": below(settings.folder, run.output),
        },
        opts=[*run.options, *settings.opts],
    )
    return cfg
