"""One kernel for the optimizer; by choice the whole step through torch.compile."""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["compile_options", "compile_step", "fuse"]


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Let Adam and AdamW update all parameters in one kernel, and take a loss scaler's inputs.

    The scaler then need not wait for the device to learn whether a gradient overflowed.
    """
    if not isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        return
    for group in optimizer.param_groups:
        group["fused"], group["foreach"] = True, False
    optimizer._step_supports_amp_scaling = True


def compile_options() -> dict[str, Any]:
    """Options of torch.compile: on a GPU the step is also captured as a CUDA graph.

    A small step spends most of its time in launches. Reuse of buffers in place is off: torch
    2.14's CPU backend then returns wrong gradients for this graph (tests/trainer/test_encoders.py).
    """
    return {"inplace_buffers": False, "triton.cudagraphs": torch.cuda.is_available()}


def compile_step(step: Callable) -> Callable:
    """TRAIN.COMPILE: `step`, compiled on its first call; where that fails, `step` itself.

    One line then says why.
    """
    chosen: list[Callable] = []

    def run(*args: Any) -> Any:
        if chosen:
            return chosen[0](*args)
        compiled = torch.compile(step, options=compile_options())
        try:
            result = compiled(*args)
        except Exception as error:  # a compiler can fail in any way; the step itself is right
            reason = str(error).strip().splitlines()[0][:200]
            print(f"TRAIN.COMPILE is ignored: {type(error).__name__}: {reason}")
            compiled, result = step, step(*args)
        chosen.append(compiled)
        return result

    return run
