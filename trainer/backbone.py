"""The frozen CLIP of a config, and the prompts of its class names as tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import clip
from clip.model import CLIP
from trainer.published_values import prompts

__all__ = ["load_frozen_clip", "prompt_tokens"]


def load_frozen_clip(cfg: Any, device: torch.device, check_size: bool = True) -> CLIP:
    """The backbone of a config on its device, matrices rounded as OpenAI's archives store them.

    Raises:
        ValueError: INPUT.SIZE is not the backbone's resolution.
    """
    name = cfg.MODEL.BACKBONE.NAME
    print(f"Loading CLIP (backbone: {name})")
    model = clip.load(name).round_to_half()
    side = model.visual.resolution
    if check_size and tuple(cfg.INPUT.SIZE) != (side, side):
        raise ValueError(
            f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but CLIP {name} takes ({side}, {side}); "
            f'set INPUT.SIZE "({side},{side})"'
        )
    return model.to(device)


def prompt_tokens(cfg: Any, classnames: Sequence[str], device: torch.device) -> Tensor:
    """Tokens (C, 77) of the class names in the data set's template, on the device."""
    texts = prompts(classnames, cfg.DATASET.NAME, cfg.DATASET.TEMPLATE)
    return clip.tokenize(texts).to(device)
