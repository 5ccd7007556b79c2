"""TRAIN.COMPILE: the training step through torch.compile, falling back to eager with one line."""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["compile_options", "compile_step"]


def compile_options() -> dict[str, Any]:
    """Options of torch.compile: on a GPU the step is also captured as a CUDA graph.

    A small step spends most of its time in launches. Reuse of buffers in place is off: torch
    2.14's CPU backend then returns wrong gradients for this graph (tests/trainer/test_encoders.py).
    """
    return {"inplace_buffers": False, "triton.cudagraphs": torch.cuda.is_available()}


def compile_step(step: Callable) -> Callable:
    """`step`, compiled on its first call; where that fails, `step` itself, and a line says why."""
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
