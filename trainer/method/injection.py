"""How tokens enter a tower: states (..., L, D) and a layer's tokens (K, D) -> (..., L or L + K, D).

In the first listed layer, J, K tokens are inserted behind the first position (CLS, BOS). In every
later listed layer they replace what stands there (MMRL), or are blended with it (PRC, MMRL++).
Layers that are not listed leave the positions alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dassl.errors import RequestError

__all__ = ["Injection", "insert_tokens", "resolve_layers"]


def insert_tokens(x: Tensor, tokens: Tensor) -> Tensor:
    """Put K tokens behind the first position: (..., L, D), (K, D) -> (..., L + K, D)."""
    first, rest = x.split([1, x.shape[-2] - 1], dim=-2)
    return torch.cat([first, _repeat(tokens, x), rest], dim=-2)


def replace_tokens(x: Tensor, tokens: Tensor) -> Tensor:
    """Put K tokens in place of those behind the first position: (..., L, D) -> (..., L, D)."""
    first, _, rest = _split(x, len(tokens))
    return torch.cat([first, _repeat(tokens, x), rest], dim=-2)


def blend_tokens(x: Tensor, tokens: Tensor, beta: float) -> Tensor:
    """PRC: beta times the new tokens plus 1 - beta times what the layer before made of the old."""
    first, old, rest = _split(x, len(tokens))
    return torch.cat([first, torch.lerp(old, _repeat(tokens, x), beta), rest], dim=-2)


def _split(x: Tensor, num_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """First position, K tokens, what follows; the gradient of one split is one concatenation."""
    first, old, rest = x.split([1, num_tokens, x.shape[-2] - 1 - num_tokens], dim=-2)
    return first, old, rest


def _repeat(tokens: Tensor, x: Tensor) -> Tensor:
    """(K, D), in the type of x, once for every sequence of x: (..., K, D), a view."""
    return tokens.to(x.dtype).expand(*x.shape[:-2], -1, -1)


# decided when a model is built: no forward pass asks which method it serves
class Injection:
    """The listed layers of one tower, and the rule by which tokens enter the later ones.

    Attributes:
        layers: ascending, counted from 1.
        first: J, the lowest of them.
        beta: weight of the new tokens in later listed layers; None: they replace the old.
    """

    def __init__(self, layers: Sequence[int], beta: float | None = None) -> None:
        self.layers = sorted(layers)
        self.first = self.layers[0]
        self.beta = beta
        # tokens come as one tensor over the listed layers: where each layer's are
        self._position = {layer: position for position, layer in enumerate(self.layers)}

    def enter(self, x: Tensor, layer: int, tokens: Tensor | Sequence[Tensor]) -> Tensor:
        """The states (..., L, D) that `layer` reads; `tokens`: (K, D) of every listed layer."""
        if layer not in self._position:
            return x
        own = tokens[self._position[layer]]  # (K, D)
        if layer == self.first:
            return insert_tokens(x, own)
        return replace_tokens(x, own) if self.beta is None else blend_tokens(x, own, self.beta)


def resolve_layers(rep_layers: Sequence[int], num_layers: int) -> list[int]:
    """The listed layers of a tower, ascending; negative ones count from the top, -1 is the last.

    Raises:
        RequestError: the list is empty, has doubles, or a layer outside 1 .. `num_layers`.
    """
    if not rep_layers:
        raise RequestError("REP_LAYERS is empty; list the layers that take tokens, e.g. [6, 7, 8]")
    layers = sorted(layer + num_layers + 1 if layer < 0 else layer for layer in rep_layers)
    if len(set(layers)) < len(layers):
        raise RequestError(f"REP_LAYERS {list(rep_layers)} lists a layer twice")
    if unknown := [layer for layer in layers if not 1 <= layer <= num_layers]:
        raise RequestError(
            f"REP_LAYERS contains {unknown}; this encoder has layers 1 to {num_layers}. Remove "
            "them, choose a deeper MODEL.BACKBONE.NAME, or count from the top: -1 is the last."
        )
    return layers
