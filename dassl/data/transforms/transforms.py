"""`cfg.INPUT` -> a torchvision pipeline: PIL image in RGB -> float tensor (3, H, W).

The order of the operations is fixed; INPUT.TRANSFORMS only chooses among them.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from dassl.errors import RequestError

AVAI_CHOICES = [
    "random_flip",
    "random_resized_crop",
    "normalize",
    "instance_norm",
    "random_crop",
    "random_translation",
    "center_crop",
    "cutout",
    "imagenet_policy",
    "cifar10_policy",
    "svhn_policy",
    "randaugment",
    "randaugment_fixmatch",
    "randaugment2",
    "gaussian_noise",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
]

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}

Step = tuple[str, Any]  # the line that is printed, the operation
TO_TENSOR: Step = ("to torch tensor of range [0, 1]", T.ToTensor())


class Random2DTranslation:
    """With probability p enlarge to 1.125 x and crop at a random place, else resize to (H, W)."""

    def __init__(self, height: int, width: int, p: float = 0.5) -> None:
        self.height, self.width, self.p = height, width, p

    def __call__(self, image: Any) -> Any:
        if random.uniform(0, 1) > self.p:
            return TF.resize(image, [self.height, self.width], InterpolationMode.BILINEAR)
        height, width = round(self.height * 1.125), round(self.width * 1.125)
        image = TF.resize(image, [height, width], InterpolationMode.BILINEAR)
        left = round(random.uniform(0, width - self.width))
        top = round(random.uniform(0, height - self.height))
        return TF.crop(image, top, left, self.height, self.width)


class InstanceNormalization:
    """(x - mean) / (std + 1e-8), per image and channel."""

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, image: Tensor) -> Tensor:
        flat = image.flatten(1)
        mean, std = flat.mean(1)[:, None, None], flat.std(1)[:, None, None]
        return (image - mean) / (std + self.eps)


class Cutout:
    """Set `n_holes` squares of side `length` to zero, clipped at the border."""

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes, self.length = n_holes, length

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:]
        mask = torch.ones(height, width)
        for _ in range(self.n_holes):
            y, x = np.random.randint(height), np.random.randint(width)
            half = self.length // 2
            mask[max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
        return image * mask


class GaussianNoise:
    """Add normal noise, with probability p."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean, self.std, self.p = mean, std, p

    def __call__(self, image: Tensor) -> Tensor:
        if random.uniform(0, 1) > self.p:
            return image
        return image + torch.randn_like(image) * self.std + self.mean


def build_transform(
    cfg: Any, is_train: bool = True, choices: Sequence[str] | None = None
) -> T.Compose | None:
    """The training or test pipeline of `cfg.INPUT`, printed line by line; None: NO_TRANSFORM.

    Raises:
        RequestError: an unknown choice or interpolation; the message lists the known.
    """
    if cfg.INPUT.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    if unknown := [choice for choice in choices if choice not in AVAI_CHOICES]:
        raise RequestError(f"INPUT.TRANSFORMS has {unknown}; choose from {AVAI_CHOICES}")
    if cfg.INPUT.INTERPOLATION not in INTERPOLATION_MODES:
        known = list(INTERPOLATION_MODES)
        raise RequestError(
            f"INPUT.INTERPOLATION must be one of {known}, got {cfg.INPUT.INTERPOLATION!r}"
        )
    height, width = cfg.INPUT.SIZE
    normalize = T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
    build = _build_transform_train if is_train else _build_transform_test
    return build(cfg, choices, f"{height}x{width}", normalize)


def _build_transform_train(
    cfg: Any, choices: Sequence[str], target_size: str, normalize: Any
) -> T.Compose:
    """The training pipeline; `target_size` is what is printed, `normalize` what is applied."""
    c = cfg.INPUT
    interpolation = INTERPOLATION_MODES[c.INTERPOLATION]
    steps = []
    if "random_crop" not in choices and "random_resized_crop" not in choices:
        steps.append((f"resize to {target_size}", T.Resize(c.SIZE, interpolation)))
    table = _placing(c, interpolation) | _policies(c) | _colouring(c)
    steps += [make() for choice, make in table.items() if choice in choices]
    steps.append(TO_TENSOR)
    if "cutout" in choices:
        cutout = Cutout(c.CUTOUT_N, c.CUTOUT_LEN)
        steps.append((f"cutout (n_holes={c.CUTOUT_N}, length={c.CUTOUT_LEN})", cutout))
    steps += _normalization(c, choices, normalize)
    if "gaussian_noise" in choices:
        noise = GaussianNoise(c.GN_MEAN, c.GN_STD)
        steps.append((f"gaussian noise (mean={c.GN_MEAN}, std={c.GN_STD})", noise))
    return _announced("Building transform_train", steps + _instance_norm(choices))


