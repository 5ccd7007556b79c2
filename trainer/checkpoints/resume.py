"""The rolling resume file: all of a run's state after its newest epoch, in OUTPUT_DIR/resume.pt.

It is written whole under another name, then renamed, and removed when the run is finished. A run
that was killed resumes from it, and ends with the same parameters.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dassl.utils import torchfile
from dassl.utils.generators import restore_random_states
from dassl.utils.restoring import check_kinds, restore_schedule, restoring
from dassl.utils.torchtools import (
    atomic_save,
    has_checkpoint,
    newest_readable_checkpoint,
)
from trainer.checkpoints.find import MODEL_NAME, check_weights
from trainer.checkpoints.keys import load_learned, optimizer_state
from trainer.method.model import MMRLModel

__all__ = ["FREE_KEYS", "ResumeFile", "TornResumeFile", "newest_checkpoint", "restore"]

# Where results go and how fast they come may change between two starts; nothing else may.
FREE_KEYS = {
    *("OUTPUT_DIR", "RESUME", "DATASET.ROOT"),
    *("TRAIN.PRINT_FREQ", "TRAIN.CHECKPOINT_FREQ", "TRAIN.GRAPH"),
}
_KINDS: dict[str, Any] = {  # of the entries, as `isinstance` takes them
    **{"settings": dict, "state_dict": dict, "optimizer": dict, "scheduler": dict},
    **{"random_states": dict, "epoch": int, "best_result": (int, float)},
}


class TornResumeFile(ValueError):
    """A resume file that was not written whole, or cannot be read."""


def newest_checkpoint(directory: str) -> tuple[str, dict[str, Any]] | None:
    """(path, content) of a run's newest readable checkpoint, ours or published; None: none."""
    folder = os.path.join(directory or ".", MODEL_NAME)
    return newest_readable_checkpoint(folder) if has_checkpoint(folder) else None


def restore(
    model: MMRLModel, optim: Any, sched: Any, scaler: Any, state: dict[str, Any], path: str
) -> None:
    """Put a run back into the state of a checkpoint, ours or published, or of a resume file.

    Raises:
        ValueError: the state does not fit this run; the message names the file.
    """
    check_weights(state["state_dict"], path)
    try:
        load_learned(model, state["state_dict"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if (stored := state.get("optimizer")) is not None:
        with restoring("optimizer", path):
            if len(stored["state"]) != len(model.learned()):  # a tensor a layer, as published
                stored = optimizer_state(stored, state["state_dict"], model.learned())
            _restore_optimizer(optim, stored)
    if state.get("scheduler") is not None:
        restore_schedule(sched, state["scheduler"], path)
    if scaler is not None and state.get("scaler"):
        with restoring("scaler", path):
            check_kinds(state["scaler"], scaler.state_dict())
            scaler.load_state_dict(state["scaler"])
    if "random_states" in state:
        with restoring("random_states", path):
            restore_random_states(state["random_states"])


def _restore_optimizer(optim: torch.optim.Optimizer, stored: dict[str, Any]) -> None:
    """As `load_state_dict`, which leaves it to the next step to find out what it was given.

    Raises:
        KeyError, TypeError, ValueError: an option or a moment is of another kind or shape.
    """
    optim.load_state_dict(stored)
    for group in optim.param_groups:
        for name, value in optim.defaults.items():
            check_kinds(group[name], value)
    for p, moments in optim.state.items():
        if not all(_is_moment(name, value, p) for name, value in moments.items()):
            raise TypeError


def _is_moment(name: str, value: Any, p: Tensor) -> bool:
    if name == "step":
        return isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.dim() == 0)
    return value is None or (isinstance(value, Tensor) and value.shape == p.shape)


class ResumeFile:
    """`resume.pt` in a run's folder."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory or ".", "resume.pt")

    def exists(self) -> bool:
        """Whether a run was stopped here."""
        return os.path.isfile(self.path)

    def save(self, state: dict[str, Any], settings: dict[str, Any]) -> None:
        """Replace the file by `state`; `settings` are the run's config values by full key."""
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        atomic_save(state | {"settings": _plain(settings)}, self.path)

    def load(self, settings: dict[str, Any]) -> dict[str, Any]:
        """What was saved.

        Raises:
            TornResumeFile: the file is torn or cannot be read.
            ValueError: the run that was stopped had other settings; the message names one. Or the
                file is another one.
        """
        state = self._read()
        if missing := [key for key, kind in _KINDS.items() if not isinstance(state.get(key), kind)]:
            raise ValueError(
                f"{self.path} is not a resume file: it lacks {missing[0]!r}. Remove it to "
                "resume from the newest checkpoint beside it, or to start afresh."
            )
        before, now = state["settings"], _plain(settings)
        changed = sorted(k for k in before | now if before.get(k) != now.get(k))
        if changed:
            key = changed[0]
            raise ValueError(
                f"{self.path} is of a run with {key} {before.get(key)}, this one has "
                f"{now.get(key)} ({len(changed)} settings differ). Remove it to start afresh, or "
                "use another --output-dir."
            )
        return state

    def _read(self) -> dict[str, Any]:
        try:
            state = torchfile.read(self.path)
        except torchfile.UnsafeFileError:
            raise  # it is whole, and somebody's doing
        except ValueError as error:
            raise TornResumeFile(f"{error}") from error
        return state if isinstance(state, dict) else {}

    def remove(self) -> None:
        """Remove the file, once the run is finished."""
        Path(self.path).unlink(missing_ok=True)


def _plain(settings: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in settings.items() if key not in FREE_KEYS}
