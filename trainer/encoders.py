"""CLIP's two towers with representation tokens: images (N, 3, R, R), prompts (C, T) -> features.

In the first listed layer K tokens are inserted behind the first position (CLS, BOS); in every
later listed layer they replace what stands there (MMRL) or are blended with it (PRC, MMRL++).
This is the plain form: one loop over the layers, every position of every prompt.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from clip.model import TextTower, VisionTower

__all__ = [
    "ImageEncoder",
    "TextEncoder",
    "blend_tokens",
    "check_layers",
    "entry_rules",
    "insert_tokens",
    "replace_tokens",
]

EntryRule = Callable[[Tensor, Tensor], Tensor]


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


def entry_rules(rep_layers: Sequence[int], beta: float | None = None) -> dict[int, EntryRule]:
    """How tokens enter each listed layer; without `beta` they replace, with it they blend."""
    later = replace_tokens if beta is None else partial(blend_tokens, beta=beta)
    first, *others = sorted(rep_layers)
    return {first: insert_tokens} | dict.fromkeys(others, later)


def check_layers(rep_layers: Sequence[int], num_layers: int) -> None:
    """Refuse layers that a tower does not have.

    Raises:
        ValueError: the list is empty, has doubles, or a layer outside 1 .. `num_layers`.
    """
    if not rep_layers:
        raise ValueError("REP_LAYERS is empty; list the layers that take tokens, e.g. [6, 7, 8]")
    if len(set(rep_layers)) < len(rep_layers):
        raise ValueError(f"REP_LAYERS {list(rep_layers)} lists a layer twice")
    if unknown := [layer for layer in rep_layers if not 1 <= layer <= num_layers]:
        raise ValueError(
            f"REP_LAYERS contains {unknown}; this encoder has layers 1 to {num_layers}. "
            "Remove them, or choose a deeper MODEL.BACKBONE.NAME."
        )


class ImageEncoder(nn.Module):
    """Images -> (class feature, representation feature), (N, E) each, not normalised."""

    def __init__(
        self, tower: VisionTower, entry: dict[int, EntryRule], projection: nn.Module
    ) -> None:
        super().__init__()
        self.tower = tower
        self.entry = entry
        self.projection = projection

    def forward(self, images: Tensor, tokens: list[Tensor]) -> tuple[Tensor, Tensor]:
        """f_c from CLS by CLIP's projection, f_r from the mean over K tokens by the learned one."""
        x = self.tower.embed(images)
        x = run_layers(self.tower.transformer.resblocks, x, self.entry, tokens, causal=False)
        num_tokens = len(tokens[0])
        x = self.tower.ln_post(x[:, : 1 + num_tokens])  # CLS and the K tokens
        rep_proj = self.projection(self.tower.proj).to(x.dtype)
        return x[:, 0] @ self.tower.proj, x[:, 1:].mean(dim=1) @ rep_proj

    def frozen_features(self, images: Tensor) -> Tensor:
        """f0, CLIP's own features (N, E), not normalised."""
        return self.tower(images)


class TextEncoder(nn.Module):
    """The prompts of a class list -> features (C, E), not normalised."""

    def __init__(self, tower: TextTower, entry: dict[int, EntryRule], prompts: Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.entry = entry
        self.register_buffer("prompts", prompts, persistent=False)  # (C, T)

    def forward(self, tokens: list[Tensor]) -> Tensor:
        """w, read K positions behind each prompt's EOT."""
        x = self.tower.embed(self.prompts)  # (C, T, D)
        x = run_layers(self.tower.transformer.resblocks, x, self.entry, tokens, causal=True)
        eot = self.prompts.argmax(-1) + len(tokens[0])
        x = x[torch.arange(len(x), device=x.device), eot]  # (C, D)
        return self.tower.ln_final(x) @ self.tower.text_projection

    def frozen_features(self) -> Tensor:
        """w0, CLIP's own features (C, E), not normalised."""
        return self.tower(self.prompts)


def run_layers(
    blocks: nn.ModuleList,
    x: Tensor,
    entry: dict[int, EntryRule],
    tokens: list[Tensor],
    causal: bool,
) -> Tensor:
    """All layers, tokens entering where listed: (N, L, D) -> (N, L + K, D)."""
    tokens_of = dict(zip(sorted(entry), tokens, strict=True))
    for layer, block in enumerate(blocks, start=1):
        if layer in entry:
            x = entry[layer](x, tokens_of[layer])
        x = block(x, causal)
    return x
