"""One optimisation step: images (B, 3, R, R), labels (B,) -> loss, gradients, new parameters.

PREC says which types the frozen encoders compute in, in training and in evaluation:

- fp32: everything in float32.
- amp: products in half precision (float16 with a scaled loss on a GPU, bfloat16 on a CPU), layer
  norms, residual stream and everything learned in float32; evaluation in float32, as published.
- fp16, bf16: the encoders wholly in that type, in evaluation too.

TEST.PREC chooses the products of evaluation; where it differs from a wholly half-precise training,
all but the products is float32 there.

OpenAI's matrices are float16 values, so holding them as such loses nothing: nothing is cast in a
step, and evaluation gets back the float32 of the same values. What trains is always float32.
"""

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clip.model import CLIP
from trainer.graph import CapturedLoss, Graph

__all__ = [
    "EncoderPrecision",
    "LossGuard",
    "TrainingStep",
    "compile_step",
    "fuse",
    "use_deterministic_operations",
]

LossOf = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

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
        # folding comes after the cast, so that the factors see the values that are used
        self.clip = clip.to(own).fold()
        self.changes = 0  # how often the parameters' memory was another

    def set_mode(self, training: bool) -> None:
        """Give the parameters the types of training or of evaluation, from their exact values."""
        wanted = self.training if training else self.evaluation
        if wanted == self.current:
            return
        _convert(self.matrices, wanted.products)
        _convert(self.rest, wanted.rest)
        self.clip.fold()
        self.changes += 1
        self.current = wanted


def _convert(parameters: list[Exact], dtype: torch.dtype) -> None:
    # from the exact values each time: rounding would pile up otherwise
    for p, exact in parameters:
        p.data = exact.to(dtype)


class TrainingStep:
    """Call it with a batch; it differentiates `loss_of`, and moves the parameters.

    `loss_of` gives the loss, a scalar in nats, and logits (B, C), without gradient, for the
    accuracy that is reported.
    """

    def __init__(self, loss_of: LossOf, optimizer: torch.optim.Optimizer, scaled: bool) -> None:
        self.loss_of, self.optimizer = loss_of, optimizer
        # float16 gradients underflow unless the loss is scaled
        self.scaler = torch.amp.GradScaler("cuda") if scaled else None
        self.captured: CapturedLoss | None = None

    def capture(self, make_graph: Callable[[], Graph], version: Callable[[], int]) -> None:
        """TRAIN.GRAPH: from the next batch on, launch loss and gradients as one graph.

        `version` changes when the model's memory does.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.captured = CapturedLoss(self._differentiate, parameters, make_graph, version)

    def __call__(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, logits) of the batch before the step, detached."""
        if self.captured is not None:
            loss, logits = self.captured(image, label)
        else:
            self.optimizer.zero_grad()
            loss, logits = self._differentiate(image, label)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return loss, logits

    def _differentiate(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, logits), detached; adds to the gradients."""
        loss, logits = self.loss_of(image, label)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss.detach(), logits.detach()


class LossGuard:
    """Stops training at a loss that is not finite.

    Looking at a loss makes the host wait for a GPU, so there it is done every `interval` steps, and
    in an epoch's last, after which the model is saved.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._unread: list[tuple[int, Tensor]] = []

    def add(self, step: int, loss: Tensor, is_last: bool) -> tuple[int, float] | None:
        """Take in a step's loss; the first step, and its value, that was not finite, if one was."""
        # a tensor on the GPU is kept unread, so the step does not wait for it
        self._unread.append((step, loss))
        if len(self._unread) < self.interval and not is_last:
            return None
        steps = [step for step, _ in self._unread]
        # one transfer for all of them
        values = torch.stack([loss for _, loss in self._unread]).tolist()
        self._unread = []
        pairs = zip(steps, values, strict=True)
        return next((pair for pair in pairs if not math.isfinite(pair[1])), None)


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
    2.14's CPU backend then returns wrong gradients for this graph (tests/trainer/method).
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


def use_deterministic_operations() -> None:
    """Let torch choose operations that round the same in every run, or fail by name."""
    # cuBLAS reads it when the first product runs; torch asks for this value
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
