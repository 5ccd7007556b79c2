"""CLIP's text tower with representation tokens: the prompts of a class list -> w (C, E).

    prompts, common prefix -- 1 .. J-1 (kept) -- J .. L, tokens entering --> keys, values
    prompts, their suffixes -- 1 .. J-1 (kept) -- J .. L, attending to them -> w

The published program runs all 77 positions of every class in every step. Three sharings make that
unnecessary, and change no result beyond rounding:

1. Nothing trainable acts below layer J, so the states there are constants of the class list.
2. Attention is causal: whatever all prompts begin with, the tokens included, is the same for every
   class and runs once. The suffixes, each class's own tokens, attend to its keys and values.
3. In layer L only EOT is read, so queries and MLP run for it alone.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clip.model import Block, TextTower
from clip.ops import attend, product
from trainer.method.injection import Injection
from trainer.method.packing import (
    PackedPrompts,
    SuffixRows,
    cut_classes,
    pack_prompts,
    suffix_rows,
)

__all__ = ["TextEncoder"]

PrefixKV = list[Tensor]  # a layer: keys and values side by side, (P, 2 D)


class TextEncoder(nn.Module):
    """A frozen tower, the layers in which tokens enter it, and the prompts (C, T) of a class list.

    `class_chunk`: in training, run that many classes at a time and compute them again in the
    backward pass, for long class lists on small cards; 0: all at once.
    """

    prefix: Tensor  # (1, P, D) what enters layer J of the common prefix
    suffix: Tensor  # (M, D) what enters layer J of the suffixes
    frozen: Tensor  # (C, E) w0, not normalised
    slots: Tensor  # these three are SuffixRows
    rows: Tensor
    ends: Tensor

    def __init__(
        self, tower: TextTower, injection: Injection, prompts: Tensor, class_chunk: int = 0
    ) -> None:
        super().__init__()
        self.tower = tower
        self.injection = injection
        self.first_layer = injection.first  # J
        self.num_layers = len(tower.transformer.resblocks)  # L
        packed = pack_prompts(prompts)
        for name, index in suffix_rows(packed.lengths)._asdict().items():
            self._keep(name, index)
        self.chunks = list(cut_classes(packed.lengths, class_chunk)) if class_chunk else []
        self._keep_constants(packed)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (layers, K, D) -> w (C, E), not normalised, each read at its class's EOT."""
        layers = range(self.first_layer, self.num_layers + 1)
        stream = self.tower.positional_embedding.dtype  # TEST.PREC may differ from training's
        prefix, suffix = self.prefix.to(stream), self.suffix.to(stream)
        _, prefix_kv = self._run_prefix(prefix, layers, tokens)
        if not self.chunks or not torch.is_grad_enabled():
            return self._project(self._run_suffixes(suffix, self._rows(), layers, prefix_kv))
        parts = []
        for packed, index in self.chunks:
            rows = SuffixRows(*(tensor.to(suffix.device) for tensor in index))
            arguments = (suffix[packed], rows, layers, prefix_kv)
            parts.append(checkpoint(self._run_suffixes, *arguments, use_reentrant=False))
        read = torch.cat(parts)
        return self._project(read)

    @torch.no_grad()
    def _keep_constants(self, packed: PackedPrompts) -> None:
        """The states at layer J, and w0: what no training step changes."""
        embed, place = self.tower.token_embedding, self.tower.positional_embedding
        prefix = embed(packed.prefix)[None] + place[: len(packed.prefix)]  # (1, P, D)
        suffix = embed(packed.suffix) + place[packed.positions]  # (M, D)
        below = range(1, self.first_layer)
        prefix, prefix_kv = self._run_prefix(prefix, below, None)
        suffix = self._run_suffixes(suffix, self._rows(), below, prefix_kv)
        self._keep("prefix", prefix)
        self._keep("suffix", suffix)
        above = range(self.first_layer, self.num_layers + 1)
        _, prefix_kv = self._run_prefix(prefix, above, None)
        read = self._run_suffixes(suffix, self._rows(), above, prefix_kv)
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
            prefix_kv.append(torch.cat([k[0], v[0]], dim=-1))
            if layer < self.num_layers:  # of the last layer only keys and values are read
                x = block.add_mlp(x + block.attn.combine(q, k, v, causal=True))
        return x, prefix_kv

    def _run_suffixes(
        self, x: Tensor, rows: SuffixRows, layers: range, prefix_kv: PrefixKV
    ) -> Tensor:
        """The classes' own tokens: (M, D) -> (M, D), or (C, D), read at EOT, behind layer L."""
        for layer, kv in zip(layers, prefix_kv, strict=True):
            block = self._block(layer)
            q, k, v = block.project(x)
            if layer == self.num_layers:
                x, attended = x[rows.ends], _attend_ends(block, q, k, v, kv, rows)
            else:
                attended = _attend_all(block, q, k, v, kv, rows)
            x = block.add_mlp(x + block.attn.merge(attended))
        return x

    def _project(self, x: Tensor) -> Tensor:
        """EOT states (C, D) -> features (C, E)."""
        x = self.tower.ln_final(x).to(self.tower.text_projection.dtype)
        return product(x, self.tower.text_projection)

    def _rows(self) -> SuffixRows:
        return SuffixRows(self.slots, self.rows, self.ends)

    def _keep(self, name: str, constant: Tensor) -> None:
        # not persistent: it follows the module's device and stays out of checkpoints
        self.register_buffer(name, constant, persistent=False)

    def _block(self, layer: int) -> Block:
        return self.tower.transformer.block(layer)


