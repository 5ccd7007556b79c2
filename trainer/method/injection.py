"""How tokens enter a tower: states (N, L, D) and a layer's tokens (K, D) -> (N, L or L + K, D).

In the first listed layer, J, K tokens are inserted behind the first position (CLS, BOS). In every
later listed layer they replace what stands there (MMRL), or are blended with it (PRC, MMRL++).
Layers that are not listed leave the positions alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Injection", "insert_tokens", "resolve_layers"]


def insert_tokens(x: Tensor, tokens: Tensor) -> Tensor:
    """Put K tokens behind the first position: (N, L, D), (K, D) -> (N, L + K, D)."""
    tokens = tokens.to(x.dtype).expand(len(x), -1, -1)  # (N, K, D), a view
    return torch.cat([x[:, :1], tokens, x[:, 1:]], dim=1)


def replace_tokens(x: Tensor, tokens: Tensor) -> Tensor:
    """Put K tokens in place of those behind the first position: (N, L, D) -> (N, L, D)."""
    tokens = tokens.to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :1], tokens, x[:, 1 + tokens.shape[1] :]], dim=1)


def blend_tokens(x: Tensor, tokens: Tensor, beta: float) -> Tensor:
    """PRC: beta times the new tokens plus 1 - beta times what the layer before made of the old."""
    old = x[:, 1 : 1 + len(tokens)]  # (N, K, D)
    blended = beta * tokens.to(x.dtype) + (1 - beta) * old
    return torch.cat([x[:, :1], blended, x[:, 1 + len(tokens) :]], dim=1)


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
        self._position = {layer: position for position, layer in enumerate(self.layers)}

    def enter(self, x: Tensor, layer: int, tokens: Tensor) -> Tensor:
        """The states that `layer` reads; `tokens` (layers, K, D) are those of all listed layers."""
        if layer not in self._position:
            return x
        own = tokens[self._position[layer]]  # (K, D)
        if layer == self.first:
            return insert_tokens(x, own)
        return replace_tokens(x, own) if self.beta is None else blend_tokens(x, own, self.beta)


def resolve_layers(rep_layers: Sequence[int], num_layers: int) -> list[int]:
    """The listed layers of a tower, ascending; negative ones count from the top, -1 is the last.

    Raises:
        ValueError: the list is empty, has doubles, or a layer outside 1 .. `num_layers`.
    """
    if not rep_layers:
        raise ValueError("REP_LAYERS is empty; list the layers that take tokens, e.g. [6, 7, 8]")
    layers = sorted(layer + num_layers + 1 if layer < 0 else layer for layer in rep_layers)
    if len(set(layers)) < len(layers):
        raise ValueError(f"REP_LAYERS {list(rep_layers)} lists a layer twice")
    if unknown := [layer for layer in layers if not 1 <= layer <= num_layers]:
        raise ValueError(
            f"REP_LAYERS contains {unknown}; this encoder has layers 1 to {num_layers}. Remove "
            "them, choose a deeper MODEL.BACKBONE.NAME, or count from the top: -1 is the last."
        )
    return layers
