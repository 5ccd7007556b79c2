"""Checkpoints and parameters: what trainers do to modules besides training them."""

import os
import re
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dassl.errors import RequestError
from dassl.utils import torchfile
from dassl.utils.generators import restore_random_states
from dassl.utils.restoring import check_checkpoint, check_kinds, restore_schedule, restoring
from dassl.whole_files import write_text, write_whole

__all__ = [
    "adjust_learning_rate",
    "count_num_param",
    "has_checkpoint",
    "init_network_weights",
    "load_checkpoint",
    "load_pretrained_weights",
    "newest_readable_checkpoint",
    "open_all_layers",
    "open_specified_layers",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_bn_to_eval",
]


def save_checkpoint(
    state: dict[str, Any],
    save_dir: str,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Write `state` into `save_dir` and let `checkpoint` name the newest epoch's file.

    The default name is `model.pth.tar-<epoch>`; `is_best` also makes `model-best.pth.tar`. Files
    appear whole under their name, the pointer last. A best file is never what a run resumes from.
    """
    if remove_module_from_keys:
        weights = state["state_dict"].items()
        state["state_dict"] = OrderedDict((re.sub(r"^module\.", "", k), v) for k, v in weights)
    name = model_name or f"model.pth.tar-{state['epoch']}"
    fpath = os.path.join(save_dir, name)
    write_whole(fpath, lambda file: torch.save(state, file))
    print(f"Checkpoint saved to {fpath}")
    if name != "model-best.pth.tar":
        write_text(os.path.join(save_dir, "checkpoint"), f"{name}\n")
    if is_best:
        best = os.path.join(save_dir, "model-best.pth.tar")
        with open(fpath, "rb") as source:
            write_whole(best, lambda file: shutil.copyfileobj(source, file))


def load_checkpoint(fpath: str) -> dict[str, Any]:
    """The dict that `save_checkpoint`, or Dassl 0.6.3, wrote; tensors on the CPU, nothing executed.

    Objects of classes, such as the schedule that 0.6.3 pickled, are `torchfile.Record`s.

    Raises:
        RequestError: `fpath` is None, or the file is torn, hostile, or does not hold a dict.
        FileNotFoundError: there is no such file.
    """
    if fpath is None:
        raise RequestError("File path is None")
    if not os.path.isfile(fpath):
        raise FileNotFoundError(f"No checkpoint file at {str(fpath)!r}")
    try:
        checkpoint = torchfile.read(fpath)
        if not isinstance(checkpoint, dict) or isinstance(checkpoint, torchfile.Record):
            raise RequestError(f"{str(fpath)!r} is not a checkpoint: it holds no dict")
        return checkpoint
    except RequestError:
        print(f'Unable to load checkpoint from "{fpath}"')
        raise


def _checkpoints_newest_first(fdir: str) -> list[str]:
    """Candidates to resume from: what `checkpoint` names, then `model.pth.tar-<n>` by falling n."""
    numbered = {}
    for name in os.listdir(fdir):
        if match := re.fullmatch(r"model\.pth\.tar-(\d+)", name):
            numbered[int(match[1])] = name
    names = [numbered[n] for n in sorted(numbered, reverse=True)]
    pointer = Path(fdir, "checkpoint")
    named = pointer.read_text(encoding="utf-8").splitlines()[:1] if pointer.is_file() else []
    named = [name.strip() for name in named if Path(fdir, name.strip()).is_file()]
    if "model-best.pth.tar" in named and names:
        named = []  # written by 0.6.3: the pointer was left at the best epoch, not the newest
    return list(dict.fromkeys(named + names))


def has_checkpoint(fdir: str) -> bool:
    """Whether there is something to resume from; a best model alone is not, unless 0.6.3 left it.

    A run that was killed between its first best model and its first checkpoint starts afresh.
    """
    return os.path.isdir(fdir) and bool(_checkpoints_newest_first(fdir))


def newest_readable_checkpoint(
    fdir: str, check: Callable[[dict[str, Any], str], None] = check_checkpoint
) -> tuple[str, dict[str, Any]]:
    """(path, content) of the newest checkpoint that can be read; those that cannot are named.

    `check` raises a RequestError at content, of the path given, that is not to be used.

    Raises:
        FileNotFoundError: `fdir` has no checkpoint.
        RequestError: none of those it has can be read.
    """
    names = _checkpoints_newest_first(fdir)
    if not names:
        raise FileNotFoundError(f"No checkpoint in {fdir!r}; remove the folder to start afresh")
    for name in names[:-1]:
        try:
            return _read_whole(os.path.join(fdir, name), check)
        except RequestError as error:
            print(f"{error}\nTrying the one before it")
    return _read_whole(os.path.join(fdir, names[-1]), check)


def _read_whole(
    fpath: str, check: Callable[[dict[str, Any], str], None]
) -> tuple[str, dict[str, Any]]:
    checkpoint = load_checkpoint(fpath)
    check(checkpoint, fpath)
    return fpath, checkpoint


def resume_from_checkpoint(
    fdir: str, model: nn.Module, optimizer: Any = None, scheduler: Any = None, scaler: Any = None
) -> int:
    """Load the newest whole checkpoint in `fdir` into the objects given; returns its epochs done.

    Random states, and a loss scaler's, are restored where the file has them.

    Raises:
        FileNotFoundError: `fdir` has no checkpoint.
        RequestError: none of those it has can be read, or what it holds does not fit.
    """
    fpath, checkpoint = newest_readable_checkpoint(fdir)
    print(f'Loading checkpoint from "{fpath}"')
    model.load_state_dict(checkpoint["state_dict"])
    print("Loaded model weights")
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        with restoring("optimizer", fpath):
            optimizer.load_state_dict(checkpoint["optimizer"])
        print("Loaded optimizer")
    if scheduler is not None and checkpoint.get("scheduler") is not None:
        restore_schedule(scheduler, checkpoint["scheduler"], fpath)
        print("Loaded scheduler")
    if scaler is not None and checkpoint.get("scaler"):
        with restoring("scaler", fpath):
            check_kinds(checkpoint["scaler"], scaler.state_dict())
            scaler.load_state_dict(checkpoint["scaler"])
    if "random_states" in checkpoint:
        with restoring("random_states", fpath):
            restore_random_states(checkpoint["random_states"])
    print(f"Previous epoch: {checkpoint['epoch']}")
    return checkpoint["epoch"]


def adjust_learning_rate(
    optimizer: Any,
    base_lr: float,
    epoch: int,
    stepsize: int | list[int] = 20,
    gamma: float = 0.1,
    linear_decay: bool = False,
    final_lr: float = 0.0,
    max_epoch: int = 100,
) -> None:
    """Set every group's lr by hand: linear decay, milestones (a list) or a step size (an int)."""
    if linear_decay:
        share = epoch / max_epoch
        lr = share * final_lr + (1 - share) * base_lr
    elif isinstance(stepsize, int):
        lr = base_lr * gamma ** (epoch // stepsize)
    else:
        lr = base_lr * gamma ** sum(epoch >= milestone for milestone in stepsize)
    for group in optimizer.param_groups:
        group["lr"] = lr


def set_bn_to_eval(m: nn.Module) -> None:
    """Put a batch norm layer into evaluation mode; for `model.apply`."""
    if "BatchNorm" in type(m).__name__:
        m.eval()


def open_all_layers(model: nn.Module) -> None:
    """Train mode and gradients for everything."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | list[str]) -> None:
    """Train mode and gradients for the named children, evaluation mode and none for the others.

    Raises:
        RequestError: a name is not an attribute of the model.
    """
    model = model.module if isinstance(model, nn.DataParallel) else model
    names = [open_layers] if isinstance(open_layers, str) else open_layers
    for name in names:
        if not hasattr(model, name):
            raise RequestError(f"{name!r} is not an attribute of {type(model).__name__}")
    for name, module in model.named_children():
        module.train(name in names)
        module.requires_grad_(name in names)


def count_num_param(model: nn.Module | None = None, params: Iterable | None = None) -> int:
    """The number of elements of all parameters, frozen ones too.

    Raises:
        RequestError: neither `model` nor `params` is given.
    """
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise RequestError("Give a model or an iterable of parameters")
    return sum((p["params"] if isinstance(p, dict) else p).numel() for p in params)


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load the entries of a checkpoint whose name and size fit `model`; says what was dropped."""
    checkpoint = load_checkpoint(weight_path)
    weights = checkpoint.get("state_dict", checkpoint)
    current = model.state_dict()
    matched, discarded = OrderedDict(), []
    for key, value in weights.items():
        key = re.sub(r"^module\.", "", key)
        if key in current and current[key].size() == value.size():
            matched[key] = value
        else:
            discarded.append(key)
    current.update(matched)
    model.load_state_dict(current)
    if not matched:
        warnings.warn(f"Nothing was loaded: no entry of {weight_path!r} fits", stacklevel=2)
        return
    print(f"Successfully loaded pretrained weights from {weight_path}")
    if discarded:
        print(f"Layers discarded due to unmatched keys or size: {discarded}")


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Initialise convolutions and linear layers by `init_type`, norms by 1 and 0.

    Raises:
        RequestError: `init_type` is not normal, xavier, kaiming or orthogonal.
    """
    inits = {
        "normal": lambda w: nn.init.normal_(w, 0.0, gain),
        "xavier": lambda w: nn.init.xavier_normal_(w, gain=gain),
        "kaiming": lambda w: nn.init.kaiming_normal_(w, a=0, mode="fan_in"),
        "orthogonal": lambda w: nn.init.orthogonal_(w, gain=gain),
    }
    if init_type not in inits:
        raise RequestError(f"init_type must be one of {sorted(inits)}, got {init_type!r}")

    def init(module: nn.Module) -> None:
        name = type(module).__name__
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if weight is not None:
            if "Conv" in name or "Linear" in name:
                inits[init_type](weight)
            elif "BatchNorm" in name or "InstanceNorm" in name:
                nn.init.constant_(weight, 1.0)
        if bias is not None:
            nn.init.constant_(bias, 0.0)

    model.apply(init)
