"""CLIP's text tower with representation tokens: the prompts of a class list -> w (C, E).

    prompts, common prefix -- 1 .. J-1 (kept) -- J .. L, tokens entering --> keys, values
    prompts, their suffixes -- 1 .. J-1 (kept) -- J .. L, attending to them -> w

The published program runs all 77 positions of every class in every step. Three sharings make that
unnecessary, and change no result beyond rounding:

1. Nothing trainable acts below layer J, so the states there are constants of the class list.
2. Attention is causal: whatever all prompts begin with, the tokens included, is the same for every
   class and runs once. The suffixes, each class's own tokens, attend to its keys and values; they
   are packed behind each other, shortest class first, so that nothing is padded.
3. In layer L only EOT is read, so queries and MLP run for it alone.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clip.model import Block, TextTower
from clip.ops import product
from trainer.method.injection import Injection
from trainer.method.packing import (
    Chunk,
    Group,
    PackedPrompts,
    attend_to_prefix,
    cut_groups,
    pack_prompts,
)

__all__ = ["TextEncoder"]

PrefixKV = list[tuple[Tensor, Tensor]]  # a layer: keys (S, D), values (S, D)


class TextEncoder(nn.Module):
    """A frozen tower, the layers in which tokens enter it, and the prompts (C, T) of a class list.

    `class_chunk`: in training, run that many classes at a time and compute them again in the
    backward pass, for long class lists on small cards; 0: all at once.
    """

    def __init__(
        self, tower: TextTower, injection: Injection, prompts: Tensor, class_chunk: int = 0
    ) -> None:
        super().__init__()
        self.tower = tower
        self.injection = injection
        self.first_layer = injection.first  # J
        self.num_layers = len(tower.transformer.resblocks)  # L
        packed = pack_prompts(prompts)
        self.groups = packed.groups
        self.chunks = list(cut_groups(packed.groups, class_chunk)) if class_chunk else []
        length = prompts.shape[1]
        ones = torch.ones(length, length, dtype=torch.bool, device=prompts.device)
        self._keep("causal_mask", ones.triu(1))  # True where a key comes after the query
        self._keep("class_order", packed.class_order)
        self._keep("ends", packed.ends)
        self._keep_constants(packed)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (layers, K, D) -> w (C, E), not normalised, each read at its class's EOT."""
        layers = range(self.first_layer, self.num_layers + 1)
        _, prefix_kv = self._run_prefix(self.prefix, layers, tokens)
        if self.chunks and torch.is_grad_enabled():
            read = torch.cat([self._run_chunk(chunk, layers, prefix_kv) for chunk in self.chunks])
        else:
            read = self._run_suffixes(self.suffix, self.groups, self.ends, layers, prefix_kv)
        return self._project(read)

    @torch.no_grad()
    def _keep_constants(self, packed: PackedPrompts) -> None:
        """The states at layer J, and w0: what no training step changes."""
        embed, place = self.tower.token_embedding, self.tower.positional_embedding
        prefix = embed(packed.prefix)[None] + place[: len(packed.prefix)]  # (1, P, D)
        suffix = embed(packed.suffix) + place[packed.positions]  # (M, D)
        below = range(1, self.first_layer)
        prefix, prefix_kv = self._run_prefix(prefix, below, None)
        suffix = self._run_suffixes(suffix, self.groups, self.ends, below, prefix_kv)
        self._keep("prefix", prefix)
        self._keep("suffix", suffix)
        above = range(self.first_layer, self.num_layers + 1)
        _, prefix_kv = self._run_prefix(prefix, above, None)
        read = self._run_suffixes(suffix, self.groups, self.ends, above, prefix_kv)
        self._keep("frozen", self._project(read))  # (C, E) w0, not normalised

    def _run_prefix(
        self, x: Tensor, layers: range, tokens: Tensor | None
    ) -> tuple[Tensor, PrefixKV]:
        """What all prompts begin with, once: (1, P, D) -> itself, and its keys and values.

        Without `tokens` the layers are CLIP's own.
        """
        prefix_kv = []
        for layer in layers:
            block = self._block(layer)
            x = x if tokens is None else self.injection.enter(x, layer, tokens)
            q, k, v = block.project(x)
            prefix_kv.append((k[0], v[0]))
            if layer < self.num_layers:  # of the last layer only keys and values are read
                x = block.add_mlp(x + block.attn.combine(q, k, v, causal=True))
        return x, prefix_kv

    def _run_suffixes(
        self, x: Tensor, groups: list[Group], ends: Tensor, layers: range, prefix_kv: PrefixKV
    ) -> Tensor:
        """The classes' own tokens: (M, D) -> (M, D), or (C, D), read at `ends`, behind layer L."""
        for layer, (prefix_k, prefix_v) in zip(layers, prefix_kv, strict=True):
            block = self._block(layer)
            q, k, v = block.project(x)
            if layer == self.num_layers:
                x, q = x[ends], q[ends]
            heads = map(block.attn.split_heads, (prefix_k, prefix_v))
            attended = attend_to_prefix(q, k, v, *heads, groups, self.causal_mask)
            x = block.add_mlp(x + block.attn.merge(attended))
        return x

    def _run_chunk(self, chunk: Chunk, layers: range, prefix_kv: PrefixKV) -> Tensor:
        suffix, ends = self.suffix[chunk.rows], self.ends[chunk.classes] - chunk.rows.start
        arguments = (suffix, chunk.groups, ends, layers, prefix_kv)
        return checkpoint(self._run_suffixes, *arguments, use_reentrant=False)

    def _project(self, x: Tensor) -> Tensor:
        """EOT states in packed order (C, D) -> features in the class list's order (C, E)."""
        x = self.tower.ln_final(x).to(self.tower.text_projection.dtype)
        return product(x, self.tower.text_projection)[self.class_order]

    def _keep(self, name: str, constant: Tensor) -> None:
        # not persistent: it follows the module's device and stays out of checkpoints
        self.register_buffer(name, constant, persistent=False)

    def _block(self, layer: int) -> Block:
        return self.tower.transformer.resblocks[layer - 1]
