"""PREC -> the types that the frozen encoders compute in, in training and in evaluation.

- fp32: everything in float32.
- amp: products in half precision (float16 with a scaled loss on a GPU, bfloat16 on a CPU), layer
  norms, residual stream and everything learned in float32; evaluation in float32, as published.
- fp16, bf16: the encoders wholly in that type, in evaluation too.

OpenAI's matrices are float16 values, so holding them as such loses nothing: nothing is cast in a
step, and evaluation gets back the float32 of the same values. What trains is always float32.
"""

import torch

from clip.model import CLIP

__all__ = ["EncoderPrecision", "make_scaler"]

_WHOLE = {"fp16": torch.float16, "bf16": torch.bfloat16}


class EncoderPrecision:
    """Holds a CLIP, whose matrices are float16 values, in the type that the mode asks for."""

    def __init__(self, clip: CLIP, prec: str, test_prec: str, device: torch.device) -> None:
        clip.to(_WHOLE.get(prec, torch.float32))
        half = torch.float16 if device.type == "cuda" else torch.bfloat16
        own = _WHOLE.get(prec, torch.float32)
        products = {"fp32": torch.float32, "amp": half, "bf16": torch.bfloat16}
        self.training = half if prec == "amp" else own
        self.evaluation = products[test_prec] if test_prec else own
        self.current = own
        self.matrices = clip.matrices()
        self.exact: list[torch.Tensor] = []
        if {self.training, self.evaluation} != {own}:
            self.exact = [p.data.to(torch.float16) for p in self.matrices]

    def set_mode(self, training: bool) -> None:
        """Give the matrices the type of training or of evaluation, from their exact values."""
        wanted = self.training if training else self.evaluation
        if wanted == self.current:
            return
        for p, exact in zip(self.matrices, self.exact, strict=True):
            p.data = exact.to(wanted)
        self.current = wanted


def make_scaler(prec: str, device: torch.device) -> torch.amp.GradScaler | None:
    """The loss scaler of float16 products, else None."""
    return torch.amp.GradScaler("cuda") if prec == "amp" and device.type == "cuda" else None
