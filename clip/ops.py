"""Matrix products: (..., D) -> (..., D'), keeping nothing that backward does not read.

On a CPU the library is chosen. MKL, torch's default, is the fastest where AVX2 is the widest vector
unit (1.2 times oneDNN forward, 1.7 backward, on an AMD EPYC without AVX-512), but it leaves AVX-512
unused on other makers' processors, where oneDNN was 2.1 times faster; results agree to 1e-6. With
few rows MKL's depend on the number of threads, oneDNN's do not: a run is the same on any number
of cores.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "FoldedMLP",
    "add_frozen_mlp",
    "attend",
    "frozen_linear",
    "gather_rows",
    "product",
    "recomputed",
    "unit",
]

_EPS = 1e-5  # of every layer norm
_FEW_QUERIES = 4
_HAS_ONEDNN = torch.backends.mkldnn.is_available()
_MKL_IS_WIDE = (
    torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX2"
)
_KEEPS_NOTHING: Any = SimpleNamespace(save_for_backward=lambda *tensors: None)  # for export
_MKL_ROWS = 256  # up to 51 rows, results were seen to depend on the number of threads


class Activation(NamedTuple):
    """g(a) = apply(c a) / c, by a kernel that torch has, and so its gradient."""

    name: str  # as MODEL.BACKBONE.ACTIVATION says it
    factor: float  # c
    apply: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]  # (gradient by apply's result, its input)


ACTIVATIONS = {
    # a sigmoid(1.702 a), of OpenAI's models
    "quick_gelu": Activation("quick_gelu", 1.702, F.silu, torch.ops.aten.silu_backward),
    # a Phi(a), Phi by the error function, of most that open_clip trained
    "gelu": Activation("gelu", 1.0, F.gelu, torch.ops.aten.gelu_backward),
}


class FoldedMLP(NamedTuple):
    """A frozen layer norm and MLP, the activation's factor c in the vectors beside the matrices.

    apply(W1 (c norm(x)) + c b1) = c g(W1 norm(x) + b1), so no kernel scales 4 D hidden units, and
    the matrices stay the float16 values that they are. GELU's c is 1: its vectors stay too.
    """

    exact_norm: Tensor  # (D,) weight of the layer norm
    norm: Tensor  # (D,) c times it
    shift: Tensor  # (D,) c times the layer norm's bias
    first: Tensor  # (4 D, D)
    first_bias: Tensor  # (4 D,) times c
    second: Tensor  # (D, 4 D)
    second_bias: Tensor  # (D,) times c
    activation: Activation


def frozen_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W' + b in the weight's type: (..., D), (D', D), (D',) -> (..., D')."""
    if torch.jit.is_tracing():  # for export, which takes plain operations and any batch
        return F.linear(x.to(weight.dtype), weight, bias)
    rows = x.reshape(-1, x.shape[-1]).to(weight.dtype)
    return _Linear.apply(rows, weight, bias).unflatten(0, x.shape[:-1])


def add_frozen_mlp(x: Tensor, weights: FoldedMLP) -> Tensor:
    """The second half of a layer, x + mlp(norm(x)): (..., D) -> (..., D)."""
    if torch.jit.is_tracing():
        return _AddMLP.forward(_KEEPS_NOTHING, x, weights)
    return _AddMLP.apply(x.reshape(-1, x.shape[-1]), weights).view(x.shape)


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), keeping x alone for backward, which computes the rest again."""
    if torch.compiler.is_compiling():  # the compiler decides what it keeps
        return function(x)
    return _Recomputed.apply(function, x)


def gather_rows(x: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """Spread (M, D) to (C, S, D) by `slots` (C, S); `rows` (M,) says where each row went first.

    Backward reads `rows` in place of adding up `slots`: no gradient may reach a repeated row.
    """
    return _GatherRows.apply(x, slots, rows)


def unit(x: Tensor) -> Tensor:
    """The rows of (N, E) at unit length, in float32."""
    x = x.float()
    return _Unit.forward(_KEEPS_NOTHING, x) if torch.jit.is_tracing() else _Unit.apply(x)


def product(x: Tensor, y: Tensor) -> Tensor:
    """x y, differentiable by both: (N, D), (D, E) -> (N, E)."""
    return _Product.apply(x, y) if _takes_onednn(x) else x @ y


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """Scaled dot-product attention: (N, H, Lq, D), (N, H, Lk, D) twice -> (N, H, Lq, D).

    `mask` (..., Lq, Lk) is added to the scores: 0 where a query sees a key, -inf elsewhere. Fewer
    than 4 queries share one row of it. Causal attention has as many queries as keys.
    """
    if q.device.type != "cpu" or torch.jit.is_tracing():
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    if len(q) * q.shape[1] == 1:  # torch would share a lone head among its threads; see above
        q, k, v = (x.expand(2, -1, -1, -1) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)[:1]
    if q.shape[2] < min(_FEW_QUERIES, k.shape[2]):  # and split the keys of few queries
        repeated = q.repeat(1, 1, _FEW_QUERIES, 1)  # one mask row serves them all
        return F.scaled_dot_product_attention(repeated, k, v, mask)[:, :, : q.shape[2]]
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


class _Recomputed(torch.autograd.Function):
    """Keeps the input of a function alone."""

    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function = function
        return function(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return None, *torch.autograd.grad(ctx.function(x), x, grad)


class _GatherRows(torch.autograd.Function):
    """A gather whose backward is a gather as well: nothing is added up in an order that varies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return x.index_select(0, slots.flatten()).unflatten(0, slots.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        return grad.flatten(0, 1).index_select(0, rows), None, None


class _Unit(torch.autograd.Function):
    """y = x / |x|; the gradient by x is what of it is orthogonal to y, over |x|."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(1e-12)
        y = x / norm
        ctx.save_for_backward(y, norm)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y, norm = ctx.saved_tensors
        along = (grad * y).sum(-1, keepdim=True)
        return torch.addcmul(grad, y, along, value=-1) / norm


class _AddMLP(torch.autograd.Function):
    """x + W2 g(W1 norm(x) + b1) + b2, with g(a) = apply(c a) / c.

    In the gradient by norm(x) both factors cancel, so backward reads the weights as they are.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: FoldedMLP) -> Tensor:
        normed, mean, rstd = torch.native_layer_norm(x, [len(w.norm)], w.norm, w.shift, _EPS)
        hidden = _product(normed.to(w.first.dtype), w.first, w.first_bias)  # (M, 4 D), times c
        ctx.save_for_backward(x, mean, rstd, hidden)
        ctx.weights = w
        added = _product(w.activation.apply(hidden), w.second, w.second_bias)
        return torch.add(x, added, alpha=1 / w.activation.factor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, mean, rstd, hidden = ctx.saved_tensors
        w = ctx.weights
        inner = _product(grad.to(w.second.dtype), w.second.t())  # (M, 4 D)
        inner = w.activation.backward(inner, hidden)
        inner = _product(inner, w.first.t()).to(x.dtype)
        arguments = (x.shape[-1:], mean, rstd, w.exact_norm, w.shift, [True, False, False])
        return torch.ops.aten.native_layer_norm_backward(inner, x, *arguments)[0].add_(grad), None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not _takes_onednn(x) or (_MKL_IS_WIDE and len(x) >= _MKL_ROWS):
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _takes_onednn(x: Tensor) -> bool:
    # the compiler chooses, and takes no such call; nor does an exported file
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return _HAS_ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32 and len(x) > 0
