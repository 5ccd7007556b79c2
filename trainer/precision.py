"""PREC -> the types that the frozen encoders compute in, in training and in evaluation.

- fp32: everything in float32.
- amp: products in half precision (float16 with a scaled loss on a GPU, bfloat16 on a CPU), layer
  norms, residual stream and everything learned in float32; evaluation in float32, as published.
- fp16, bf16: the encoders wholly in that type, in evaluation too.

TEST.PREC chooses the products of evaluation; where it differs from a wholly half-precise training,
all but the products is float32 there.

OpenAI's matrices are float16 values, so holding them as such loses nothing: nothing is cast in a
step, and evaluation gets back the float32 of the same values. What trains is always float32.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from clip.model import CLIP

__all__ = ["EncoderPrecision", "make_scaler"]

_WHOLE = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Types(NamedTuple):
    """What the encoders compute in."""

    products: torch.dtype  # of the matrices
    rest: torch.dtype  # of layer norms, embeddings and the residual stream


Exact = tuple[nn.Parameter, Tensor]  # a parameter whose type changes with the mode, its values


class EncoderPrecision:
    """Holds a CLIP, whose matrices are float16 values, in the types that the mode asks for."""

    def __init__(self, clip: CLIP, prec: str, test_prec: str, device: torch.device) -> None:
        half = torch.float16 if device.type == "cuda" else torch.bfloat16
        products = {"fp32": torch.float32, "amp": half, "bf16": torch.bfloat16}
        own = _WHOLE.get(prec, torch.float32)
        self.training = Types(half if prec == "amp" else own, own)
        self.evaluation = self.current = Types(own, own)
        if test_prec and products[test_prec] != own:
            self.evaluation = Types(products[test_prec], torch.float32)
        self.matrices: list[Exact] = []
        self.rest: list[Exact] = []
        if self.training.products != own or self.evaluation.products != own:
            self.matrices = [(p, p.data.half()) for p in clip.matrices()]
        if self.evaluation.rest != own:
            matrices = set(clip.matrices())
            self.rest = [(p, p.data) for p in clip.parameters() if p not in matrices]
        clip.to(own)

    def set_mode(self, training: bool) -> None:
        """Give the parameters the types of training or of evaluation, from their exact values."""
        wanted = self.training if training else self.evaluation
        if wanted == self.current:
            return
        _convert(self.matrices, wanted.products)
        _convert(self.rest, wanted.rest)
        self.current = wanted


def _convert(parameters: list[Exact], dtype: torch.dtype) -> None:
    for p, exact in parameters:
        p.data = exact.to(dtype)


def make_scaler(prec: str, device: torch.device) -> torch.amp.GradScaler | None:
    """The loss scaler of float16 products, else None."""
    return torch.amp.GradScaler("cuda") if prec == "amp" and device.type == "cuda" else None
