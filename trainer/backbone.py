"""The frozen CLIP of a config, and the prompts of its class names as tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import clip
from clip.model import CLIP
from clip.weights import is_local
from dassl.errors import RequestError
from trainer.checkpoints.identity import fingerprint
from trainer.published_values import equal_prompts, prompts

__all__ = ["check_backbone", "fingerprint_of", "load_frozen_clip", "prompt_tokens"]


def load_frozen_clip(
    cfg: Any, device: torch.device, check_size: bool = True, loaded: CLIP | None = None
) -> CLIP:
    """The backbone of a config on its device, matrices rounded as OpenAI's archives store them.

    `loaded` is what `check_backbone` has read already.

    Raises:
        RequestError: INPUT.SIZE is not the backbone's resolution.
    """
    # torch lets a GPU's convolutions round float32 to 10 bits, though not its products
    torch.backends.cudnn.allow_tf32 = False
    print(f"Loading CLIP (backbone: {cfg.MODEL.BACKBONE.NAME})")
    model = loaded or _load(cfg)
    model.round_to_half()
    if check_size:
        _check_size(cfg, model.visual.resolution)
    return model.to(device)


def check_backbone(cfg: Any) -> CLIP | None:
    """The backbone on the CPU, as stored; refused before minutes are spent on the data set.

    None if it has to be downloaded: that is worth waiting for once the data set is there.

    Raises:
        RequestError, FileNotFoundError: as `load_frozen_clip`.
    """
    if not is_local(cfg.MODEL.BACKBONE.NAME):
        return None
    model = _load(cfg)
    _check_size(cfg, model.visual.resolution)
    return model


def _load(cfg: Any) -> CLIP:
    backbone = cfg.MODEL.BACKBONE
    return clip.load(backbone.NAME, backbone.get("ACTIVATION", "auto"))


def _check_size(cfg: Any, side: int) -> None:
    if tuple(cfg.INPUT.SIZE) != (side, side):
        raise RequestError(
            f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but CLIP {cfg.MODEL.BACKBONE.NAME} takes "
            f'({side}, {side}); set INPUT.SIZE "({side},{side})"'
        )


def fingerprint_of(cfg: Any) -> str:
    """The fingerprint of a config's backbone; empty if it is not on this machine.

    Raises:
        RequestError: its file is not one of a CLIP, or does not say its activation.
    """
    try:
        is_here = is_local(cfg.MODEL.BACKBONE.NAME)
        return fingerprint(_load(cfg)) if is_here else ""
    except FileNotFoundError:
        return ""


def prompt_tokens(cfg: Any, classnames: Sequence[str], device: torch.device) -> Tensor:
    """Tokens (C, 77) of the class names in the data set's template, on the device."""
    texts = prompts(classnames, cfg.DATASET.NAME, cfg.DATASET.TEMPLATE)
    if note := equal_prompts(texts):
        print(note)
    return clip.tokenize(texts).to(device)
