"""Frozen CLIP's features of a list of pictures: items -> (N, E), computed once in a process.

Several baselines of one data set, or seeds with one draw, share what is here.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from clip.model import CLIP
from dassl.data.data_manager import build_data_loader
from dassl.data.transforms import build_transform
from dassl.utils import set_random_seed
from dassl.utils.generators import random_states, restore_random_states
from trainer.method.model import normalise

__all__ = ["FeatureSet", "features_of"]

_MOST_SETS = 16  # that are kept; the oldest one goes first
_kept: "OrderedDict[tuple, FeatureSet]" = OrderedDict()


class FeatureSet(NamedTuple):
    """Features of N pictures, on the CPU."""

    image: Tensor  # (N, E) float32, L2-normalised
    label: Tensor  # (N,)
    paths: list[str]


def features_of(
    cfg: Any, clip: CLIP, backbone_sha256: str, items: Sequence[Any], num_views: int = 0
) -> FeatureSet:
    """The features of `items` as pictures are evaluated; or over `num_views` training views.

    Over views the features are averaged before they are normalised, as in Tip-Adapter's cache.
    The views are drawn from SEED alone, and leave the random generators as they were.
    """
    drawn = (num_views, cfg.SEED, cfg.DATALOADER.NUM_WORKERS, str(cfg.INPUT))
    pictures = tuple((item.impath, item.label, os.stat(item.impath).st_mtime_ns) for item in items)
    device = next(clip.parameters()).device
    seen = drawn if num_views else _as_evaluated(cfg.INPUT)
    key = (backbone_sha256, str(device), seen, pictures)
    if key not in _kept:
        _kept[key] = _compute(cfg, clip, items, num_views)
        while len(_kept) > _MOST_SETS:
            _kept.popitem(last=False)
    return _kept[key]


def _as_evaluated(c: Any) -> tuple:
    """What the transform of evaluations depends on; augmentations are none of it."""
    kept = sorted({"center_crop", "instance_norm", "normalize"} & set(c.TRANSFORMS))
    return (*kept, *c.SIZE, c.INTERPOLATION, *c.PIXEL_MEAN, *c.PIXEL_STD)


@torch.no_grad()
def _compute(cfg: Any, clip: CLIP, items: Sequence[Any], num_views: int) -> FeatureSet:
    states = random_states()
    if cfg.SEED >= 0:
        set_random_seed(cfg.SEED)
    loader = build_data_loader(
        cfg,
        data_source=list(items),
        batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
        tfm=build_transform(cfg, is_train=num_views > 0),
        is_train=False,  # in order, and with the last batch
    )
    total: Any = 0
    for view in range(max(1, num_views)):
        what = f"features, view {view + 1} of {num_views}" if num_views else "features"
        batches = [_encode(clip, batch) for batch in tqdm(loader, desc=what)]
        total = total + torch.cat([image for image, _ in batches])
    labels = torch.cat([label for _, label in batches])
    restore_random_states(states)
    return FeatureSet(normalise(total), labels, [item.impath for item in items])


def _encode(clip: CLIP, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Features (B, E), not normalised, and labels (B,), on the CPU."""
    device = next(clip.parameters()).device
    return clip.encode_image(batch["img"].to(device)).float().cpu(), batch["label"]
