"""The differentiated loss as one captured graph: images, labels -> loss, logits, gradients.

A small step spends most of its time in launches. A graph launches all of it at once, over tensors
whose addresses never change: batches are copied in, gradients read where they lie. Since nothing
else proves a capture right, the first batch of each that does not overflow is compared with the
step as it is.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["CapturedLoss", "CudaGraph", "Graph"]

Differentiate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_TOLERANCE = 1e-2  # of a gradient's norm; kernels may differ in rounding, half precision included
_WARM_UP = 2  # calls in which libraries choose kernels and make workspaces


class Graph(Protocol):
    """What records a function's kernels once, and launches them again."""

    def capture(self, function: Callable[[], Any]) -> Any:
        """Record `function`; what it returns are tensors that each replay fills."""

    def replay(self) -> None:
        """Launch what was recorded."""


class CudaGraph:
    """A `Graph` on an NVIDIA GPU."""

    def __init__(self) -> None:
        self.graph = torch.cuda.CUDAGraph()

    def capture(self, function: Callable[[], Any]) -> Any:
        """Warm up on a stream of its own, as a capture must, then record on the same one."""
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                function()
        current.wait_stream(stream)
        try:
            # the loader's thread pins memory meanwhile, which a capture of all threads forbids
            with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                return function()
        finally:
            # a capture that fails at its end leaves its own stream behind
            torch.cuda.set_stream(current)

    def replay(self) -> None:
        """Launch all kernels at once."""
        self.graph.replay()


class _Difference(Exception):
    """A replay gave something else than the step as it is."""


class _Capture:
    """One recorded signature: static inputs, results and gradients."""

    def __init__(
        self,
        graph: Graph,
        differentiate: Differentiate,
        parameters: list[Tensor],
        batch: tuple[Tensor, Tensor],
    ) -> None:
        self.graph, self.parameters = graph, parameters
        # recorded over an empty batch, so that the comparison shows whether a replay reads its own
        self.image, self.label = (torch.zeros_like(tensor) for tensor in batch)

        def record() -> tuple[Tensor, Tensor]:
            _drop_gradients(parameters)
            return differentiate(self.image, self.label)

        self.results = graph.capture(record)
        self.gradients = [p.grad for p in parameters]

    def __call__(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        self.image.copy_(image)
        self.label.copy_(label)
        self.graph.replay()
        # another signature, run as it is, may have left its own gradients there
        for p, gradient in zip(self.parameters, self.gradients, strict=True):
            p.grad = gradient
        loss, logits = self.results
        return loss.clone(), logits.clone()  # the next replay overwrites them


class CapturedLoss:
    """Call it with a batch; gradients are then in the parameters' `grad`.

    `differentiate` gives loss and logits, detached, and fills gradients that are None. The first
    batch's shape is captured, other shapes run as they are. `version` changes when the model's
    memory does, as between training and evaluation, and what was captured is then dropped.
    """

    def __init__(
        self,
        differentiate: Differentiate,
        parameters: Iterable[Tensor],
        make_graph: Callable[[], Graph],
        version: Callable[[], int],
    ) -> None:
        self.differentiate, self.parameters = differentiate, list(parameters)
        self.make_graph, self.version = make_graph, version
        self.is_on = True
        self._signature: tuple | None = None
        self._captured_version: int | None = None
        self._capture: _Capture | None = None

    @property
    def is_replaying(self) -> bool:
        """Whether a graph was captured and found right."""
        return self.is_on and self._capture is not None

    def __call__(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, logits) of the batch, detached."""
        signature = (image.shape, image.dtype, label.shape, label.dtype)
        self._signature = self._signature or signature
        if not self.is_on or signature != self._signature:
            return self._run(image, label)
        if self._capture is None or self._captured_version != self.version():
            return self._begin(image, label)
        return self._capture(image, label)

    def _run(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The step as it is."""
        _drop_gradients(self.parameters)
        return self.differentiate(image, label)

    def _begin(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Capture, and compare a replay with the step as it is; off for good if anything fails."""
        self._capture = None  # its memory may serve the new one
        result = self._run(image, label)
        gradients = [p.grad for p in self.parameters]
        try:
            batch = (image, label)
            capture = _Capture(self.make_graph(), self.differentiate, self.parameters, batch)
            replayed = capture(image, label)
            # a scaled loss may overflow in the first steps, which proves nothing: once more then
            if _are_finite([*result, *gradients]):
                _compare(["loss", "logits"], list(result), list(replayed))
                names = [f"gradient {i}" for i in range(len(gradients))]
                _compare(names, gradients, capture.gradients)
                self._capture, self._captured_version = capture, self.version()
        except Exception as error:  # a capture can fail in any way; the step itself is right
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            print(f"TRAIN.GRAPH is off: {type(error).__name__.strip('_')}: {reason}")
            self.is_on = False
        for p, gradient in zip(self.parameters, gradients, strict=True):
            p.grad = gradient
        return result


def _drop_gradients(parameters: list[Tensor]) -> None:
    for p in parameters:
        p.grad = None


def _are_finite(values: list[Any]) -> bool:
    return bool(torch.stack([value.isfinite().all() for value in values]).all())


def _compare(names: list[str], want: list[Any], got: list[Any]) -> None:
    """Raise `_Difference` at the first pair that differs; `want` is finite."""
    for name, a, b in zip(names, want, got, strict=True):
        gap = float((a - b).norm())
        # written so that a gap that is not a number is one
        if not gap <= _TOLERANCE * float(a.norm()):
            raise _Difference(f"{name} of a replay is off by {gap:.3g}")
