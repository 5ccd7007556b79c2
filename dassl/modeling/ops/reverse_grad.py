"""Gradient reversal, for training against a domain classifier (arXiv 1505.07818)."""

from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

__all__ = ["ReverseGrad", "reverse_grad"]


class _ReverseGrad(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, grad_scaling: float) -> Tensor:
        ctx.grad_scaling = grad_scaling
        return x.view_as(x)  # a new tensor: autograd must not see the input itself

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.grad_scaling * grad, None


reverse_grad = _ReverseGrad.apply


class ReverseGrad(nn.Module):
    """The identity, whose gradient is multiplied by -`grad_scaling`."""

    def forward(self, x: Tensor, grad_scaling: float = 1.0) -> Tensor:
        """`x` itself.

        Raises:
            ValueError: `grad_scaling` is negative.
        """
        if grad_scaling < 0:
            raise ValueError(f"grad_scaling must be 0 or more, got {grad_scaling}")
        return reverse_grad(x, grad_scaling)
