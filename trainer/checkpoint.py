"""Find and read what a run has learned: a run folder, a model folder or a file -> a checkpoint."""

import re
from pathlib import Path
from typing import Any

from dassl.utils import load_checkpoint

__all__ = ["MODEL_NAME", "find_checkpoint", "read_checkpoint"]

MODEL_NAME = "MultiModalRepresentationLearner"  # the folder's name in published runs
_BEST = "model-best.pth.tar"


def find_checkpoint(path: str, epoch: int | None = None) -> Path:
    """The checkpoint file at `path`: that of `epoch`, else the best one, else the last one.

    Raises:
        FileNotFoundError: there is none; the message lists what is there.
    """
    given = Path(path).expanduser()
    if given.is_file():
        return given
    folder = given / MODEL_NAME if (given / MODEL_NAME).is_dir() else given
    if not folder.is_dir():
        raise FileNotFoundError(
            f"No checkpoint at {path!r}: give --model-dir a run folder (which holds {MODEL_NAME}/) "
            "or a checkpoint file"
        )
    numbered = _numbered(folder)
    if epoch is not None:
        if epoch not in numbered:
            raise FileNotFoundError(
                f"{str(folder)!r} has no model.pth.tar-{epoch}; epochs there: {sorted(numbered)}"
            )
        return numbered[epoch]
    if (folder / _BEST).is_file():
        return folder / _BEST
    if not numbered:
        raise FileNotFoundError(
            f"{str(folder)!r} has neither {_BEST} nor model.pth.tar-<epoch>: was the run finished?"
        )
    return numbered[max(numbered)]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint's dict, nothing executed; tensors on the CPU.

    Raises:
        ValueError: it is torn, hostile, or has no `state_dict`.
    """
    checkpoint = load_checkpoint(str(path))
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{str(path)!r} is no checkpoint: it has no 'state_dict'")
    return checkpoint


def _numbered(folder: Path) -> dict[int, Path]:
    found = {}
    for path in folder.iterdir():
        if match := re.fullmatch(r"model\.pth\.tar-(\d+)", path.name):
            found[int(match[1])] = path
    return found