def _build_transform_test(
    cfg: Any, choices: Sequence[str], target_size: str, normalize: Any
) -> T.Compose:
    """The test pipeline; `target_size` is what is printed, `normalize` what is applied."""
    c = cfg.INPUT
    edge = max(c.SIZE)
    steps = [
        (
            f"resize the smaller edge to {edge}",
            T.Resize(edge, INTERPOLATION_MODES[c.INTERPOLATION]),
        ),
        (f"{target_size} center crop", T.CenterCrop(c.SIZE)),
        TO_TENSOR,
        *_normalization(c, choices, normalize),
        *_instance_norm(choices),
    ]
    return _announced("Building transform_test", steps)


def _announced(title: str, steps: list[Step]) -> T.Compose:
    print("\n+ ".join([title, *(line for line, _ in steps)]))
    return T.Compose([step for _, step in steps])


def _placing(c: Any, interpolation: InterpolationMode) -> dict[str, Callable[[], Step]]:
    """Crops and flips; made when chosen, in this order."""
    return {
        "random_translation": lambda: ("random translation", Random2DTranslation(*c.SIZE)),
        "random_crop": lambda: (
            f"random crop (padding = {c.CROP_PADDING})",
            T.RandomCrop(c.SIZE, padding=c.CROP_PADDING),
        ),
        "random_resized_crop": lambda: (
            f"random resized crop (size={c.SIZE}, scale={c.RRCROP_SCALE})",
            T.RandomResizedCrop(c.SIZE, scale=c.RRCROP_SCALE, interpolation=interpolation),
        ),
        "random_flip": lambda: ("random flip", T.RandomHorizontalFlip()),
    }


def _policies(c: Any) -> dict[str, Callable[[], Step]]:
    """Whole bags of operations; made when chosen, in this order."""
    n, m = c.RANDAUGMENT_N, c.RANDAUGMENT_M
    return {
        "imagenet_policy": lambda: ("imagenet policy", T.AutoAugment(T.AutoAugmentPolicy.IMAGENET)),
        "cifar10_policy": lambda: ("cifar10 policy", T.AutoAugment(T.AutoAugmentPolicy.CIFAR10)),
        "svhn_policy": lambda: ("svhn policy", T.AutoAugment(T.AutoAugmentPolicy.SVHN)),
        "randaugment": lambda: (f"randaugment (n={n}, m={m})", T.RandAugment(n, m)),
        "randaugment_fixmatch": lambda: (f"randaugment_fixmatch (n={n})", T.RandAugment(n)),
        "randaugment2": lambda: (f"randaugment2 (n={n})", T.RandAugment(n)),
    }


def _colouring(c: Any) -> dict[str, Callable[[], Step]]:
    """Colour and blur; made when chosen, in this order."""
    return {
        "colorjitter": lambda: (
            f"color jitter (brightness={c.COLORJITTER_B}, contrast={c.COLORJITTER_C}, "
            f"saturation={c.COLORJITTER_S}, hue={c.COLORJITTER_H})",
            T.ColorJitter(c.COLORJITTER_B, c.COLORJITTER_C, c.COLORJITTER_S, c.COLORJITTER_H),
        ),
        "randomgrayscale": lambda: ("random gray scale", T.RandomGrayscale(p=c.RGS_P)),
        "gaussian_blur": lambda: (
            f"gaussian blur (kernel={c.GB_K})",
            T.RandomApply([T.GaussianBlur(c.GB_K)], p=c.GB_P),
        ),
    }


def _normalization(c: Any, choices: Sequence[str], normalize: Any) -> list[Step]:
    line = f"normalization (mean={c.PIXEL_MEAN}, std={c.PIXEL_STD})"
    return [(line, normalize)] if "normalize" in choices else []


def _instance_norm(choices: Sequence[str]) -> list[Step]:
    step = ("instance normalization", InstanceNormalization())
    return [step] if "instance_norm" in choices else []
