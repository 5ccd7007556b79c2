"""Matrix products: (..., D) -> (..., D'), keeping nothing that backward does not read.

On a CPU they go through oneDNN, which uses the widest vector units on every maker's processors;
torch's default library does not (2.1 times slower on an AMD EPYC, equal results to 1e-6). Nor do
its results depend on the number of threads, so that a run is the same on any number of cores.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attend", "frozen_linear", "frozen_mlp", "product", "softmax"]

_FEW_QUERIES = 4
_HAS_ONEDNN = torch.backends.mkldnn.is_available()


def frozen_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W' + b in the weight's type: (..., D), (D', D), (D',) -> (..., D')."""
    rows = x.reshape(-1, x.shape[-1]).to(weight.dtype)
    return _Linear.apply(rows, weight, bias).unflatten(0, x.shape[:-1])


def frozen_mlp(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """W2 g(W1 x + b1) + b2 with QuickGELU, g(a) = a sigmoid(1.702 a): (..., D) -> (..., D)."""
    rows = x.reshape(-1, x.shape[-1]).to(w1.dtype)
    return _QuickGELUMLP.apply(rows, w1, b1, w2, b2).unflatten(0, x.shape[:-1])


def product(x: Tensor, y: Tensor) -> Tensor:
    """x y, differentiable by both: (N, D), (D, E) -> (N, E)."""
    return _Product.apply(x, y) if _takes_onednn(x) else x @ y


def softmax(scores: Tensor) -> Tensor:
    """Over the last dimension, in float32.

    torch's backward kernel on a CPU rounds by how its threads share the rows; sums do not.
    """
    if scores.device.type != "cpu":
        return scores.softmax(-1, dtype=torch.float32)
    scores = scores.float()
    weights = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    return weights / weights.sum(-1, keepdim=True)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """Scaled dot-product attention: (N, H, Lq, D), (N, H, Lk, D) twice -> (N, H, Lq, D).

    `mask` (..., Lq, Lk) is True where a query sees a key; causal attention has as many queries as
    keys.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    if len(q) * q.shape[1] == 1:  # torch would share a lone head among its threads; see above
        q, k, v = (x.expand(2, -1, -1, -1) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)[:1]
    if q.shape[2] < _FEW_QUERIES and not causal:  # and split the keys of few queries
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
        return softmax(scores).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)


class _Product(torch.autograd.Function):
    """A plain product of two matrices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return _product(x, y.t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        of_x, of_y = ctx.needs_input_grad
        return _product(grad, y) if of_x else None, _product(x.t(), grad.t()) if of_y else None


class _Linear(torch.autograd.Function):
    """One product; only the weight is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return _product(grad, weight.t()), None, None


class _QuickGELUMLP(torch.autograd.Function):
    """g(a) as silu(1.702 a) / 1.702: the 4 D hidden units are kept once, scaled in place.

    In the gradient by x the two factors cancel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        hidden = _product(x, w1, b1).mul_(1.702)  # (M, 4 D)
        ctx.save_for_backward(hidden, w1, w2)
        return _product(F.silu(hidden).mul_(1 / 1.702), w2, b2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, w1, w2 = ctx.saved_tensors
        grad = torch.ops.aten.silu_backward(_product(grad, w2.t()), hidden)  # (M, 4 D)
        return _product(grad, w1.t()), None, None, None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if _takes_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def _takes_onednn(x: Tensor) -> bool:
    if torch.compiler.is_compiling():  # the compiler chooses, and takes no such call
        return False
    return _HAS_ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32 and len(x) > 0