def _attend_all(
    block: Block, q: Tensor, k: Tensor, v: Tensor, prefix_kv: Tensor, rows: SuffixRows
) -> Tensor:
    """Every suffix token attends to the prefix, and to its class's tokens up to itself: (M, D)."""
    num_classes, length = rows.slots.shape
    keys, values = _keys_values(block, k, v, prefix_kv, rows)  # (C, H, P + S, D / H)
    queries = block.attn.split_heads(q[rows.slots])  # (C, H, S, D / H)
    shift = keys.shape[2] - length  # P: what comes later is hidden, the prefix never does
    mask = torch.ones(length, keys.shape[2], dtype=torch.bool, device=q.device).tril(shift)
    attended = attend(queries, keys, values, mask=mask).transpose(1, 2)  # (C, S, H, D / H)
    return attended.reshape(num_classes * length, -1)[rows.rows]


def _attend_ends(
    block: Block, q: Tensor, k: Tensor, v: Tensor, prefix_kv: Tensor, rows: SuffixRows
) -> Tensor:
    """Every class's EOT, its last token, attends to all that come before it: (C, D)."""
    length = rows.slots.shape[1]
    keys, values = _keys_values(block, k, v, prefix_kv, rows)
    queries = block.attn.split_heads(q[rows.ends][:, None])  # (C, H, 1, D / H)
    steps = torch.arange(keys.shape[2], device=q.device) - (keys.shape[2] - length)
    is_seen = steps <= (rows.ends[:, None] - rows.slots[:, :1])  # (C, P + S)
    attended = attend(queries, keys, values, mask=is_seen[:, None, None])
    return attended.transpose(1, 2).flatten(2)[:, 0]


def _keys_values(
    block: Block, k: Tensor, v: Tensor, prefix_kv: Tensor, rows: SuffixRows
) -> tuple[Tensor, Tensor]:
    """Of the prefix and each class's suffix behind it, (C, H, P + S, D / H) each."""
    own = torch.cat([k, v], dim=-1)[rows.slots]  # (C, S, 2 D)
    shared = prefix_kv.expand(len(own), -1, -1)  # (C, P, 2 D), a view
    keys, values = torch.cat([shared, own], dim=1).chunk(2, dim=-1)
    return block.attn.split_heads(keys), block.attn.split_heads(values)
