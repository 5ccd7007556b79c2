"""CLIP's two towers with representation tokens: images (N, 3, R, R), prompts -> features (., E).

In the first listed layer, J, K tokens are inserted behind the first position (CLS, BOS); in every
later listed layer they replace what stands there (MMRL) or are blended with it (PRC, MMRL++).

    images -- 1 .. J-1 --+-- J .. L, frozen ------------------> f0
                         +-- J .. L, tokens entering ---------> f_c, f_r
    prompts, common prefix -- 1 .. J-1 (kept) -- J .. L, tokens entering --> keys, values
    prompts, own tokens ----- 1 .. J-1 (kept) -- J .. L, attending to them -> w

What the published program computes twice, or for nobody, is computed once, or not at all; no result
changes beyond rounding:

1. Nothing trainable acts below layer J: both image paths share layers 1 .. J-1, and the prompts'
   states there are constants of the class list.
2. Text attention is causal: whatever all prompts begin with, the tokens included, is the same for
   every class and runs once; the classes' own tokens attend to its keys and values. They are packed
   behind each other, shortest class first, so that nothing is padded.
3. In layer L only what is read is computed: CLS and the K tokens, or EOT.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clip.model import Block, TextTower, VisionTower
from trainer.packing import (
    Chunk,
    Group,
    PackedPrompts,
    attend_to_prefix,
    cut_groups,
    pack_prompts,
)

__all__ = [
    "ImageEncoder",
    "TextEncoder",
    "blend_tokens",
    "entry_rules",
    "insert_tokens",
    "replace_tokens",
    "resolve_layers",
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
    later: EntryRule = replace_tokens if beta is None else partial(blend_tokens, beta=beta)
    first, *others = sorted(rep_layers)
    return dict.fromkeys(others, later) | {first: insert_tokens}


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


class Projected(NamedTuple):
    """What layer J reads of the image positions, the same for both paths."""

    x: Tensor  # (N, L, D) the residual stream
    q: Tensor  # (N, L, D)
    k: Tensor  # (N, L, D)
    v: Tensor  # (N, L, D)


class ImageEncoder(nn.Module):
    """Images -> class feature f_c, representation feature f_r, and CLIP's own f0; (N, E) each."""

    def __init__(
        self, tower: VisionTower, entry: dict[int, EntryRule], projection: nn.Module
    ) -> None:
        super().__init__()
        self.tower = tower
        self.entry = entry
        self.projection = projection
        self.first = min(entry)  # J
        self.last = len(tower.transformer.resblocks)  # L

    def forward(self, images: Tensor, tokens: list[Tensor]) -> tuple[Tensor, Tensor]:
        """f_c from CLS by CLIP's projection, f_r from the mean over K tokens by the learned one."""
        return self.from_first(self.up_to_first(images), tokens)

    def with_frozen(self, images: Tensor, tokens: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(f_c, f_r, f0); both paths share what lies below layer J, and its projections in it."""
        shared = self.up_to_first(images)
        return *self.from_first(shared, tokens), self._frozen(shared)

    def frozen_features(self, images: Tensor) -> Tensor:
        """f0, CLIP's own features."""
        return self._frozen(self.up_to_first(images))

    @torch.no_grad()
    def up_to_first(self, images: Tensor) -> Projected:
        """Layers 1 .. J-1, and layer J's projections: the same whatever was learned."""
        x = self.tower.embed(images)
        for layer in range(1, self.first):
            x = self._block(layer)(x)
        return Projected(x, *self._block(self.first).project(x))

    @torch.no_grad()
    def _frozen(self, shared: Projected) -> Tensor:
        x = self._finish_first(shared, 1)
        for layer in range(self.first + 1, self.last + 1):
            x = self._block(layer)(x, read=self._read(layer, 1))
        return self.tower.ln_post(x[:, 0]).to(self.tower.proj.dtype) @ self.tower.proj

    def from_first(self, shared: Projected, tokens: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(f_c, f_r) from what `up_to_first` made of the images."""
        num_read = 1 + len(tokens[0])
        entering = tokens[0].to(shared.x.dtype)  # (K, D), the same for every image
        inserted = Projected(entering, *self._block(self.first).project(entering))
        joined = [insert_tokens(own, new) for own, new in zip(shared, inserted, strict=True)]
        x = self._finish_first(Projected(*joined), num_read)
        tokens_of = dict(zip(sorted(self.entry), tokens, strict=True))
        for layer in range(self.first + 1, self.last + 1):
            if layer in self.entry:
                x = self.entry[layer](x, tokens_of[layer])
            x = self._block(layer)(x, read=self._read(layer, num_read))
        x = self.tower.ln_post(x[:, :num_read]).to(self.tower.proj.dtype)  # CLS and the K tokens
        rep_proj = self.projection(self.tower.proj).to(x.dtype)
        return x[:, 0] @ self.tower.proj, x[:, 1:].mean(dim=1) @ rep_proj

    def _finish_first(self, p: Projected, count: int) -> Tensor:
        block, read = self._block(self.first), self._read(self.first, count)
        return block.add_mlp(p.x[:, :read] + block.attn.combine(p.q[:, :read], p.k, p.v))

    def _read(self, layer: int, count: int) -> int | None:
        """How many positions of a layer's output are read by anyone; None: all."""
        return count if layer == self.last else None

    def _block(self, layer: int) -> Block:
        return self.tower.transformer.block(layer)


class TextEncoder(nn.Module):
    """The prompts (C, T) of a class list -> text features w (C, E), not normalised.

    `class_chunk`: in training, run that many classes at a time and compute them again in the
    backward pass, for long class lists on small cards; 0: all at once.
    """

    later: Tensor  # (T, T) True where a key comes after the query
    place: Tensor  # (C,) of each class in the packed order
    ends: Tensor  # (C,) the row of each class's EOT
    prefix: Tensor  # (1, P, D) what enters layer J of the common prefix
    own: Tensor  # (M, D) what enters layer J of the own tokens
    frozen: Tensor  # (C, E) w0

    def __init__(
        self,
        tower: TextTower,
        entry: dict[int, EntryRule],
        prompts: Tensor,
        class_chunk: int = 0,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.entry = entry
        self.first = min(entry)  # J
        self.last = len(tower.transformer.resblocks)  # L
        packed = pack_prompts(prompts)
        self.groups = packed.groups
        self.chunks = list(cut_groups(packed.groups, class_chunk)) if class_chunk else []
        shape, device = (prompts.shape[1],) * 2, prompts.device
        self._keep("later", torch.ones(shape, dtype=torch.bool, device=device).triu(1))
        self._keep("place", packed.place)
        self._keep("ends", packed.ends)
        self._keep_constants(packed)

    def forward(self, tokens: list[Tensor]) -> Tensor:
        """w, with each class's feature read at its EOT."""
        tokens_of = dict(zip(sorted(self.entry), tokens, strict=True))
        layers = range(self.first, self.last + 1)
        stream = self.tower.positional_embedding.dtype  # TEST.PREC may differ from training's
        _, kept = self._run_prefix(self.prefix.to(stream), layers, tokens_of)
        own = self.own.to(stream)
        if self.chunks and torch.is_grad_enabled():
            own = torch.cat([self._run_chunk(own, chunk, layers, kept) for chunk in self.chunks])
        else:
            own = self._run_own(own, self.groups, self.ends, layers, kept)
        return self._project(own)

    def frozen_features(self) -> Tensor:
        """w0, CLIP's own features (C, E): a constant of the class list."""
        return self.frozen

    @torch.no_grad()
    def _keep_constants(self, packed: PackedPrompts) -> None:
        """The states at layer J, and w0: what no training step changes."""
        embed, place = self.tower.token_embedding, self.tower.positional_embedding
        prefix = embed(packed.prefix)[None] + place[: len(packed.prefix)]  # (1, P, D)
        own = embed(packed.own) + place[packed.positions]  # (M, D)
        below = range(1, self.first)
        prefix, kept = self._run_prefix(prefix, below, {})
        own = self._run_own(own, self.groups, self.ends, below, kept)
        self._keep("prefix", prefix)
        self._keep("own", own)
        above = range(self.first, self.last + 1)
        _, kept = self._run_prefix(prefix, above, {})
        own = self._run_own(own, self.groups, self.ends, above, kept)
        self._keep("frozen", self._project(own))

    def _run_prefix(
        self, x: Tensor, layers: range, tokens_of: dict[int, Tensor]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """What all prompts begin with, once: (1, P, D) -> itself; keys, values (S, D) a layer."""
        kept = []
        for layer in layers:
            block = self._block(layer)
            if layer in tokens_of:
                x = self.entry[layer](x, tokens_of[layer])
            q, k, v = block.project(x)
            kept.append((k[0], v[0]))
            if layer < self.last:
                x = block.add_mlp(x + block.attn.combine(q, k, v, causal=True))
        return x, kept

    def _run_own(
        self,
        x: Tensor,
        groups: list[Group],
        ends: Tensor,
        layers: range,
        kept: list[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """The classes' own tokens: (M, D) -> (M, D), or (C, D), read at `ends`, behind layer L."""
        for layer, (prefix_k, prefix_v) in zip(layers, kept, strict=True):
            block = self._block(layer)
            q, k, v = block.project(x)
            if layer == self.last:
                x, q = x[ends], q[ends]
            heads_k, heads_v = block.attn.split_heads(prefix_k), block.attn.split_heads(prefix_v)
            attended = attend_to_prefix(q, k, v, heads_k, heads_v, groups, self.later)
            x = block.add_mlp(x + block.attn.merge(attended))
        return x

    def _run_chunk(
        self, own: Tensor, chunk: Chunk, layers: range, kept: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        ends = self.ends[chunk.classes] - chunk.rows.start
        arguments = (own[chunk.rows], chunk.groups, ends, layers, kept)
        return checkpoint(self._run_own, *arguments, use_reentrant=False)

    def _project(self, x: Tensor) -> Tensor:
        x = self.tower.ln_final(x).to(self.tower.text_projection.dtype)
        return (x @ self.tower.text_projection)[self.place]

    def _keep(self, name: str, constant: Tensor) -> None:
        self.register_buffer(name, constant, persistent=False)

    def _block(self, layer: int) -> Block:
        return self.tower.transformer.block(layer)
