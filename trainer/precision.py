"""PREC -> what the encoders compute in: fp32, amp, fp16, bf16, on a CPU or a GPU.

- fp32: everything in float32.
- amp: training under autocast, float16 with a scaled loss on a GPU, bfloat16 on a CPU; evaluation
  in float32, as published.
- fp16, bf16: the frozen encoders are held and run in that type. What trains stays in float32 and
  is cast where it enters them; features are normalised and compared in float32.
"""

from typing import Any

import torch

__all__ = ["autocast", "encoder_dtype", "make_scaler"]

_ENCODER_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def encoder_dtype(prec: str) -> torch.dtype:
    """The type that the frozen encoders are held in."""
    return _ENCODER_DTYPES.get(prec, torch.float32)


def autocast(prec: str, device: torch.device) -> Any:
    """The context of a training step's forward pass."""
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=prec == "amp")


def make_scaler(prec: str, device: torch.device) -> Any:
    """The loss scaler of float16 autocast, else None."""
    return torch.amp.GradScaler("cuda") if prec == "amp" and device.type == "cuda" else None
