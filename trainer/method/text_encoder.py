"""CLIP's text tower with representation tokens: the prompts of a class list -> w (C, E).

    prompts: common prefix,  -- 1 .. J-1 (kept) -- J .. L, tokens entering the prefix,
             their suffixes                               suffixes attending to it   --> w

The published program runs all 77 positions of every class in every step. Three sharings make that
unnecessary, and change no result beyond rounding:

1. Nothing trainable acts below layer J, so the states there are constants of the class list.
2. Attention is causal: whatever all prompts begin with, the tokens included, is the same for every
   class and runs once, as rows of the same products. The suffixes, each class's own tokens, attend
   to its keys and values.
3. In layer L only EOT is read, so queries and MLP run for it alone.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clip.model import Block, TextTower
from clip.ops import attend, gather_rows, product, recomputed
from trainer.method.injection import Injection
from trainer.method.packing import (
    PackedPrompts,
    SuffixRows,
    cut_classes,
    pack_prompts,
    suffix_rows,
)

__all__ = ["TextEncoder"]


class Heads(NamedTuple):
    """Of some sequences, by head."""

    q: Tensor  # (., H, L, D / H)
    k: Tensor
    v: Tensor


class TextEncoder(nn.Module):
    """A frozen tower, the layers in which tokens enter it, and the prompts (C, T) of a class list.

    `class_chunk`: in training, run that many classes at a time and compute them again in the
    backward pass, for long class lists on small cards; 0: all at once.
    """

    states: Tensor  # (P + M, D) what enters layer J, of the common prefix and of the suffixes
    frozen: Tensor  # (C, E) w0, not normalised
    slots: Tensor  # these five are SuffixRows
    rows: Tensor
    ends: Tensor
    mask: Tensor
    end_mask: Tensor

    def __init__(
        self, tower: TextTower, injection: Injection, prompts: Tensor, class_chunk: int = 0
    ) -> None:
        super().__init__()
        self.tower = tower
        self.injection = injection
        self.first_layer = injection.first  # J
        self.num_layers = len(tower.transformer.resblocks)  # L
        packed = pack_prompts(prompts)
        # P is at least 1: every prompt begins with BOS
        self.prefix_length = len(packed.prefix)  # P
        for name, index in suffix_rows(packed.lengths)._asdict().items():
            self._keep(name, index)
        self.chunks = list(cut_classes(packed.lengths, class_chunk)) if class_chunk else []
        self._keep_constants(packed)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (layers, K, D) -> w (C, E), not normalised, each read at its class's EOT."""
        layers = range(self.first_layer, self.num_layers + 1)
        stream = self.tower.positional_embedding.dtype  # TEST.PREC may differ from training's
        states, entering = self.states.to(stream), tokens.to(stream).unbind()
        # without gradients there is nothing to save memory for
        if not self.chunks or not torch.is_grad_enabled():
            return self._project(self._run(states, self._rows(), layers, entering))
        prefix, suffix = states.tensor_split([self.prefix_length])
        parts = []
        for packed, index in self.chunks:
            # a list of tensors does not follow Module.to; buffers do
            rows = SuffixRows(*(tensor.to(states.device) for tensor in index))
            # the prefix runs anew in each chunk: its gradient is the sum over the chunks
            arguments = (torch.cat([prefix, suffix[packed]]), rows, layers, entering)
            parts.append(checkpoint(self._run, *arguments, use_reentrant=False))
        return self._project(torch.cat(parts))

    @torch.no_grad()
    def _keep_constants(self, packed: PackedPrompts) -> None:
        """The states at layer J, and w0: what no training step changes."""
        embed, place = self.tower.token_embedding, self.tower.positional_embedding
        steps = torch.arange(self.prefix_length, device=packed.positions.device)
        x = embed(torch.cat([packed.prefix, packed.suffix]))  # (P + M, D)
        x = x + place[torch.cat([steps, packed.positions])]
        x = self._run(x, self._rows(), range(1, self.first_layer))
        self._keep("states", x)
        # w0 needs the frozen layers once per class list, not once per step
        read = self._run(x, self._rows(), range(self.first_layer, self.num_layers + 1))
        self._keep("frozen", self._project(read))  # (C, E) w0, not normalised

    def _run(
        self, x: Tensor, rows: SuffixRows, layers: range, entering: Sequence[Tensor] = ()
    ) -> Tensor:
        """Prefix and suffixes, (P + M, D) -> (P + M, D), or (C, D), read at EOT, behind layer L.

        Without tokens entering the layers are CLIP's own.
        """
        length = self.prefix_length + (len(entering[0]) if entering else 0)
        rows = rows.behind(length, self.tower.text_projection.dtype)
        for layer in layers:
            block = self._block(layer)
            # tokens stand behind BOS, which is the prefix's: the suffixes only see them as keys
            x = self.injection.enter(x, layer, entering) if entering else x
            qkv = block.project(x)
            if layer == self.num_layers:
                # nobody reads layer L but at EOT, so its MLP has C rows instead of P + M
                attended = _attend_ends(block, rows, qkv)
                x = x.index_select(0, rows.ends + length)
            else:
                # the spread (C, S) places would be kept for backward; packed rows are fewer
                attended = recomputed(partial(_attend_all, block, rows), qkv)
            x = block.add_mlp(x + block.attn.merge(attended))
        return x

    def _project(self, x: Tensor) -> Tensor:
        """EOT states (C, D) -> features (C, E)."""
        x = self.tower.ln_final(x).to(self.tower.text_projection.dtype)
        return product(x, self.tower.text_projection)

    def _rows(self) -> SuffixRows:
        return SuffixRows(self.slots, self.rows, self.ends, self.mask, self.end_mask)

    def _keep(self, name: str, constant: Tensor) -> None:
        # not persistent: it follows the module's device and stays out of checkpoints
        self.register_buffer(name, constant, persistent=False)

    def _block(self, layer: int) -> Block:
        return self.tower.transformer.block(layer)


