"""Find and read what a run has stored: a path -> checkpoint file, its tensors, its metadata."""

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dassl.errors import RequestError
from dassl.utils import load_checkpoint
from run_files import EVALUATED, RESULTS_FILE, RunResults
from trainer.checkpoints import hub
from trainer.checkpoints.identity import KEY, Identity

__all__ = [
    "MODEL_NAME",
    "check_weights",
    "find_checkpoint",
    "read_checkpoint",
    "results_beside",
    "run_metadata",
]

MODEL_NAME = "MultiModalRepresentationLearner"  # the folder's name in published runs
_BEST = "model-best.pth.tar"


def find_checkpoint(path: str, epoch: int | None = None) -> Path:
    """The checkpoint file at `path`: that of `epoch`, else the best one, else the last one.

    A `path` that begins with "hf:" is a repository of the Hugging Face hub.

    Raises:
        FileNotFoundError: there is none; the message lists what is there.
        RequestError: a tree holds several runs, or `epoch` is no choice here.
    """
    if epoch is not None and epoch < 1:
        raise RequestError(f"--load-epoch takes the number of an epoch, from 1, got {epoch}")
    if path.startswith(hub.PREFIX):
        return hub.fetch(path, epoch)
    given = Path(path).expanduser()
    if given.is_file():
        _check_epoch(given, epoch)
        return given
    folder = _model_folder(given)
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
            f"{str(folder)!r} has neither {_BEST} nor model.pth.tar-<epoch>: did the run finish?"
        )
    return numbered[max(numbered)]


def _check_epoch(file: Path, epoch: int | None) -> None:
    if epoch is not None and file.name != f"model.pth.tar-{epoch}":
        raise RequestError(
            f"--load-epoch {epoch} chooses among the checkpoints of a folder, but {str(file)!r} is "
            "a file; give the run's folder, or leave the epoch out"
        )


def _model_folder(given: Path) -> Path:
    """`given`, its model folder, or the only one in the tree below it."""
    if not given.is_dir():
        raise FileNotFoundError(
            f"No checkpoint at {str(given)!r}: give --model-dir a run folder (which holds "
            f"{MODEL_NAME}/) or a checkpoint file"
        )
    found = sorted(given.rglob(MODEL_NAME))
    if len(found) > 1:
        names = ", ".join(str(path.parent.relative_to(given)) for path in found[:3])
        raise RequestError(
            f"{str(given)!r} holds {len(found)} runs ({names}, ...); give one of them"
        )
    return found[0] if found else given


def _numbered(folder: Path) -> dict[int, Path]:
    found = {}
    for path in folder.iterdir():
        if match := re.fullmatch(r"model\.pth\.tar-(\d+)", path.name):
            found[int(match[1])] = path
    return found


def read_checkpoint(path: Path) -> dict[str, Any]:
    """`state_dict` and what else the file has, nothing executed; tensors on the CPU.

    An exported file also gives `metadata`, of a run that has no identity.

    Raises:
        RequestError: it is torn, damaged, hostile, or has no `state_dict`.
    """
    if path.suffix == ".safetensors":
        return _read_exported(path)
    checkpoint = load_checkpoint(str(path))
    if "state_dict" not in checkpoint:
        raise RequestError(f"{str(path)!r} is not a checkpoint: it has no 'state_dict'")
    check_weights(checkpoint["state_dict"], str(path))
    Identity.read(checkpoint, str(path))  # refuses one that is damaged
    return checkpoint


def check_weights(state: Any, path: str) -> None:
    """That a checkpoint's `state_dict` is one.

    Raises:
        RequestError: it is not a dict of tensors by name.
    """
    if not isinstance(state, dict) or not all(map(_is_tensor_item, state.items())):
        raise RequestError(
            f"{path!r} is not a checkpoint: its 'state_dict' is not a dict of tensors"
        )


def _is_tensor_item(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _read_exported(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            stored = file.metadata() or {}
            metadata = json.loads(stored.get("mmrl", "{}"))
            identity = {KEY: json.loads(stored[KEY])} if KEY in stored else {}
    except (SafetensorError, OSError, ValueError) as error:
        raise RequestError(f"Cannot read {str(path)!r}: {error}") from error
    if not isinstance(metadata, dict):
        raise RequestError(f"Cannot read {str(path)!r}: its metadata 'mmrl' is not a JSON object")
    content = {"state_dict": state, "epoch": metadata.get("epoch")} | identity
    Identity.read(content, str(path))  # whose digest is of this content, and of nothing more
    return content if identity else content | {"metadata": metadata}


def run_metadata(checkpoint: dict[str, Any], path: str) -> dict[str, Any]:
    """What is known about a run besides its tensors: `checkpoint` is what was read from `path`.

    Files of earlier versions leave it to the results.json beside them; that of a published one is
    empty.

    Raises:
        RequestError: the file is damaged, or its results are not a run's of train.py.
    """
    identity = Identity.read(checkpoint, path)
    if identity is None:
        return checkpoint.get("metadata") or _results_beside(path)
    found = _metadata(identity.trainer, identity.classnames, identity.settings)
    # The folder of the weights is in no checkpoint; the fingerprint says whether they are the same.
    with contextlib.suppress(RequestError):
        backbone = _results_beside(path).get("backbone", "")
        if Path(backbone).name == found["backbone"]:
            found["backbone"] = found["config"]["MODEL.BACKBONE.NAME"] = backbone
    return found


def results_beside(path: str) -> RunResults | None:
    """The results of the training whose checkpoint is found at `path`; None: there are none.

    Raises:
        RequestError: the file is damaged.
    """
    folder = find_checkpoint(path).parent
    folder = folder.parent if folder.name == MODEL_NAME else folder
    if not (folder / RESULTS_FILE).is_file():
        return None
    results = RunResults.read(folder)
    return None if EVALUATED in results.values else results  # those are of whatever classes


def _results_beside(path: str) -> dict[str, Any]:
    """What these results say of the model."""
    if (results := results_beside(path)) is None:
        return {}
    return _metadata(results.need("trainer"), results.need("classnames"), results.need("config"))


def _metadata(trainer: str, classnames: Sequence[str], config: dict[str, Any]) -> dict[str, Any]:
    return {
        "trainer": trainer,
        "backbone": config.get("MODEL.BACKBONE.NAME", ""),
        "classnames": classnames,
        "dataset": config.get("DATASET.NAME", ""),
        "template": config.get("DATASET.TEMPLATE", ""),
        "config": dict(config),
    }
