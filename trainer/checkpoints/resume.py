"""The rolling resume file: all of a run's state after its newest epoch, in OUTPUT_DIR/resume.pt.

It is written whole under another name, then renamed, and removed when the run is finished. A run
that was killed resumes from it, and ends with the same parameters.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dassl.engine.base import BEST_FILE
from dassl.errors import RequestError
from dassl.utils import torchfile
from dassl.utils.generators import restore_random_states
from dassl.utils.restoring import check_checkpoint, check_kinds, restore_schedule, restoring
from dassl.utils.torchtools import (
    has_checkpoint,
    load_checkpoint,
    newest_readable_checkpoint,
)
from dassl.whole_files import write_whole
from run_files import EVALUATED, RunResults
from trainer.checkpoints.find import MODEL_NAME, check_weights
from trainer.checkpoints.identity import KEY, Identity, check_digest, first_difference, seal
from trainer.checkpoints.keys import is_published, load_learned, optimizer_state
from trainer.method.model import MMRLModel

__all__ = [
    "ResumeFile",
    "TornResumeFile",
    "check_best",
    "finished",
    "is_training_folder",
    "newest_checkpoint",
    "refuse_other",
    "restore",
    "take_best",
    "unfinished_note",
]

_WAY_OUT = "Use another --output-dir, or remove the folder to start afresh"
_KINDS: dict[str, Any] = {  # of the entries, as `isinstance` takes them
    **{"identity": dict, "state_dict": dict, "optimizer": dict, "scheduler": dict},
    **{"random_states": dict, "epoch": int, "best_result": (int, float)},
}


class TornResumeFile(RequestError):
    """A resume file that was not written whole, or cannot be read."""


def newest_checkpoint(directory: str, wanted: Identity) -> tuple[str, dict[str, Any]] | None:
    """(path, content) of a run's newest whole checkpoint, ours or published; None: none.

    Raises:
        RequestError: it is of another run than `wanted`, or none can be read.
    """
    folder = os.path.join(directory or ".", MODEL_NAME)
    if not has_checkpoint(folder):
        return None
    path, state = newest_readable_checkpoint(folder, _check_whole)
    # A published run holds all of CLIP, and is told from another by its tensors.
    if KEY in state or not is_published(state["state_dict"]):
        refuse_other(state, path, wanted)
    return path, state


def check_best(directory: str, wanted: Identity, is_needed: bool) -> None:
    """That the best model so far, if one is kept, is whole and of the run that is asked for.

    Raises:
        RequestError: it is not; or it is missing, and is what will be evaluated.
    """
    path = os.path.join(directory or ".", MODEL_NAME, BEST_FILE)
    if os.path.isfile(path):
        best = load_checkpoint(path)
        _check_whole(best, path)
        if KEY in best:
            refuse_other(best, path, wanted)
    elif is_needed:
        raise RequestError(
            f"{path} is missing, the best model so far, which is to be evaluated in the end; put "
            f"it back. {_WAY_OUT}."
        )


def take_best(models: str, directory: str) -> None:
    """Copy the best model so far from the folder that is resumed from, if it is another one."""
    source = os.path.join(models, BEST_FILE)
    if os.path.basename(models) != MODEL_NAME:  # the rolling file's, a level up
        source = os.path.join(models, MODEL_NAME, BEST_FILE)
    target = os.path.join(directory or ".", MODEL_NAME, BEST_FILE)
    if os.path.isfile(source) and not os.path.exists(target):
        write_whole(target, lambda file: file.write(Path(source).read_bytes()))


def _check_whole(state: dict[str, Any], path: str) -> None:
    check_checkpoint(state, path)
    check_weights(state["state_dict"], path)
    Identity.read(state, path)


def refuse_other(content: Mapping[str, Any], path: str, wanted: Identity) -> None:
    """That a file in a run's folder is the run's that is asked for.

    Raises:
        RequestError: it is another one's, nothing says whose it is, or it is damaged.
    """
    stored = Identity.read(content, path)
    if stored is None:
        raise RequestError(
            f"{path} was made by an earlier version, which did not record what it is of. It can "
            f"be evaluated, but not gone on with. {_WAY_OUT}."
        )
    if difference := first_difference(stored, wanted):
        raise RequestError(f"{path} {difference}. {_WAY_OUT}.")


def unfinished_note(checkpoint: Mapping[str, Any], stored: Identity) -> str:
    """A sentence if a checkpoint is of an epoch before its run's last; or ""."""
    epoch, last = checkpoint.get("epoch"), stored.settings.get("OPTIM.MAX_EPOCH")
    is_best = checkpoint.get("val_result") is not None
    if is_best or not isinstance(epoch, int) or not isinstance(last, int) or epoch >= last:
        return ""
    return f"Note: this is epoch {epoch} of a run of {last} epochs"