def _attend_all(block: Block, rows: SuffixRows, qkv: Tensor) -> Tensor:
    """The prefix to itself; every suffix token to it, and to its class's up to itself: (P + M, D).

    Of the suffixes' (C, S) places nothing is kept for backward: see `recomputed`.
    """
    # causal from the start: the prefix never sees a suffix, so it is one for all classes
    prefix, suffix = _split(block, rows, qkv)
    of_prefix = attend(*prefix, causal=True).transpose(1, 2).flatten(2)[0]
    keys, values = _join(prefix, suffix)
    of_suffix = attend(suffix.q, keys, values, mask=rows.mask).transpose(1, 2).flatten(2)
    packed = of_suffix.flatten(0, 1).index_select(0, rows.rows)  # (M, D)
    return torch.cat([of_prefix, packed])


def _attend_ends(block: Block, rows: SuffixRows, qkv: Tensor) -> Tensor:
    """Every class's EOT, its last token, attends to all that come before it: (C, D)."""
    prefix, suffix = _split(block, rows, qkv)
    keys, values = _join(prefix, suffix)
    # EOT is each class's last token, so its mask hides nothing but padding
    places = rows.rows.index_select(0, rows.ends)
    queries = suffix.q.transpose(1, 2).flatten(0, 1).index_select(0, places)  # (C, H, D / H)
    attended = attend(queries[:, :, None], keys, values, mask=rows.end_mask)
    return attended.flatten(1)


def _split(block: Block, rows: SuffixRows, qkv: Tensor) -> tuple[Heads, Heads]:
    """(P + M, 3 D) -> heads of the prefix, (1, H, P, D / H), of the suffixes, (C, H, S, D / H)."""
    num_suffix = len(rows.rows)
    prefix, suffix = qkv.split([len(qkv) - num_suffix, num_suffix])
    spread = gather_rows(suffix, rows.slots, rows.rows)
    return Heads(*block.attn.heads(prefix[None])), Heads(*block.attn.heads(spread))


def _join(prefix: Heads, suffix: Heads) -> tuple[Tensor, Tensor]:
    """Keys, values of the prefix and each class's suffix behind it, (C, H, P + S, D / H) each."""
    num_classes = len(suffix.q)
    keys = torch.cat([prefix.k.expand(num_classes, -1, -1, -1), suffix.k], dim=2)
    return keys, torch.cat([prefix.v.expand(num_classes, -1, -1, -1), suffix.v], dim=2)