def finished(directory: str, wanted: Identity) -> RunResults | None:
    """The results in a folder, if they are of the run, or evaluation, that is asked for.

    None: there are none.

    Raises:
        RequestError: they are of another one.
    """
    try:
        results = RunResults.read(Path(directory or "."))
        whole = Identity.read(results.values, str(results.path))
    except FileNotFoundError:
        return None
    except RequestError as error:
        print(f"{error}\nGoing on from the checkpoints beside it, if there are any")
        return None
    is_asked = bool(wanted.model_sha256)
    is_trainers = whole is not None and whole.trainer == wanted.trainer
    if is_trainers and is_asked != (EVALUATED in results.values):
        kind = "a training" if is_asked else "an evaluation"
        raise RequestError(f"{results.path} is of {kind}. {_WAY_OUT}.")
    if whole and whole.settings.get("SEED") == -1 == wanted.settings.get("SEED"):
        # By chance alone the draw would be the same again.
        wanted = wanted._replace(draw_sha256="", pictures={})
    refuse_other(results.values, str(results.path), wanted)
    return results


def is_training_folder(directory: str) -> bool:
    """Whether a run was trained here, by whatever trainer, or keeps its models here."""
    folder, models = Path(directory or "."), "model*.pth.tar*"
    is_used = any(folder.glob(f"*/{models}")) or any(folder.glob(models))
    return is_used or ResumeFile(directory).exists()


def restore(
    model: MMRLModel, optim: Any, sched: Any, scaler: Any, state: dict[str, Any], path: str
) -> None:
    """Put a run back into the state of a checkpoint, ours or published, or of a resume file.

    Raises:
        RequestError: the state does not fit this run; the message names the file.
    """
    check_weights(state["state_dict"], path)
    try:
        load_learned(model, state["state_dict"])
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error
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
        KeyError, TypeError, ValueError: an option or a moment lacks, or is of another kind or
            shape.
    """
    optim.load_state_dict(stored)
    for group in optim.param_groups:
        for name, value in optim.defaults.items():
            check_kinds(group[name], value)
    for p, moments in optim.state.items():
        if _moments_of(optim) - moments.keys():
            raise KeyError
        if not all(_is_moment(name, value, p) for name, value in moments.items()):
            raise TypeError


def _moments_of(optim: torch.optim.Optimizer) -> set[str]:
    """What the optimizer's steps take for granted of a parameter that had one."""
    if isinstance(optim, (torch.optim.Adam, torch.optim.AdamW, torch.optim.RAdam)):
        names = {"step", "exp_avg", "exp_avg_sq"}
        return names | ({"max_exp_avg_sq"} if optim.defaults.get("amsgrad") else set())
    return {"step", "square_avg"} if isinstance(optim, torch.optim.RMSprop) else set()


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

    def save(self, state: dict[str, Any], identity: Identity) -> None:
        """Replace the file by `state`, of the run with this identity."""
        sealed = seal(state, identity)
        write_whole(self.path, lambda file: torch.save(sealed, file))

    def load(self, wanted: Identity) -> dict[str, Any]:
        """What was saved.

        Raises:
            TornResumeFile: the file is torn or damaged, or cannot be read.
            RequestError: the run that was stopped is not the one that is wanted; the message says
                where they differ. Or the file is another one.
        """
        state = self._read()
        if "settings" in state and KEY not in state:  # of an earlier version
            refuse_other(state, self.path, wanted)
        if KEY in state:
            _check_untouched(state, self.path)
        if missing := [key for key, kind in _KINDS.items() if not isinstance(state.get(key), kind)]:
            raise RequestError(
                f"{self.path} is not a resume file: it lacks {missing[0]!r}. Remove it to "
                "resume from the newest checkpoint beside it, or to start afresh."
            )
        refuse_other(state, self.path, wanted)
        return state

    def _read(self) -> dict[str, Any]:
        try:
            state = torchfile.read(self.path)
        except torchfile.UnsafeFileError:
            raise  # it is whole, and somebody's doing
        except RequestError as error:
            raise TornResumeFile(f"{error}") from error
        return state if isinstance(state, dict) else {}

    def remove(self) -> None:
        """Remove the file, once the run is finished."""
        Path(self.path).unlink(missing_ok=True)


def _check_untouched(state: dict[str, Any], path: str) -> None:
    try:
        check_digest(state, path)
    except RequestError as error:
        raise TornResumeFile(f"{error}") from error
